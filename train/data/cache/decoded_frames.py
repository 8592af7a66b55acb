"""Frames of one file as they are stored: resized, of a section, at an even rate."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import UInt8

from ....pipelines.media.decoding import open_frames
from ....pipelines.media.frame_reader import DecodingError, FrameReader
from ....pipelines.media.resizing import resize, stored_size
from ..sources.files import Section
from .cuts import find_cuts, thumbnail
from .even_clock import LONGEST_STEP, ROUNDING, EvenClock

LARGEST_RATIO = 32  # of the sides; the short side is resized to the resolution, so a thin strip would exhaust memory

MANY_PIXELS = 2**24
LARGE_FRAMES = Lock()  # files with more than `MANY_PIXELS` per frame are decoded one at a time

Frame = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Decoded:
    """Properties of a decoded file. They do not come from its header, whose frame count may be wrong."""

    num_frames: int
    height: int
    width: int
    cuts: tuple[int, ...]
    damage: str | None = None
    """What is missing or wrong."""
    seconds: float = 0.0
    """From the first frame to the last one, without pauses."""


class DecodedFrames:
    """The frames of a file, to be iterated once, and afterwards what is known about them."""

    def __init__(
        self, path: Path, resolution: int, *, section: Section | None = None, fps: float | None = None
    ) -> None:
        """
        Args:
            resolution: length of the short side.
            section: part of the file; None for all of it.
            fps: frames per second, those nearest to an even clock; None for all frames.
        """
        self.path = path
        self.resolution = resolution
        self.section = section
        self.fps = fps
        self.size: tuple[int, int] | None = None
        """Height and width, from the first frame on. Later frames of a file may have another shape."""
        self.numbers: list[int] = []  # of the chosen frames, among those of the section
        self.thumbnails: list[Frame] = []
        self.times: list[float] = []
        self.num_before = 0  # frames before the section
        self.gaps: list[int] = []
        self.starts: list[int] = []  # numbers of the chosen frames before which frames are missing
        self.damage: str | None = None

    def __iter__(self) -> Iterator[Frame]:
        """
        Raises:
            DecodingError: if no frame can be decoded, or if the section has none.
        """
        clock = None if self.fps is None else EvenClock[tuple[int, Frame]](self.fps)
        with open_frames(self.path) as reader:
            with LARGE_FRAMES if reader.frame_pixels > MANY_PIXELS else nullcontext():
                for number, frame in self._resized(reader):
                    chosen = [(number, frame)] if clock is None else clock.push(self.times[-1], (number, frame))
                    yield from self._counted(chosen)
            self.gaps, self.damage = reader.gaps, reader.lost
        if self.size is None:
            where = "it contains no frames" if self.section is None else f"it has no frames in seconds {self.section}"
            raise DecodingError(where)
        if clock is not None:
            yield from self._counted(clock.finish())
            self.starts = clock.starts

    def _resized(self, reader: FrameReader) -> Iterator[tuple[int, Frame]]:
        """Yield the resized frames of the section with their numbers in it."""
        for number, picture in enumerate(reader):
            time = reader.time or 0.0
            if self.section is not None or self.fps is not None:
                time = known_time(reader)
            if self.section is not None and time < self.section.start - ROUNDING:
                self.num_before = number + 1
                continue
            if self.section is not None and self.section.end is not None and time >= self.section.end - ROUNDING:
                return
            height, width, _ = picture.shape
            if max(height, width) > LARGEST_RATIO * min(height, width):
                raise DecodingError(f"{width} x {height} pixels: one side is more than {LARGEST_RATIO} times the other")
            if self.size is None:
                self.size = stored_size(height, width, self.resolution)
            frame = resize(picture, *self.size)
            self.times.append(time)
            self.thumbnails.append(thumbnail(frame))
            yield number - self.num_before, frame

    def _counted(self, chosen: Iterator[tuple[int, Frame]] | list[tuple[int, Frame]]) -> Iterator[Frame]:
        for number, frame in chosen:
            self.numbers.append(number)
            yield frame

    def decoded(self) -> Decoded:
        """Return what is known after the last frame. There is also a cut where frames are missing."""
        assert self.size is not None
        cuts = {*find_cuts(np.stack(self.thumbnails)), *(gap - self.num_before for gap in self.gaps)}
        stored = {int(np.searchsorted(self.numbers, cut)) for cut in cuts if cut > 0}.union(self.starts)
        num_frames = len(self.numbers)
        within = tuple(sorted(cut for cut in stored if 0 < cut < num_frames))
        steps = np.diff(self.times)
        seconds = float(steps[(steps > 0) & (steps <= LONGEST_STEP)].sum())  # without pauses and wrong times
        return Decoded(num_frames, *self.size, within, self.damage, seconds)


def known_time(reader: FrameReader) -> float:
    """Return the time of the latest frame in seconds.

    Raises:
        DecodingError: if it is unknown.
    """
    if reader.time is None:
        raise DecodingError("the times of its frames are unknown, so neither a section nor a frame rate can be chosen")
    return reader.time
