"""Opening of media files. Frames are read in order from the start, since seeking returns wrong frames in some files."""

from pathlib import Path
from typing import NamedTuple

from .frame_reader import FrameReader
from .picture_reader import PictureReader
from .video_reader import VideoReader

ANIMATED_ENDINGS = (".png", ".webp", ".avif")  # still or animated
PICTURE_ENDINGS = (
    *ANIMATED_ENDINGS,
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".bmp", ".tif", ".tiff", ".tga", ".ppm", ".pgm", ".pnm"),
)
HEAD_BYTES = 4096


class Probe(NamedTuple):
    """Properties of a file according to its header."""

    fps: float | None
    """Frames per second, the average if the rate varies; None for an image or if unknown."""
    num_frames: int | None
    """May be wrong, so for progress bars only; None if unknown."""


def open_frames(path: Path) -> FrameReader:
    """Open a video, an animation or an image, which is a video of one frame.

    Raises:
        DecodingError: if the file cannot be opened, contains no video, or has frames that are too large.
    """
    is_webp = path.suffix.lower() == ".webp"  # FFmpeg cannot read animated ones
    return PictureReader(path) if is_webp or is_picture(path) else VideoReader(path)


def is_picture(path: Path) -> bool:
    """Return whether a file is a still image, by its ending or, if it may be an animation, by its first bytes."""
    ending = path.suffix.lower()
    if ending not in ANIMATED_ENDINGS:
        return is_still_image(ending)
    try:
        with path.open("rb") as file:
            return is_still_image(ending, file.read(HEAD_BYTES))
    except OSError:
        return True  # reading it raises the error


def is_still_image(ending: str, head: bytes = b"") -> bool:
    """Return whether a file is a still image.

    Args:
        ending: its extension in lower case.
        head: its first `HEAD_BYTES` or more, if it may be an animation.
    """
    if ending not in ANIMATED_ENDINGS:
        return ending in PICTURE_ENDINGS
    head = head[:HEAD_BYTES]
    is_animated_png = head.startswith(b"\x89PNG") and b"acTL" in head
    is_animated_webp = head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)
    return not (is_animated_png or is_animated_webp or head[4:12] == b"ftypavis")


def probe(path: Path) -> Probe:
    """Return the frame rate and the number of frames of a file without decoding frames.

    Raises:
        DecodingError: if the file cannot be opened or contains no video.
    """
    with open_frames(path) as reader:
        return Probe(reader.fps, reader.num_frames)
