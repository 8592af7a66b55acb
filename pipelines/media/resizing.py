"""Frames to their stored size: area averages on the way down, bilinear on the way up.

All of it stays on one core, since several files are decoded side by side.
"""

from functools import lru_cache

import numpy as np
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image


def stored_size(height: int, width: int, resolution: int) -> tuple[int, int]:
    """Height and width of the same picture with a short side of `resolution`."""
    short_side = min(height, width)
    return round(height * resolution / short_side), round(width * resolution / short_side)


def resize(frame: UInt8[np.ndarray, "H W 3"], height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """The frame at another size, rounded to whole values once, at the end."""
    old_height, old_width, _ = frame.shape
    if (height, width) == (old_height, old_width):
        return frame
    if height > old_height or width > old_width:
        return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
    rows = average_rows(rearrange(frame, "H W c -> H (W c)").astype(np.float32), height)
    columns = average_rows(rearrange(rows, "h (W c) -> W (h c)", c=3), width)
    return rearrange(columns.round(), "w (h c) -> h w c", c=3).astype(np.uint8)


def average_rows(rows: Float[np.ndarray, "N values"], num_outputs: int) -> Float[np.ndarray, "n values"]:
    """Averages over equal stretches of the rows. A row on a border counts for both sides, by its shares."""
    return np.stack([shares @ rows[first:stop] for first, stop, shares in stretches(len(rows), num_outputs)])


@lru_cache(maxsize=64)
def stretches(num_inputs: int, num_outputs: int) -> list[tuple[int, int, Float[np.ndarray, " _"]]]:
    """First input of each stretch, the one behind its last, and their shares, which sum to 1."""
    ratio = num_inputs / num_outputs
    left = np.arange(num_outputs)[:, None] * ratio
    place = np.arange(num_inputs)
    overlap = np.minimum(left + ratio, place + 1) - np.maximum(left, place)
    shares = (overlap.clip(min=0) / ratio).astype(np.float32)
    firsts, lasts = (shares > 0).argmax(axis=1), num_inputs - 1 - (shares[:, ::-1] > 0).argmax(axis=1)
    return [
        (first, last + 1, row[first : last + 1])
        for first, last, row in zip(firsts.tolist(), lasts.tolist(), shares, strict=True)
    ]
