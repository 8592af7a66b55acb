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
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int
from tqdm import tqdm

from ....messages import printable
from ...cores import available_cores, processes_here
from ..config import naming_the_cache
from ..sources.files import FileTable, Skipped, VideoFile
from .checked_table import DamagedFileError
from .shards import INDEX_ENDING, CacheKind, Shard, write_shard
from .shared_work import make_together
from .stored_videos import StoredVideos

FORMAT_VERSION = 3  # increase it if the same file would be stored differently
CHECKED_BYTES = 2**31
"""Frames are checked at each start if they have no more bytes than this together, and always when they are used."""
SMALLEST_GROUP, LARGEST_GROUP = 2**18, 10 * 2**20  # bytes of the files of a group, on average
GROUPS = 64  # of files whose groups would be smaller or larger otherwise
MAPPED_TABLES = 16  # indexes of shards that are open at a time
WORTH_A_PROCESS = 2**25  # bytes of files for which another process starts
DECODING_PROCESS = "magvit2_pytorch.train.data.cache.decoding_process"

FOUND_SCHEMA = pa.schema(
    [
        ("identity", pa.large_string()),
        ("problem", pa.large_string()),
        ("num_frames", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("cuts", pa.large_list(pa.int32())),
        ("damage", pa.large_string()),
        ("seconds", pa.float64()),
        ("shard", pa.int32()),
        ("row", pa.int32()),
    ]
)
"""What is read from the indexes of all shards; see `shards.SCHEMA`."""

logger = logging.getLogger(__name__)


class StoredFiles(NamedTuple):
    """The decoded files, in order, and those without a frame."""

    videos: StoredVideos
    skipped: list[Skipped]


class Job(NamedTuple):
    """A group of files to decode into one shard."""

    shard: Shard
    files: FileTable
    resolution: int
    fps: float | None


def store_videos(
    files: FileTable,
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
    is_readable = files.is_readable
    with naming_the_cache(frames_dir):
        found = find_stored(folder, kind)
        rows = found.rows_of(files)
        if (is_readable & (rows < 0)).any():
            jobs = [
                Job(Shard(folder / group_name(group), kind), group, resolution, fps)
                for group in missing_groups(files, found.identities())
            ]
            decode_all(jobs, progress=progress)
            found = find_stored(folder, kind)
            rows = found.rows_of(files)

    if (is_readable & (rows < 0)).any():
        lost = files[int(np.argmax(is_readable & (rows < 0)))]
        raise RuntimeError(f"frames of {printable(lost.name)} were removed from {folder} while they were being used")
    facts = found.table.take(pa.array(rows, mask=rows < 0))
    is_decoded = is_readable & facts["problem"].is_null().to_numpy()
    skipped = []
    for number in np.flatnonzero(~is_decoded).tolist():
        file = files[number]
        reason = facts["problem"][number].as_py() if is_readable[number] else reason_of(file)
        skipped.append(Skipped(file.name, "unreadable", reason, file.label))
    chosen = np.flatnonzero(is_decoded)
    facts = facts.take(pa.array(chosen))
    for number in np.flatnonzero(facts["damage"].is_valid().to_numpy()).tolist():
        content, damage = files.contents[chosen[number]], facts["damage"][number].as_py()
        logger.warning("%s: %s", printable(content, 4096), printable(damage, 4096))
    decoding = (resolution, fps) if kind == "none" else None
    return StoredFiles(stored_videos(files.take(chosen), found.shards, facts, decoding), skipped)


def stored_videos(
    files: FileTable, shards: Sequence[Shard], facts: pa.Table, decoding: tuple[int, float | None] | None
) -> StoredVideos:
    """Return files with their rows in the table of `find_stored`."""
    cuts = facts["cuts"].combine_chunks()
    return StoredVideos(
        files=files,
        names=files.names,
        shards=shards,
        shard=facts["shard"].to_numpy(),
        row=facts["row"].to_numpy(),
        num_frames=facts["num_frames"].to_numpy(),
        height=facts["height"].to_numpy(),
        width=facts["width"].to_numpy(),
        seconds=facts["seconds"].to_numpy(),
        cuts=cuts.flatten().to_numpy().astype(np.int32),
        num_cuts=pc.call_function("list_value_length", [cuts]).to_numpy().astype(np.int32),
        decoding=decoding,
    )


def folder_name(resolution: int, fps: float | None, kind: CacheKind) -> str:
    rate = "" if fps is None else f"-{fps:g}fps"
    return f"v{FORMAT_VERSION}-{resolution}px{rate}-{kind}"


class FoundShards(NamedTuple):
    """The complete shards of a folder, and what is known about the files in them."""

    shards: list[Shard]
    table: pa.Table
    """One row for each file; `shard` and `row` say where it is."""

    def rows_of(self, files: FileTable) -> Int[np.ndarray, " files"]:
        """Return the row of each file in the table, -1 for files that are not in it."""
        rows = pc.call_function("index_in", [files.identities], pc.SetLookupOptions(self.table["identity"]))
        return rows.fill_null(-1).to_numpy().astype(np.int64)

    def identities(self) -> set[str]:
        return set(self.table["identity"].to_pylist())


def find_stored(folder: Path, kind: CacheKind) -> FoundShards:
    """Return the files in all complete shards of a folder. Damaged shards are deleted, and logged."""
    shards = [Shard(path.with_suffix(""), kind) for path in sorted(folder.glob(f"*{INDEX_ENDING}"))]
    num_bytes = sum(shard.frames_path.stat().st_size for shard in shards if shard.frames_path.is_file())
    whole: list[Shard] = []
    tables = [FOUND_SCHEMA.empty_table()]
    for shard in shards:
        try:
            shard.check(with_frames=num_bytes <= CHECKED_BYTES)
            table = shard.table()
        except FileNotFoundError:  # another process has just deleted it
            continue
        except DamagedFileError as error:
            logger.warning("%s; its files are decoded again", printable(error, 4096))
            shard.remove()
            continue
        places = pa.array(np.full(len(table), len(whole))), pa.array(np.arange(len(table)))
        known = table.select([name for name in table.column_names if name in FOUND_SCHEMA.names])
        tables.append(known.append_column("shard", places[0]).append_column("row", places[1]).cast(FOUND_SCHEMA))
        whole.append(shard)
        if len(tables) == MAPPED_TABLES:
            tables = [pa.concat_tables(tables).combine_chunks()]
    return FoundShards(whole, pa.concat_tables(tables).combine_chunks())


def missing_groups(files: FileTable, found: Iterable[str]) -> Iterator[FileTable]:
    """Yield the readable files to decode, in groups. A file in two places of the list is decoded once.

    Where a group ends depends on the files of the whole list, not on what is found.
    """
    known = set(found)
    num_bytes = int(files.num_bytes[files.is_readable].sum())
    scale = min(max(num_bytes / GROUPS, SMALLEST_GROUP), LARGEST_GROUP)
    group = FileTable()
    for file in files:
        if not file.is_readable:
            continue
        if file.identity not in known:
            known.add(file.identity)
            group.append(file)
        ends = int(hashlib.sha256(file.identity.encode()).hexdigest()[:8], 16) / 2**32 < file.num_bytes / scale
        if ends and len(group):
            yield group
            group = FileTable()
    if len(group):
        yield group


def group_name(files: FileTable) -> str:
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
    num_bytes = sum(int(job.files.num_bytes.sum()) for job in jobs)
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
