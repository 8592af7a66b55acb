"""A video that is to be tokenized, from a file or in memory, as pieces that are made when they are asked for."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from .decoding import probe
from .frame_reader import DecodingError
from .video_files import iterate_video
from .video_like import VideoLike, as_videos


class VideoSource:
    """One pass over a video in [0, 1], of which no more than a piece is held."""

    def __init__(
        self,
        video: str | Path | VideoLike,
        *,
        size: tuple[int, int] | None,
        piece_frames: int,
        max_frames: int | None = None,
        progress: bool = False,
    ) -> None:
        """Args:
        size: height and width to crop and resize frames to; None leaves them as they are.
        piece_frames: frames of a piece; the last may have fewer.
        max_frames: only so many frames from the start.
        progress: show a progress bar.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds no video, the pixels are no video in [0, 1], or a number is not positive.
        """
        for name, number in (("piece_frames", piece_frames), ("max_frames", max_frames)):
            if number is not None and number < 1:
                raise ValueError(f"{name} must be positive, got {number}")
        self.fps: float | None = None
        """Frames per second of a file that tells it."""
        self.num_frames = 0
        """How many have been given."""
        self.progress = progress
        if not isinstance(video, str | Path):
            whole = as_videos(video, "video")[:, :, :max_frames]
            self.expected: int | None = whole.shape[2]
            self.batch, self.height, self.width = len(whole), *(size or whole.shape[3:])
            self.pieces = (fit(piece, *size) if size else piece for piece in whole.split(piece_frames, dim=2))
        else:
            frames = (fit(frame[None], *size) if size else frame[None] for frame in iterate_video(video))
            first = next(frames, None)
            if first is None:
                raise ValueError(f"{video} holds no frame")
            self.fps, self.expected = probe_file(video)
            if self.expected and max_frames:
                self.expected = min(self.expected, max_frames)
            self.batch, self.height, self.width = 1, *first.shape[3:]
            self.pieces = joined(islice(chain([first], frames), max_frames), piece_frames)

    def __iter__(self) -> Iterator[Float[Tensor, "b 3 _ H W"]]:
        with tqdm(total=self.expected, unit="frame", disable=not self.progress) as bar:
            for piece in self.pieces:
                self.num_frames += piece.shape[2]
                yield piece
                bar.update(piece.shape[2])


def fit(video: Float[Tensor, "b 3 T H W"], height: int, width: int) -> Float[Tensor, "b 3 T h w"]:
    """Crop the middle to the shape of `height` x `width` and resize it to that, by area averaging when smaller."""
    rows, columns = video.shape[3:]
    scale = min(rows / height, columns / width)
    crop_rows, crop_columns = round(height * scale), round(width * scale)
    top, left = (rows - crop_rows) // 2, (columns - crop_columns) // 2
    cropped = video[..., top : top + crop_rows, left : left + crop_columns]
    if (crop_rows, crop_columns) == (height, width):
        return cropped
    frames = rearrange(cropped, "b c T H W -> (b T) c H W")
    smaller = scale >= 1
    resized = F.interpolate(frames, (height, width), mode="area" if smaller else "bilinear", antialias=not smaller)
    return rearrange(resized, "(b T) c h w -> b c T h w", b=len(video))


def joined(frames: Iterable[Float[Tensor, "b 3 1 H W"]], piece_frames: int) -> Iterator[Float[Tensor, "b 3 _ H W"]]:
    """Frames in pieces.

    Raises:
        ValueError: a frame of another size than those before.
    """
    size: tuple[int, ...] = ()
    piece: list[Tensor] = []
    for frame in frames:
        size = size or tuple(frame.shape[3:])
        if tuple(frame.shape[3:]) != size:
            raise ValueError(f"the frames of a video have one size: {size} at first, now {tuple(frame.shape[3:])}")
        piece.append(frame)
        if len(piece) == piece_frames:
            yield torch.cat(piece, dim=2)
            piece.clear()
    if piece:
        yield torch.cat(piece, dim=2)


def probe_file(path: str | Path) -> tuple[float | None, int | None]:
    """Frame rate and number of frames that a file claims.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return probe(Path(path))
    except DecodingError as error:
        raise ValueError(f"{path} cannot be read as a video or an image ({error})") from error
