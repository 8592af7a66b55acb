"""Devices by name, and tensors that are kept on their device."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor

MOST_KEPT = 128  # of each function

Arguments = ParamSpec("Arguments")


def chosen_device(name: str | None) -> torch.device:
    """Return the device called `name`; by default the accelerator if there is one, else the CPU.

    Raises:
        ValueError: if there is no such device.
    """
    if name is None:
        # In CUDA builds, `current_accelerator` returns a device even on machines without a GPU.
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        probe = torch.empty(0, device=name)
        probe.cpu()  # refuses the meta device, which holds no values
        return probe.device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} is not available: {str(error).splitlines()[0]}") from error


def built_once(build: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
    """Decorator of a function that returns a constant: a tensor that depends on the arguments only.

    Each constant is built at its first use and kept on its device. A training step would otherwise copy the same
    numbers to the device again and again, and each copy waits for the device. The arguments must be hashable and
    include the device. The result must not be changed.
    """
    kept: dict[object, Tensor] = {}

    @wraps(build)
    def constant(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Tensor:
        if torch.compiler.is_compiling():  # the compiler keeps constants itself
            return build(*args, **kwargs)
        key = (args, tuple(kwargs.items()))
        if key not in kept:
            with torch.inference_mode(False), torch.no_grad():  # so that gradients can pass through its operations
                tensor = build(*args, **kwargs)
            if not is_lasting(tensor):
                return tensor
            if len(kept) >= MOST_KEPT:
                kept.clear()
            kept[key] = tensor
        return kept[key]

    return constant


def is_lasting(tensor: Tensor) -> bool:
    """Return whether a tensor has values of its own, unlike those of a tracer such as `FakeTensorMode`."""
    return type(tensor) is Tensor and not tensor.is_meta
