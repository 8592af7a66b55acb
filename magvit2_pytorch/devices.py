"""Devices by name."""

import torch


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
