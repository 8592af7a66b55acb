"""Codes for stage two: passes over the data are encoded, with the conditions of tasks, and cached as Arrow tables."""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from tqdm.auto import tqdm

from ..maskgit.seeds import seeded_generator
from ..maskgit.tasks import TASKS
from ..pipelines.fill.regions import encode_condition, known_region
from ..tokenizer import VideoTokenizer
from .data import VideoData
from .data.cache.checked_table import DamagedFileError, check_table, write_table
from .data.cache.shared_work import make_together
from .data.config import naming_the_cache
from .data.index import Window
from .data.video_data import to_video

logger = logging.getLogger(__name__)

BATCH_SIZE = 16
ROWS_PER_SHARD = 1024
ROWS_BY_DEFAULT = 4096
FORMAT = 3
ROW_SEED = 2**31 + 3  # marks the seeds of rows, which do not depend on the seed of a run, so that runs share them


@dataclass(frozen=True, kw_only=True)
class CodesConfig:
    """Choice of the clips that the transformer is trained on."""

    passes: int | None = None
    """Passes over the data, each with other windows, crops and flips. None: as many as give about 4,096 clips, at least
    one; with `online`, a new pass in each epoch."""
    online: bool = False
    """Encode each batch when it is used, instead of all clips before the training."""

    def __post_init__(self) -> None:
        if self.passes is not None and self.passes < 1:
            raise ValueError(f"passes must be at least 1, got {self.passes}")

    def passes_over(self, data: VideoData) -> int | None:
        """Return the number of passes over some data; None: a new one in each epoch."""
        if self.passes is not None or self.online:
            return self.passes
        return default_passes(data)


def default_passes(data: VideoData) -> int:
    """Return the number of passes that give about `ROWS_BY_DEFAULT` rows, at least one.

    Drawn clips are the same in each pass.
    """
    return -(-ROWS_BY_DEFAULT // len(data.train)) if data.train.index.varies else 1


class Row(NamedTuple):
    """A clip to encode."""

    window: Window
    offset: tuple[float, float]
    """Position of the crop; see `ClipReader.clip`."""
    flip: bool


def row_of(data: VideoData, number: int) -> Row:
    """Return row number `number`: all windows of pass 0, then those of pass 1, and so on. There is no last pass."""
    pass_number, index = divmod(number, len(data.train))
    key = (ROW_SEED, pass_number)
    numbers = np.random.default_rng((*key, index))
    offset = (numbers.random(), numbers.random())
    flip = bool(numbers.random() < 0.5) and data.allows_flip
    return Row(data.train.window(index, key), offset, flip)


def clip_of(data: VideoData, number: int) -> Float[Tensor, "3 T H W"]:
    """Return the clip of a row in [-1, 1]."""
    return to_video(pixels_of(data, number))


def pixels_of(data: VideoData, number: int) -> UInt8[np.ndarray, "3 T H W"]:
    """Return the clip of a row with values from 0 to 255."""
    window, offset, flip = row_of(data, number)
    return data.train.reader.clip(window.number, window.first_frame, offset=offset, flip=flip)


def fingerprint(
    tokenizer: VideoTokenizer,
    data: VideoData,
    conditions: Sequence[str] = (),
    precision: str = "no",
    passes: int | None = None,
) -> str:
    """Return a digest of everything that the codes depend on: tokenizer, data, conditions of the tasks, precision, and
    number of passes."""
    settings = [str(FORMAT), data.fingerprint, tokenizer.fingerprint(), *conditions, precision, str(passes)]
    return hashlib.sha256(" ".join(settings).encode()).hexdigest()[:32]


def encoded(
    tokenizer: VideoTokenizer,
    data: VideoData,
    cache_dir: Path,
    *,
    passes: int | None = None,
    conditions: Sequence[str] = (),
    precision: str = "no",
    progress: bool = True,
) -> datasets.Dataset:
    """Return the codes of all rows of some passes over the data; see `row_of`.

    The first call encodes the rows, in shards of `ROWS_PER_SHARD` rows; later calls load the table. Several
    processes that call this at the same time share the work. After a kill, only unfinished shards are encoded again. A
    damaged shard is named and encoded again.

    Args:
        passes: None: `default_passes`.
        conditions: tasks whose condition codes are part of the table. A random region depends only on row and task.
        precision: `no` for float32, or `bf16` or `fp16` for autocast on the tokenizer's device.

    Returns:
        A table with the columns `file` (its number) and `first_frame` (see `Window`), `label`, `flip`, `is_blank`,
        `codes` (flattened `t h w`), and one column of condition codes per task, with the name of the task.

    Raises:
        ValueError: if the clips are too short for a task.
        OSError: if the cache cannot be used.
    """
    passes = default_passes(data) if passes is None else passes
    encoder = Encoder(tokenizer, data, tuple(conditions), precision)
    encoder.check()
    folder = cache_dir / fingerprint(tokenizer, data, conditions, precision, passes)
    num_rows = passes * len(data.train)
    shards = {
        folder / f"codes-{start // ROWS_PER_SHARD:05d}.arrow": range(start, min(start + ROWS_PER_SHARD, num_rows))
        for start in range(0, num_rows, ROWS_PER_SHARD)
    }
    with naming_the_cache(cache_dir):
        missing = [path for path in shards if not is_whole(path)]
        if missing:
            num_missing = sum(len(shards[path]) for path in missing)
            log_work(encoder, num_missing, num_rows)
            with tqdm(total=num_missing, desc="Encoding", unit="row", disable=not progress) as bar:

                def encode(path: Path) -> None:
                    write_table(path, encoder.table(shards[path], bar.update))

                def skip(path: Path) -> None:
                    bar.update(len(shards[path]))

                make_together(missing, encode, found=skip)
        return datasets.concatenate_datasets([datasets.Dataset.from_file(str(path)) for path in shards])


def is_whole(path: Path) -> bool:
    """Return whether a shard is there and is what was written. A damaged one is named and deleted."""
    try:
        check_table(path)
    except FileNotFoundError:
        return False
    except DamagedFileError as error:
        logger.warning("%s; it is encoded again", error)
        path.unlink()
        return False
    return True


def log_work(encoder: "Encoder", num_rows: int, num_in_all: int) -> None:
    """Log how many rows will be encoded, their size, and how long this takes here, measured on a batch."""
    batch = range(min(BATCH_SIZE, num_in_all))
    encoder.rows(batch[:1])  # the first call is slower
    started = time.monotonic()
    (row, *_) = encoder.rows(batch)
    seconds = (time.monotonic() - started) / len(batch)
    num_bytes = sum(values.nbytes for values in row.values() if isinstance(values, np.ndarray))
    logger.info(
        "encoding %d rows of codes: %.0f MB, about %.1f minutes in one process",
        *(num_rows, num_rows * num_bytes / 1e6, num_rows * seconds / 60),
    )


def features(tokenizer: VideoTokenizer, data: VideoData, conditions: Sequence[str]) -> datasets.Features:
    codes = datasets.List(datasets.Value("int32" if tokenizer.codebook_size < 2**31 else "int64"))
    return datasets.Features(
        {
            "file": datasets.Value("int64"),
            "first_frame": datasets.Value("int64"),
            "label": datasets.ClassLabel(names=list(data.labels)),
            "flip": datasets.Value("bool"),
            "is_blank": datasets.Value("bool"),
            "codes": codes,
            **dict.fromkeys(conditions, codes),
        }
    )


@dataclass(frozen=True)
class Encoder:
    """Encodes rows of a data set."""

    tokenizer: VideoTokenizer
    data: VideoData
    conditions: tuple[str, ...]
    precision: str

    def table(self, numbers: range, count: Callable[[int], object]) -> pa.Table:
        """Return the rows with some numbers.

        Args:
            count: called with the number of rows of each batch.
        """
        rows: list[dict[str, Any]] = []
        for start in range(0, len(numbers), BATCH_SIZE):
            rows += self.rows(numbers[start : start + BATCH_SIZE])
            count(len(rows) - start)
        schema = features(self.tokenizer, self.data, self.conditions).arrow_schema
        return pa.Table.from_pylist(rows, schema=schema)

    def check(self) -> None:
        """
        Raises:
            ValueError: if the clips are too short for a task.
        """
        for task in self.conditions:
            row_region(task, 0, clip_of(self.data, 0).shape[1:])

    def rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return the rows of a batch."""
        videos = torch.stack([clip_of(self.data, number) for number in numbers])
        codes = {"codes": self.codes(videos)}
        codes |= {task: self.condition_codes(task, videos, numbers) for task in self.conditions}
        grids = {name: values.flatten(1).cpu().numpy() for name, values in codes.items()}
        rows = (row_of(self.data, number) for number in numbers)
        return [
            {
                "file": window.number,
                "first_frame": window.first_frame,
                "label": window.label,
                "flip": flip,
                "is_blank": self.data.train.is_blank(window),
            }
            | {name: values[place] for name, values in grids.items()}
            for place, (window, _, flip) in enumerate(rows)
        ]

    @torch.no_grad()
    def codes(self, videos: Float[Tensor, "b 3 T H W"]) -> Int[Tensor, "b t h w"]:
        with self.autocast():
            return self.tokenizer.encode(videos.to(self.parameter))

    @torch.no_grad()
    def condition_codes(
        self, task: str, videos: Float[Tensor, "b 3 T H W"], numbers: Sequence[int]
    ) -> Int[Tensor, "b t h w"]:
        """Return the condition codes of a task for the videos of some rows."""
        known = torch.stack([row_region(task, number, videos.shape[2:]) for number in numbers])
        with self.autocast():
            return encode_condition(self.tokenizer, videos.to(self.parameter), known.to(self.parameter.device)).codes

    @property
    def parameter(self) -> Tensor:
        return next(self.tokenizer.parameters())

    def autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "no":
            return nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.parameter.device.type, dtype)


def row_region(task: str, number: int, clip: Sequence[int]) -> Bool[Tensor, "T H W"]:
    """Return the known region of a row for a task. Random regions depend only on the arguments."""
    num_frames, height, width = clip
    generator = seeded_generator(number, list(TASKS).index(task))
    return known_region(task, num_frames, height, width, generator)
