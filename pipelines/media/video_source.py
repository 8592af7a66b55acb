"""A video that is to be tokenized, from a file or in memory, as pieces that are made when they are asked for."""

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
            if holds_bytes(video):
                whole = (whole * 255).round().byte()  # resized as the frames of files are
            self.expected: int | None = whole.shape[2]
            self.batch, self.height, self.width = len(whole), *(size or whole.shape[3:])
            pieces = whole.split(piece_frames, dim=2)
            self.pieces = (in_unit_range(fit(piece, *size) if size else piece) for piece in pieces)
        else:
            frames = (frame[None] for frame in iterate_video(video, size))
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
        return probe(as_path(path))
    except DecodingError as error:
        raise ValueError(f"{path} cannot be read as a video or an image ({error})") from error
