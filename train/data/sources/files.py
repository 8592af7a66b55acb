"""Files of a data set, and where their bytes are: on disk, in a tar file, or in a table of the datasets library."""

import hashlib
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol, runtime_checkable

import datasets

from ....messages import printable
from ....pipelines.media.decoding import PICTURE_ENDINGS, is_still_image
from ....pipelines.media.frame_reader import DecodingError

VIDEO_ENDINGS = (
    *(".mp4", ".m4v", ".mov", ".qt", ".f4v", ".3gp", ".3g2", ".mj2", ".mkv", ".webm", ".avi", ".divx"),
    *(".wmv", ".asf", ".flv", ".rm", ".rmvb", ".ogv", ".ogg", ".ogm", ".mxf", ".nut", ".dv", ".amv"),
    *(".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".m2t", ".mod", ".tod"),
    *(".h264", ".264", ".h265", ".265", ".hevc", ".ivf", ".obu", ".y4m", ".mjpg", ".mjpeg"),
    *(".gif", ".apng", ".avifs", ".heic", ".heif"),
)
END_BYTES = 2**16
"""The first and last bytes of a file that its identity depends on, besides its size."""
OTHER_KIND = "neither a video nor an image"
MOST_REASONS = 12


@runtime_checkable
class Content(Protocol):
    """The bytes of a file. Its text is its place, for messages."""

    def as_file(self) -> AbstractContextManager[Path]:
        """Return the path of a file with these bytes. It may be temporary.

        Raises:
            DecodingError: if the bytes cannot be read.
        """
        ...

    def ends(self) -> tuple[int, bytes, bytes]:
        """Return the number of bytes, and the first and last `END_BYTES` of them.

        Raises:
            OSError: if they cannot be read.
        """
        ...


@dataclass(frozen=True)
class OnDisk:
    """A file on disk."""

    path: Path

    @contextmanager
    def as_file(self) -> Iterator[Path]:
        if self.path.exists() and not self.path.is_file():  # opening a pipe would wait for ever
            raise DecodingError("it is not a regular file")
        yield self.path

    def ends(self) -> tuple[int, bytes, bytes]:
        if not stat.S_ISREG(self.path.stat().st_mode):
            raise OSError("not a regular file")
        with self.path.open("rb") as file:
            return ends_of_part(file.fileno(), 0, os.fstat(file.fileno()).st_size)

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class InArchive:
    """Consecutive bytes of an archive."""

    archive: Path
    name: str
    offset: int
    size: int

    @contextmanager
    def as_file(self) -> Iterator[Path]:
        try:
            with self.archive.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise DecodingError(f"{printable(self.archive)} cannot be read: {error}") from error
        with temporary_file(content, self.name) as path:
            yield path

    def ends(self) -> tuple[int, bytes, bytes]:
        with self.archive.open("rb") as file:
            return ends_of_part(file.fileno(), self.offset, self.size)

    def __str__(self) -> str:
        return f"{self.archive}: {self.name}"


@dataclass(frozen=True)
class InTable:
    """The bytes in one cell of a table of the datasets library."""

    table: datasets.Dataset
    """With one column: bytes, or structs with a field `bytes`."""
    row: int
    name: str

    def content(self) -> memoryview:
        """Return the bytes without a copy."""
        rows: Any = self.table.with_format("arrow")[self.row : self.row + 1]  # a pyarrow.Table
        cell = rows.column(0)[0]
        return memoryview((cell["bytes"] if hasattr(cell, "keys") else cell).as_buffer())

    @contextmanager
    def as_file(self) -> Iterator[Path]:
        with temporary_file(self.content(), self.name) as path:
            yield path

    def ends(self) -> tuple[int, bytes, bytes]:
        content = self.content()
        return len(content), bytes(content[:END_BYTES]), bytes(content[-END_BYTES:])

    def __str__(self) -> str:
        return f"row {self.row} ({self.name})"


class Section(NamedTuple):
    """Part of a video, in seconds from its first frame."""

    start: float = 0.0
    end: float | None = None
    """None: to the end of the video."""

    def __str__(self) -> str:
        return f"{decimal(self.start)}-{'' if self.end is None else decimal(self.end)}"


def decimal(seconds: float) -> str:
    """Return seconds up to microseconds, without zeros at the end."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


@dataclass(frozen=True)
class VideoFile:
    """A video or image of a data set."""

    content: Content
    name: str
    """Path below the data set's folder, as in tables. It does not depend on where the data set is."""
    label: str
    digest: str
    """Differs if the content may have changed. Empty if the file cannot be read."""
    num_bytes: int = 0
    section: Section | None = None
    """Part of the video to use; None for all of it. It is also in the name."""

    @property
    def identity(self) -> str:
        """What the stored frames of the file depend on."""
        return f"{self.name} {self.digest}"

    @property
    def is_readable(self) -> bool:
        """Whether the bytes of the file can be read."""
        return bool(self.digest)


class Skipped(NamedTuple):
    """A file that is not used."""

    name: str
    kind: str
    """The reason in few words, under which such files are counted."""
    reason: str
    label: str | None = None


class FoundFiles(NamedTuple):
    """The files of a source, in the order of their names."""

    videos: list[VideoFile]
    pictures: list[VideoFile]
    skipped: list[Skipped]

    def add(self, name: str, label: str, content: Content, section: Section | None = None) -> None:
        """Add a file to the videos, the pictures or, by its extension, to those that are not used.

        Animated images are videos.
        """
        ending = PurePosixPath(name).suffix.lower()
        if ending not in VIDEO_ENDINGS and ending not in PICTURE_ENDINGS:
            self.skipped.append(Skipped(name, kind_of_ending(name), OTHER_KIND, label))
            return
        try:
            size, head, tail = content.ends()
            digest = f"{size} {hashlib.sha256(head + tail).hexdigest()[:32]}"
        except OSError:  # for example a link to a missing file; decoding reports it
            size, head, digest = 0, b"", ""
        written = name if section is None else f"{name}@{section}"
        file = VideoFile(content, written, label, digest, size, section)
        (self.pictures if is_still_image(ending, head) else self.videos).append(file)

    def in_order(self) -> "FoundFiles":
        """Return the files in the order of their names, which is the same in every form of a data set."""
        videos, pictures = (sorted(files, key=lambda file: file.name) for files in (self.videos, self.pictures))
        return FoundFiles(videos, pictures, self.skipped)


def ends_of_part(descriptor: int, offset: int, size: int) -> tuple[int, bytes, bytes]:
    """Return the size, and the first and last bytes of a part of an open file."""
    num_bytes = min(size, END_BYTES)
    return size, os.pread(descriptor, num_bytes, offset), os.pread(descriptor, num_bytes, offset + size - num_bytes)


@contextmanager
def temporary_file(content: bytes | memoryview, name: str) -> Iterator[Path]:
    """Yield a temporary file with the extension of `name`."""
    with tempfile.TemporaryDirectory(prefix="magvit2-") as folder:
        path = Path(folder, f"video{PurePosixPath(name).suffix}")
        path.write_bytes(content)
        yield path


def utf8(name: str) -> str:
    """Escape bytes that are not UTF-8, since a table cannot hold them."""
    return name.encode("utf-8", "backslashreplace").decode()


def kind_of_ending(name: str) -> str:
    """Return the extension of a file for counting."""
    return printable(PurePosixPath(name).suffix.lower()) or "without an extension"


def counted(reasons: Mapping[str, int] | Iterable[str]) -> str:
    """Return the most frequent reasons with their counts: `8 .txt, 3 .json, 1 unreadable`."""
    ranked = Counter(reasons).most_common()
    rest = sum(count for _, count in ranked[MOST_REASONS:])
    parts = [f"{count} {reason}" for reason, count in ranked[:MOST_REASONS]] + [f"{rest} more"] * bool(rest)
    return ", ".join(parts) or "no files"
