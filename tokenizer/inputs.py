"""Checks of the inputs of a tokenizer, and their conversion to what the layers need."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .config import TokenizerArchitecture

Video = Float[Tensor, "b c T H W"] | Float[Tensor, "b c H W"]
Condition = Float[Tensor, "b dim_cond"]


def as_video(video: Video, config: TokenizerArchitecture, dtype: torch.dtype) -> Float[Tensor, "b c T H W"]:
    """Return a video, or an image as a video of one frame, in the type of the weights.

    Raises:
        ValueError: if the shape or the data type is wrong.
    """
    channels = config.channels
    if not isinstance(video, Tensor):
        raise ValueError(f"a video must be a torch.Tensor, got {type(video).__name__}")
    if video.ndim not in (4, 5) or video.shape[1] != channels or video.numel() == 0:
        raise ValueError(
            f"a video must have the shape (batch, {channels}, frames, height, width), "
            f"an image (batch, {channels}, height, width), got {tuple(video.shape)}"
        )
    if not video.is_floating_point():
        raise ValueError(f"a video must be floating point in [-1, 1], got {video.dtype}")
    video = video.to(dtype)
    return video if video.ndim == 5 else video[:, :, None]


def pad(
    video: Float[Tensor, "b c T H W"], config: TokenizerArchitecture
) -> Float[Tensor, "b c padded_T padded_H padded_W"]:
    """Repeat the last row and column up to a multiple of the stride, the last frame up to 1 + a multiple."""
    sizes = video.shape[2:]
    frames, rows, columns = (
        whole - size for whole, size in zip(config.clip_shape(*config.code_shape(*sizes)), sizes, strict=True)
    )
    return repeat_last(video, (frames, rows, columns))


def repeat_last(
    video: Float[Tensor, "b c T H W"], missing: tuple[int, int, int]
) -> Float[Tensor, "b c padded_T padded_H padded_W"]:
    """Append `missing` frames, rows and columns, which repeat the last one."""
    frames, rows, columns = missing
    return F.pad(video, (0, columns, 0, rows, 0, frames), mode="replicate") if any(missing) else video


def trim(video: Float[Tensor, "b c padded_T padded_H padded_W"], sizes: Sequence[int]) -> Float[Tensor, "b c T H W"]:
    """Cut a padded video to `sizes`: the inverse of `pad`."""
    num_frames, height, width = sizes
    return video[:, :, :num_frames, :height, :width]


def check_codes(codes: Int[Tensor, "b t h w"], codebook_size: int) -> None:
    """Check the codes that a user passes.

    Raises:
        ValueError: if the shape or the data type is wrong, or if a code is out of range.
    """
    if not isinstance(codes, Tensor):
        raise ValueError(f"codes must be a torch.Tensor, got {type(codes).__name__}")
    if codes.ndim != 4 or codes.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8):
        raise ValueError(
            f"codes must be integers of shape (batch, t, h, w), got {codes.dtype} of shape {tuple(codes.shape)}"
        )
    if codes.numel() == 0:
        raise ValueError(f"codes must not be empty, got shape {tuple(codes.shape)}")
    if codes.device.type != "meta" and not torch.compiler.is_compiling():
        low, high = (int(bound) for bound in torch.aminmax(codes))
        if low < 0 or high >= codebook_size:
            raise ValueError(f"codes must be in [0, {codebook_size}), got {low} to {high}")


def decoded_sizes(
    config: TokenizerArchitecture,
    grid: tuple[int, int, int],
    num_frames: int | None,
    height: int | None,
    width: int | None,
) -> tuple[int, int, int]:
    """Return frames, height and width of the decoded video, with the padding where the given size is None.

    Raises:
        ValueError: if the shape of the codes, `grid`, does not match the given size.
    """
    whole = config.clip_shape(*grid)
    frames, rows, columns = (
        full if given is None else given for given, full in zip((num_frames, height, width), whole, strict=True)
    )
    if config.code_shape(frames, rows, columns) != grid:
        raise ValueError(
            f"a clip of {(frames, rows, columns)} (frames, height, width) has codes of shape "
            f"{config.code_shape(frames, rows, columns)}, got {grid}, which decode to at most {whole}"
        )
    return frames, rows, columns


def as_condition(
    cond: Condition | None, config: TokenizerArchitecture, batch: int, dtype: torch.dtype
) -> Condition | None:
    """Return the condition in the type of the weights; None for a tokenizer without `cond_...` layers.

    Raises:
        ValueError: if the condition is missing, is given although no layer uses it, or has a wrong shape or type.
    """
    if config.dim_cond is None:
        if cond is not None:
            raise ValueError("cond was given, but no layer of this tokenizer is conditioned")
        return None
    if not isinstance(cond, Tensor) or cond.shape != (batch, config.dim_cond) or not cond.is_floating_point():
        given = f"{cond.dtype} of shape {tuple(cond.shape)}" if isinstance(cond, Tensor) else type(cond).__name__
        raise ValueError(f"cond must be floating point of shape {(batch, config.dim_cond)}, got {given}")
    return cond.to(dtype)
