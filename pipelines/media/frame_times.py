"""Detection of missing frames by the times of the decoded ones."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

IRREGULAR = 0.1
"""Maximum share of the steps from frame to frame that may differ from the usual one."""


class Gap(NamedTuple):
    """Missing frames between two decoded ones."""

    frame: int
    """Index of the first frame after the gap."""
    num_missing: int


def usual_step(times: Int[np.ndarray, " T"]) -> float | None:
    """Return the time from frame to frame if it is constant up to rounding and few exceptions, else None."""
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
    """Return the gaps in a video.

    A long step may also be a frame with a long duration. It is a gap only if the other steps are regular, and if the
    duration of the frame before it is unknown or shorter.

    Args:
        times: presentation time of each frame, None if unknown.
        durations: duration of each frame, 0 if unknown.
        lost: times of frames that could not be decoded.
        indexed: times of all frames from an index of the file. A gap must then contain the time of a missing frame.
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
