"""Windows: overlapping clips of the training length that form a longer video."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...tokenizer import VideoTokenizer
from ...tokenizer.pixels import to_model_range, to_unit_range


class Window(NamedTuple):
    """A clip that is decoded at once: frames from `start` up to but not including `stop` of the whole video.

    The starts of all windows are a multiple of the stride apart, so their latent frames form one grid. The codes of a
    long video are those of its first window, followed by the new ones of each later window.
    """

    start: int
    stop: int
    place: int
    """Index of its first latent frame in the code grid of the whole video."""
    num_old: int
    """Number of latent frames at its start that earlier windows have generated."""


WriteCodes = Callable[[Window, Float[Tensor, "b 3 T H W"], Bool[Tensor, "b T H W"]], Int[Tensor, "b t h w"]]
"""Function of a window, its pixels in [-1, 1] and the mask of its known pixels. Returns the codes of the window."""


def plan_windows(num_frames: int, *, num_first: int, window_frames: int, overlap: int, stride: int) -> list[Window]:
    """Return the windows that cover a video.

    A video that is not longer than a window is one window. In a longer video, windows overlap by `overlap` frames,
    rounded up to 1 + a multiple of `stride` and limited so that at least one latent frame is new. The last window
    overlaps more, so that all windows have the same length.

    If more than `stride` first frames are given, the first window starts so that the given frames fill whole latent
    frames: of 7 given frames at stride 4, the first 2 are not encoded. If a window cannot hold all given frames and
    new ones, only the last given frames are encoded.

    Args:
        num_first: number of whole frames given at the start.
        window_frames: length of the training clips.
        overlap: minimum number of frames that a window shares with the previous one.
        stride: number of frames per latent frame. The first latent frame of a window is a single frame.

    Raises:
        ValueError: if the video is longer than a window and windows have only one latent frame.
    """
    uncoded = (num_first - 1) % stride if num_first > stride else 0
    if num_frames - uncoded <= window_frames:
        return [Window(uncoded, num_frames, place=0, num_old=0)]
    latent_frames = 1 + (window_frames - 1) // stride
    if latent_frames < 2:
        raise ValueError(
            f"num_frames must be at most {window_frames}, got {num_frames}: this model was trained on clips of one "
            "latent frame, which cannot be continued"
        )
    length = 1 + (latent_frames - 1) * stride
    shared = 1 + min(-(-(overlap - 1) // stride), latent_frames - 2) * stride

    windows: list[Window] = []
    start = max(uncoded, num_first - shared)
    while not windows or windows[-1].stop < num_frames:
        surplus = max(0, start + length - num_frames) // stride * stride
        start = max(uncoded, start - surplus)
        place = (start - windows[0].start) // stride if windows else 0
        num_old = 1 + (windows[-1].stop - 1 - start) // stride if windows else 0
        windows.append(Window(start, min(start + length, num_frames), place, num_old))
        start = windows[-1].stop - shared
    return windows


class GeneratedVideos(NamedTuple):
    """Generated videos, from the start of the first window, as the tokenizer decodes them."""

    videos: Float[Tensor, "b 3 T H W"]
    """In [0, 1], on the CPU."""
    codes: Int[Tensor, "b t h w"]
    """New codes of all windows, concatenated, on the CPU."""


def generate_windows(
    tokenizer: VideoTokenizer,
    windows: Sequence[Window],
    pixels: Float[Tensor, "b 3 T H W"],
    known: Bool[Tensor, "b T H W"],
    write: WriteCodes,
) -> GeneratedVideos:
    """Generate windows one after another. The frames of a window are known to the next.

    Each window is encoded and decoded as a separate clip, since its first latent frame is a single frame, and since the
    tokenizer was trained on such clips. Only the new frames of a window are kept, so no returned frame is the
    reconstruction of a generated one.

    Args:
        pixels: in [0, 1]; unknown pixels are ignored.
        known: True where pixels are given.
        write: generates the codes of a window.
    """
    pixels, is_known = pixels.clone(), known.clone()
    videos, codes = [], []
    done = windows[0].start
    for window in windows:
        clip, new = slice(window.start, window.stop), slice(done, window.stop)
        window_codes = write(window, to_model_range(pixels[:, :, clip]), is_known[:, clip])
        decoded = tokenizer.decode(window_codes, window.stop - window.start, *pixels.shape[3:])
        videos.append(to_unit_range(decoded.float()).cpu()[:, :, done - window.start :])
        codes.append(window_codes[:, window.num_old :].cpu())
        pixels[:, :, new] = torch.where(known[:, None, new], pixels[:, :, new], videos[-1])
        is_known[:, new] = True
        done = window.stop
    return GeneratedVideos(torch.cat(videos, dim=2), torch.cat(codes, dim=1))
