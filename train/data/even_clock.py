"""Frames at an even rate from a video of any rate."""

from collections.abc import Iterator
from typing import Generic, TypeVar

Frame = TypeVar("Frame")

ROUNDING = 1e-6
"""Seconds by which the times of frames may be wrong, since files store them as whole numbers of ticks."""


class EvenClock(Generic[Frame]):
    """Chooses for each tick of an even clock the nearest frame, the earlier one of two. The first tick is the time of
    the first frame, the last one is not after the last frame. Frames of a slower video are repeated.
    """

    def __init__(self, fps: float) -> None:
        """
        Args:
            fps: ticks per second.
        """
        self.fps = fps
        self.first_time: float | None = None
        self.latest: tuple[float, Frame] | None = None
        self.num_ticks = 0

    def push(self, time: float, frame: Frame) -> Iterator[Frame]:
        """Take the next frame, and yield the chosen ones that are known now.

        Args:
            time: of the frame, in seconds.
        """
        if self.latest is not None and self.first_time is not None:
            before, earlier = self.latest
            time = max(time, before)  # some files have times that go backwards
            yield from self._until((before + time) / 2, earlier)
        else:
            self.first_time = time
        self.latest = time, frame

    def finish(self) -> Iterator[Frame]:
        """Yield the chosen frames at the end of the video."""
        if self.latest is not None:
            yield from self._until(*self.latest)

    def _until(self, time: float, frame: Frame) -> Iterator[Frame]:
        """Yield the frame once for each tick that is not after the time."""
        assert self.first_time is not None
        while self.first_time + self.num_ticks / self.fps <= time + ROUNDING:
            self.num_ticks += 1
            yield frame
