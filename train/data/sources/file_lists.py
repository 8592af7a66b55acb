"""Lists of files: CSV and JSON Lines with labels and sections, lines of text as of UCF-101, CSVs of Kinetics."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ....labels import normalized
from ....messages import printable
from ....pipelines.media.decoding import PICTURE_ENDINGS
from .files import VIDEO_ENDINGS, FoundFiles, OnDisk, Section, Skipped, utf8
from .folder import visible_files

LIST_ENDINGS = (".csv", ".tsv", ".jsonl", ".txt")
KINETICS_ID = "youtube_id"
"""Column of Kinetics' CSVs. They also have `label`, `time_start` and `time_end`."""


class Entry(NamedTuple):
    """One line of a list."""

    path: str
    """As written; in a CSV of Kinetics the name of the file without folder and extension, as most downloaders name it,
    and without times if there is no such file."""
    label: str | None = None
    section: Section | None = None
    is_kinetics: bool = False


def find_in_list(source: Path, *, root: Path | None, column: str | None, label_column: str) -> FoundFiles:
    """Find the files of a list. The label is the one in the list, or else the first folder of the path.

    Args:
        root: folder that the paths are relative to; None: the folder of the list.
        column: column of the paths; None: `path`.

    Raises:
        ValueError: if the list has another form.
        FileNotFoundError: if none of the files exist.
    """
    entries = read_list(source, column=column, label_column=label_column)
    root = source.parent if root is None else root
    by_stem = videos_by_stem(root) if any(one.is_kinetics for one in entries) else {}
    found, seen = FoundFiles(), set[tuple[str, Section | None]]()
    for entry in entries:
        path, section = kinetics_file(entry, by_stem) if entry.is_kinetics else (root / entry.path, entry.section)
        name = entry.path if path is None else name_in_list(path, root)
        label = entry.label or normalized(first_folder(name) or source.stem)
        if (name, section) in seen:
            found.skipped.append(Skipped(name, "listed twice", f"{source.name} lists it more than once", label))
        elif path is None or not path.exists():
            found.skipped.append(Skipped(name, "missing", f"there is no such file in {utf8(str(root))}", label))
        else:
            found.add(name, label, OnDisk(str(path)), section)
        seen.add((name, section))
    if not found.videos and not found.pictures:
        example = f", for example {printable(root / entries[0].path)}" if entries else ""
        raise FileNotFoundError(
            f"none of the {len(entries)} files in {printable(source)} can be used{example}; paths are relative to the "
            "folder of the list, or to --data.root"
        )
    return found.in_order()


def videos_by_stem(root: Path) -> dict[str, Path]:
    """Return the first video of each name without folder and extension."""
    videos = sorted(path for path in visible_files(root) if path.suffix.lower() in VIDEO_ENDINGS)
    return {path.stem: path for path in reversed(videos)}


def name_in_list(path: Path, root: Path) -> str:
    return utf8((path.relative_to(root) if path.is_relative_to(root) else path).as_posix())


def first_folder(name: str) -> str | None:
    folders = [part for part in PurePosixPath(name).parts[:-1] if part not in ("/", ".", "..")]
    return folders[0] if folders else None


def kinetics_file(entry: Entry, by_stem: Mapping[str, Path]) -> tuple[Path | None, Section | None]:
    """Return the file of an entry of Kinetics, and the section to use: files with times in their name are cut."""
    if entry.section is not None and entry.section.end is not None:
        cut = f"{entry.path}_{round(entry.section.start):06d}_{round(entry.section.end):06d}"
        if cut in by_stem:
            return by_stem[cut], None
    return by_stem.get(entry.path), entry.section


def read_list(source: Path, *, column: str | None = None, label_column: str = "label") -> list[Entry]:
    """Read a list.

    - `.csv` and `.tsv`: a first line with the names of the columns, `path`, `label`, `start` and `end`; all but `path`
      may be missing. Without such a line, the columns are in this order. Kinetics' columns are also read.
    - `.jsonl`: one object with these keys per line.
    - `.txt`: a path per line, and possibly the number of its class, as in UCF-101's lists of its splits.

    Raises:
        ValueError: if the list has another form.
    """
    try:
        with source.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            match source.suffix.lower():
                case ".txt":
                    return text_entries([line.strip() for line in file])
                case ".jsonl":
                    rows = json_rows(file)
                case ending:
                    rows = csv_rows(csv.reader(file, delimiter="\t" if ending == ".tsv" else ","), column)
                    column = column or "path"
            listed = list(rows)
            if label_column != "label" and not any(label_column in row for _, row in listed):
                names = dict.fromkeys(name for _, row in listed for name in row)
                raise ValueError(f"there must be a column {label_column!r}, got {printable(', '.join(names))}")
            return [entry_of(row, column or "path", label_column, f"line {line}") for line, row in listed]
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{printable(source)} cannot be read as a list of files: {error}") from error


def csv_rows(lines: Iterator[list[str]], column: str | None) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the lines of a table by the names of its columns, with their numbers."""
    names: list[str] | None = None
    for number, cells in enumerate(lines, 1):
        if not any(cell.strip() for cell in cells):
            continue
        if names is None:
            names = [cell.strip() for cell in cells]
            if not {column or "path", KINETICS_ID} & {*names}:
                if column is not None or PurePosixPath(cells[0]).suffix.lower() not in (
                    *VIDEO_ENDINGS,
                    *PICTURE_ENDINGS,
                ):
                    listed = printable(", ".join(names))
                    raise ValueError(
                        f"there must be a column {column or 'path'!r}, got {listed}; choose one with --data.column"
                    )
                names = ["path", "label", "start", "end"]
            else:
                continue
        yield number, dict(zip(names, cells, strict=False))


def json_rows(lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a file of JSON Lines, with the numbers of their lines."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number} is not JSON ({error})") from error
            if not isinstance(row, dict):
                raise ValueError(f"line {number} must be an object, got {printable(line.strip())}")
            yield number, row


def entry_of(row: Mapping[str, Any], column: str, label_column: str, where: str) -> Entry:
    """Return the entry of a row.

    Raises:
        ValueError: if it has no path, or if start and end are no times.
    """
    is_kinetics = column not in row and KINETICS_ID in row
    path = row.get(KINETICS_ID if is_kinetics else column)
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise ValueError(f"{where} must have a {column!r}, the path of a file, got {printable(repr(path))}")
    label = row.get(label_column)
    names = ("time_start", "time_end") if is_kinetics else ("start", "end")
    section = section_of(row.get(names[0]), row.get(names[1]), where)
    written = None if label is None or not str(label).strip() else normalized(str(label).strip())
    return Entry(path.strip(), written, section, is_kinetics)


def section_of(start: Any, end: Any, where: str) -> Section | None:
    """Return the section between two times in seconds; None if there are none.

    Raises:
        ValueError: if they are no times, or if the end is not after the start.
    """
    given = [None if time is None or not str(time).strip() else time for time in (start, end)]
    if given == [None, None]:
        return None
    try:
        first, last = float(given[0] or 0), math.inf if given[1] is None else float(given[1])
    except (TypeError, ValueError):
        first = last = math.nan
    if not 0 <= first < last or first == math.inf:
        raise ValueError(
            f"{where}: start and end must be times in seconds, the end after the start, got {printable(repr(start))} "
            f"and {printable(repr(end))}"
        )
    return Section(first, None if last == math.inf else last)


def text_entries(lines: Sequence[str]) -> list[Entry]:
    """Return the entries of lines like `Archery/v_Archery_g01_c01.avi 3`, of which the number may be missing.

    The numbers are labels, unless they only number the first folders of the paths.
    """
    entries = []
    for line in filter(None, lines):
        path, _, number = line.rpartition(" ")
        entries.append(Entry(path.strip(), number) if path and number.isdecimal() else Entry(line))
    pairs = {(first_folder(entry.path), entry.label) for entry in entries}
    folders, numbers = ({pair[place] for pair in pairs} for place in (0, 1))
    are_folders = len(pairs) == len(folders) == len(numbers) and None not in folders
    return [entry._replace(label=None) for entry in entries] if are_folders else entries
