"""Official splits: the files that a list or another source holds out."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ....files import as_path
from ....messages import printable
from ..config import DataConfig
from .file_lists import LIST_ENDINGS, Entry, read_list
from .files import FoundFiles, Section, Skipped, VideoFile
from .find import find_files, kind_of

NAMED = 3  # files in a message

logger = logging.getLogger(__name__)


class Split(NamedTuple):
    """The files of a source, and the names of those that are held out."""

    found: FoundFiles
    heldout: frozenset[str] = frozenset()


def split_files(found: FoundFiles, config: DataConfig) -> Split:
    """Hold out the files of `config.heldout`.

    A list names files of the source itself, with or without the extension; the names of Kinetics are also found. If
    none of its names is a file of the source, or if it is no list, it is a source of other files.

    Raises:
        FileNotFoundError, ValueError: if it cannot be read, or if it leaves nothing for training.
    """
    assert config.heldout is not None
    path = as_path(config.heldout)
    heldout: set[str] = set()
    if kind_of(config.heldout) == "list":
        entries = read_list(path, column=config.column, label_column=config.label_column)
        heldout = named_files(found, entries)
        if heldout:
            log_unknown(config.heldout, entries, found)
        elif not any(may_exist(entry, path, config) for entry in entries):
            raise ValueError(
                f"no line of {printable(config.heldout)} names a file of the data, and none of its files exist; names "
                "are paths below the source, for example label/clip.mp4"
            )
    if not heldout:
        others = prefixed(
            find_files(config.heldout, config), f"{path.stem if path.suffix in LIST_ENDINGS else path.name}:"
        )
        used: dict[str, list[Section]] = {}
        for file in found.all():
            used.setdefault(file.digest, []).append(file.section or Section())
        found = FoundFiles(
            found.videos.joined(others.videos),
            found.pictures.joined(others.pictures),
            found.skipped + others.skipped,
        )
        heldout = {file.name for file in others.all()}
        same = [file.name for file in others.all() if overlaps(file.section or Section(), used.get(file.digest, []))]
        if same:
            raise ValueError(
                f"{len(same)} files of the held-out source {printable(config.heldout)} are also training files, for "
                f"example {printable(', '.join(same[:NAMED]))}"
            )
    files = found.all()
    if all(file.name in heldout for file in files):
        raise ValueError(f"{printable(config.heldout)} holds out all files, so none are left for training")
    known = {file.label for file in files if file.name not in heldout}
    if unknown := {file.label for file in files} - known:
        logger.warning("these labels have held-out files only: %s", printable(", ".join(sorted(unknown)), 1000))
    return Split(found, frozenset(heldout))


def overlaps(section: Section, others: Sequence[Section]) -> bool:
    """Return whether a section has a time in common with one of the others."""
    ends = [(other.start, math.inf if other.end is None else other.end) for other in others]
    end = math.inf if section.end is None else section.end
    return any(start < end and section.start < stop for start, stop in ends)


def named_files(found: FoundFiles, entries: Sequence[Entry]) -> set[str]:
    """Return the names of the files of a source that a list names."""
    keys = {key for entry in entries for key in keys_of_entry(entry)}
    return {file.name for file in found.all() if keys & keys_of_file(file)}


def may_exist(entry: Entry, source: Path, config: DataConfig) -> bool:
    """Return whether the file of a line may exist by itself."""
    root = source.parent if config.root is None else as_path(config.root)
    return entry.is_kinetics or (root / entry.path).exists()


def keys_of_file(file: VideoFile) -> set[str]:
    """Return the names under which a list may name a file."""
    plain = file.name.removesuffix(f"@{file.section}") if file.section else file.name
    return {file.name, plain, str(PurePosixPath(plain).with_suffix("")), f"id {PurePosixPath(plain).stem}"}


def keys_of_entry(entry: Entry) -> set[str]:
    """Return the keys of a line of a list. The ids of Kinetics have no folders, but possibly times."""
    if not entry.is_kinetics:
        path = PurePosixPath(entry.path).as_posix()  # without `./`
        return {path if entry.section is None else f"{path}@{entry.section}"}
    keys = {f"id {entry.path}"}
    if entry.section is not None and entry.section.end is not None:
        keys.add(f"id {entry.path}_{round(entry.section.start):06d}_{round(entry.section.end):06d}")
    return keys


def log_unknown(source: str, entries: Sequence[Entry], found: FoundFiles) -> None:
    """Log how many lines of a list name no file."""
    known = {key for file in found.all() for key in keys_of_file(file)}
    unknown = [entry.path for entry in entries if not keys_of_entry(entry) & known]
    if unknown:
        logger.warning(
            "%d of %d files in %s are not in the data, for example %s",
            *(len(unknown), len(entries), printable(source), printable(", ".join(unknown[:NAMED]))),
        )


def prefixed(found: FoundFiles, prefix: str) -> FoundFiles:
    """Return files whose names begin with a prefix, so that they differ from the names of another source."""
    skipped = [Skipped(prefix + one.name, *one[1:]) for one in found.skipped]
    return FoundFiles(found.videos.renamed(prefix), found.pictures.renamed(prefix), skipped)
