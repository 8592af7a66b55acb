"""Training batches of stage two: codes from a table, or clips that are encoded when they are used."""

from abc import abstractmethod
from collections.abc import Sequence

import datasets
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .codes import Encoder, pixels_of, row_of
from .contexts import Contexts
from .data import VideoData
from .data.batches import NumberedBatches
from .data.order import shuffled
from .task_mix import WeightedTask, condition_of, drawn_tasks

MOST_ATTEMPTS = 20_000  # to find a row that is not blank

Batch = dict[str, Tensor]


def times_in_an_epoch(num_windows: Int[np.ndarray, " labels"], balance: float) -> Int[np.ndarray, " labels"]:
    """Return how often the windows of each label appear in an epoch.

    That is (number of windows of the most frequent label / number of windows of the label) ** balance, rounded.

    Args:
        num_windows: of each label; may be 0.
        balance: 0: every window once. 1: about the same number of windows for each label.
    """
    return np.round((num_windows.max() / np.maximum(1, num_windows)) ** balance).astype(int)


class RowBatches(NumberedBatches):
    """Endless stream of batches of rows (see `codes.row_of`) in which batch i is a pure function of (seed, i).

    Every row appears once per epoch, or more often according to `label_balance`. In the place of a blank row, another
    one is drawn. The task of each sample is drawn by weight, independently in each epoch.
    """

    def __init__(
        self,
        data: VideoData,
        passes: int | None,
        *,
        mix: Sequence[WeightedTask] = (),
        contexts: Contexts | None = None,
        label_balance: float = 0.0,
        **settings: int,
    ) -> None:
        """
        Args:
            passes: passes over the data in each epoch. None: one, and each epoch has a new one.
            label_balance: see `times_in_an_epoch`.
            settings: `batch_size`, `seed`, `start`, `process_index` and `num_processes` of `NumberedBatches`.
        """
        super().__init__(**settings)
        self.data = data
        self.passes = passes
        self.mix = tuple(mix)
        self.contexts = contexts
        self.counts, labels = data.train.index.label_runs()
        num_windows = np.bincount(labels, self.counts).astype(int)
        self.firsts = np.cumsum(self.counts) - self.counts
        self.lengths = self.counts * times_in_an_epoch(num_windows, label_balance)[labels]  # of each run, in a pass
        self.ends = np.cumsum(self.lengths)

    @property
    def rows_per_epoch(self) -> int:
        return int(self.ends[-1]) * (self.passes or 1)

    @abstractmethod
    def is_blank(self, row: int) -> bool:
        """Return whether a row is not to be trained on."""

    def row(self, position: int) -> int:
        """Return the row at a position in the endless sequence of samples.

        Raises:
            ValueError: if there seem to be only blank rows.
        """
        epoch, position_in_epoch = divmod(position, self.rows_per_epoch)
        for attempt in range(MOST_ATTEMPTS):
            place = shuffled(position_in_epoch, self.rows_per_epoch, self.seed, epoch, attempt)
            row = self._row_at(place, epoch)
            if not self.is_blank(row):
                return row
        raise ValueError("all training windows are blank, so there is nothing to train on")

    def _row_at(self, place: int, epoch: int) -> int:
        pass_number, place = divmod(place, int(self.ends[-1]))
        run = int(np.searchsorted(self.ends, place, "right"))
        place_in_run = place - int(self.ends[run]) + int(self.lengths[run])
        window = int(self.firsts[run]) + place_in_run % int(self.counts[run])
        return (epoch if self.passes is None else pass_number) * len(self.data.train) + window

    def drawn_tasks(self, index: int) -> Int[np.ndarray, " b"]:
        """Return the task of each sample of a batch, as an index into the mix."""
        return drawn_tasks(self.mix, self.seed, self.positions(index))

    def context(self, files: Sequence[int]) -> Batch:
        """Return the context embeddings of some files, if there are any."""
        if self.contexts is None:
            return {}
        context, padding = self.contexts.of(files)
        return {"context": context, "context_padding": padding}


class CodeBatches(RowBatches):
    """Batches of codes from a table.

    Yields:
        The arguments of a `MaskGitObjective`: {"codes": `b t h w`, "labels": `b`}; with a mix of tasks also {"tasks":
        `b`, indices into the mix, "condition_codes": `b t h w`, `mask_id` for samples without condition}; with contexts
        also {"context": `b m e`, "context_padding": `b m`}
    """

    def __init__(
        self, data: VideoData, table: datasets.Dataset, grid: tuple[int, int, int], *, mask_id: int, **settings: object
    ) -> None:
        """
        Args:
            table: table of `encoded`, with the conditions of the mix.
            mask_id: mask id of the transformer, used for missing condition codes.
            settings: arguments of `RowBatches`.
        """
        super().__init__(data, len(table) // len(data.train), **settings)  # type: ignore[arg-type]
        self.table = table.with_format("numpy")
        self.grid = grid
        self.mask_id = mask_id
        self.blank = np.asarray(table["is_blank"][:])
        self.row(0)

    def is_blank(self, row: int) -> bool:
        return bool(self.blank[row])

    def batch(self, index: int) -> Batch:
        """Return batch number `index` of this process."""
        rows = self.table[[self.row(position) for position in self.positions(index)]]
        batch = {
            "codes": self.grids(np.stack(rows["codes"])),
            "labels": torch.from_numpy(np.asarray(rows["label"], np.int64)),
        }
        if self.mix:
            tasks = self.drawn_tasks(index)
            none = np.full(len(rows["codes"][0]), self.mask_id)
            conditions = [condition_of(self.mix[task].name) for task in tasks]
            codes = [none if name is None else rows[name][row] for row, name in enumerate(conditions)]
            batch |= {"tasks": torch.from_numpy(tasks), "condition_codes": self.grids(np.stack(codes))}
        return batch | self.context(rows["file"].tolist())

    def grids(self, rows: Int[np.ndarray, "b n"]) -> Int[Tensor, "b t h w"]:
        return torch.from_numpy(rows.astype(np.int64)).view(-1, *self.grid)


class ClipBatches(RowBatches):
    """Batches of clips whose codes are not known yet; `encoded_batch` encodes them. With the same passes and seed, this
    gives the same stream as `CodeBatches`.

    Yields:
        {"video": pixels `b 3 T H W` (uint8), "rows": `b`}, and all of `CodeBatches` except codes.
    """

    def __init__(self, data: VideoData, passes: int | None, **settings: object) -> None:
        """
        Args:
            settings: arguments of `RowBatches`.
        """
        super().__init__(data, passes, **settings)  # type: ignore[arg-type]
        self.row(0)

    def is_blank(self, row: int) -> bool:
        return self.data.train.is_blank(row_of(self.data, row).window)

    def batch(self, index: int) -> Batch:
        """Return batch number `index` of this process."""
        rows = [self.row(position) for position in self.positions(index)]
        windows = [row_of(self.data, row).window for row in rows]
        batch = {
            "video": torch.from_numpy(np.stack([pixels_of(self.data, row) for row in rows])),
            "rows": torch.tensor(rows),
            "labels": torch.tensor([window.label for window in windows]),
        }
        if self.mix:
            batch["tasks"] = torch.from_numpy(self.drawn_tasks(index))
        return batch | self.context([window.number for window in windows])


def encoded_batch(batch: Batch, encoder: Encoder, mix: Sequence[WeightedTask], mask_id: int) -> Batch:
    """Replace the clips of a batch of `ClipBatches`, converted to [-1, 1], by their codes and condition codes."""
    known = dict(batch)
    videos, rows = known.pop("video"), known.pop("rows").tolist()
    known["codes"] = encoder.codes(videos)
    if mix:
        known["condition_codes"] = condition_codes(videos, rows, known["tasks"], encoder, mix, mask_id)
    return known


def condition_codes(
    videos: Float[Tensor, "b 3 T H W"],
    rows: Sequence[int],
    tasks: Int[Tensor, " b"],
    encoder: Encoder,
    mix: Sequence[WeightedTask],
    mask_id: int,
) -> Int[Tensor, "b t h w"]:
    """Return the condition codes of each clip for its task, `mask_id` for tasks without condition.

    Args:
        rows: numbers on which the random regions depend.
        tasks: indices into the mix.
    """
    conditions = [condition_of(mix[task].name) for task in tasks.tolist()]
    grid = encoder.tokenizer.code_shape(*videos.shape[2:])
    codes = torch.full((len(videos), *grid), mask_id, device=encoder.parameter.device)
    for name in {condition for condition in conditions if condition is not None}:
        chosen = [place for place, condition in enumerate(conditions) if condition == name]
        codes[chosen] = encoder.condition_codes(name, videos[chosen], [rows[place] for place in chosen])
    return codes
