"""Cache of decoded frames: each file is decoded once, into shards that later runs, other processes and nodes reuse.

Files are decoded in groups, one shard each. Every process that needs the files takes a group by a lock file, so nobody
decodes what another process has or is decoding. What belongs to a group depends on the list of files alone; after a
kill, only the unfinished groups are decoded again, into the same shards.
"""

import hashlib
import logging
import pickle
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from tqdm import tqdm

from ....messages import printable
from ....pipelines.media.frame_reader import DecodingError
from ...cores import available_cores, processes_here
from ..config import naming_the_cache
from ..sources.files import Skipped, VideoFile
from ..windows import Timeline
from .checked_table import DamagedFileError
from .decoded_frames import Decoded, DecodedFrames
from .shards import INDEX_ENDING, CacheKind, Shard, write_shard
from .shared_work import make_together

FORMAT_VERSION = 3  # increase it if the same file would be stored differently
CHECKED_BYTES = 2**31
"""Frames are checked at each start if they have no more bytes than this together, and always when they are used."""
SMALLEST_GROUP, LARGEST_GROUP = 2**18, 10 * 2**20  # bytes of the files of a group, on average
GROUPS = 64  # of files whose groups would be smaller or larger otherwise
WORTH_A_PROCESS = 2**25  # bytes of files for which another process starts
DECODING_PROCESS = "magvit2_pytorch.train.data.cache.decoding_process"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredVideo:
    """A file whose frames are stored, and its row in the shard."""

    shard: Shard
    row: int
    decoded: Decoded
    source: "Source | None" = None
    """The file itself, if its frames are decoded at each use."""

    @property
    def timeline(self) -> Timeline:
        return self.decoded.timeline

    @property
    def values_per_frame(self) -> int:
        return self.decoded.height * self.decoded.width * 3

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
        try:
            return self.shard.frames(self.row, first_frame, num_frames, stride, self.decoded)
        except (DamagedFileError, OSError) as error:
            self.shard.remove()
            raise DamagedCacheError(f"{error}; it was deleted, start again to decode its files again") from error


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


class StoredFiles(NamedTuple):
    """The decoded files by name, and those without a frame."""

    videos: dict[str, StoredVideo]
    skipped: list[Skipped]


class Job(NamedTuple):
    """A group of files to decode into one shard."""

    shard: Shard
    files: Sequence[VideoFile]
    resolution: int
    fps: float | None


def store_videos(
    files: Sequence[VideoFile],
    resolution: int,
    frames_dir: Path,
    *,
    fps: float | None = None,
    kind: CacheKind = "raw",
    progress: bool,
) -> StoredFiles:
    """Decode the files that are not in the cache yet.

    Args:
        fps: frames per second to store; None: all frames.
        kind: `raw` frames, `compressed` ones (JPEG), or `none`: only facts about the files.

    Raises:
        OSError: if the cache cannot be read, or if it cannot be written and there is something to store.
    """
    folder = frames_dir / folder_name(resolution, fps, kind)
    with naming_the_cache(frames_dir):
        found = find_stored(folder, kind)
        readable = [file for file in files if file.is_readable]
        jobs = [
            Job(Shard(folder / group_name(group), kind), group, resolution, fps)
            for group in missing_groups(readable, found)
        ]
        if jobs:
            decode_all(jobs, progress=progress)
            found = find_stored(folder, kind)

    videos, skipped = {}, []
    for file in files:
        if not file.is_readable:
            skipped.append(Skipped(file.name, "unreadable", reason_of(file), file.label))
            continue
        row = found.get(file.identity)
        if row is None:
            raise RuntimeError(
                f"frames of {printable(file.name)} were removed from {folder} while they were being used"
            )
        if row.problem is not None or row.decoded is None:
            skipped.append(Skipped(file.name, "unreadable", row.problem or "", file.label))
            continue
        if row.decoded.damage is not None:
            logger.warning("%s: %s", printable(file.content, 4096), printable(row.decoded.damage, 4096))
        source = Source(file, resolution, fps) if kind == "none" else None
        videos[file.name] = StoredVideo(row.shard, row.number, row.decoded, source)
    return StoredFiles(videos, skipped)


def folder_name(resolution: int, fps: float | None, kind: CacheKind) -> str:
    rate = "" if fps is None else f"-{fps:g}fps"
    return f"v{FORMAT_VERSION}-{resolution}px{rate}-{kind}"


class Row(NamedTuple):
    """A row of a shard."""

    shard: Shard
    number: int
    decoded: Decoded | None
    problem: str | None


def find_stored(folder: Path, kind: CacheKind) -> dict[str, Row]:
    """Return the rows of all complete shards in a folder, by identity. Damaged shards are deleted, and logged."""
    shards = [Shard(path.with_suffix(""), kind) for path in sorted(folder.glob(f"*{INDEX_ENDING}"))]
    num_bytes = sum(shard.frames_path.stat().st_size for shard in shards if shard.frames_path.is_file())
    rows: dict[str, Row] = {}
    for shard in shards:
        try:
            shard.check(with_frames=num_bytes <= CHECKED_BYTES)
            columns = shard.table().drop_columns(["offsets", "sums", "squares"]).to_pylist()
        except FileNotFoundError:  # another process has just deleted it
            continue
        except DamagedFileError as error:
            logger.warning("%s; its files are decoded again", printable(error, 4096))
            shard.remove()
            continue
        for number, row in enumerate(columns):
            identity, problem = row.pop("identity"), row.pop("problem")
            decoded = None if problem is not None else Decoded(**(row | {"cuts": tuple(row["cuts"])}))
            rows[identity] = Row(shard, number, decoded, problem)
    return rows


def missing_groups(files: Sequence[VideoFile], found: Iterable[str]) -> Iterator[list[VideoFile]]:
    """Yield the files to decode, in groups. A file in two places of the list is decoded once.

    Where a group ends depends on the files of the whole list, not on what is found.
    """
    known = set(found)
    scale = min(max(sum(file.num_bytes for file in files) / GROUPS, SMALLEST_GROUP), LARGEST_GROUP)
    group: list[VideoFile] = []
    for file in files:
        if file.identity not in known:
            known.add(file.identity)
            group.append(file)
        ends = int(hashlib.sha256(file.identity.encode()).hexdigest()[:8], 16) / 2**32 < file.num_bytes / scale
        if ends and group:
            yield group
            group = []
    if group:
        yield group


def group_name(files: Sequence[VideoFile]) -> str:
    return hashlib.sha256("\n".join(file.identity for file in files).encode()).hexdigest()[:32]


def reason_of(file: VideoFile) -> str:
    """Return why a file cannot be read."""
    try:
        file.content.ends()
    except OSError as error:
        return error.strerror or str(error)
    return "it could not be read before"


def decode_all(jobs: Sequence[Job], *, progress: bool) -> None:
    """Decode groups of files, together with other processes that need the same ones.

    Returns when all are decoded, by whomever.
    """
    num_bytes = sum(file.num_bytes for job in jobs for file in job.files)
    num_cores = max(1, available_cores() // processes_here())
    num_processes = min(num_cores, len(jobs), 1 + num_bytes // WORTH_A_PROCESS)
    num_threads = min(num_cores, len(jobs)) if num_processes == 1 else 1
    bar = DecodingBar(total=sum(len(job.files) for job in jobs), desc="Decoding", unit="file", disable=not progress)
    stop = Event()
    with bar, decoding_processes(jobs, num_processes - 1), ThreadPoolExecutor(num_threads) as executor:
        try:
            list(executor.map(lambda _: take_jobs(jobs, bar, stop), range(num_threads)))
        finally:
            stop.set()


class DecodingBar(tqdm):  # type: ignore[type-arg]
    """Progress bar of files that also counts the frames and the skipped files of this process."""

    num_frames = num_skipped = 0

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.counted: set[Path] = set()
        """Shards whose files are counted, by whichever thread."""

    def count(self, num_frames: int) -> None:
        """Count a file."""
        self.num_frames += num_frames
        self.num_skipped += num_frames == 0
        self.set_postfix(frames=self.num_frames, skipped=self.num_skipped, refresh=False)
        self.update()


def take_jobs(jobs: Sequence[Job], bar: "DecodingBar | None" = None, stop: Event | None = None) -> None:
    """Decode the groups that nobody has decoded or is decoding, until all are decoded.

    Args:
        bar: counts the files.
        stop: when set, return after the current file.

    Raises:
        OSError: if a shard cannot be written.
    """
    by_path = {job.shard.index_path: job for job in jobs}

    def decode(path: Path) -> None:
        job = by_path[path]
        if bar is not None:
            bar.counted.add(path)
        for num_frames in write_shard(job.shard, job.files, job.resolution, job.fps):
            if bar is not None:
                bar.count(num_frames)
            if stop is not None and stop.is_set():
                return

    def skip(path: Path) -> None:
        if bar is not None and path not in bar.counted:
            bar.counted.add(path)
            bar.update(len(by_path[path].files))

    make_together(list(by_path), decode, found=skip, stop=stop)


@contextmanager
def decoding_processes(jobs: Sequence[Job], number: int) -> Iterator[None]:
    """Let other processes take jobs in the meantime. They end with this one."""
    command = [sys.executable, "-m", DECODING_PROCESS]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(number)]
    try:
        content = pickle.dumps(list(jobs))
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(content)
            process.stdin.flush()
        yield
    finally:
        for process in processes:
            with suppress(OSError):
                process.communicate()  # closes its input, which ends it
