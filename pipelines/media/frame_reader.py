"""What readers of videos and of pictures have in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np
from jaxtyping import UInt8

MAX_PIXELS = 89_478_485
"""Pixels of the largest frame that is decoded, 256 MiB as RGB; Pillow's limit, too."""


class DecodingError(Exception):
    """The file holds no video, or none of it can be decoded."""


class FrameReader(ABC):
    """Frames of a file as a player shows them: RGB, upright, with square pixels, on white where transparent.

    It can be iterated once. A damaged file gives all frames that can be decoded.
    """

    fps: float | None = None
    """Frames per second, the average of a variable rate; None for a picture, and if the file does not tell."""
    num_frames: int | None = None
    """Number of frames by the header."""
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
        """Indexes of the frames before which others are missing."""
        return []

    @property
    @abstractmethod
    def lost(self) -> str | None:
        """One line about what is missing or wrong so far, None if nothing is."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def reason(error: Exception) -> str:
    """Return what an error says, without numbers of the operating system and names of functions."""
    return getattr(error, "strerror", None) or str(error)


def check_pixels(height: int, width: int) -> int:
    """Return the number of pixels.

    Raises:
        DecodingError: if there are more than can be decoded.
    """
    if height * width > MAX_PIXELS:
        raise DecodingError(f"{width} x {height} pixels are more than the {MAX_PIXELS:,} of the largest frame")
    return height * width
