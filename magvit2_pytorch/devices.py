"""Devices by name."""

import torch


def chosen_device(name: str | None) -> torch.device:
    """The device of that name; without one the accelerator that is there, or the CPU.

    Raises:
        ValueError: there is no such device.
    """
    if name is None:
        # A CUDA build names its accelerator on machines without one, too.
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"there is no device {name!r} here: {str(error).splitlines()[0]}") from error
