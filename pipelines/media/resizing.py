"""Resizing of frames: area averages for smaller sizes, bilinear interpolation for larger ones.

It uses one CPU core, since training decodes several files at the same time.
"""

from functools import lru_cache

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from PIL import Image
from torch import Tensor


def covering_size(rows: int, columns: int, height: int, width: int) -> tuple[int, int]:
    """Return the smallest size with the aspect ratio of `rows` x `columns` that covers `height` x `width`."""
    if rows * width <= columns * height:
        return height, round(columns * height / rows)
    return round(rows * width / columns), width


def stored_size(height: int, width: int, resolution: int) -> tuple[int, int]:
    """Return the height and width of a frame after resizing its short side to `resolution`."""
    return covering_size(height, width, resolution, resolution)


def crop_start(length: int, cropped: int, offset: float = 0.5) -> int:
    """Return the start of a crop along one axis.

    Args:
        offset: position of the crop in [0, 1]; 0.5 is the middle.
    """
    return round(offset * (length - cropped))


def fit(video: Shaped[Tensor, "*b c T H W"], height: int, width: int) -> Shaped[Tensor, "*b c T h w"]:
    """Resize a video to cover a size, then crop the middle, as training does. The dtype is kept."""
    rows, columns = video.shape[-2:]
    size = covering_size(rows, columns, height, width)
    top, left = crop_start(size[0], height), crop_start(size[1], width)
    frames = rearrange(video, "... c T H W -> (... T) H W c").numpy()
    fitted = [resize(frame, *size)[top : top + height, left : left + width] for frame in frames]
    *batch, _, num_frames, _, _ = video.shape
    frames = torch.from_numpy(np.stack(fitted)).unflatten(0, (*batch, num_frames))
    return frames.movedim(-1, -4).contiguous()


def resize(frame: Shaped[np.ndarray, "H W c"], height: int, width: int) -> Shaped[np.ndarray, "h w c"]:
    """Resize a uint8 or floating point frame. Averages of uint8 are rounded once, at the end."""
    old_height, old_width, _ = frame.shape
    if (height, width) == (old_height, old_width):
        return frame
    if height > old_height or width > old_width:
        return enlarged(frame, height, width)
    return reduced(frame[None], height, width)[0]


def reduced(frames: Shaped[np.ndarray, "T H W c"], height: int, width: int) -> Shaped[np.ndarray, "T h w c"]:
    """Resize by area averaging."""
    rows = average_rows(rearrange(frames, "T H W c -> H (T W c)"), height)
    columns = average_rows(rearrange(rows, "h (T W c) -> W (T h c)", T=len(frames), c=frames.shape[-1]), width)
    averages = rearrange(columns, "w (T h c) -> T h w c", T=len(frames), h=height)
    return averages.round().astype(np.uint8) if frames.dtype == np.uint8 else averages


def enlarged(frame: Shaped[np.ndarray, "H W c"], height: int, width: int) -> Shaped[np.ndarray, "h w c"]:
    """Resize bilinearly; an axis that gets smaller is filtered with a triangle kernel."""
    layers = [frame] if frame.dtype == np.uint8 else np.split(frame, frame.shape[2], axis=2)
    images = [Image.fromarray(layer if layer.shape[2] > 1 else layer[..., 0]) for layer in layers]
    return np.dstack([np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)) for image in images])


def average_rows(rows: Shaped[np.ndarray, "N values"], num_outputs: int) -> Float[np.ndarray, "n values"]:
    """Return the averages of equal intervals of rows. A row on a border counts for both sides in proportion."""
    parts = intervals(len(rows), num_outputs)
    return np.stack([shares @ rows[first:stop].astype(np.float32) for first, stop, shares in parts])


@lru_cache(maxsize=64)
def intervals(num_inputs: int, num_outputs: int) -> list[tuple[int, int, Float[np.ndarray, " _"]]]:
    """Return start, stop and the shares of the inputs, which sum to 1, for each interval."""
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
