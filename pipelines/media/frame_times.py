"""Frames that are missing, by the times of those that are there."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

IRREGULAR = 0.1
"""Largest share of the steps from frame to frame that differ from the usual one, if there is a usual one."""


class Gap(NamedTuple):
    """A jump in time."""

    frame: int
    """Index of the first frame after it."""
    num_missing: int


def usual_step(times: Int[np.ndarray, " T"]) -> float | None:
    """Return the time from frame to frame if it is constant, up to rounding, with few exceptions."""
    steps = np.diff(times)
    if not len(steps):
        return None
    usual = float(np.median(steps))
    is_usual = np.abs(steps - usual) <= max(1.0, 0.1 * usual)
    num_exceptions = len(steps) - is_usual.sum()
    is_regular = usual > 0 and num_exceptions <= max(len(steps) > 3, IRREGULAR * len(steps))
    return float(steps[is_usual].mean()) if is_regular else None


def time_gaps(
    times: Sequence[int | None],
    durations: Sequence[int],
    lost: Sequence[int] = (),
    indexed: Sequence[int] | None = None,
) -> list[Gap]:
    """Return where frames are missing.

    A frame may be shown for long: a longer step is a gap only if frames come regularly otherwise, and if the frame
    before it has no duration or a shorter one.

    Args:
        times: when each frame is shown; None if the file does not tell.
        durations: how long each frame is shown; 0 if the file does not tell.
        lost: times of frames that could not be decoded.
        indexed: times of all frames by an index of the file. Then only times without a frame are gaps.
    """
    known = np.array([time for time in times if time is not None], dtype=np.int64)
    if len(known) < len(times):
        return []
    gaps = {frame: 1 for frame in np.searchsorted(known, lost).tolist() if 0 < frame < len(known)}
    if (usual := usual_step(known)) is not None:
        steps = np.diff(known)
        is_gap = (steps - np.maximum(durations[:-1], usual) > 0.75 * usual) | (steps < -0.5 * usual)
        if indexed is not None:
            without_frame = np.setdiff1d(np.array(indexed, dtype=np.int64), known)
            is_gap &= np.diff(np.searchsorted(without_frame, known)) > 0
        for place in np.flatnonzero(is_gap).tolist():
            gaps[place + 1] = max(0, round(float(steps[place]) / usual) - 1)
    return [Gap(*gap) for gap in sorted(gaps.items())]
