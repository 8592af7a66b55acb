"""Frames to their stored size: area averages on the way down, bilinear on the way up."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def stored_size(height: int, width: int, resolution: int) -> tuple[int, int]:
    """Height and width of the same picture with a short side of `resolution`."""
    short_side = min(height, width)
    return round(height * resolution / short_side), round(width * resolution / short_side)


def resize(frame: UInt8[np.ndarray, "H W 3"], height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """The frame at another size, rounded to whole values once, at the end.

    A pixel on a border between two areas counts for both, by its shares; torch's "area" mode would count it twice.
    Pillow stays on one core, so that several files can be decoded side by side.
    """
    if frame.shape[:2] == (height, width):
        return frame
    is_larger = height > frame.shape[0] or width > frame.shape[1]
    method = Image.Resampling.BILINEAR if is_larger else Image.Resampling.BOX
    channels = [Image.fromarray(frame[..., channel]).convert("F") for channel in range(3)]
    resized = np.stack([np.asarray(channel.resize((width, height), method)) for channel in channels], axis=-1)
    return resized.round().clip(0, 255).astype(np.uint8)
