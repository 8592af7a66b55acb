"""Decoded files of a data set in flat arrays, and access to their frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int, UInt8

from ....messages import printable
from ....pipelines.media.frame_reader import DecodingError
from ..sources.files import FileTable, VideoFile
from ..windows import Ranges, shots
from .checked_table import DamagedFileError
from .decoded_frames import DecodedFrames
from .shards import Shard


class DamagedCacheError(OSError):
    """Stored frames are not what was written."""


class Source(NamedTuple):
    """A file that is decoded at each use."""

    file: VideoFile
    resolution: int
    fps: float | None

    def frames(self, first_frame: int, num_frames: int, stride: int) -> UInt8[np.ndarray, "T h w 3"]:
        """Return frames of the file. It is read in order from the start, since seeking is wrong in some files."""
        wanted = range(first_frame, first_frame + num_frames * stride, stride)
        chosen = []
        try:
            is_same = self.file.content.ends()[0] == self.file.num_bytes
            with self.file.content.as_file() as path:
                decoded = DecodedFrames(path, self.resolution, section=self.file.section, fps=self.fps)
                for number, frame in enumerate(decoded if is_same else ()):
                    if number in wanted:
                        chosen.append(frame)
                    if len(chosen) == num_frames:
                        return np.stack(chosen)
        except (OSError, DecodingError) as error:
            raise DamagedCacheError(f"{printable(self.file.content)} cannot be read any more: {error}") from error
        raise DamagedCacheError(f"{printable(self.file.content)} has changed since the data was loaded")


@dataclass(frozen=True, slots=True)
class StoredVideo:
    """A file whose frames are stored, and its row in the shard."""

    name: str
    shard: Shard
    row: int
    num_frames: int
    height: int
    width: int
    source: Source | None = None
    """The file itself, if its frames are decoded at each use."""

    @property
    def values_per_frame(self) -> int:
        return self.height * self.width * 3

    @property
    def moments(self) -> Int[np.ndarray, "T 2"]:
        """Sum and sum of squares of the values of each frame."""
        return self.shard.moments(self.row)

    def frames(self, first_frame: int, num_frames: int, stride: int) -> UInt8[np.ndarray, "T h w 3"]:
        """Return frames of the file.

        Raises:
            DamagedCacheError: if they are not what was stored. The shard is deleted, so that it is decoded again.
        """
        if self.source is not None:
            return self.source.frames(first_frame, num_frames, stride)
        chosen = slice(first_frame, first_frame + (num_frames - 1) * stride + 1, stride)
        try:
            return self.shard.frames(self.row, chosen, (self.num_frames, self.height, self.width))
        except (DamagedFileError, OSError) as error:
            self.shard.remove()
            raise DamagedCacheError(f"{error}; it was deleted, start again to decode its files again") from error


@dataclass(frozen=True)
class StoredVideos(Sequence[StoredVideo]):
    """The decoded files of a data set. A `StoredVideo` is made on access.

    Attributes:
        files: the files themselves; none if only their frames are read.
        names: of the files.
        shards: all shards in which some of the files are.
        shard, row: place of each file in the shards.
        num_frames, height, width: of each file. They do not come from its header, whose frame count may be wrong.
        seconds: from the first frame to the last one, without pauses.
        cuts: first frames of all shots except the first one of each file, one file after another.
        num_cuts: of each file.
        decoding: resolution and frame rate, if frames are decoded at each use; None if they are stored.
    """

    files: FileTable
    names: pa.ChunkedArray
    shards: Sequence[Shard]
    shard: Int[np.ndarray, " files"]
    row: Int[np.ndarray, " files"]
    num_frames: Int[np.ndarray, " files"]
    height: Int[np.ndarray, " files"]
    width: Int[np.ndarray, " files"]
    seconds: Float[np.ndarray, " files"]
    cuts: Int[np.ndarray, " cuts"]
    num_cuts: Int[np.ndarray, " files"]
    decoding: tuple[int, float | None] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> StoredVideo:  # type: ignore[override]
        return StoredVideo(
            name=self.name(index),
            shard=self.shards[self.shard[index]],
            row=int(self.row[index]),
            num_frames=int(self.num_frames[index]),
            height=int(self.height[index]),
            width=int(self.width[index]),
            source=None if self.decoding is None else Source(self.files[index], *self.decoding),
        )

    def __iter__(self) -> Iterator[StoredVideo]:
        return (self[index] for index in range(len(self)))

    def name(self, index: int) -> str:
        return self.names[index].as_py()

    @cached_property
    def shots(self) -> Ranges:
        """The shots of all files."""
        return shots(self.num_frames, self.cuts, self.num_cuts)

    def for_reading(self) -> "StoredVideos":
        """Return these files without what is not needed for reading their frames."""
        return self if self.decoding is not None else replace(self, files=FileTable())

    def select(self, chosen: Bool[np.ndarray, " files"]) -> "StoredVideos":
        """Return some of the files. Their numbers change."""
        rows = np.flatnonzero(chosen)
        per_file = ("shard", "row", "num_frames", "height", "width", "seconds", "num_cuts")
        return replace(
            self,
            files=self.files.take(rows),
            names=self.names.take(pa.array(rows)),
            cuts=self.cuts[np.repeat(chosen, self.num_cuts)],
            **{name: getattr(self, name)[rows] for name in per_file},
        )
