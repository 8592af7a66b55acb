"""Training batches on the device of the training."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..cores import available_cores, processes_here
from .video_data import MODEL_VALUES, to_video

MOST_WORKERS = 4  # of a process, by default


def batches_on(
    device: torch.device, batches: Dataset[dict[str, Tensor]], *, num_workers: int | None = None
) -> Iterator[dict[str, Tensor]]:
    """Return the batches on a device, with pixels (uint8) converted to [-1, 1]. They do not depend on the workers.

    For a CUDA device, batches are prepared in pinned memory, so that the copy does not wait for the device.

    Args:
        batches: `NumberedBatches`.
        num_workers: number of worker processes that prepare batches, two each in advance. None: `default_workers`.
    """
    number = default_workers(device) if num_workers is None else num_workers
    loader = DataLoader(batches, batch_size=None, num_workers=number, pin_memory=device.type == "cuda")
    prepared = iter(loader)  # at once: it draws from PyTorch's global generator, which later belongs to the model
    return (
        {
            name: pixels_on(device, values) if values.dtype == torch.uint8 else values.to(device, non_blocking=True)
            for name, values in batch.items()
        }
        for batch in prepared
    )


def default_workers(device: torch.device) -> int:
    """Return the number of worker processes: none for a CPU, whose cores are busy with the training; otherwise one for
    each core of this process, at most `MOST_WORKERS`."""
    return 0 if device.type == "cpu" else min(MOST_WORKERS, max(1, available_cores() // processes_here()))


def pixels_on(device: torch.device, pixels: UInt8[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
    """Return pixels in [-1, 1] on a device: the values of `to_video`, bit for bit.

    Bytes are copied, a quarter of the size of the values.
    """
    if device.type == "cpu":
        return to_video(pixels.numpy())
    # A table, because division by 255 is rounded differently on different devices.
    table = torch.from_numpy(MODEL_VALUES).to(device, non_blocking=True)
    return table[pixels.to(device, non_blocking=True).int()]
