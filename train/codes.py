"""Codes for stage two: the data set is encoded once, with the conditions of the tasks, and cached as an Arrow table."""

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
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
from .data.config import naming_the_cache
from .task_mix import WeightedTask, condition_of, drawn_tasks

logger = logging.getLogger(__name__)

BATCH_SIZE = 16
FORMAT = 1


def fingerprint(tokenizer: VideoTokenizer, data: VideoData, conditions: Sequence[str] = ()) -> str:
    """Return a digest of everything that the codes depend on: tokenizer, data, and conditions of the tasks."""
    described = " ".join([str(FORMAT), data.fingerprint, tokenizer.fingerprint(), *conditions])
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def encoded(
    tokenizer: VideoTokenizer,
    data: VideoData,
    cache_dir: Path,
    *,
    conditions: Sequence[str] = (),
    progress: bool = True,
) -> datasets.Dataset:
    """Return the codes of all training windows and, if the data allows flips, of all mirrored windows.

    The first call encodes the windows; later calls load the table.

    Args:
        conditions: tasks whose condition codes are part of the table. A random region depends only on window, flip and
            task.

    Returns:
        A table with one row per window and flip: `window` (row of the data's table), `label`, `flip`, `is_blank`,
        `codes` (flattened `t h w`), and one column of condition codes per task, with the name of the task.

    Raises:
        ValueError: if the clips are too short for a task.
    """
    folder = cache_dir / fingerprint(tokenizer, data, conditions)
    if not folder.is_dir():
        for task in conditions:  # `from_generator` would wrap the ValueError in another error
            row_region(task, 0, False, data.train.video(0).shape[1:])
        with naming_the_cache(cache_dir):
            cache_dir.mkdir(parents=True, exist_ok=True)
        with (
            naming_the_cache(cache_dir),
            tempfile.TemporaryDirectory(prefix=".codes-", dir=cache_dir) as name,
            no_bars_of_datasets(),
        ):
            aside = Path(name)
            table = datasets.Dataset.from_generator(
                encode_windows,
                features=features(tokenizer, data, conditions),
                cache_dir=str(aside / "build"),
                gen_kwargs={
                    "tokenizer": tokenizer,
                    "data": data,
                    "conditions": tuple(conditions),  # a list would be split into shards
                    "progress": progress,
                },
                fingerprint=folder.name,
            )
            assert isinstance(table, datasets.Dataset)
            table.save_to_disk(aside / "table")
            if not folder.is_dir():  # another process may have written the same table
                shutil.move(aside / "table", folder)
    return datasets.Dataset.load_from_disk(folder)


@contextmanager
def no_bars_of_datasets() -> Iterator[None]:
    """Hide the progress bars of the datasets library; `encode_windows` has its own."""
    were_shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if were_shown:
            datasets.enable_progress_bars()


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


@torch.inference_mode()
def encode_windows(
    tokenizer: VideoTokenizer, data: VideoData, conditions: tuple[str, ...], progress: bool
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table."""
    parameter = next(tokenizer.parameters())
    flips = (False, True) if data.allows_flip else (False,)
    keys = [(window, flip) for flip in flips for window in range(len(data.train))]
    labels, is_blank = data.train.table["label"][:], data.train.table["is_blank"][:]
    chunks = [keys[start : start + BATCH_SIZE] for start in range(0, len(keys), BATCH_SIZE)]
    for chunk in tqdm(chunks, desc="Encoding", unit="batch", disable=not progress):
        videos = torch.stack([data.train.video(window, flip=flip) for window, flip in chunk]).to(parameter)
        codes = {"codes": tokenizer.encode(videos)}
        for task in conditions:
            known = torch.stack([row_region(task, window, flip, videos.shape[2:]) for window, flip in chunk])
            codes[task] = encode_condition(tokenizer, videos, known.to(videos.device)).codes
        rows = {name: grids.flatten(1).cpu().numpy() for name, grids in codes.items()}
        for row, (window, flip) in enumerate(chunk):
            yield {
                "window": window,
                "label": labels[window],
                "flip": flip,
                "is_blank": is_blank[window],
                **{name: values[row] for name, values in rows.items()},
            }


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
