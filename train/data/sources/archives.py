"""Tar files of videos with their labels beside them, as in WebDataset. They are never unpacked."""

import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ....labels import normalized
from ....messages import printable
from .file_lists import first_folder
from .files import FoundFiles, InArchive, Skipped, utf8

ARCHIVE_ENDING = ".tar"
LABEL_ENDINGS = (".json", ".cls", ".txt")
"""Files with the label of a video of the same name, the first of these counts."""
MAX_LABEL_BYTES = 2**20
MAX_LABEL = 100  # characters; longer texts are captions
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class Member(NamedTuple):
    """A file in an archive."""

    archive: Path
    name: str
    offset: int
    size: int

    @property
    def key(self) -> tuple[Path, str]:
        """What a video and its label have in common: the path up to the first dot of the file's name."""
        path = PurePosixPath(self.name)
        return self.archive, str(path.parent / path.name.split(".")[0])


def archives_of(source: str) -> list[Path]:
    """Return the archives of `clips-{000..127}.tar`, or the single one of a path without such a range.

    Raises:
        FileNotFoundError: if one of them does not exist.
    """
    match = RANGE.search(source)
    numbers = range(int(match[1]), int(match[2]) + 1) if match else [0]
    names = [RANGE.sub(str(number).zfill(len(match[1])), source, 1) if match else source for number in numbers]
    archives = [Path(name) for name in names]
    for archive in archives:
        if not archive.is_file():
            raise FileNotFoundError(f"there is no archive {printable(archive)}")
    if not archives:
        raise FileNotFoundError(f"the range in {printable(source)} is empty")
    return archives


def find_in_archives(archives: Sequence[Path], *, label_column: str) -> FoundFiles:
    """Find the videos and images of tar files, in order.

    The label of `a/b.mp4` is in `a/b.json` (an object, in which the label has the key `label_column`), `a/b.cls` or
    `a/b.txt`; otherwise it is the first folder of the name, or else the name of the folder with the archives.

    Raises:
        ValueError: if a file is not a tar file, or if it is compressed.
        FileNotFoundError: if there are neither videos nor images.
    """
    found = FoundFiles()
    members = [member for archive in archives for member in members_of(archive, found.skipped)]
    labels = read_labels(members, label_column)
    files = [member for member in members if PurePosixPath(member.name).suffix.lower() not in LABEL_ENDINGS]
    how_often = Counter(member.name for member in files)
    for member in files:
        name = utf8(member.name if how_often[member.name] == 1 else f"{member.archive.name}/{member.name}")
        label = labels.get(member.key) or first_folder(utf8(member.name)) or member.archive.resolve().parent.name
        found.add(name, normalized(label), InArchive(*member))
    if not found.videos and not found.pictures:
        raise FileNotFoundError(f"no videos or images in {printable(' '.join(map(str, archives)))}")
    return found.in_order()


def members_of(archive: Path, skipped: list[Skipped]) -> list[Member]:
    """Return the visible files in an archive; of a damaged one, those before the damage, and add it to `skipped`.

    Raises:
        ValueError: if it is not an uncompressed tar file.
    """
    members: list[Member] = []
    size = archive.stat().st_size
    damage: str | None = None
    by_name: dict[str, Member] = {}
    try:
        with tarfile.open(archive, "r:") as content:
            for entry in content:
                path = PurePosixPath(entry.name)  # without `./` at the beginning
                name = path.relative_to(path.anchor).as_posix()
                end = entry.offset_data + entry.size
                if any(part.startswith(".") for part in path.parts) or entry.isdir():
                    continue
                if entry.isreg() and not entry.issparse():
                    members.append(Member(archive, name, entry.offset_data, min(size, end) - entry.offset_data))
                    by_name[entry.name] = members[-1]
                elif entry.islnk() and entry.linkname in by_name:  # the same file under another name
                    members.append(by_name[entry.linkname]._replace(name=name))
                else:
                    skipped.append(Skipped(name, "links", "only files of an archive are read, no links"))
                damage = f"it ends within {entry.name}" if end > size else None
            end_of_members = content.offset
        with archive.open("rb") as file:  # tarfile takes a damaged header for the end
            file.seek(end_of_members)
            if damage is None and any(file.read(tarfile.BLOCKSIZE)):
                damage = f"the header at byte {end_of_members} is damaged"
    except (tarfile.TarError, EOFError) as error:
        damage = damage or str(error)
        if not members:
            raise ValueError(f"{printable(archive)} must be an uncompressed tar file: {error}") from error
    if damage is not None:
        skipped.append(Skipped(archive.name, "damaged archive", f"not all of it can be read: {damage}"))
    return members


def read_labels(members: Sequence[Member], label_column: str) -> Mapping[tuple[Path, str], str]:
    """Return the labels in the files beside videos."""
    labels: dict[tuple[Path, str], str] = {}
    for ending in reversed(LABEL_ENDINGS):  # so that the first one counts
        for member in members:
            if PurePosixPath(member.name).suffix.lower() == ending and member.size <= MAX_LABEL_BYTES:
                with member.archive.open("rb") as file:
                    text = os.pread(file.fileno(), member.size, member.offset).decode("utf-8", "backslashreplace")
                label = label_in_json(text, label_column) if ending == ".json" else text.strip()
                if label and len(label) <= MAX_LABEL:
                    labels[member.key] = label
    return labels


def label_in_json(text: str, label_column: str) -> str | None:
    try:
        label = json.loads(text)[label_column]
    except (ValueError, TypeError, LookupError):
        return None
    return str(label).strip() if isinstance(label, str | int) else None
