"""Codes for stage two: the data set is encoded once, with the conditions of the tasks, and cached as Arrow tables."""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from tqdm.auto import tqdm

from ..maskgit.seeds import seeded_generator
from ..maskgit.tasks import TASKS
from ..pipelines.fill.regions import encode_condition, known_region
from ..tokenizer import VideoTokenizer
from .contexts import Contexts
from .data import VideoData
from .data.batches import NumberedBatches, epoch_order
from .data.cache.checked_table import DamagedFileError, read_table, write_table
from .data.cache.shared_work import make_together
from .data.config import naming_the_cache
from .task_mix import WeightedTask, condition_of, drawn_tasks

logger = logging.getLogger(__name__)

BATCH_SIZE = 16
ROWS_PER_SHARD = 1024
FORMAT = 2


def fingerprint(
    tokenizer: VideoTokenizer, data: VideoData, conditions: Sequence[str] = (), precision: str = "no"
) -> str:
    """Return a digest of everything that the codes depend on: tokenizer, data, conditions of the tasks, precision."""
    own_precision = [] if precision == "no" else [precision]
    described = " ".join([str(FORMAT), data.fingerprint, tokenizer.fingerprint(), *conditions, *own_precision])
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def encoded(
    tokenizer: VideoTokenizer,
    data: VideoData,
    cache_dir: Path,
    *,
    conditions: Sequence[str] = (),
    precision: str = "no",
    progress: bool = True,
) -> datasets.Dataset:
    """Return the codes of all training windows and, if the data allows flips, of all mirrored windows.

    The first call encodes the windows, in shards of `ROWS_PER_SHARD` rows; later calls load the table. Several
    processes that call this at the same time share the work. After a kill, only unfinished shards are encoded again. A
    damaged shard is named and encoded again.

    Args:
        conditions: tasks whose condition codes are part of the table. A random region depends only on window, flip and
            task.
        precision: `no` for float32, or `bf16` or `fp16` for autocast on the tokenizer's device.

    Returns:
        A table with one row per window and flip: `window` (row of the data's table), `label`, `flip`, `is_blank`,
        `codes` (flattened `t h w`), and one column of condition codes per task, with the name of the task.

    Raises:
        ValueError: if the clips are too short for a task.
        OSError: if the cache cannot be used.
    """
    for task in conditions:
        row_region(task, 0, False, data.train.video(0).shape[1:])
    folder = cache_dir / fingerprint(tokenizer, data, conditions, precision)
    flips = (False, True) if data.allows_flip else (False,)
    keys = [(window, flip) for flip in flips for window in range(len(data.train))]
    shards = {
        folder / f"codes-{start // ROWS_PER_SHARD:05d}.arrow": keys[start : start + ROWS_PER_SHARD]
        for start in range(0, len(keys), ROWS_PER_SHARD)
    }
    with naming_the_cache(cache_dir):
        missing = [path for path in shards if not is_whole(path)]
        if missing:
            num_rows = sum(len(shards[path]) for path in missing)
            encoder = Encoder(tokenizer, data, tuple(conditions), precision)
            log_work(encoder, num_rows, len(shards[missing[0]]))
            with tqdm(total=num_rows, desc="Encoding", unit="row", disable=not progress) as bar:

                def encode(path: Path) -> None:
                    write_table(path, encoder.table(shards[path], bar.update))

                def skip(path: Path) -> None:
                    bar.update(len(shards[path]))

                make_together(missing, encode, found=skip)
        return datasets.concatenate_datasets([datasets.Dataset.from_file(str(path)) for path in shards])


def is_whole(path: Path) -> bool:
    """Return whether a shard is there and is what was written. A damaged one is named and deleted."""
    try:
        read_table(path)
    except FileNotFoundError:
        return False
    except DamagedFileError as error:
        logger.warning("%s; it is encoded again", error)
        path.unlink()
        return False
    return True


def log_work(encoder: "Encoder", num_rows: int, num_at_hand: int) -> None:
    """Log how many rows will be encoded, their size, and how long this takes here, measured on a batch."""
    chunk = [(window, False) for window in range(min(BATCH_SIZE, num_at_hand, len(encoder.data.train)))]
    encoder.rows(chunk[:1])  # the first call is slower
    started = time.monotonic()
    (row, *_) = encoder.rows(chunk)
    seconds = (time.monotonic() - started) / len(chunk)
    num_bytes = sum(values.nbytes for values in row.values() if isinstance(values, np.ndarray))
    logger.info(
        "encoding %d rows of codes: %.0f MB, about %.1f minutes in one process",
        *(num_rows, num_rows * num_bytes / 1e6, num_rows * seconds / 60),
    )


def features(tokenizer: VideoTokenizer, data: VideoData, conditions: Sequence[str]) -> datasets.Features:
    codes = datasets.List(datasets.Value("int32" if tokenizer.codebook_size < 2**31 else "int64"))
    return datasets.Features(
        {
            "window": datasets.Value("int64"),
            "label": datasets.ClassLabel(names=list(data.labels)),
            "flip": datasets.Value("bool"),
            "is_blank": datasets.Value("bool"),
            "codes": codes,
            **dict.fromkeys(conditions, codes),
        }
    )


@dataclass
class Encoder:
    """Encodes training windows of a data set."""

    tokenizer: VideoTokenizer
    data: VideoData
    conditions: tuple[str, ...]
    precision: str

    def table(self, keys: Sequence[tuple[int, bool]], count: Callable[[int], object]) -> pa.Table:
        """Return the rows of some windows and flips.

        Args:
            count: called with the number of rows of each batch.
        """
        rows: list[dict[str, Any]] = []
        for start in range(0, len(keys), BATCH_SIZE):
            rows += self.rows(keys[start : start + BATCH_SIZE])
            count(len(rows) - start)
        schema = features(self.tokenizer, self.data, self.conditions).arrow_schema
        return pa.Table.from_pylist(rows, schema=schema)

    @torch.inference_mode()
    def rows(self, keys: Sequence[tuple[int, bool]]) -> list[dict[str, Any]]:
        """Return the rows of a batch."""
        train = self.data.train
        parameter = next(self.tokenizer.parameters())
        videos = torch.stack([train.video(window, flip=flip) for window, flip in keys]).to(parameter)
        with self.autocast():
            codes = {"codes": self.tokenizer.encode(videos)}
            for task in self.conditions:
                known = torch.stack([row_region(task, window, flip, videos.shape[2:]) for window, flip in keys])
                codes[task] = encode_condition(self.tokenizer, videos, known.to(videos.device)).codes
        grids = {name: values.flatten(1).cpu().numpy() for name, values in codes.items()}
        facts = train.table.select([window for window, _ in keys])
        return [
            {"window": window, "label": label, "flip": flip, "is_blank": is_blank}
            | {name: values[row] for name, values in grids.items()}
            for row, ((window, flip), label, is_blank) in enumerate(
                zip(keys, facts["label"][:], facts["is_blank"][:], strict=True)
            )
        ]

    def autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "no":
            return nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(next(self.tokenizer.parameters()).device.type, dtype)


def row_region(task: str, window: int, flip: bool, clip: Sequence[int]) -> Bool[Tensor, "T H W"]:
    """Return the known region of a window for a task. Random regions depend only on the arguments."""
    num_frames, height, width = clip
    generator = seeded_generator(window, int(flip), list(TASKS).index(task))
    return known_region(task, num_frames, height, width, generator)


def times_in_an_epoch(labels: Int[np.ndarray, " n"], balance: float) -> Int[np.ndarray, " n"]:
    """Return how often each window appears in an epoch.

    That is (number of windows of the most frequent label / number of windows of its own label) ** balance, rounded.

    Args:
        labels: labels of the windows, not negative. Windows without a label share one.
        balance: 0: every window once. 1: about the same number of windows for each label.
    """
    num_windows = np.bincount(labels)
    return np.round((num_windows.max() / num_windows[labels]) ** balance).astype(int)


class CodeBatches(NumberedBatches):
    """Endless stream of batches of codes in which batch i is a pure function of (seed, i), as in `TrainingBatches`.

    Blank windows are left out. All others appear once per epoch, or more often according to `label_balance`.
    The task of each sample is drawn by weight, independently in each epoch.

    Yields:
        The arguments of a `MaskGitObjective`: {"codes": `b t h w`, "labels": `b`}; with a mix of tasks also {"tasks":
        `b`, indices into the mix, "condition_codes": `b t h w`, `mask_id` for samples without condition}; with contexts
        also {"context": `b m e`, "context_padding": `b m`}
    """

    def __init__(
        self,
        table: datasets.Dataset,
        grid: tuple[int, int, int],
        *,
        mask_id: int,
        mix: Sequence[WeightedTask] = (),
        contexts: Contexts | None = None,
        label_balance: float = 0.0,
        **settings: int,
    ) -> None:
        """
        Args:
            table: table of `encoded`, with the conditions of the mix.
            mask_id: mask id of the transformer, used for missing condition codes.
            label_balance: see `times_in_an_epoch`.
            settings: `batch_size`, `seed`, `start`, `process_index` and `num_processes` of `NumberedBatches`.
        """
        super().__init__(**settings)
        keep = np.flatnonzero(~np.asarray(table["is_blank"][:]))
        if not len(keep):
            raise ValueError("all training windows are blank, so there is nothing to train on")
        times = times_in_an_epoch(np.asarray(table["label"][:])[keep], label_balance)
        self.table = table.select(np.repeat(keep, times)).with_format("numpy")
        self.grid = grid
        self.mask_id = mask_id
        self.mix = tuple(mix)
        self.contexts = contexts

    def batch(self, index: int) -> dict[str, Tensor]:
        """Return batch number `index` of this process."""
        positions = self.positions(index)
        rows = self.table[[self.row(position) for position in positions]]
        batch = {
            "codes": self.grids(np.stack(rows["codes"])),
            "labels": torch.from_numpy(np.asarray(rows["label"], np.int64)),
        }
        if self.mix:
            tasks = drawn_tasks(self.mix, self.seed, positions)
            none = np.full(len(rows["codes"][0]), self.mask_id)
            conditions = [condition_of(self.mix[task].name) for task in tasks]
            codes = [none if name is None else rows[name][row] for row, name in enumerate(conditions)]
            batch |= {"tasks": torch.from_numpy(tasks), "condition_codes": self.grids(np.stack(codes))}
        if self.contexts is not None:
            batch["context"], batch["context_padding"] = self.contexts.of(rows["window"].tolist())
        return batch

    def grids(self, rows: Int[np.ndarray, "b n"]) -> Int[Tensor, "b t h w"]:
        return torch.from_numpy(rows.astype(np.int64)).view(-1, *self.grid)

    def row(self, position: int) -> int:
        """Return the row at a position in the endless sequence of samples."""
        epoch, position_in_epoch = divmod(position, len(self.table))
        return int(epoch_order(len(self.table), self.seed, epoch)[position_in_epoch])
