"""Labelled clips: windows of a data set, and the source of their frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, Self, runtime_checkable

import datasets
import numpy as np
import pyarrow as pa
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ...pipelines.media.resizing import crop_start, reduced
from ...tokenizer.pixels import to_model_range
from .cache.stored_videos import StoredVideos
from .index import Window, WindowIndex, Windows
from .report import DataReport
from .spreading import spread

BLANK = 0.06  # windows whose standard deviation, of pixels in [0, 1], is smaller are blank
MODEL_VALUES = to_model_range(torch.arange(256) / 255).numpy()  # a lookup table is faster than arithmetic


@runtime_checkable
class FrameSource(Protocol):
    """The frames of windows; their short side is the resolution."""

    def frames(self, number: int, first_frame: int) -> UInt8[np.ndarray, "T H W 3"]:
        """Return the frames of a window.

        Args:
            number: see `Window.number`.
        """
        ...

    def name(self, number: int) -> str:
        """Return the name of a file."""
        ...

    def names(self) -> list[str]:
        """Return the names of all files."""
        ...

    def are_blank(self, number: int, first_frames: Int[np.ndarray, " windows"]) -> Bool[np.ndarray, " windows"]:
        """Return whether the standard deviation over all values of a window is below `BLANK`."""
        ...


@dataclass(frozen=True)
class StoredFrames:
    """Windows of decoded files."""

    videos: StoredVideos
    num_frames: int
    stride: int

    def frames(self, number: int, first_frame: int) -> UInt8[np.ndarray, "T H W 3"]:
        return self.videos[number].frames(first_frame, self.num_frames, self.stride)

    def name(self, number: int) -> str:
        return self.videos.name(number)

    def names(self) -> list[str]:
        return self.videos.names.to_pylist()

    def are_blank(self, number: int, first_frames: Int[np.ndarray, " windows"]) -> Bool[np.ndarray, " windows"]:
        video = self.videos[number]
        frames = first_frames[:, None] + self.stride * np.arange(self.num_frames)
        sums = video.moments[frames].sum(axis=1)
        mean, mean_square = (sums / (self.num_frames * video.values_per_frame)).T
        return mean_square - mean**2 < (255 * BLANK) ** 2


@runtime_checkable
class Render(Protocol):
    """Returns the frames of clip number `index`."""

    def __call__(
        self, seed: tuple[int, ...], index: int, *, num_frames: int, stride: int, resolution: int
    ) -> UInt8[np.ndarray, "T H W 3"]: ...


@dataclass(frozen=True)
class RenderedClips:
    """Clips without files, drawn on access. They are never blank."""

    source: str
    render: Render
    seed: tuple[int, ...]
    num_frames: int
    stride: int
    resolution: int

    def frames(self, number: int, first_frame: int) -> UInt8[np.ndarray, "T H W 3"]:
        return self.render(
            self.seed, number, num_frames=self.num_frames, stride=self.stride, resolution=self.resolution
        )

    def name(self, number: int) -> str:
        return self.source

    def names(self) -> list[str]:
        return [self.source]

    def are_blank(self, number: int, first_frames: Int[np.ndarray, " windows"]) -> Bool[np.ndarray, " windows"]:
        return np.zeros(len(first_frames), bool)


@dataclass(frozen=True)
class ClipReader:
    """Reads windows as square clips."""

    source: FrameSource
    resolution: int
    detailed: FrameSource | None = None
    """The same frames with a higher resolution, for `close_up`."""

    def clip(
        self, number: int, first_frame: int, *, offset: tuple[float, float] = (0.5, 0.5), flip: bool = False
    ) -> UInt8[np.ndarray, "3 T H W"]:
        """Return a clip with values from 0 to 255, cropped to a square.

        Args:
            offset: position of the crop: 0 = top and left, 1 = bottom and right.
        """
        return channels_first(square_of(self.source.frames(number, first_frame), self.resolution, offset), flip=flip)

    def close_up(
        self, number: int, first_frame: int, *, side: int, offset: tuple[float, float], flip: bool = False
    ) -> UInt8[np.ndarray, "3 T H W"]:
        """Return a square of the detailed frames, reduced to the resolution.

        Args:
            side: of the square in pixels of the detailed frames.
        """
        assert self.detailed is not None
        square = square_of(self.detailed.frames(number, first_frame), side, offset)
        return channels_first(reduced(square, self.resolution, self.resolution), flip=flip)


class Clips(torch.utils.data.Dataset[dict[str, Tensor]]):
    """The windows of a table as videos, for evaluation: cropped at the centre, not mirrored.

    Attributes:
        table: one row for each clip: `file` (its name), `label`, and `number` and `first_frame` of its `Window`.
    """

    def __init__(self, table: datasets.Dataset, reader: ClipReader) -> None:
        self.table = table
        self.reader = reader

    @classmethod
    def of(cls, windows: Windows, reader: ClipReader, labels: Sequence[str]) -> Self:
        """Return these windows.

        Args:
            labels: names of all labels.
        """
        known, places = np.unique(windows.numbers, return_inverse=True)
        names = pa.array([reader.source.name(number) for number in known.tolist()], pa.string())
        features = datasets.Features(
            {
                "file": datasets.Value("string"),
                "label": datasets.ClassLabel(names=list(labels)),
                "number": datasets.Value("int64"),
                "first_frame": datasets.Value("int64"),
            }
        )
        columns = names.take(pa.array(places)), *map(pa.array, (windows.labels, windows.numbers, windows.first_frames))
        table = pa.table([*columns], names=[*features]).cast(features.arrow_schema)
        return cls(datasets.Dataset(table, info=datasets.DatasetInfo(features=features)), reader)

    def __len__(self) -> int:
        return len(self.table)

    def video(self, index: int, *, flip: bool = False) -> Float[Tensor, "3 T H W"]:
        """Return a clip in [-1, 1]."""
        return to_video(self.pixels(index, flip=flip))

    def pixels(self, index: int, *, flip: bool = False) -> UInt8[np.ndarray, "3 T H W"]:
        """Return a clip with values from 0 to 255."""
        row = self.table[index]
        return self.reader.clip(row["number"], row["first_frame"], flip=flip)

    def __getitem__(self, key: int) -> dict[str, Tensor]:
        row = self.table[key]
        pixels = self.reader.clip(row["number"], row["first_frame"])
        return {"video": to_video(pixels), "label": torch.tensor(row["label"])}

    def are_blank(self) -> Bool[np.ndarray, " clips"]:
        """Return whether each clip shows next to nothing; see `FrameSource.are_blank`."""
        numbers, first_frames = (np.asarray(self.table[column][:]) for column in ("number", "first_frame"))
        ends = np.flatnonzero(np.diff(numbers, append=-1)) + 1  # of consecutive windows of a file
        of_file = [
            self.reader.source.are_blank(int(numbers[start]), first_frames[start:stop])
            for start, stop in pairwise((0, *ends.tolist()))
        ]
        return np.concatenate([np.zeros(0, bool), *of_file])

    def select(self, indexes: Sequence[int] | Int[np.ndarray, " rows"]) -> "Clips":
        """Return the clips of some rows of the table."""
        return Clips(self.table.select(indexes), self.reader)

    def spread(self, num_clips: int) -> "Clips":
        """Return at most this number of clips, spread over labels, files and their frames, always the same ones."""
        return self.select(spread(self.table["label"][:], self.table["number"][:], num_clips))


@dataclass(frozen=True)
class TrainingWindows:
    """The windows for training. Each pass over the data may have other ones; see `WindowIndex`.

    `len` is their number in a pass.
    """

    index: WindowIndex
    reader: ClipReader
    labels: tuple[str, ...]
    """The names of all labels."""

    def __len__(self) -> int:
        return len(self.index)

    def window(self, index: int, key: tuple[int, ...] | None) -> Window:
        """Return a window of the pass that is given by the key; see `WindowIndex.window`."""
        return self.index.window(index, key)

    def is_blank(self, window: Window) -> bool:
        return bool(self.reader.source.are_blank(window.number, np.array([window.first_frame]))[0])

    def blank_share(self, most: int) -> float:
        """Return the share of blank windows among at most this number of windows, spread over the data."""
        places = np.unique(np.linspace(0, len(self) - 1, most).round().astype(int)).tolist()
        return float(np.mean([self.is_blank(self.window(place, None)) for place in places]))

    def middle_windows(self) -> Clips:
        """Return the windows of a pass, each in the middle of where it may be."""
        return Clips.of(self.index.middle_windows(), self.reader, self.labels)

    def every_window(self) -> Clips:
        """Return the windows from every first frame on. They overlap, so there are many if there is much data."""
        return Clips.of(self.index.every_window(), self.reader, self.labels)


def square_of(
    frames: UInt8[np.ndarray, "T H W 3"], side: int, offset: tuple[float, float]
) -> UInt8[np.ndarray, "T side side 3"]:
    """Return a square of the frames; for `offset` see `ClipReader.clip`."""
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
    train: TrainingWindows
    heldout: Clips
    allows_flip: bool  # whether training may mirror clips
    fingerprint: str  # digest of everything that the clips depend on
    report: DataReport | None = None  # on the files; None without files
    largest_side: int | None = None  # of a square for `ClipReader.close_up` in training; None for no such squares
    image_ratio: float = 0.0  # share of the training batches that are images
    images: TrainingWindows | None = None  # clips of one frame for those batches; None if the share is 0
