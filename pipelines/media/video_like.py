"""Pixels and masks in all accepted forms, checked and converted to tensors."""

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

Pictures = Image.Image | Sequence[Image.Image] | Sequence[Sequence[Image.Image]]
VideoLike = Tensor | np.ndarray | Pictures
"""Pixels in one of these forms:

- a tensor, channels first: an image (3, H, W), a video (3, T, H, W), a batch of videos (b, 3, T, H, W);
- an array, channels last: (H, W, 3), (T, H, W, 3) or (b, T, H, W, 3);
- PIL images: one image, a list of the frames of one video, or a list of such lists.

Tensors and arrays are floating point in [0, 1] or uint8 in 0...255.
"""
MaskLike = Tensor | np.ndarray | Pictures
"""Booleans, True where a pixel is hidden: (H, W) for all frames, (T, H, W), or (b, T, H, W).

Or PIL images, black where known and white where hidden, nested as for videos.
"""

CHANNELS_FIRST = {3: "c H W -> 1 c 1 H W", 4: "c T H W -> 1 c T H W", 5: "b c T H W -> b c T H W"}
CHANNELS_LAST = {3: "H W c -> 1 c 1 H W", 4: "T H W c -> 1 c T H W", 5: "b T H W c -> b c T H W"}
MASK_SHAPES = {2: "H W -> 1 1 H W", 3: "T H W -> 1 T H W", 4: "b T H W -> b T H W"}
TOLERANCE = 1e-4  # values up to this far outside [0, 1] are clipped


def as_videos(value: VideoLike, name: str) -> Float[Tensor, "b 3 T H W"]:
    """Return pixels in any form as a batch of videos in [0, 1], on the CPU.

    Args:
        name: name of the argument, for messages.

    Raises:
        ValueError: if the shape, type or range is wrong.
    """
    pixels = as_tensor(value, name, "RGB")
    is_tensor = isinstance(value, Tensor)
    shapes = CHANNELS_FIRST if is_tensor else CHANNELS_LAST
    channel_axis = (1 if pixels.ndim == 5 else 0) if is_tensor else -1
    if pixels.ndim not in shapes or pixels.shape[channel_axis] != 3 or 0 in pixels.shape:
        allowed = " or ".join(f"({', '.join(shape.split(' -> ')[0].split())})" for shape in shapes.values())
        kind = "a tensor" if is_tensor else "an array"
        raise ValueError(f"{name}: {kind} must have shape {allowed} with 3 channels c, got {tuple(pixels.shape)}")
    if pixels.dtype == torch.uint8:
        pixels = pixels.float() / 255
    elif not pixels.is_floating_point():
        raise ValueError(f"{name} must be floating point in [0, 1] or uint8 in 0...255, got {pixels.dtype}")
    low, high = (float(bound) for bound in torch.aminmax(pixels))
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # false for NaN, too
        raise ValueError(f"{name} must be in [0, 1] (bytes in 0...255 as uint8), got values from {low:g} to {high:g}")
    return rearrange(pixels.float().clamp(0, 1), shapes[pixels.ndim])


def holds_bytes(value: VideoLike) -> bool:
    """Return whether pixels are uint8 in 0...255, as those of PIL images are."""
    return str(getattr(value, "dtype", "uint8")).endswith("uint8")


def as_masks(value: MaskLike, name: str) -> Bool[Tensor, "b T H W"]:
    """Return a mask in any form as a boolean tensor on the CPU. T is 1 if the mask is the same for all frames.

    Raises:
        ValueError: if the shape or type is wrong.
    """
    mask = as_tensor(value, name, "L")
    if not isinstance(value, Tensor | np.ndarray):
        mask = mask >= 128  # grey levels of an image
    if mask.dtype != torch.bool or mask.ndim not in MASK_SHAPES:
        raise ValueError(
            f"{name} must be boolean (True: hidden) of shape (H, W), (T, H, W) or (b, T, H, W), "
            f"got {mask.dtype} of shape {tuple(mask.shape)}"
        )
    return rearrange(mask, MASK_SHAPES[mask.ndim])


def as_tensor(value: VideoLike, name: str, mode: str) -> Tensor:
    """Return a tensor, an array or PIL images as a tensor on the CPU with the same axes.

    Args:
        mode: PIL mode that images are converted to.

    Raises:
        ValueError: if the value is none of these, or if an array contains neither numbers nor booleans.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    array = value if isinstance(value, np.ndarray) else stack_pictures(value, name, mode)
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name}: an array must contain numbers or booleans, got {array.dtype}")
    return torch.from_numpy(np.array(array, order="C"))


def stack_pictures(value: Pictures, name: str, mode: str) -> np.ndarray:
    """Return PIL images, nested or not, as one uint8 array with the nesting as its first axes.

    Raises:
        ValueError: if there are no images or other values, or if images differ in size or lists in length.
    """
    if isinstance(value, Image.Image):
        if value.mode.startswith(("I", "F")):
            raise ValueError(f"{name}: a PIL image must have 8 bits per channel, got mode {value.mode}")
        return np.asarray(value.convert(mode))
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ValueError(
            f"{name} must be a tensor, an array, a PIL image, a list of PIL images or a list of such lists, "
            f"got {'an empty list' if isinstance(value, Sequence) and not value else type(value).__name__}"
        )
    parts = [stack_pictures(part, name, mode) for part in value]
    shapes = sorted({part.shape for part in parts})
    if len(shapes) > 1:
        raise ValueError(
            f"{name}: images must have the same size and lists the same length, got {shapes[0]} and {shapes[-1]}"
        )
    return np.stack(parts)
