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
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from tqdm import tqdm

from ...messages import printable
from ...pipelines.media.decoding import open_frames
from ...pipelines.media.frame_reader import DecodingError, FrameReader
from ...pipelines.media.resizing import resize, stored_size
from .config import naming_the_cache
from .cuts import find_cuts, thumbnail
from .even_clock import ROUNDING, EvenClock
from .files import Section, Skipped, VideoFile
from .windows import Timeline

FORMAT_VERSION = 2  # part of every key; increase it if the same file would be stored differently
FRAMES_PER_SHARD = 1024
LARGEST_RATIO = 32  # of the sides; the short side is resized to the resolution, so a thin strip would exhaust memory

MANY_PIXELS = 2**24
LARGE_FRAMES = Lock()  # files with more than `MANY_PIXELS` per frame are decoded one at a time

NumberedFrame = tuple[int, UInt8[np.ndarray, "h w 3"]]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoded:
    """Properties of a decoded file. They do not come from its header, whose frame count may be wrong."""

    num_frames: int
    height: int
    width: int
    cuts: tuple[int, ...]
    damage: str | None = None  # what is missing or wrong
    seconds: float = 0.0  # from the first frame to the last one


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


def cache_key(file: VideoFile, resolution: int, fps: float | None = None) -> str:
    content = f"{FORMAT_VERSION}/{resolution}/{file.identity}" + (f"/{fps} fps" if fps else "")
    return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:32]


class StoredFiles(NamedTuple):
    """The decoded files by name, and those without a frame."""

    videos: dict[str, StoredVideo]
    skipped: list[Skipped]


def store_videos(
    files: Sequence[VideoFile], resolution: int, frames_dir: Path, *, fps: float | None = None, progress: bool
) -> StoredFiles:
    """Decode the files that are not in the cache yet.

    Args:
        fps: frames per second to store; None: all frames.

    Raises:
        OSError: if the cache cannot be read, or if it cannot be written and there is something to store.
    """
    folders = {file.name: frames_dir / cache_key(file, resolution, fps) for file in files}
    with naming_the_cache(frames_dir):
        missing = [file for file in files if find_stored(folders[file.name]) is None]
        problems = decode_all(missing, folders, resolution, fps, progress=progress)

    stored, skipped = {}, []
    for file in files:
        if file.name in problems:
            skipped.append(Skipped(file.name, "unreadable", problems[file.name], file.label))
            continue
        video = find_stored(folders[file.name])
        if video is None:
            raise RuntimeError(f"{folders[file.name]} was removed while it was being used")
        if video.decoded.damage is not None:
            logger.warning("%s: %s", printable(file.content, 4096), printable(video.decoded.damage, 4096))
        stored[file.name] = video
    return StoredFiles(stored, skipped)


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
    files: Sequence[VideoFile], folders: dict[str, Path], resolution: int, fps: float | None, *, progress: bool
) -> dict[str, str]:
    """Decode files into their folders, several in parallel, and return the errors of those without a frame, by name."""
    problems: dict[str, str] = {}
    num_frames = 0
    executor = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    bar = tqdm(total=len(files), desc="decoding", unit="file", disable=not (progress and files))
    try:
        running = {executor.submit(store_video, file, folders[file.name], resolution, fps): file for file in files}
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


def store_video(file: VideoFile, folder: Path, resolution: int, fps: float | None = None) -> Decoded:
    """Decode a file into a folder, which is created when it is complete.

    Raises:
        DecodingError: if no frame can be decoded.
    """
    with whole_or_nothing(folder) as unfinished, file.content.as_file() as path:
        decoded = write_frames(path, unfinished, resolution, file.section, fps)
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


def write_frames(
    path: Path, folder: Path, resolution: int, section: Section | None = None, fps: float | None = None
) -> Decoded:
    """Write the shards and moments of all decodable frames of a file, or of a section of it, and find its cuts.

    There is also a cut where frames are missing.
    """
    writer: ShardWriter | None = None
    clock = None if fps is None else EvenClock[NumberedFrame](fps)
    thumbnails = []
    times: list[float] = []
    num_before = 0  # frames before the section

    with open_frames(path) as reader, LARGE_FRAMES if reader.frame_pixels > MANY_PIXELS else nullcontext():
        for number, picture in enumerate(reader):
            if section is not None or clock is not None:
                time = known_time(reader)
                if section is not None and time < section.start - ROUNDING:
                    num_before = number + 1
                    continue
                if section is not None and section.end is not None and time >= section.end - ROUNDING:
                    break
            height, width, _ = picture.shape
            if max(height, width) > LARGEST_RATIO * min(height, width):
                raise DecodingError(f"{width} x {height} pixels: one side is more than {LARGEST_RATIO} times the other")
            if writer is None:  # later frames may have another shape
                folder.mkdir(parents=True)
                writer = ShardWriter(folder, stored_size(height, width, resolution))
            times.append(reader.time or 0.0)
            frame = resize(picture, *writer.size)
            thumbnails.append(thumbnail(frame))
            numbered = (number - num_before, frame)
            for chosen in [numbered] if clock is None else clock.push(known_time(reader), numbered):
                writer.write(*chosen)
        gaps, damage = reader.gaps, reader.lost
    if writer is None:
        raise DecodingError("it contains no frames" if section is None else f"it has no frames in seconds {section}")
    for chosen in [] if clock is None else clock.finish():
        writer.write(*chosen)
    writer.close()
    cuts = {*find_cuts(np.stack(thumbnails)), *(gap - num_before for gap in gaps)}
    found_cuts = {int(np.searchsorted(writer.numbers, cut)) for cut in cuts if cut > 0}
    num_frames = len(writer.numbers)
    stored_cuts = tuple(sorted(cut for cut in found_cuts if 0 < cut < num_frames))
    return Decoded(num_frames, *writer.size, stored_cuts, damage, max(times) - min(times))


class ShardWriter:
    """Writes frames of one size into the shards of a folder."""

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        self.folder = folder
        self.size = size
        self.numbers: list[int] = []  # of the stored frames, among the decoded ones
        self.moments: list[tuple[int, int]] = []
        self.shard: list[UInt8[np.ndarray, "h w 3"]] = []

    def write(self, number: int, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        self.numbers.append(number)
        self.shard.append(frame)
        values = frame.astype(np.int64)
        self.moments.append((values.sum(), np.square(values).sum()))
        if len(self.shard) == FRAMES_PER_SHARD:
            self.flush()

    def flush(self) -> None:
        np.save(self.folder / shard_name((len(self.numbers) - 1) // FRAMES_PER_SHARD), np.stack(self.shard))
        self.shard.clear()

    def close(self) -> None:
        """Write what is left."""
        if self.shard:
            self.flush()
        np.save(self.folder / "moments.npy", np.array(self.moments))


def known_time(reader: FrameReader) -> float:
    """Return the time of the latest frame in seconds.

    Raises:
        DecodingError: if it is unknown.
    """
    if reader.time is None:
        raise DecodingError("the times of its frames are unknown, so neither a section nor a frame rate can be chosen")
    return reader.time
