"""Data sets of the datasets library with a column of videos or images: local ones, Parquet files, or from the Hub."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetsError
from huggingface_hub.errors import HfHubHTTPError

from ....labels import normalized
from ....messages import printable
from .file_lists import first_folder
from .files import Content, FoundFiles, InTable, OnDisk, Skipped, utf8

HUB_PREFIX = "hf://datasets/"
TABLE_ENDINGS = (".parquet", ".arrow")
BATCH = 1000
COLUMNS = ("video", "image", "path")  # names of columns that may be of any type


def load_table(source: str, *, split: str, subset: str | None) -> datasets.Dataset:
    """Load a data set: `hf://datasets/USER/NAME[@REVISION]`, a folder of `save_to_disk`, a folder of Parquet files in
    the layout of the Hub, or a Parquet or Arrow file.

    Raises:
        ValueError: if it cannot be loaded, or if it has no such split.
    """
    try:
        if source.startswith(HUB_PREFIX):
            name, _, revision = source.removeprefix(HUB_PREFIX).partition("@")
            return datasets.load_dataset(name, subset, split=split, revision=revision or None)
        path = Path(source)
        if is_saved_table(path):
            loaded = datasets.load_from_disk(path)
            return loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded
        if path.is_dir():
            return datasets.load_dataset(str(path), subset, split=split)
        is_parquet = path.suffix.lower() == ".parquet"
        return (datasets.Dataset.from_parquet if is_parquet else datasets.Dataset.from_file)(str(path))
    except (OSError, ValueError, KeyError, HfHubHTTPError, DatasetsError) as error:
        raise ValueError(f"the data set {printable(source)} (split {split!r}) cannot be loaded: {error}") from error


def is_saved_table(path: Path) -> bool:
    """Return whether a folder was written by `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def find_in_table(table: datasets.Dataset, source: str, *, column: str | None, label_column: str) -> FoundFiles:
    """Find the videos and images in a column of a table, as bytes or as paths of files.

    Their label is the one in `label_column`, or else the first folder of their path, or else the name of the data set.

    Raises:
        ValueError: if there is no such column.
        FileNotFoundError: if there are neither videos nor images.
    """
    column = video_column(table) if column is None else column
    if column is None or column not in table.column_names:
        raise ValueError(
            f"the data set {printable(source)} must have a column {column or 'video'!r}, got "
            f"{printable(', '.join(table.column_names))}; choose one with --data.column"
        )
    if isinstance(table.features[column], datasets.Video | datasets.Image):
        table = table.cast_column(column, type(table.features[column])(decode=False))
    ending = ".png" if isinstance(table.features[column], datasets.Image) else ".mp4"  # tells images from videos
    cells = table.select_columns([column])
    names, contents = [], list[Content | None]()
    for row, (path, has_bytes) in enumerate(described(cells, column)):
        names.append(path or f"{row:08d}{ending}")
        is_local = path is not None and "://" not in path
        contents.append(InTable(cells, row, names[-1]) if has_bytes else OnDisk(path or "") if is_local else None)
    labels = labels_of(table, label_column)
    names = [utf8(name) for name in relative_names(names, labels)]
    found = FoundFiles()
    for name, content, label in zip(names, contents, labels, strict=True):
        label = normalized(label or first_folder(name) or name_of(source))
        if content is None:
            found.skipped.append(Skipped(name, "without bytes", "the cell has neither bytes nor a local path", label))
        else:
            found.add(name, label, content)
    if not found.videos and not found.pictures:
        raise FileNotFoundError(f"no videos or images in column {column!r} of {printable(source)}")
    return found.in_order()


def name_of(source: str) -> str:
    """Return the name of a data set without revision and extension."""
    name = PurePosixPath(source).name
    return name.partition("@")[0] if source.startswith(HUB_PREFIX) else name.removesuffix(PurePosixPath(name).suffix)


def video_column(table: datasets.Dataset) -> str | None:
    """Return the first column of videos, or else of images, or else one with a usual name."""
    for kind in (datasets.Video, datasets.Image):
        for name, feature in table.features.items():
            if isinstance(feature, kind):
                return name
    return next((name for name in COLUMNS if name in table.column_names), None)


def described(cells: datasets.Dataset, column: str) -> list[tuple[str | None, bool]]:
    """Return the path in each cell, and whether the cell has bytes. The bytes are not read."""
    rows: list[tuple[str | None, bool]] = []
    arrow = cells.with_format("arrow")
    for start in range(0, len(cells), BATCH):
        batch: Any = arrow[start : start + BATCH]  # a pyarrow.Table
        values = batch.column(column).combine_chunks()
        if pa.types.is_struct(values.type):
            names = {field.name for field in values.type}
            paths = values.field("path").to_pylist() if "path" in names else [None] * len(values)
            has_bytes = values.field("bytes").is_valid().to_pylist() if "bytes" in names else [False] * len(values)
            rows += zip(paths, has_bytes, strict=True)
        elif pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type):
            rows += ((None, is_valid) for is_valid in values.is_valid().to_pylist())
        else:
            rows += ((None if path is None else str(path), False) for path in values.to_pylist())
    return rows


def relative_names(names: Sequence[str], labels: Sequence[str | None]) -> list[str]:
    """Return names without the folder that all absolute paths have in common.

    A name without a folder gets its label as folder, since `save_to_disk` drops folders. Equal names get the number of
    the row.
    """
    paths = [PurePath(name) for name in names]
    folders = [path.parent for path in paths if path.is_absolute()]
    root = os.path.commonpath(folders) if folders else ""
    relative = (path.relative_to(root) if path.is_absolute() else path for path in paths)
    short = [
        (path if label is None or path.parent.parts else label.replace("/", "_") / path).as_posix()
        for path, label in zip(relative, labels, strict=True)
    ]
    how_often = Counter(short)
    return [name if how_often[name] == 1 else f"{row:08d}/{name}" for row, name in enumerate(short)]


def labels_of(table: datasets.Dataset, label_column: str) -> Sequence[str | None]:
    """Return the labels of the rows as text, None without one."""
    if label_column not in table.column_names:
        if label_column != "label":
            raise ValueError(
                f"there must be a column {label_column!r} of labels, got {printable(', '.join(table.column_names))}"
            )
        return [None] * len(table)
    feature, values = table.features[label_column], table[label_column][:]
    names = feature.names if isinstance(feature, datasets.ClassLabel) else None
    return [None if value is None else names[value] if names else str(value) for value in values]
