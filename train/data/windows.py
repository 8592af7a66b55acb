"""Which windows of frames are clips for training, and which are held out."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

MARGIN = 2  # frames between held-out ones and the nearest training window


class FrameRange(NamedTuple):
    start: int
    stop: int  # the first frame behind it

    def with_margin(self) -> "FrameRange":
        return FrameRange(max(0, self.start - MARGIN), self.stop + MARGIN)


class Timeline(NamedTuple):
    """The frames of one video, and the first frames of its shots but the first."""

    num_frames: int
    cuts: tuple[int, ...]

    def shots(self) -> list[FrameRange]:
        return [FrameRange(*ends) for ends in pairwise((0, *self.cuts, self.num_frames))]

    def window_starts(self, span: int, without: Sequence[FrameRange] = ()) -> Int[np.ndarray, " windows"]:
        """First frames of all windows of `span` frames that lie inside one shot and touch none of the ranges."""
        shot = np.zeros(self.num_frames, dtype=np.int64)
        shot[list(self.cuts)] = 1
        shot = shot.cumsum()
        is_taken = np.zeros(self.num_frames + 1, dtype=np.int64)  # one place in front, for the sum before a frame
        for start, stop in without:
            is_taken[1 + start : 1 + stop] = 1
        num_taken = is_taken.cumsum()
        starts = np.arange(max(0, self.num_frames - span + 1))
        in_one_shot = shot[starts] == shot[starts + span - 1]
        return starts[in_one_shot & (num_taken[starts] == num_taken[starts + span])]


def choose_heldout(
    timelines: Mapping[str, Timeline], span: int, fraction: float, seed: int
) -> dict[str, list[FrameRange]]:
    """Blocks of consecutive frames that hold about `fraction` of all windows, at least one, and leave some to train on.

    There are none where nothing would be left. Of pictures, which are videos of one frame, each block is a whole one.
    A block holds many windows where there is enough video, since each one costs the training windows that
    overlap its ends. What a file's blocks are, and which of them come first, depends on that file and the seed alone.
    """
    num_windows = {name: len(timeline.window_starts(span)) for name, timeline in timelines.items()}
    num_to_hold_out = max(1, round(fraction * sum(num_windows.values())))
    num_blocks = max(1, round(num_to_hold_out / (2 * span)))
    windows_per_block = -(-num_to_hold_out // num_blocks)

    candidates = sorted(
        (lot(seed, name, block), name, block)
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


def why_none_is_held_out(timelines: Mapping[str, Timeline], span: int) -> str:
    """What was found where `choose_heldout` gave nothing, and what it takes."""
    num_frames = sum(timeline.num_frames for timeline in timelines.values())
    num_windows = sum(len(timeline.window_starts(span)) for timeline in timelines.values())
    return (
        f"too little to hold any out: found {num_frames} frames in {len(timelines)} file(s) with "
        f"{num_windows} window(s) of {span} frames, needed {2 * span + MARGIN} frames without a "
        f"cut in one file, or {span} such frames in each of two files"
    )


def blocks(timeline: Timeline, span: int, windows_per_block: int) -> list[FrameRange]:
    """Blocks side by side, each inside one shot; the last of a shot may be shorter."""
    length = span + windows_per_block - 1
    return [
        FrameRange(start, min(start + length, shot.stop))
        for shot in timeline.shots()
        for start in range(shot.start, shot.stop - span + 1, length)
    ]


def lot(seed: int, name: str, block: FrameRange) -> str:
    """What decides the order of blocks: the same on every machine and with every version of any library."""
    return hashlib.sha256(f"{seed}/{name}/{block.start}".encode()).hexdigest()
