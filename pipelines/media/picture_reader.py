"""Decoding of images and animated WebP by Pillow, which supports the orientation in EXIF data."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from .frame_reader import DecodingError, FrameReader, check_pixels
from .structure import webp_durations

PICTURE_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)


class PictureReader(FrameReader):
    """Reads an image as a video of one frame, or an animated WebP.

    Of other files with several images the first is read: the others may be thumbnails, depth maps or pages.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.image = Image.open(path)
            self.durations = webp_durations(path)
        except PICTURE_ERRORS as error:
            raise DecodingError(str(error)) from error
        self.frame_pixels = check_pixels(self.image.height, self.image.width)
        self.num_frames = self.num_pictures = len(self.durations) or 1
        if self.num_pictures > 1 and sum(self.durations):
            self.fps = 1000 * len(self.durations) / sum(self.durations)
        self.time = 0.0
        self.num_pages = getattr(self.image, "n_frames", 1) if self.image.format == "TIFF" else 1
        self.damage: str | None = None

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        for number in range(self.num_pictures):
            try:
                self.image.seek(number)
                frame = np.asarray(to_rgb(upright(self.image)))
            except PICTURE_ERRORS as error:
                if number == 0:
                    raise DecodingError(str(error)) from error
                self.damage = f"{number} of {self.num_pictures} frames can be read ({error})"
                return
            self.time = sum(self.durations[:number]) / 1000
            yield frame

    @property
    def lost(self) -> str | None:
        return self.damage or (f"only the first of {self.num_pages} pages is read" if self.num_pages > 1 else None)

    def close(self) -> None:
        self.image.close()


def upright(image: Image.Image) -> Image.Image:
    """Return an image rotated according to its EXIF data; an upright image is not copied."""
    return image if image.getexif().get(ExifTags.Base.Orientation, 1) == 1 else ImageOps.exif_transpose(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB with 8 bits per channel, on white where transparent.

    Raises:
        ValueError: if the range of the values is unknown, since conversion would clip them at 255.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGB", layer.size, "white")
        image.paste(layer, mask=layer.getchannel("A"))
    return image if image.mode == "RGB" else image.convert("RGB")
