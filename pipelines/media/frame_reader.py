"""Base class of the readers of videos and images."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np
from jaxtyping import UInt8

MAX_PIXELS = 89_478_485
"""Maximum number of pixels of a frame, 256 MiB as RGB. Pillow has the same limit."""


class DecodingError(Exception):
    """The file contains no video, or no frame of it can be decoded."""


class FrameReader(ABC):
    """Reads frames of a file as a player shows them: RGB, upright, with square pixels, on white where transparent.

    It can be iterated once. A damaged file yields all frames that can be decoded.
    """

    fps: float | None = None
    """Frames per second, the average if the rate varies; None for an image or if unknown."""
    num_frames: int | None = None
    """Number of frames according to the header, None if unknown."""
    time: float | None = None
    """Time of the latest frame in seconds from the first one; None if unknown."""
    frame_pixels: int
    """Number of pixels of a frame."""

    @abstractmethod
    def __iter__(self) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        """
        Raises:
            DecodingError: if no frame can be decoded.
        """

    @property
    def gaps(self) -> list[int]:
        """Indices of the frames before which frames are missing."""
        return []

    @property
    @abstractmethod
    def lost(self) -> str | None:
        """Description of what is missing or wrong so far, in one line; None if nothing is."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def reason(error: Exception) -> str:
    """Return the message of an error without error numbers and function names."""
    return getattr(error, "strerror", None) or str(error)


def check_pixels(height: int, width: int) -> int:
    """Return the number of pixels of a frame.

    Raises:
        DecodingError: if it is greater than `MAX_PIXELS`.
    """
    if height * width > MAX_PIXELS:
        raise DecodingError(f"a frame must have at most {MAX_PIXELS:,} pixels, got {height} x {width}")
    return height * width
