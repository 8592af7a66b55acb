"""Decoding of media files: frames in order from the start, since seeking returns wrong frames on real files."""

from pathlib import Path
from typing import NamedTuple

from .frame_reader import FrameReader
from .picture_reader import PictureReader
from .video_reader import VideoReader

ANIMATED_ENDINGS = (".png", ".webp", ".avif")  # a file is a picture or an animation
PICTURE_ENDINGS = (
    *ANIMATED_ENDINGS,
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".bmp", ".tif", ".tiff", ".tga", ".ppm", ".pgm", ".pnm"),
)
HEAD_BYTES = 4096


class Probe(NamedTuple):
    """What the header of a file claims."""

    fps: float | None
    """Frames per second, the average of a variable rate; None for a picture, and if the file does not tell."""
    num_frames: int | None
    """Headers may be wrong: for progress bars only."""


def open_frames(path: Path) -> FrameReader:
    """Open a video, an animation or a picture, which is a video of one frame.

    Raises:
        DecodingError: if the file cannot be opened, holds no video, or has too many pixels.
    """
    is_webp = path.suffix.lower() == ".webp"  # FFmpeg cannot read animated ones
    return PictureReader(path) if is_webp or is_picture(path) else VideoReader(path)


def is_picture(path: Path) -> bool:
    """Return whether a file is a still picture, by its ending and, where that leaves it open, by its first bytes."""
    if path.suffix.lower() not in ANIMATED_ENDINGS:
        return path.suffix.lower() in PICTURE_ENDINGS
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return True  # reading it will tell what is wrong
    is_animated_png = head.startswith(b"\x89PNG") and b"acTL" in head
    is_animated_webp = head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)
    return not (is_animated_png or is_animated_webp or head[4:12] == b"ftypavis")


def probe(path: Path) -> Probe:
    """Return what a file tells before any of its frames are decoded.

    Raises:
        DecodingError: if it cannot be opened or holds no video.
    """
    with open_frames(path) as reader:
        return Probe(reader.fps, reader.num_frames)
