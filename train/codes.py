"""Stage two trains on codes: the data set is encoded once and kept as an Arrow table."""

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import IterableDataset
from tqdm.auto import tqdm

from ..pretrained import config_to_dict
from ..tokenizer import VideoTokenizer
from .data import VideoData
from .data.batches import epoch_order

logger = logging.getLogger(__name__)

BATCH_SIZE = 16
FORMAT = 1


def fingerprint(tokenizer: VideoTokenizer, data: VideoData) -> str:
    """Digest of what the codes depend on: the tokenizer's config and weights, and the data."""
    digest = hashlib.sha256(f"{FORMAT} {data.fingerprint} {config_to_dict(tokenizer.config)}".encode())
    for name, value in sorted(tokenizer.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def encoded(tokenizer: VideoTokenizer, data: VideoData, cache_dir: Path, *, progress: bool = True) -> datasets.Dataset:
    """The codes of every training window, mirrored too where the data allows it; made on the first call, then reused.

    Returns:
        A table with one row for each: `window` (row of the data's table), `label`, `flip`, `is_blank` and
        `codes` (flattened `t h w`).
    """
    folder = cache_dir / fingerprint(tokenizer, data)
    if not folder.is_dir():
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".codes-", dir=cache_dir) as name:
            aside = Path(name)
            table = datasets.Dataset.from_generator(
                encode_windows,
                features=features(tokenizer, data),
                cache_dir=str(aside / "build"),
                gen_kwargs={"tokenizer": tokenizer, "data": data, "progress": progress},
                fingerprint=folder.name,
            )
            assert isinstance(table, datasets.Dataset)
            table.save_to_disk(aside / "table")
            if not folder.is_dir():  # another process may have been quicker, with the same result
                shutil.move(aside / "table", folder)
    return datasets.Dataset.load_from_disk(folder)


def features(tokenizer: VideoTokenizer, data: VideoData) -> datasets.Features:
    return datasets.Features(
        {
            "window": datasets.Value("int64"),
            "label": datasets.ClassLabel(names=list(data.labels)),
            "flip": datasets.Value("bool"),
            "is_blank": datasets.Value("bool"),
            "codes": datasets.List(datasets.Value("int32" if tokenizer.codebook_size <= 2**31 else "int64")),
        }
    )


@torch.inference_mode()
def encode_windows(tokenizer: VideoTokenizer, data: VideoData, progress: bool) -> Iterator[dict[str, Any]]:
    """The rows of the table."""
    parameter = next(tokenizer.parameters())
    flips = (False, True) if data.allows_flip else (False,)
    keys = [(window, flip) for flip in flips for window in range(len(data.train))]
    labels, is_blank = data.train.table["label"][:], data.train.table["is_blank"][:]
    chunks = [keys[start : start + BATCH_SIZE] for start in range(0, len(keys), BATCH_SIZE)]
    for chunk in tqdm(chunks, desc="Encoding", unit="batch", disable=not progress):
        videos = torch.stack([data.train.video(window, flip=flip) for window, flip in chunk])
        codes = tokenizer.encode(videos.to(parameter)).flatten(1).cpu().numpy()
        for (window, flip), row in zip(chunk, codes, strict=True):
            yield {
                "window": window,
                "label": labels[window],
                "flip": flip,
                "is_blank": is_blank[window],
                "codes": row,
            }


class CodeBatches(IterableDataset[dict[str, Tensor]]):
    """Endless training batches of codes; batch i is a pure function of (seed, i), as in `TrainingBatches`.

    Blank windows are left out. The processes' batches joined are what one process with the joined batch size gets.

    Yields:
        {"codes": `b t h w`, "label": `b`}
    """

    def __init__(
        self,
        table: datasets.Dataset,
        grid: tuple[int, int, int],
        *,
        batch_size: int,
        seed: int,
        start: int = 0,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        super().__init__()
        keep = np.flatnonzero(~np.asarray(table["is_blank"][:]))
        if not len(keep):
            raise ValueError("every training window is blank: there is nothing to learn from")
        self.table = table.select(keep).with_format("numpy")
        self.grid = grid
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.process_index = process_index
        self.num_processes = num_processes

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        index = self.start
        while True:
            yield self.batch(index)
            index += 1

    def batch(self, index: int) -> dict[str, Tensor]:
        """Batch number `index` of this process, whatever was asked for before."""
        first = (index * self.num_processes + self.process_index) * self.batch_size
        rows = self.table[[self.row(place) for place in range(first, first + self.batch_size)]]
        codes: Int[Tensor, "b n"] = torch.from_numpy(np.stack(rows["codes"]).astype(np.int64))
        return {"codes": codes.view(-1, *self.grid), "label": torch.from_numpy(np.asarray(rows["label"], np.int64))}

    def row(self, place: int) -> int:
        """The row at one place of the endless row of epochs."""
        epoch, place_in_epoch = divmod(place, len(self.table))
        return int(epoch_order(len(self.table), self.seed, epoch)[place_in_epoch])
