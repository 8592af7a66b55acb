"""Files of a data set, and where their bytes are: on disk, in a tar file, or in a table of the datasets library."""

import hashlib
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol, overload, runtime_checkable

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

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
FILES_PER_CHUNK = 2**14
FILE_SCHEMA = pa.schema(
    [
        ("name", pa.large_string()),
        ("label", pa.large_string()),
        ("digest", pa.large_string()),
        ("num_bytes", pa.int64()),
        ("start", pa.float64()),
        ("end", pa.float64()),
    ]
)


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


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A file on disk."""

    name: str
    """Its path. A `Path` takes several times the memory."""

    @property
    def path(self) -> Path:
        return Path(self.name)

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
        return self.name


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


class FileTable(Sequence[VideoFile]):
    """Files in flat columns, so that a million of them take little memory. A `VideoFile` is made on access."""

    COLUMNS = ("name", "label", "digest", "num_bytes", "start", "end")

    def __init__(self, files: Iterable[VideoFile] = ()) -> None:
        self.contents: list[Content] = []
        self.chunks: list[pa.Table] = []
        self.latest: dict[str, list[Any]] = {name: [] for name in self.COLUMNS}
        """The columns of the latest files, which are not in `chunks` yet."""
        for file in files:
            self.append(file)

    @classmethod
    def of(cls, contents: list[Content], columns: pa.Table) -> "FileTable":
        """Return the files with these contents and columns."""
        table = cls()
        table.contents, table.chunks = contents, [columns]
        return table

    def append(self, file: VideoFile) -> None:
        section = file.section or Section(-1.0)
        self.contents.append(file.content)
        row = (file.name, file.label, file.digest, file.num_bytes, section.start, section.end)
        for name, value in zip(self.COLUMNS, row, strict=True):
            self.latest[name].append(value)
        if len(self.latest["name"]) == FILES_PER_CHUNK:
            self.chunks.append(self._latest_chunk())

    def _latest_chunk(self) -> pa.Table:
        chunk = pa.table(self.latest, schema=FILE_SCHEMA)
        self.latest = {name: [] for name in self.COLUMNS}
        return chunk

    @property
    def columns(self) -> pa.Table:
        """Name, label, digest, number of bytes, and start and end of the section in seconds (-1: no section)."""
        if self.latest["name"] or len(self.chunks) != 1:
            self.chunks.append(self._latest_chunk())
            self.chunks = [pa.concat_tables(self.chunks).combine_chunks()]
        return self.chunks[0]

    @property
    def names(self) -> pa.ChunkedArray:
        return self.columns["name"]

    @property
    def labels(self) -> pa.ChunkedArray:
        return self.columns["label"]

    @property
    def identities(self) -> pa.ChunkedArray:
        """The identity of each file."""
        return joined_texts(self.names, self.columns["digest"], separator=" ")

    @property
    def is_readable(self) -> Bool[np.ndarray, " files"]:
        return pc.call_function("binary_length", [self.columns["digest"]]).to_numpy() > 0

    @property
    def num_bytes(self) -> Int[np.ndarray, " files"]:
        return self.columns["num_bytes"].to_numpy()

    def __len__(self) -> int:
        return len(self.columns)

    @overload
    def __getitem__(self, index: int) -> VideoFile: ...
    @overload
    def __getitem__(self, index: slice) -> "FileTable": ...
    def __getitem__(self, index: int | slice) -> "VideoFile | FileTable":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        place = range(len(self))[index]
        return next(self._files(place, 1))

    def __iter__(self) -> Iterator[VideoFile]:
        for first in range(0, len(self), FILES_PER_CHUNK):
            yield from self._files(first, FILES_PER_CHUNK)

    def _files(self, first: int, number: int) -> Iterator[VideoFile]:
        rows = self.columns.slice(first, number)
        contents = self.contents[first : first + number]
        for content, name, label, digest, num_bytes, start, end in zip(
            contents, *(column.to_pylist() for column in rows.columns), strict=True
        ):
            yield VideoFile(content, name, label, digest, num_bytes, Section(start, end) if start >= 0 else None)

    def take(self, rows: Int[np.ndarray, " rows"]) -> "FileTable":
        """Return the files of some rows."""
        return FileTable.of([self.contents[row] for row in rows.tolist()], self.columns.take(pa.array(rows)))

    def joined(self, others: "FileTable") -> "FileTable":
        columns = pa.concat_tables([self.columns, others.columns]).combine_chunks()
        return FileTable.of(self.contents + others.contents, columns)

    def in_order(self) -> "FileTable":
        """Return the files in the order of their names."""
        return self.take(pc.call_function("sort_indices", [self.names]).to_numpy().astype(np.int64))

    def renamed(self, prefix: str) -> "FileTable":
        """Return the files with a prefix before their names."""
        names = joined_texts(pa.scalar(prefix, pa.large_string()), self.names, separator="")
        return FileTable.of(self.contents, self.columns.set_column(0, "name", names))


def joined_texts(first: Any, second: Any, *, separator: str) -> Any:
    """Return two arrays of texts joined element by element."""
    parts = [first, second, pa.scalar(separator, pa.large_string())]
    return pc.call_function("binary_join_element_wise", parts)


class Skipped(NamedTuple):
    """A file that is not used."""

    name: str
    kind: str
    """The reason in few words, under which such files are counted."""
    reason: str
    label: str | None = None


@dataclass(frozen=True)
class FoundFiles:
    """The files of a source, in the order of their names."""

    videos: FileTable = field(default_factory=FileTable)
    pictures: FileTable = field(default_factory=FileTable)
    skipped: list[Skipped] = field(default_factory=list)

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
        return FoundFiles(self.videos.in_order(), self.pictures.in_order(), self.skipped)

    def all(self) -> FileTable:
        """Return the videos, then the pictures."""
        return self.videos.joined(self.pictures)


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
