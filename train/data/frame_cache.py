"""Cache of decoded frames: each file is decoded once, into memory-mapped shards that later runs reuse."""

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from threading import Lock

import numpy as np
from jaxtyping import Int, UInt8
from tqdm import tqdm

from ...messages import printable
from ...pipelines.media.decoding import open_frames
from ...pipelines.media.frame_reader import DecodingError
from ...pipelines.media.resizing import resize, stored_size
from .config import naming_the_cache
from .cuts import find_cuts, thumbnail
from .windows import Timeline

FORMAT_VERSION = 2  # part of every key; increase it if the same file would be stored differently
FRAMES_PER_SHARD = 1024
LARGEST_RATIO = 32  # of the sides; the short side is resized to the resolution, so a thin strip would exhaust memory

MANY_PIXELS = 2**24
LARGE_FRAMES = Lock()  # files with more than `MANY_PIXELS` per frame are decoded one at a time

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoFile:
    path: Path
    name: str  # path below the data folder, in tables
    label: str
    identity: str  # differs if the content may have changed


@dataclass(frozen=True)
class Decoded:
    """Properties of a decoded file. They do not come from its header, whose frame count may be wrong."""

    num_frames: int
    height: int
    width: int
    cuts: tuple[int, ...]
    damage: str | None = None  # what is missing or wrong


@dataclass(frozen=True)
class StoredVideo:
    """A decoded file and the folder of its shards."""

    folder: Path
    decoded: Decoded

    @property
    def timeline(self) -> Timeline:
        return Timeline(self.decoded.num_frames, self.decoded.cuts)

    @property
    def values_per_frame(self) -> int:
        return self.decoded.height * self.decoded.width * 3

    @property
    def moments(self) -> Int[np.ndarray, "T 2"]:
        """Sum and sum of squares of the values of each frame."""
        return np.load(self.folder / "moments.npy")

    def frames(self, first_frame: int, num_frames: int, stride: int) -> UInt8[np.ndarray, "T h w 3"]:
        indexes = range(first_frame, first_frame + num_frames * stride, stride)
        pieces = []
        for shard, group in groupby(indexes, key=lambda index: index // FRAMES_PER_SHARD):
            places = [index % FRAMES_PER_SHARD for index in group]
            pieces.append(open_shard(self.folder / shard_name(shard))[places[0] : places[-1] + 1 : stride])
        return np.concatenate(pieces)


@lru_cache(maxsize=128)  # each open map holds a file descriptor
def open_shard(path: Path) -> UInt8[np.ndarray, "T h w 3"]:
    return np.load(path, mmap_mode="r")


def shard_name(shard: int) -> str:
    return f"frames-{shard:04d}.npy"


def cache_key(file: VideoFile, resolution: int) -> str:
    content = f"{FORMAT_VERSION}/{resolution}/{file.identity}"
    return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def store_videos(
    files: Sequence[VideoFile], resolution: int, frames_dir: Path, *, progress: bool
) -> dict[str, StoredVideo]:
    """Decode the files that are not in the cache yet, and return those that have frames, by name.

    Raises:
        OSError: if the cache cannot be read, or if it cannot be written and there is something to store.
    """
    folders = {file.name: frames_dir / cache_key(file, resolution) for file in files}
    with naming_the_cache(frames_dir):
        missing = [file for file in files if find_stored(folders[file.name]) is None]
        problems = decode_all(missing, folders, resolution, progress=progress)

    stored = {}
    for file in files:
        if file.name in problems:
            logger.warning("skipped %s: %s", printable(file.path, 4096), printable(problems[file.name], 4096))
            continue
        video = find_stored(folders[file.name])
        if video is None:
            raise RuntimeError(f"{folders[file.name]} was removed while it was being used")
        if video.decoded.damage is not None:
            logger.warning("%s: %s", printable(file.path, 4096), printable(video.decoded.damage, 4096))
        stored[file.name] = video
    return stored


def find_stored(folder: Path) -> StoredVideo | None:
    """Return the decoded file in a folder of the cache; None if it is missing or incomplete."""
    try:
        fields = json.loads((folder / "meta.json").read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    decoded = Decoded(**(fields | {"cuts": tuple(fields["cuts"])}))
    num_shards = -(-decoded.num_frames // FRAMES_PER_SHARD)
    parts = ["moments.npy", *(shard_name(shard) for shard in range(num_shards))]
    return StoredVideo(folder, decoded) if all((folder / part).is_file() for part in parts) else None


def decode_all(
    files: Sequence[VideoFile], folders: dict[str, Path], resolution: int, *, progress: bool
) -> dict[str, str]:
    """Decode files into their folders, several in parallel, and return the errors of those without a frame, by name."""
    problems: dict[str, str] = {}
    num_frames = 0
    executor = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    bar = tqdm(total=len(files), desc="decoding", unit="file", disable=not (progress and files))
    try:
        running = {executor.submit(store_video, file.path, folders[file.name], resolution): file for file in files}
        for done in as_completed(running):
            try:
                num_frames += done.result().num_frames
            except DecodingError as error:
                problems[running[done].name] = str(error)
            bar.update()
            bar.set_postfix(frames=num_frames, skipped=len(problems))
    finally:
        bar.close()
        executor.shutdown(cancel_futures=True)
    return problems


def store_video(path: Path, folder: Path, resolution: int) -> Decoded:
    """Decode a file into a folder, which is created when it is complete.

    Raises:
        DecodingError: if no frame can be decoded.
    """
    with whole_or_nothing(folder) as unfinished:
        decoded = write_frames(path, unfinished, resolution)
        (unfinished / "meta.json").write_text(json.dumps(asdict(decoded)))
    return decoded


@contextmanager
def whole_or_nothing(folder: Path) -> Iterator[Path]:
    """Yield the path of a temporary folder that is renamed to `folder` at the end, unless another process created it.

    After an error, the temporary folder is deleted.
    """
    unfinished = folder.with_name(f"unfinished-{uuid.uuid4().hex}")
    try:
        yield unfinished
        if find_stored(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)  # an incomplete one
        try:
            unfinished.rename(folder)
        except OSError:
            if find_stored(folder) is None:
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_frames(path: Path, folder: Path, resolution: int) -> Decoded:
    """Write the shards and moments of all decodable frames of a file, and find its cuts.

    There is also a cut where frames are missing.
    """
    shard: list[UInt8[np.ndarray, "h w 3"]] = []
    thumbnails, moments = [], []
    size: tuple[int, int] | None = None

    def write_shard() -> None:
        np.save(folder / shard_name((len(thumbnails) - 1) // FRAMES_PER_SHARD), np.stack(shard))
        shard.clear()

    with open_frames(path) as reader, LARGE_FRAMES if reader.frame_pixels > MANY_PIXELS else nullcontext():
        for picture in reader:
            height, width, _ = picture.shape
            if max(height, width) > LARGEST_RATIO * min(height, width):
                raise DecodingError(f"{width} x {height} pixels: one side is more than {LARGEST_RATIO} times the other")
            if size is None:  # later frames may have another shape
                size = stored_size(height, width, resolution)
                folder.mkdir(parents=True)
            frame = resize(picture, size[0], size[1])
            shard.append(frame)
            thumbnails.append(thumbnail(frame))
            values = frame.astype(np.int64)
            moments.append((values.sum(), np.square(values).sum()))
            if len(shard) == FRAMES_PER_SHARD:
                write_shard()
        gaps, damage = reader.gaps, reader.lost
    if size is None:
        raise DecodingError("it contains no frames")
    if shard:
        write_shard()
    np.save(folder / "moments.npy", np.array(moments))
    cuts = tuple(sorted({*find_cuts(np.stack(thumbnails)), *gaps}))
    return Decoded(len(thumbnails), size[0], size[1], cuts, damage)
