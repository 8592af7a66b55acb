"""Labelled clips: a table of windows, and the source of their frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import datasets
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ...pipelines.media.resizing import crop_start, reduced
from ...tokenizer.pixels import to_model_range
from .cache.frame_cache import StoredVideo
from .report import DataReport
from .spreading import spread

MODEL_VALUES = to_model_range(torch.arange(256) / 255).numpy()  # a lookup table is faster than arithmetic


@runtime_checkable
class FrameSource(Protocol):
    """Returns the frames of a row of the table; their short side is the resolution."""

    def frames(self, row: Mapping[str, Any]) -> UInt8[np.ndarray, "T H W 3"]: ...


@dataclass(frozen=True)
class StoredFrames:
    """Windows of decoded files."""

    videos: Mapping[str, StoredVideo]
    num_frames: int
    stride: int

    def frames(self, row: Mapping[str, Any]) -> UInt8[np.ndarray, "T H W 3"]:
        return self.videos[row["file"]].frames(row["first_frame"], self.num_frames, self.stride)


@runtime_checkable
class Render(Protocol):
    """Returns the frames of clip number `index`."""

    def __call__(
        self, seed: tuple[int, ...], index: int, *, num_frames: int, stride: int, resolution: int
    ) -> UInt8[np.ndarray, "T H W 3"]: ...


@dataclass(frozen=True)
class RenderedClips:
    """Clips without files, drawn on access."""

    render: Render
    seed: tuple[int, ...]
    num_frames: int
    stride: int
    resolution: int

    def frames(self, row: Mapping[str, Any]) -> UInt8[np.ndarray, "T H W 3"]:
        return self.render(
            self.seed, row["number"], num_frames=self.num_frames, stride=self.stride, resolution=self.resolution
        )


class Clips(torch.utils.data.Dataset[dict[str, Tensor]]):
    """The windows of a table as videos. Its items are for evaluation: cropped at the centre, not mirrored."""

    def __init__(
        self, table: datasets.Dataset, source: FrameSource, resolution: int, detailed: FrameSource | None = None
    ) -> None:
        """
        Args:
            detailed: the same frames with a higher resolution, for `close_up`.
        """
        self.table = table
        self.source = source
        self.resolution = resolution
        self.detailed = detailed

    def __len__(self) -> int:
        return len(self.table)

    def video(
        self, index: int, *, offset: tuple[float, float] = (0.5, 0.5), flip: bool = False
    ) -> Float[Tensor, "3 T H W"]:
        """Return a clip in [-1, 1], cropped to a square.

        Args:
            offset: position of the crop: 0 = top and left, 1 = bottom and right.
        """
        pixels, _ = self.pixels_and_label(index, offset=offset, flip=flip)
        return to_video(pixels)

    def __getitem__(self, key: int) -> dict[str, Tensor]:
        pixels, label = self.pixels_and_label(key)
        return {"video": to_video(pixels), "label": torch.tensor(label)}

    def pixels_and_label(
        self, index: int, *, offset: tuple[float, float] = (0.5, 0.5), flip: bool = False
    ) -> tuple[UInt8[np.ndarray, "3 T H W"], int]:
        """Return the clip as in `video`, but with values from 0 to 255, and its label."""
        row = self.table[index]
        square = square_of(self.source.frames(row), self.resolution, offset)
        return channels_first(square, flip=flip), row["label"]

    def close_up(
        self, index: int, *, side: int, offset: tuple[float, float], flip: bool = False
    ) -> tuple[UInt8[np.ndarray, "3 T H W"], int]:
        """Return a square of the detailed frames, reduced to the resolution, and the label.

        Args:
            side: of the square in pixels of the detailed frames.
        """
        assert self.detailed is not None
        row = self.table[index]
        square = square_of(self.detailed.frames(row), side, offset)
        return channels_first(reduced(square, self.resolution, self.resolution), flip=flip), row["label"]

    def select(self, indexes: Sequence[int] | Int[np.ndarray, " rows"]) -> "Clips":
        """Return the clips of some rows of the table."""
        return Clips(self.table.select(indexes), self.source, self.resolution, self.detailed)

    def spread(self, num_clips: int) -> "Clips":
        """Return at most this number of clips, spread over labels, files and their frames, always the same ones."""
        return self.select(spread(self.table["label"][:], self.table["file"][:], num_clips))


def square_of(
    frames: UInt8[np.ndarray, "T H W 3"], side: int, offset: tuple[float, float]
) -> UInt8[np.ndarray, "T side side 3"]:
    """Return a square of the frames; for `offset` see `Clips.video`."""
    top, left = (crop_start(length, side, share) for share, length in zip(offset, frames.shape[1:3], strict=True))
    return frames[:, top : top + side, left : left + side]


def channels_first(frames: UInt8[np.ndarray, "T H W 3"], *, flip: bool) -> UInt8[np.ndarray, "3 T H W"]:
    shown = frames[:, :, ::-1] if flip else frames
    return np.ascontiguousarray(rearrange(shown, "T H W c -> c T H W"))


def to_video(pixels: UInt8[np.ndarray, "*axes"]) -> Float[Tensor, "*axes"]:
    """Convert values from 0 to 255 to [-1, 1]."""
    return torch.from_numpy(np.take(MODEL_VALUES, pixels))


@dataclass(frozen=True, kw_only=True)
class VideoData:
    """The clips for the training and evaluation of a run."""

    labels: tuple[str, ...]  # names; a label is an index
    train: Clips
    heldout: Clips
    allows_flip: bool  # whether training may mirror clips
    fingerprint: str  # digest of everything that the clips depend on
    report: DataReport | None = None  # on the files; None without files
    largest_side: int | None = None  # of a square for `Clips.close_up` in training; None for no such squares
    image_ratio: float = 0.0  # share of the training batches that are images
    images: Clips | None = None  # clips of one frame for those batches; None if the share is 0
