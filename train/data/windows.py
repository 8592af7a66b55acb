"""Ranges of frames: the shots of files, their held-out parts, and what is left for training.

All ranges of a data set are in flat arrays, so that a million files take little memory.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, UInt64

MARGIN = 2  # frames between a held-out range and the nearest training window


@dataclass(frozen=True)
class Ranges:
    """Ranges of frames, each in one file.

    Attributes:
        file: number of the file of each range.
        start: its first frame.
        stop: the frame after its last one.
    """

    file: Int[np.ndarray, " ranges"]
    start: Int[np.ndarray, " ranges"]
    stop: Int[np.ndarray, " ranges"]

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int, int]]) -> "Ranges":
        """Return the ranges with these files, starts and stops."""
        columns = np.array([*ranges], np.int32).reshape(-1, 3).T
        return cls(*columns)

    def __len__(self) -> int:
        return len(self.file)

    @property
    def lengths(self) -> Int[np.ndarray, " ranges"]:
        return self.stop - self.start

    def num_starts(self, span: int) -> Int[np.ndarray, " ranges"]:
        """Return the number of windows of `span` frames in each range, overlapping ones included."""
        return np.maximum(0, self.lengths - span + 1)

    def select(self, chosen: Bool[np.ndarray, " ranges"] | Int[np.ndarray, " chosen"]) -> "Ranges":
        return Ranges(self.file[chosen], self.start[chosen], self.stop[chosen])

    def joined(self, others: "Ranges") -> "Ranges":
        pairs = zip((self.file, self.start, self.stop), (others.file, others.start, others.stop), strict=True)
        return Ranges(*(np.concatenate(pair) for pair in pairs))

    def with_margin(self) -> "Ranges":
        """Return the ranges with `MARGIN` more frames on both sides, possibly beyond the ends of the file."""
        return Ranges(self.file, self.start - MARGIN, self.stop + MARGIN)

    def are_within(self, others: "Ranges") -> Bool[np.ndarray, " ranges"]:
        """Return whether each range lies inside one of the others, which are in order."""
        if not len(others):
            return np.zeros(len(self), bool)
        order = np.searchsorted(others._keys(others.start), self._keys(self.start), "right") - 1
        return (
            (order >= 0)
            & (others.file[order] == self.file)
            & (others.start[order] <= self.start)
            & (self.stop <= others.stop[order])
        )

    def in_order(self) -> "Ranges":
        """Return the ranges in the order of files and frames."""
        return self.select(np.argsort(self._keys(self.start), kind="stable"))

    def _keys(self, frames: Int[np.ndarray, " ranges"]) -> Int[np.ndarray, " ranges"]:
        return self.file.astype(np.int64) * 2**32 + frames

    def without(self, taken: "Ranges", num_frames: Int[np.ndarray, " files"]) -> "Ranges":
        """Return what is left of the ranges without the frames of `taken`, in order.

        Args:
            taken: may overlap each other and the ends of files.
            num_frames: of each file.
        """
        taken = taken.select(taken.lengths > 0)
        ends = np.cumsum(num_frames, dtype=np.int64)  # all files one after another on one axis

        def places(ranges: Ranges) -> tuple[Int[np.ndarray, " ranges"], Int[np.ndarray, " ranges"]]:
            first, last = ends[ranges.file] - num_frames[ranges.file], ends[ranges.file]
            return np.clip(first + ranges.start, first, last), np.clip(first + ranges.stop, first, last)

        starts, stops = map(np.sort, places(self))
        taken_starts, taken_stops = map(np.sort, places(taken))
        edges = np.unique(np.concatenate([starts, stops, taken_starts, taken_stops]))
        begin, end = edges[:-1], edges[1:]

        def covering(starts: Int[np.ndarray, " _"], stops: Int[np.ndarray, " _"]) -> Int[np.ndarray, " pieces"]:
            return np.searchsorted(starts, begin, "right") - np.searchsorted(stops, begin, "right")

        is_left = (covering(starts, stops) > 0) & (covering(taken_starts, taken_stops) == 0)
        begin, end = begin[is_left], end[is_left]
        file = np.searchsorted(ends, begin, "right")
        first = ends[file] - num_frames[file]
        return Ranges(*(values.astype(np.int32) for values in (file, begin - first, end - first)))


def shots(
    num_frames: Int[np.ndarray, " files"], cuts: Int[np.ndarray, " cuts"], num_cuts: Int[np.ndarray, " files"]
) -> Ranges:
    """Return the shots of files.

    Args:
        cuts: first frames of all shots except the first one of each file, one file after another.
        num_cuts: of each file.
    """
    last = np.cumsum(num_cuts + 1) - 1  # number of the last shot of each file
    is_last = np.zeros(len(cuts) + len(num_frames), bool)
    is_last[last] = True
    is_first = np.roll(is_last, 1)
    start, stop = np.zeros((2, len(is_last)), np.int32)
    start[~is_first], stop[~is_last], stop[is_last] = cuts, cuts, num_frames
    return Ranges(np.repeat(np.arange(len(num_frames), dtype=np.int32), num_cuts + 1), start, stop)


def longest_shots(all_shots: Ranges, num_files: int) -> Int[np.ndarray, " files"]:
    """Return the number of frames of the longest shot of each file."""
    longest = np.zeros(num_files, np.int64)
    np.maximum.at(longest, all_shots.file, all_shots.lengths)
    return longest


def choose_heldout(
    all_shots: Ranges,
    num_frames: Int[np.ndarray, " files"],
    keys: UInt64[np.ndarray, " files"],
    span: int,
    fraction: float,
) -> Ranges:
    """Return blocks of consecutive frames with about `fraction` of all windows, at least one.

    Some windows are left for training; if that is impossible, there are no blocks. Blocks are long if there is enough
    video, since each block costs the training windows that overlap its ends. An image file is a block of one frame. The
    blocks of a file and their priority depend only on the shots of the file and on its key.

    Args:
        all_shots: shots of the files to choose from.
        num_frames: of each file.
        keys: result of `file_keys`.
    """
    num_windows = int(all_shots.num_starts(span).sum())
    num_to_hold_out = max(1, round(fraction * num_windows))
    num_blocks = max(1, round(num_to_hold_out / (2 * span)))
    candidates = blocks(all_shots, span, windows_per_block=-(-num_to_hold_out // num_blocks))
    order = np.argsort(mixed(keys[candidates.file] + candidates.start.astype(np.uint64)), kind="stable")
    candidates = candidates.select(order)

    def leaves_windows(chosen: Ranges) -> bool:
        return bool(all_shots.without(chosen.with_margin(), num_frames).num_starts(span).sum())

    num_held_out = np.cumsum(candidates.num_starts(span))
    chosen = candidates.select(np.arange(len(candidates)) <= np.searchsorted(num_held_out, num_to_hold_out))
    if leaves_windows(chosen):
        return chosen
    chosen = Ranges.of([])
    for number in range(len(candidates)):
        more = chosen.joined(candidates.select(np.array([number])))
        if leaves_windows(more):
            chosen = more
        if chosen.num_starts(span).sum() >= num_to_hold_out:
            break
    return chosen


def blocks(all_shots: Ranges, span: int, windows_per_block: int) -> Ranges:
    """Return adjacent blocks, each inside one shot. The last block of a shot may be shorter."""
    length = span + windows_per_block - 1
    counts = -(-all_shots.num_starts(span) // length)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    start = np.repeat(all_shots.start, counts) + number * length
    stop = np.minimum(start + length, np.repeat(all_shots.stop, counts))
    return Ranges(*(values.astype(np.int32) for values in (np.repeat(all_shots.file, counts), start, stop)))


def file_keys(seed: int, names: Iterable[str]) -> UInt64[np.ndarray, " files"]:
    """Return numbers that put files in a random order, independent of machine and library versions."""
    digests = b"".join(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:8] for name in names)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def mixed(values: UInt64[np.ndarray, " _"]) -> UInt64[np.ndarray, " _"]:
    """Return a hash of each value: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def too_few_frames(all_shots: Ranges, num_frames: Sequence[int] | Int[np.ndarray, " files"], span: int) -> str:
    """Return the message for data from which `choose_heldout` can hold nothing out."""
    return (
        f"too few frames for a held-out set: found {np.sum(num_frames)} frames in {len(num_frames)} files with "
        f"{all_shots.num_starts(span).sum()} windows of {span} frames; at least {2 * span + MARGIN} frames without a "
        f"cut in one file, or {span} in each of two files, are required"
    )
