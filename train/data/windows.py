"""Choice of the windows of frames for training and of the held-out windows."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

MARGIN = 2  # frames between a held-out block and the nearest training window


class FrameRange(NamedTuple):
    start: int
    stop: int  # exclusive

    def with_margin(self) -> "FrameRange":
        return FrameRange(max(0, self.start - MARGIN), self.stop + MARGIN)


class Timeline(NamedTuple):
    """Number of frames of a video, and the first frames of all its shots except the first one."""

    num_frames: int
    cuts: tuple[int, ...]

    def shots(self) -> list[FrameRange]:
        return [FrameRange(*ends) for ends in pairwise((0, *self.cuts, self.num_frames))]

    def window_starts(self, span: int, without: Sequence[FrameRange] = ()) -> Int[np.ndarray, " windows"]:
        """Return the first frames of all windows of `span` frames inside one shot that overlap none of the ranges."""
        shot = np.zeros(self.num_frames, dtype=np.int64)
        shot[list(self.cuts)] = 1
        shot = shot.cumsum()
        # Entry i + 1 is for frame i, so that entry i of the cumulative sum counts the frames before i.
        is_taken = np.zeros(self.num_frames + 1, dtype=np.int64)
        for start, stop in without:
            is_taken[1 + start : 1 + stop] = 1
        num_taken = is_taken.cumsum()
        starts = np.arange(max(0, self.num_frames - span + 1))
        in_one_shot = shot[starts] == shot[starts + span - 1]
        return starts[in_one_shot & (num_taken[starts] == num_taken[starts + span])]


def choose_heldout(
    timelines: Mapping[str, Timeline], span: int, fraction: float, seed: int
) -> dict[str, list[FrameRange]]:
    """Return blocks of consecutive frames with about `fraction` of all windows, at least one.

    Some windows are left for training; if that is impossible, there are no blocks. Blocks are long if there is enough
    video, since each block costs the training windows that overlap its ends. An image file is a block of one frame. The
    blocks of a file and their priority depend only on the name and timeline of the file, and on the seed.
    """
    num_windows = {name: len(timeline.window_starts(span)) for name, timeline in timelines.items()}
    num_to_hold_out = max(1, round(fraction * sum(num_windows.values())))
    num_blocks = max(1, round(num_to_hold_out / (2 * span)))
    windows_per_block = -(-num_to_hold_out // num_blocks)

    candidates = sorted(
        (random_key(seed, name, block), name, block)
        for name, timeline in timelines.items()
        for block in blocks(timeline, span, windows_per_block)
    )
    chosen: dict[str, list[FrameRange]] = {name: [] for name in timelines}
    num_held_out, num_left = 0, dict(num_windows)
    num_left_in_all = sum(num_left.values())
    for _, name, block in candidates:
        if num_held_out >= num_to_hold_out:
            break
        ranges = [taken.with_margin() for taken in (*chosen[name], block)]
        num_left_here = len(timelines[name].window_starts(span, without=ranges))
        if num_left_in_all - num_left[name] + num_left_here == 0:
            continue
        num_left_in_all += num_left_here - num_left[name]
        num_left[name] = num_left_here
        num_held_out += block.stop - block.start - span + 1
        chosen[name].append(block)
    return chosen


def too_few_frames(timelines: Mapping[str, Timeline], span: int) -> str:
    """Return the message for data from which `choose_heldout` can hold nothing out."""
    num_frames = sum(timeline.num_frames for timeline in timelines.values())
    num_windows = sum(len(timeline.window_starts(span)) for timeline in timelines.values())
    return (
        f"too few frames for a held-out set: found {num_frames} frames in {len(timelines)} files with {num_windows} "
        f"windows of {span} frames; at least {2 * span + MARGIN} frames without a cut in one file, or {span} in each "
        "of two files, are required"
    )


def blocks(timeline: Timeline, span: int, windows_per_block: int) -> list[FrameRange]:
    """Return adjacent blocks, each inside one shot. The last block of a shot may be shorter."""
    length = span + windows_per_block - 1
    return [
        FrameRange(start, min(start + length, shot.stop))
        for shot in timeline.shots()
        for start in range(shot.start, shot.stop - span + 1, length)
    ]


def random_key(seed: int, name: str, block: FrameRange) -> str:
    """Return the sorting key that puts blocks in a random order, independent of machine and library versions."""
    return hashlib.sha256(f"{seed}/{name}/{block.start}".encode()).hexdigest()
