"""Checks of integer tensors that users pass."""

import torch
from torch import Tensor


def check_integers(name: str, values: Tensor, largest: int, *, check_range: bool = True) -> None:
    """Check that a tensor holds integers in [0, largest].

    Args:
        check_range: whether to check the values, which synchronizes with the device. They are never checked while
            compiling or on the meta device.

    Raises:
        ValueError: if the values are floating point, complex or boolean, or if one is out of range.
    """
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, got {values.dtype}")
    if not check_range or torch.compiler.is_compiling() or values.is_meta or not values.numel():
        return
    low, high = torch.stack(values.aminmax()).tolist()
    if low < 0 or high > largest:
        raise ValueError(f"{name} must be in [0, {largest}], got values from {low} to {high}")
