"""Videos side by side in one file, enlarged, with captions."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .video_files import STILLS, check_ending, video_writer, write_frames

MIN_WIDTH = 512  # pixels; smaller results are enlarged by an integer factor
GAP = 2  # pixels between clips, after enlarging
BACKGROUND = 255
FONT_SIZE, SMALLEST_FONT_SIZE = 14, 9  # of captions


def save_videos(
    path: str | Path,
    videos: Float[Tensor, "b 3 T H W"],
    *,
    captions: Sequence[str] | None = None,
    fps: float = 12,
    columns: int | None = None,
    min_width: int = MIN_WIDTH,
) -> None:
    """Write videos in [0, 1] to one file: side by side in an animation, or as rows of frames in an image.

    Args:
        captions: one line per video.
        columns: number of videos in a row of an animation; None arranges them about in a square.
        min_width: minimum width in pixels, reached by enlarging by an integer factor; 0 keeps the size.

    Raises:
        ValueError: if the ending is not supported, or if the number of captions differs from that of the videos.
    """
    path = check_ending(path)
    if captions is not None and len(captions) != len(videos):
        raise ValueError(f"captions must have one line for each of {len(videos)} videos, got {len(captions)}")
    if path.suffix.lower() in STILLS and videos.shape[2] > 1:
        rows, num_frames = len(videos), videos.shape[2]
        videos = rearrange(videos, "b c T H W -> (b T) c 1 H W")
        captions = [text for caption in captions or [""] * rows for text in (caption, *[""] * (num_frames - 1))]
        columns = num_frames
    write_frames(path, tile(videos, captions=captions, columns=columns, min_width=min_width), fps=fps)


def save_pieces(
    path: str | Path,
    pieces: Iterable[Float[Tensor, "b 3 _ H W"]],
    *,
    captions: Sequence[str] | None = None,
    fps: float = 12,
    columns: int | None = None,
    min_width: int = MIN_WIDTH,
) -> None:
    """Write videos that come in pieces, side by side, to an .mp4 or .gif, or to a .png or .jpg for a single frame.

    Raises:
        ValueError: as in `video_writer`.
    """
    with video_writer(path, fps=fps) as write:
        for piece in pieces:
            write(tile(piece, captions=captions, columns=columns, min_width=min_width))


def tile(
    videos: Float[Tensor, "b 3 T H W"],
    *,
    captions: Sequence[str] | None = None,
    columns: int | None = None,
    min_width: int = MIN_WIDTH,
) -> UInt8[np.ndarray, "T height width 3"]:
    """Return videos in [0, 1] side by side, enlarged by the same integer factor, with their captions above."""
    columns = columns or math.ceil(math.sqrt(len(videos)))
    columns = min(columns, len(videos))
    factor = max(1, math.ceil((min_width - GAP * (columns - 1)) / (columns * videos.shape[-1])))
    pixels = (videos.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = repeat(pixels, "b c T H W -> b T (H p) (W q) c", p=factor, q=factor).numpy()
    if captions is not None and any(captions):
        heads = np.stack([caption_strip(caption, pixels.shape[3]) for caption in captions])
        heads = repeat(heads, "b h w c -> b T h w c", T=pixels.shape[1])
        pixels = np.concatenate([heads, pixels], axis=2)

    num_videos, num_frames, height, width, _ = pixels.shape
    rows = math.ceil(num_videos / columns)
    shape = (num_frames, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3)
    canvas = np.full(shape, BACKGROUND, dtype=np.uint8)
    for index, clip in enumerate(pixels):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        canvas[:, top : top + height, left : left + width] = clip
    return canvas


def caption_strip(text: str, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image of one line of text, in a smaller font if it is too long, and cut off at the width."""
    fonts = (ImageFont.load_default(size=size) for size in range(FONT_SIZE, SMALLEST_FONT_SIZE, -1))
    smallest = ImageFont.load_default(size=SMALLEST_FONT_SIZE)
    font = next((font for font in fonts if font.getlength(text) <= width - 2), smallest)
    strip = Image.new("RGB", (width, 20), (BACKGROUND,) * 3)
    ImageDraw.Draw(strip).text((2, 1), text, fill=(0, 0, 0), font=font)
    return np.asarray(strip)
