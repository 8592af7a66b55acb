"""Training batches as functions of the seed and of their number."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from .index import Window
from .mixing import source_at
from .order import shuffled
from .video_data import VideoData

BLOCK = 64  # batches per block; each block contains its share of image batches
CLOSE_UPS = 0.5  # share of the clips of files with a zoom above 1
IMAGES = 2**31  # marks the seeds of image batches; larger than any epoch, so that they differ from the other seeds


class NumberedBatches(IterableDataset[dict[str, Tensor]], ABC):
    """Endless stream of training batches. Subclasses implement `batch(index)`, which depends only on the index.

    A run resumes exactly from the number of its next batch, with any number of workers. With W processes, each batch
    that a single process with W times the batch size would get is split into W contiguous slices; process r gets slice
    r. Use it with `transfer.batches_on` or as `DataLoader(batches, batch_size=None, num_workers=...)`, and do not pass
    that loader to `Accelerator.prepare`, which would split the batches a second time.
    """

    def __init__(
        self, *, batch_size: int, seed: int, start: int = 0, process_index: int = 0, num_processes: int = 1
    ) -> None:
        """
        Args:
            batch_size: samples per process.
            start: number of the first batch.
        """
        super().__init__()
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("start", start, 0)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not 0 <= process_index < num_processes:
            raise ValueError(f"process_index must be in [0, {num_processes}), got {process_index}")
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.process_index = process_index
        self.num_processes = num_processes

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return (self.batch(index) for index in count(self.start + first, step))

    @abstractmethod
    def batch(self, index: int) -> dict[str, Tensor]:
        """Return batch number `index` of this process. It does not depend on earlier calls."""

    def positions(self, index: int) -> range:
        """Return the positions of batch number `index` of this process in the endless sequence of samples."""
        first = (index * self.num_processes + self.process_index) * self.batch_size
        return range(first, first + self.batch_size)


class TrainingBatches(NumberedBatches):
    """Endless stream of batches of clips in which batch i is a pure function of (seed, i).

    An epoch is one pass over the data. Its windows (see `WindowIndex`) and their order depend on (seed, epoch); crop,
    magnification and mirroring on (seed, epoch, window).
    If the data has an `image_ratio`, this share of the batches contains clips of one frame from `data.images`. They
    have their own epochs. Which batches these are depends only on the seed, so it is the same on all processes.

    Several sources are mixed by their shares, and each has its own epochs. Their labels are numbered one source after
    another.

    Yields:
        {"video": pixels `b 3 T H W` (uint8), with T = 1 in an image batch, "label": `b`}
    """

    def __init__(self, *sources: VideoData, shares: Sequence[float] = (1.0,), **settings: int) -> None:
        """
        Args:
            sources: at least one; all with the same size of clips and the same `image_ratio`.
            shares: shares of the sources in the samples.
            settings: `batch_size`, `seed`, `start`, `process_index` and `num_processes` of `NumberedBatches`.
        """
        super().__init__(**settings)
        if len(sources) != len(shares):
            raise ValueError(f"there must be one share for each of {len(sources)} sources, got {len(shares)}")
        self.image_ratio = sources[0].image_ratio
        if self.image_ratio > 0 and any(source.images is None for source in sources):
            raise ValueError(f"image_ratio is {self.image_ratio}, but the data has no images")
        self.sources = sources
        self.shares = tuple(shares)
        self.first_labels = np.cumsum([0, *(len(source.labels) for source in sources)]).tolist()

    def batch(self, index: int) -> dict[str, Tensor]:
        """Return batch number `index` of this process. It does not depend on earlier calls."""
        num_images = self.num_image_batches(index)
        is_image = self.num_image_batches(index + 1) > num_images
        positions = self.positions(num_images if is_image else index - num_images)
        pixels, labels = zip(*(self.example(position, is_image=is_image) for position in positions), strict=True)
        return {"video": torch.from_numpy(np.stack(pixels)), "label": torch.tensor(labels)}

    def num_image_batches(self, index: int) -> int:
        """Return how many of the first `index` batches contain images.

        Their positions in a block are random: at a fixed interval they could coincide with other periodic events of a
        run.
        """
        block, position = divmod(index, BLOCK)
        before, then = (math.floor(self.image_ratio * BLOCK * number) for number in (block, block + 1))
        ranks = np.random.default_rng((self.seed, IMAGES, block)).permutation(BLOCK)
        return before + int((ranks[:position] < then - before).sum())

    def example(self, position: int, *, is_image: bool = False) -> tuple[UInt8[np.ndarray, "3 T H W"], int]:
        """Return the clip or image at a position in the endless sequence of samples, and its label."""
        number, window, numbers = self.drawn(position, is_image=is_image)
        source = self.sources[number]
        windows = source.images if is_image else source.train
        assert windows is not None
        reader, place = windows.reader, (window.number, window.first_frame)
        offset = (numbers.random(), numbers.random())
        flip = bool(numbers.random() < 0.5) and source.allows_flip
        if source.largest_side is not None and numbers.random() < CLOSE_UPS:
            side = int(numbers.integers(reader.resolution, source.largest_side, endpoint=True))
            pixels = reader.close_up(*place, side=side, offset=offset, flip=flip)
        else:
            pixels = reader.clip(*place, offset=offset, flip=flip)
        return pixels, self.first_labels[number] + window.label

    def drawn(self, position: int, *, is_image: bool = False) -> tuple[int, Window, np.random.Generator]:
        """Return the number of the source and the window at a position in the endless sequence of samples, and the
        random numbers for its crop, magnification and mirroring."""
        number, position = source_at(position, self.shares, self.seed)
        source = self.sources[number]
        windows, key = (source.images, (self.seed, IMAGES)) if is_image else (source.train, (self.seed,))
        assert windows is not None
        epoch, position_in_epoch = divmod(position, len(windows))
        index = shuffled(position_in_epoch, len(windows), *key, epoch)
        return number, windows.window(index, (*key, epoch)), np.random.default_rng((*key, epoch, index))
