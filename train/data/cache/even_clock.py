"""Frames at an even rate from a video of any rate."""

from collections.abc import Iterator
from typing import Generic, TypeVar

Frame = TypeVar("Frame")

ROUNDING = 1e-6
"""Seconds by which the times of frames may be wrong, since files store them as whole numbers of ticks."""
LONGEST_STEP = 1.0
"""Seconds from frame to frame after which the clock starts again. Longer steps are pauses or wrong times."""


class EvenClock(Generic[Frame]):
    """Chooses for each tick of an even clock the nearest frame, the earlier one of two.

    The first tick is the time of the first frame, the last one is not after the last frame. Frames of a slower video
    are repeated, but not over a step of more than `LONGEST_STEP`.

    Attributes:
        num_chosen: frames chosen so far.
        starts: numbers of the chosen frames at which the clock has started again.
    """

    def __init__(self, fps: float) -> None:
        """
        Args:
            fps: ticks per second.
        """
        self.fps = fps
        self.first_time = 0.0
        self.latest: tuple[float, Frame] | None = None
        self.num_ticks = self.num_chosen = 0
        self.starts: list[int] = []

    def push(self, time: float, frame: Frame) -> Iterator[Frame]:
        """Take the next frame, and yield the chosen ones that are known now.

        Args:
            time: of the frame, in seconds.
        """
        if self.latest is None:
            self.first_time = time
        else:
            before, earlier = self.latest
            if not before - LONGEST_STEP <= time <= before + LONGEST_STEP:
                yield from self._until(before, earlier)
                self.starts.append(self.num_chosen)
                self.first_time, self.num_ticks = time, 0
            else:
                time = max(time, before)  # some files have times that go backwards
                yield from self._until((before + time) / 2, earlier)
        self.latest = time, frame

    def finish(self) -> Iterator[Frame]:
        """Yield the chosen frames at the end of the video."""
        if self.latest is not None:
            yield from self._until(*self.latest)

    def _until(self, time: float, frame: Frame) -> Iterator[Frame]:
        """Yield the frame once for each tick that is not after the time."""
        while self.first_time + self.num_ticks / self.fps <= time + ROUNDING:
            self.num_ticks += 1
            self.num_chosen += 1
            yield frame
