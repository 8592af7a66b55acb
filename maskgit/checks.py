"""Refusals of integers that mean nothing, where they come in."""

import torch
from torch import Tensor


def check_integers(name: str, values: Tensor, largest: int) -> None:
    """Refuse what is no integer and what lies outside [0, largest].

    Reading the values waits for the device; it is left out while compiling and on the meta device.

    Raises:
        ValueError: floating point or boolean values, or a value out of range.
    """
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, got {values.dtype}")
    if torch.compiler.is_compiling() or values.is_meta or not values.numel():
        return
    low, high = torch.stack(values.aminmax()).tolist()
    if low < 0 or high > largest:
        raise ValueError(f"{name} must be in [0, {largest}], got values from {low} to {high}")
