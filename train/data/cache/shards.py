"""Shards: files that hold the frames of many videos.

A shard has two files. `NAME.frames` holds the frames one after another. `NAME.index` is an Arrow table with a row for
each file of the data set, followed by its SHA-256; it is written last, so a shard without it is not complete.
"""

import hashlib
import io
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Int, UInt8
from PIL import Image

from ....pipelines.media.frame_reader import DecodingError
from ..sources.files import VideoFile, utf8
from .checked_table import DamagedFileError, check_table, open_table, unfinished, write_table
from .decoded_frames import DecodedFrames, Frame

CacheKind = Literal["raw", "compressed", "none"]

JPEG_QUALITY = 90  # without chroma subsampling: 40 dB and an eighth of the bytes on the shipped clips
FRAMES_ENDING = ".frames"
INDEX_ENDING = ".index"

SCHEMA = pa.schema(
    [
        ("identity", pa.string()),
        ("problem", pa.string()),
        ("num_frames", pa.int64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("cuts", pa.list_(pa.int64())),
        ("damage", pa.string()),
        ("seconds", pa.float64()),
        ("offsets", pa.list_(pa.int64())),
        ("sums", pa.list_(pa.int64())),
        ("squares", pa.list_(pa.int64())),
    ]
)
"""`problem` says why a file has no frames. `offsets` are the first bytes of the frames and the end of the last one, for
raw frames only the first byte of the first one. `sums` and `squares` are sums over the values of each frame."""


@dataclass(frozen=True)
class Shard:
    """The path of a shard without extension, and how its frames are stored."""

    path: Path
    kind: CacheKind

    @property
    def index_path(self) -> Path:
        return self.path.with_name(self.path.name + INDEX_ENDING)

    @property
    def frames_path(self) -> Path:
        return self.path.with_name(self.path.name + FRAMES_ENDING)

    def table(self) -> pa.Table:
        """Return the table of the files, memory-mapped.

        Raises:
            DamagedFileError: if it is not what was written.
        """
        return open_index(self.index_path)

    def frames(self, row: int, chosen: slice, size: tuple[int, int, int]) -> UInt8[np.ndarray, "T h w 3"]:
        """Return frames of a file.

        Args:
            chosen: the frames.
            size: number of all frames of the file, their height and width.

        Raises:
            DamagedFileError: if the frames are not what was written.
        """
        offsets = self.table().column("offsets")[row].values.to_numpy()
        content = open_frames_file(self.frames_path)
        if self.kind == "raw":
            stored = content[offsets[0] : offsets[0] + 3 * math.prod(size)]
            frames = np.array(stored.reshape(*size, 3)[chosen])
        else:
            ends = zip(offsets[:-1][chosen], offsets[1:][chosen], strict=True)
            frames = np.stack([from_jpeg(content[start:stop]) for start, stop in ends])
        if not np.array_equal(frames.sum(axis=(1, 2, 3), dtype=np.int64), self.moments(row)[chosen, 0]):
            raise DamagedFileError(f"{self.frames_path} is damaged")
        return frames

    def moments(self, row: int) -> Int[np.ndarray, "T 2"]:
        """Return sum and sum of squares of the values of each frame of a file."""
        table = self.table()
        return np.stack([table.column(name)[row].values.to_numpy() for name in ("sums", "squares")], axis=1)

    def check(self, *, with_frames: bool) -> None:
        """Check the table, the size of the frames and, if asked, their digest.

        Raises:
            DamagedFileError: if the shard is not what was written.
        """
        open_index.cache_clear()
        facts = self.table().schema.metadata
        if self.kind == "none":
            return
        try:
            size = self.frames_path.stat().st_size
        except OSError as error:
            raise DamagedFileError(f"{self.frames_path} cannot be read: {error}") from error
        if size != int(facts[b"num_bytes"]):
            raise DamagedFileError(f"{self.frames_path} has {size} bytes instead of {int(facts[b'num_bytes'])}")
        if with_frames and file_digest(self.frames_path) != facts[b"digest"].decode():
            raise DamagedFileError(f"{self.frames_path} is damaged")

    def remove(self) -> None:
        """Delete the shard, the index first."""
        self.index_path.unlink(missing_ok=True)
        self.frames_path.unlink(missing_ok=True)
        open_index.cache_clear()
        open_frames_file.cache_clear()


@lru_cache(maxsize=16)  # the pages that were read count as memory of the process
def open_index(path: Path) -> pa.Table:
    """Return the table in a file, after a check: damaged tables can end the process.

    Raises:
        DamagedFileError: if it is not what was written.
    """
    check_table(path)
    return open_table(path)


@lru_cache(maxsize=128)  # each open map holds a file descriptor
def open_frames_file(path: Path) -> UInt8[np.ndarray, " bytes"]:
    return np.memmap(path, np.uint8, mode="r")


def to_jpeg(frame: Frame) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def from_jpeg(content: UInt8[np.ndarray, " bytes"]) -> Frame:
    """
    Raises:
        DamagedFileError: if it cannot be decoded.
    """
    try:
        return np.asarray(Image.open(io.BytesIO(content.tobytes())))
    except (OSError, SyntaxError, ValueError) as error:
        raise DamagedFileError(f"a frame cannot be decoded: {error}") from error


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_shard(shard: Shard, files: Sequence[VideoFile], resolution: int, fps: float | None) -> Iterator[int]:
    """Decode files into a shard, which appears when it is complete. Yield the number of frames of each file, 0 for one
    that cannot be decoded.

    Raises:
        OSError: if the shard cannot be written.
    """
    rows = []
    with unfinished(shard.frames_path) as frames_path:
        with frames_path.open("wb") as file:
            writer = FrameWriter(file, shard.kind)
            for video in files:
                rows.append(writer.write(video, resolution, fps))
                yield rows[-1]["num_frames"]
            file.flush()
            os.fsync(file.fileno())
        facts = {"num_bytes": str(writer.num_bytes), "digest": writer.digest.hexdigest()}
        if shard.kind == "none":
            frames_path.unlink()
        else:
            frames_path.replace(shard.frames_path)
        write_table(shard.index_path, pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata(facts)))


class FrameWriter:
    """Writes the frames of files one after another."""

    def __init__(self, file: io.BufferedWriter, kind: CacheKind) -> None:
        self.file = file
        self.kind: CacheKind = kind
        self.num_bytes = 0
        self.digest = hashlib.sha256()

    def write(self, video: VideoFile, resolution: int, fps: float | None) -> dict[str, Any]:
        """Write the frames of a file, and return its row. If nothing can be decoded, nothing is written."""
        start, digest = self.num_bytes, self.digest.copy()
        offsets, sums, squares = [start], [], []
        try:
            with video.content.as_file() as path:
                frames = DecodedFrames(path, resolution, section=video.section, fps=fps)
                for frame in frames:
                    content, frame = self.stored(frame)
                    self.file.write(content)
                    self.digest.update(content)
                    self.num_bytes += len(content)
                    offsets.append(self.num_bytes)
                    values = frame.astype(np.int64)
                    sums.append(int(values.sum()))
                    squares.append(int(np.square(values).sum()))
                decoded = frames.decoded()
        except DecodingError as error:
            self.file.seek(start)
            self.file.truncate()
            self.num_bytes, self.digest = start, digest
            return {"identity": video.identity, "problem": utf8(str(error)), "num_frames": 0}
        return {
            "identity": video.identity,
            "num_frames": decoded.num_frames,
            "height": decoded.height,
            "width": decoded.width,
            "cuts": list(decoded.cuts),
            "damage": None if decoded.damage is None else utf8(decoded.damage),
            "seconds": decoded.seconds,
            "offsets": offsets if self.kind == "compressed" else offsets[:1],
            "sums": sums,
            "squares": squares,
        }

    def stored(self, frame: Frame) -> tuple[bytes | memoryview, Frame]:
        """Return the bytes of a frame, and the frame as it will be read."""
        match self.kind:
            case "raw":
                return np.ascontiguousarray(frame).data.cast("B"), frame
            case "compressed":
                content = to_jpeg(frame)
                return content, from_jpeg(np.frombuffer(content, np.uint8))
            case "none":
                return b"", frame
