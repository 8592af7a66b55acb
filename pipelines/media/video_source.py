"""Pieces of a video to tokenize, from a file or from memory, read only when they are needed."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from ...files import as_path
from .decoding import probe
from .frame_reader import DecodingError
from .resizing import fit
from .video_files import in_unit_range, iterate_video
from .video_like import VideoLike, as_videos, holds_bytes


class VideoSource:
    """Yields a video in [0, 1] in pieces, once. Of a file, only one piece is in memory."""

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
        size: height and width that frames are resized and cropped to; None keeps their size.
        piece_frames: number of frames per piece; the last piece may have fewer.
        max_frames: number of frames to read from the start; None reads all.
        progress: whether to show a progress bar.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it contains no video, if pixels have a wrong shape, type or range, or if a number is not
                positive.
        """
        for name, number in (("piece_frames", piece_frames), ("max_frames", max_frames)):
            if number is not None and number < 1:
                raise ValueError(f"{name} must be positive, got {number}")
        self.fps: float | None = None
        """Frames per second of the file, None if unknown."""
        self.num_frames = 0
        """Number of frames that have been yielded."""
        self.progress = progress
        if not isinstance(video, str | Path):
            whole = as_videos(video, "video")[:, :, :max_frames]
            if holds_bytes(video):
                whole = (whole * 255).round().byte()  # resized as uint8, like the frames of files
            self.expected: int | None = whole.shape[2]
            self.batch, self.height, self.width = len(whole), *(size or whole.shape[3:])
            pieces = whole.split(piece_frames, dim=2)
            self.pieces = (in_unit_range(fit(piece, *size) if size else piece) for piece in pieces)
        else:
            frames = (frame[None] for frame in iterate_video(video, size))
            first = next(frames, None)
            if first is None:
                raise ValueError(f"{video} contains no frames")
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


def joined(frames: Iterable[Float[Tensor, "b 3 1 H W"]], piece_frames: int) -> Iterator[Float[Tensor, "b 3 _ H W"]]:
    """Yield frames joined to pieces.

    Raises:
        ValueError: if the sizes of frames differ.
    """
    size: tuple[int, ...] = ()
    piece: list[Tensor] = []
    for frame in frames:
        size = size or tuple(frame.shape[3:])
        if tuple(frame.shape[3:]) != size:
            raise ValueError(f"the frames of a video must have the same size, got {size} and {tuple(frame.shape[3:])}")
        piece.append(frame)
        if len(piece) == piece_frames:
            yield torch.cat(piece, dim=2)
            piece.clear()
    if piece:
        yield torch.cat(piece, dim=2)


def probe_file(path: str | Path) -> tuple[float | None, int | None]:
    """Return the frame rate and the number of frames according to the header of a file.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        return probe(as_path(path))
    except DecodingError as error:
        raise ValueError(f"{path} cannot be read as a video or an image ({error})") from error
