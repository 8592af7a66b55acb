"""Training batches that can be asked for by their number."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import count

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from .video_data import VideoData, to_video


class TrainingBatches(IterableDataset[dict[str, Tensor]]):
    """Endless stream of training batches in which batch i is a pure function of (seed, i).

    Every window comes once per epoch; the order depends on (seed, epoch), crop and mirroring on (seed, epoch, window).
    So a run resumes exactly with nothing but the number of its next batch, with any number of workers.
    Use it as `DataLoader(batches, batch_size=None, num_workers=...)`, and do not hand that loader to
    `Accelerator.prepare`, which would split it a second time: process r of W already gets the r-th of W
    contiguous slices, and the slices joined in that order are what one process with W times the batch size gets.

    Yields:
        {"video": `b 3 T H W` in [-1, 1], "label": `b`}
    """

    def __init__(
        self,
        data: VideoData,
        *,
        batch_size: int,
        seed: int,
        start: int = 0,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        """
        Args:
            batch_size: clips per process.
            start: number of the first batch.
        """
        super().__init__()
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("start", start, 0)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not 0 <= process_index < num_processes:
            raise ValueError(f"process_index must be in [0, {num_processes}), got {process_index}")
        self.data = data
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.process_index = process_index
        self.num_processes = num_processes

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return (self.batch(index) for index in count(self.start + first, step))

    def batch(self, index: int) -> dict[str, Tensor]:
        """Batch number `index` of this process, whatever was asked for before."""
        first_place = (index * self.num_processes + self.process_index) * self.batch_size
        pixels, labels = zip(*(self.example(first_place + place) for place in range(self.batch_size)), strict=True)
        return {"video": to_video(np.stack(pixels)), "label": torch.tensor(labels)}

    def example(self, place: int) -> tuple[UInt8[np.ndarray, "3 T H W"], int]:
        """The clip at one place of the endless row of epochs, and its label."""
        num_windows = len(self.data.train)
        epoch, place_in_epoch = divmod(place, num_windows)
        window = int(epoch_order(num_windows, self.seed, epoch)[place_in_epoch])
        numbers = np.random.default_rng((self.seed, epoch, window))
        offset = (numbers.random(), numbers.random())
        flip = bool(numbers.random() < 0.5) and self.data.allows_flip
        return self.data.train.pixels_and_label(window, offset=offset, flip=flip)


@lru_cache(maxsize=4)
def epoch_order(num_windows: int, seed: int, epoch: int) -> Int[np.ndarray, " num_windows"]:
    return np.random.default_rng((seed, epoch)).permutation(num_windows)
