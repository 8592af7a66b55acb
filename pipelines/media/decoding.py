"""Files to frames: videos in order from the start, since seeking returns wrong frames on real files; pictures."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8
from PIL import Image, ImageOps

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class Probe(NamedTuple):
    """What the header of a file claims."""

    fps: float | None
    """Frames per second, on average where they vary; None for a picture, and where nothing tells."""
    num_frames: int | None
    """Headers lie about it: for progress bars only."""


class DecodingError(Exception):
    """The file holds no video, or no more of it can be decoded."""


def decode_frames(path: Path) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
    """The frames of a file as they are shown: RGB, upright where the file says how it is turned.

    A picture is one frame, the first where its file holds several: the others may be thumbnails or depth maps.

    Raises:
        DecodingError: after the last good frame, where the file is damaged.
    """
    yield from decode_picture(path) if path.suffix.lower() in PICTURE_ENDINGS else decode_video(path)


def decode_picture(path: Path) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
    """By Pillow, which knows how cameras mark a turned picture. What is transparent is shown on white."""
    try:
        with Image.open(path) as image:
            yield np.asarray(to_rgb(ImageOps.exif_transpose(image)))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DecodingError(str(error)) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode with eight bits for each of three colours.

    Raises:
        ValueError: values whose range nobody knows; converting them would cut off what lies above 255.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def decode_video(path: Path) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
    reformatter = VideoReformatter()  # one for all frames: setting it up costs more than using it
    try:
        with av.open(path, metadata_errors="ignore") as container:
            for frame in container.decode(container.streams.video[0]):
                pixels = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
                yield np.ascontiguousarray(np.rot90(pixels, k=round(frame.rotation / 90)))
    except IndexError as error:
        raise DecodingError("no video stream") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise DecodingError(str(error)) from error


def probe(path: Path) -> Probe:
    """What a file tells before any of its frames are decoded.

    Raises:
        DecodingError: it holds no video.
    """
    if path.suffix.lower() in PICTURE_ENDINGS:
        return Probe(None, 1)
    try:
        with av.open(path, metadata_errors="ignore") as container:
            stream = container.streams.video[0]
            guess = float(stream.guessed_rate or 0)
            if container.format.name != "gif":
                return Probe(float(stream.average_rate or guess) or None, stream.frames or None)
            delays = [packet.duration or 0 for packet in container.demux(stream) if packet.dts is not None]
            seconds = sum(delays) * float(stream.time_base or 0)
    except IndexError as error:
        raise DecodingError("no video stream") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise DecodingError(str(error)) from error
    if len(delays) < 2 or not seconds:
        return Probe(None, len(delays))
    # The header of a .gif has no rate, and its delays are rounded to a hundredth of a second.
    is_guess_right = guess > 0 and abs(len(delays) / guess - seconds) < 0.011
    return Probe(guess if is_guess_right else len(delays) / seconds, len(delays))
