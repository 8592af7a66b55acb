"""Room on the disk for a checkpoint, looked at before it is written."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor, nn

SPARE = 2**20  # bytes for headers, random states and digests


def check_room(folder: Path, accelerator: Accelerator, ema: nn.Module) -> None:
    """
    Raises:
        OSError: if a checkpoint has no room on the disk of `folder`.
    """
    needed = checkpoint_bytes(accelerator, ema)
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(nearest).free
    if free < needed:
        raise OSError(f"it needs {needed / 2**20:.0f} MiB, but the disk has only {free / 2**20:.0f} MiB left")


def checkpoint_bytes(accelerator: Accelerator, ema: nn.Module) -> int:
    """Return the size of a checkpoint in bytes, at most `SPARE` too large."""
    states = [optimizer.state_dict()["state"] for optimizer in accelerator._optimizers]
    models = [model.state_dict() for model in (*accelerator._models, ema)]
    return SPARE + sum(tensor.numel() * tensor.element_size() for tensor in tensors_in([states, models]))


def tensors_in(values: object) -> Iterator[Tensor]:
    """Return the tensors in nested lists and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        for value in values.values():
            yield from tensors_in(value)
    elif isinstance(values, list):
        for value in values:
            yield from tensors_in(value)
