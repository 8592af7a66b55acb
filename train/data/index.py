"""Index of the windows of a data set. A window is computed from flat arrays, it is never a row of its own."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from .windows import Ranges

PHASES = 2**31 + 2  # marks the seeds of phases, so that they differ from the other seeds


class Window(NamedTuple):
    """Where the frames of a clip are."""

    number: int
    """Of the file in the source, or of the drawn clip."""
    first_frame: int
    label: int


class Windows(NamedTuple):
    """Many windows; see `Window`."""

    numbers: Int[np.ndarray, " windows"]
    first_frames: Int[np.ndarray, " windows"]
    labels: Int[np.ndarray, " windows"]


class LabelRuns(NamedTuple):
    """Numbers of consecutive windows of an index that have the same label, and these labels."""

    counts: Int[np.ndarray, " runs"]
    labels: Int[np.ndarray, " runs"]


@runtime_checkable
class WindowIndex(Protocol):
    """The windows of one pass over a data set."""

    def __len__(self) -> int: ...

    @property
    def varies(self) -> bool:
        """Whether a clip differs from pass to pass, in its frames or its crop."""
        ...

    def window(self, index: int, key: tuple[int, ...] | None) -> Window:
        """Return window number `index` of the pass that is given by the key.

        Without a key, windows are in the middle of what they are cut from.
        """
        ...

    def label_runs(self) -> LabelRuns: ...

    def middle_windows(self) -> "Windows":
        """Return the windows of the pass without a key."""
        ...

    def every_window(self) -> "Windows":
        """Return the windows from every first frame on. Those of all passes are among them."""
        ...


@dataclass(frozen=True)
class RangeIndex:
    """Windows of ranges of frames.

    In each pass, a range of `length` frames has floor(length / span) adjacent windows. The first one starts at a phase
    that is drawn for each pass and range, so that all of them fit.

    Args:
        ranges: each has one window at least.
        span: number of frames from the first to the last frame of a window, inclusive.
        labels: label of each file.
    """

    ranges: Ranges
    span: int
    labels: Int[np.ndarray, " files"]

    @classmethod
    def of(cls, ranges: Ranges, span: int, labels: Int[np.ndarray, " files"]) -> "RangeIndex":
        """Return the index of those ranges that are long enough for a window."""
        return cls(ranges.select(ranges.lengths >= span), span, labels)

    @cached_property
    def counts(self) -> Int[np.ndarray, " ranges"]:
        """Number of windows of each range."""
        return self.ranges.lengths // self.span

    @cached_property
    def ends(self) -> Int[np.ndarray, " ranges"]:
        """Number of windows of each range and all ranges before it."""
        return np.cumsum(self.counts, dtype=np.int64)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def varies(self) -> bool:
        return True

    def window(self, index: int, key: tuple[int, ...] | None) -> Window:
        if not 0 <= index < len(self):
            raise IndexError(f"window must be in [0, {len(self)}), got {index}")
        place = int(np.searchsorted(self.ends, index, "right"))
        spare = int(self.ranges.stop[place] - self.ranges.start[place]) % self.span
        phase = spare // 2 if key is None else int(np.random.default_rng((*key, PHASES, place)).integers(spare + 1))
        in_range = index - int(self.ends[place]) + int(self.counts[place])
        file = int(self.ranges.file[place])
        first_frame = int(self.ranges.start[place]) + phase + in_range * self.span
        return Window(file, first_frame, int(self.labels[file]))

    def label_runs(self) -> LabelRuns:
        return LabelRuns(self.counts, self.labels[self.ranges.file])

    def middle_windows(self) -> Windows:
        return self._windows(self.counts, self.ranges.lengths % self.span // 2, self.span)

    def every_window(self) -> Windows:
        return self._windows(self.ranges.num_starts(self.span), 0, 1)

    def _windows(
        self, counts: Int[np.ndarray, " ranges"], phases: Int[np.ndarray, " ranges"] | int, step: int
    ) -> Windows:
        in_range = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        files = np.repeat(self.ranges.file, counts)
        first_frames = np.repeat(self.ranges.start + phases, counts) + in_range * step
        return Windows(files, first_frames, self.labels[files])


@dataclass(frozen=True)
class DrawnIndex:
    """Clips without files. Clip number i has label i modulo the number of labels; every pass has the same ones."""

    num_clips: int
    num_labels: int

    def __len__(self) -> int:
        return self.num_clips

    @property
    def varies(self) -> bool:
        return False

    def window(self, index: int, key: tuple[int, ...] | None) -> Window:
        if not 0 <= index < self.num_clips:
            raise IndexError(f"clip must be in [0, {self.num_clips}), got {index}")
        return Window(index, 0, index % self.num_labels)

    def label_runs(self) -> LabelRuns:
        numbers = np.arange(self.num_clips)
        return LabelRuns(np.ones_like(numbers), numbers % self.num_labels)

    def middle_windows(self) -> Windows:
        return self.every_window()

    def every_window(self) -> Windows:
        numbers = np.arange(self.num_clips)
        return Windows(numbers, np.zeros_like(numbers), numbers % self.num_labels)
