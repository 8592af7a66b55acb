"""From a config to clips: find the files, decode those that are not in the cache, choose the windows."""

import ctypes
import hashlib
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from ...labels import natural_order
from ...messages import printable
from . import arcade, leaves, shapes
from .cache.frame_cache import store_videos
from .cache.shards import CacheKind
from .cache.stored_videos import StoredVideos
from .config import (
    ARCADE,
    DEAD_LEAVES,
    DRAWN_CLIPS,
    MOVING_SHAPES,
    RENDERED,
    SHIPPED_CLIPS,
    DataConfig,
    is_built_in,
)
from .index import DrawnIndex, RangeIndex
from .report import IMAGES_ARE_USED, UNUSED_IMAGES, DataReport
from .shipped import HELDOUT_LIST, shipped_heldout, shipped_videos
from .sources.files import FileTable, Skipped
from .sources.find import find_files
from .sources.heldout import Split, split_files
from .video_data import ClipReader, Render, RenderedClips, StoredFrames, TrainingWindows, VideoData
from .windows import Ranges, choose_heldout, file_keys, longest_shots, too_few_frames

NUM_HELDOUT_RENDERED = 256
MOST_JUDGED = 1000  # training windows from which the share of blank ones is computed
FORMAT_VERSION = 4  # increase it if the same source would give other clips
RAW_PER_BYTE = 25  # estimate: bytes of raw frames at 128 pixels per byte of a video
MOST_RAW = 2**36  # estimated bytes of raw frames above which they are compressed by default

logger = logging.getLogger(__name__)


def load_sources(config: DataConfig, *, progress: bool = True) -> tuple[VideoData, ...]:
    """Return the result of `load_data` for each source of the config."""
    return tuple(
        load_data(
            replace(config, path=path, weights=(), heldout=None if is_built_in(path) else config.heldout),
            progress=progress,
        )
        for path in config.sources
    )


def load_data(config: DataConfig, *, progress: bool = True) -> VideoData:
    """Return the clips for training and the held-out clips of the only source of the config.

    The first call decodes the files into the cache; later calls decode only those that have changed. An image file is
    a video of one frame.

    Args:
        progress: show a progress bar while decoding.

    Raises:
        FileNotFoundError: if there is no such folder, or if it contains no files to cut clips from.
        ValueError: if there are several sources, if no file is usable, or if there are too few frames for a held-out
            set.
        OSError: if the cache cannot be written.
    """
    if not isinstance(config.path, str):
        raise ValueError(f"only one source is allowed here, got {printable(' '.join(config.path))}")
    if config.path == DEAD_LEAVES:
        return rendered_data(config, leaves.render_clip, leaves.LABELS, leaves.VERSION)
    if config.path == MOVING_SHAPES:
        return shape_data(config)
    if config.path == ARCADE:
        return arcade_data(config)
    if config.path == SHIPPED_CLIPS:
        return shipped_data(config, progress=progress)
    data = files_data(config, progress=progress)
    give_back_memory()
    return data


def shape_data(config: DataConfig) -> VideoData:
    """Return clips of moving shapes. They are never mirrored, since the mirrored motion has another label."""
    return rendered_data(config, shapes.render_clip, tuple(shapes.MOTIONS), shapes.VERSION)


def arcade_data(config: DataConfig) -> VideoData:
    """Return clips of arcade games. They are never mirrored, since some of them always move in one direction."""
    return rendered_data(config, arcade.render_clip, tuple(arcade.GAMES), arcade.VERSION)


def rendered_data(config: DataConfig, render: Render, labels: tuple[str, ...], version: int) -> VideoData:
    """Return clips without files. Clip number i has label i modulo the number of labels.

    Raises:
        ValueError: if there are fewer clips than labels.
    """
    if config.drawn_clips < len(labels):
        raise ValueError(
            f"drawn_clips must be at least {len(labels)}, the number of labels of {config.path}, "
            f"got {config.drawn_clips}"
        )

    def windows(split: int, num_clips: int, num_frames: int) -> TrainingWindows:
        seed = (config.seed, split)
        source = RenderedClips(str(config.path), render, seed, num_frames, config.frame_stride, config.resolution)
        return TrainingWindows(DrawnIndex(num_clips, len(labels)), ClipReader(source, config.resolution), labels)

    return VideoData(
        labels=labels,
        train=windows(0, config.drawn_clips, config.num_frames),
        heldout=windows(1, NUM_HELDOUT_RENDERED, config.num_frames).every_window(),
        allows_flip=False,
        fingerprint=fingerprint(config, [f"version {version}"]),
        image_ratio=config.image_ratio,
        images=windows(0, config.drawn_clips, 1) if config.image_ratio > 0 else None,
    )


def shipped_data(config: DataConfig, *, progress: bool) -> VideoData:
    """Return clips of the shipped videos.

    The held-out windows start at the listed frames and have the length `config.span`. A window that does not fit into
    its shot is left out. Training never uses the listed frames.

    Raises:
        ValueError: if `config.fps` is set, since the list counts all frames.
    """
    if config.fps is not None:
        raise ValueError(
            f"fps must be None for the source {SHIPPED_CLIPS!r}, whose held-out frames are listed by number, got "
            f"{config.fps}; use frame_stride"
        )
    files = shipped_videos()
    kind = cache_kind(config, files)
    videos, skipped = store_videos(files, config.resolution, config.frames_dir, kind=kind, progress=progress)
    videos = videos.select(longest_shots(videos.shots, len(videos)) >= config.span)
    numbers = {name: number for number, name in enumerate(videos.names.to_pylist())}
    listed = Ranges.of(
        (numbers[name], first, first + num_frames) for name, first, num_frames in shipped_heldout() if name in numbers
    )
    windows = Ranges(listed.file, listed.start, listed.start + np.int32(config.span))
    heldout = windows.select(windows.are_within(videos.shots))
    sources = [HELDOUT_LIST.read_text(), *(file.digest for file in files)]
    return file_data(
        config, videos, len(videos), heldout, listed.joined(heldout), sources, skipped, kind=kind, progress=progress
    )


def files_data(config: DataConfig, *, progress: bool) -> VideoData:
    """Find the user's own files, and return clips of them.

    Held out are the files of `config.heldout` or, without it, random blocks of video frames and random image files.
    """
    (source,) = config.sources
    found = find_files(source, config)
    return data_of(Split(found) if config.heldout is None else split_files(found, config), config, progress=progress)


def data_of(split: Split, config: DataConfig, *, progress: bool) -> VideoData:
    """Return clips of the files that were found in the source of the config."""
    found, source = split.found, str(config.path)
    if config.num_frames > 1 and not len(found.videos):
        raise FileNotFoundError(
            f"no videos in {printable(source)}, only {len(found.pictures)} images; set num_frames to 1 to train on "
            f"them, got {config.num_frames}"
        )
    files = found.all() if config.takes_pictures else found.videos
    unused = FileTable() if config.takes_pictures else found.pictures
    kind = cache_kind(config, files)
    stored, unreadable = store_videos(
        files, config.resolution, config.frames_dir, fps=config.fps, kind=kind, progress=progress
    )
    num_readable = len(stored)
    is_picture = are_in(stored.names, found.pictures.names)
    longest = longest_shots(stored.shots, len(stored))
    is_short = (longest < config.span) & ~is_picture
    skipped = [
        *found.skipped,
        *unreadable,
        *(too_short(stored, number, int(longest[number]), config.span) for number in np.flatnonzero(is_short).tolist()),
        *(Skipped(file.name, UNUSED_IMAGES, IMAGES_ARE_USED, file.label) for file in unused),
    ]
    usable, is_picture = stored.select(~is_short), is_picture[~is_short]
    num_videos = int((~is_picture).sum())
    num_of_clips = len(usable) if config.num_frames == 1 else num_videos
    if not num_of_clips:
        reason = f"a clip needs {config.span} frames without a cut" if num_readable else "none of them can be read"
        examples = "; ".join(f"{one.name}: {one.reason}" for one in skipped if one.reason != IMAGES_ARE_USED)
        raise ValueError(
            f"nothing usable among the {len(files)} files in {printable(source)}: {reason} "
            f"({printable(examples, 1000)})"
        )

    all_shots = usable.shots
    is_held_out = are_in(usable.names, pa.array(sorted(split.heldout), pa.large_string()))
    if config.heldout is not None:
        reserved = all_shots.select(is_held_out[all_shots.file])
    else:
        reserved = random_blocks(usable, num_videos, config)
        if not (reserved.file < num_of_clips).any():
            of_clips = all_shots.select(all_shots.file < num_of_clips)
            raise ValueError(too_few_frames(of_clips, usable.num_frames[:num_of_clips], config.span))
    described = (
        f"{identity} {label}{' held out' * bool(is_out)}"
        for identity, label, is_out in zip(
            usable.files.identities.to_pylist(), usable.files.labels.to_pylist(), is_held_out, strict=True
        )
    )
    heldout = reserved.select(reserved.file < num_of_clips)
    return file_data(config, usable, num_of_clips, heldout, reserved, described, skipped, kind=kind, progress=progress)


def random_blocks(videos: StoredVideos, num_videos: int, config: DataConfig) -> Ranges:
    """Return the frames that are held out of the videos, which come first, and of the images after them."""
    keys = file_keys(config.seed, videos.names.to_pylist())
    is_video = videos.shots.file < num_videos
    blocks = Ranges.of([])
    for group, span in ((videos.shots.select(is_video), config.span), (videos.shots.select(~is_video), 1)):
        if len(group):
            blocks = blocks.joined(choose_heldout(group, videos.num_frames, keys, span, config.heldout_fraction))
    return blocks.in_order()


def cache_kind(config: DataConfig, files: FileTable) -> CacheKind:
    """Return how the frames of the files are stored."""
    if config.cache != "auto":
        return config.cache
    estimate = int(files.num_bytes.sum()) * RAW_PER_BYTE * (config.resolution / 128) ** 2
    if estimate <= MOST_RAW:
        return "raw"
    logger.info(
        "frames are stored compressed, since raw ones would take about %.0f GiB; see --data.cache", estimate / 2**30
    )
    return "compressed"


def are_in(names: pa.ChunkedArray, known: pa.Array | pa.ChunkedArray) -> Bool[np.ndarray, " names"]:
    """Return whether each name is among the known ones."""
    return pc.call_function("is_in", [names], pc.SetLookupOptions(known)).to_numpy()


def too_short(videos: StoredVideos, number: int, longest: int, span: int) -> Skipped:
    """Return a video that has no window, and why."""
    file = videos.files[number]
    reason = (
        f"a clip needs {span} frames without a cut, but the longest shot has {longest} of "
        f"{videos.num_frames[number]} frames"
    )
    return Skipped(file.name, "too short", reason, file.label)


def file_data(
    config: DataConfig,
    stored: StoredVideos,
    num_of_clips: int,
    heldout: Ranges,
    reserved: Ranges,
    sources: Iterable[str],
    skipped: Sequence[Skipped],
    *,
    kind: CacheKind,
    progress: bool,
) -> VideoData:
    """Return clips of the first files, and images of all files.

    With a zoom, the files are decoded a second time, with more detail.

    Args:
        num_of_clips: number of files, from the first one on, that clips are cut from.
        heldout: ranges of held-out windows, in files that clips are cut from.
        reserved: ranges that training does not use, with a margin around them.
        sources: what the clips depend on besides the config.
    """
    files = stored.files
    names = sorted(files.labels.unique().to_pylist(), key=natural_order)
    known = pc.SetLookupOptions(pa.array(names, pa.large_string()))
    labels = pc.call_function("index_in", [files.labels], known).to_numpy().astype(np.int32)
    largest_side = round(config.zoom * config.resolution) if config.zoom > 1 else None
    detailed = None
    if largest_side is not None:
        detailed = store_videos(
            files, largest_side, config.frames_dir, fps=config.fps, kind=kind, progress=progress
        ).videos
        if len(detailed) < len(files):
            raise ValueError(f"files of {printable(config.path)} have changed while they were decoded; start again")

    readable = stored.for_reading()
    detailed = detailed and detailed.for_reading()

    def windows(ranges: Ranges, num_frames: int) -> TrainingWindows:
        source = StoredFrames(readable, num_frames, config.frame_stride)
        close = StoredFrames(detailed, num_frames, config.frame_stride) if detailed else None
        span = config.span if num_frames > 1 else 1
        reader = ClipReader(source, config.resolution, close)
        return TrainingWindows(RangeIndex.of(ranges, span, labels), reader, tuple(names))

    free = stored.shots.without(reserved.with_margin(), stored.num_frames)
    train = windows(free.select(free.file < num_of_clips), config.num_frames)
    held_out = windows(heldout, config.num_frames)
    for part, name in ((train, "training"), (held_out, "held-out")):
        if not len(part):
            raise ValueError(
                f"there is no {name} window of {config.span} frames without a cut in {printable(config.path, 4096)}"
            )
    report = DataReport(
        source=str(config.path),
        num_files=len(stored),
        num_frames=int(stored.num_frames.sum()),
        hours=float(stored.seconds.sum()) / 3600,
        num_cuts=len(stored.cuts),
        num_windows=len(train),
        num_heldout=len(held_out),
        blank_share=train.blank_share(MOST_JUDGED),
        labels=Counter({name: int((labels == number).sum()) for number, name in enumerate(names)}),
        skipped=skipped,
    )
    report.log()
    return VideoData(
        labels=tuple(names),
        train=train,
        heldout=held_out.middle_windows(),
        allows_flip=config.flip,
        fingerprint=fingerprint(config, [*sources, "compressed"] if kind == "compressed" else sources),
        report=report,
        largest_side=largest_side,
        image_ratio=config.image_ratio,
        images=windows(free, 1) if config.image_ratio > 0 else None,
    )


def give_back_memory() -> None:
    """Give memory that loading needed back to the system. Otherwise, each process of a run would keep it."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # only glibc has this function
            ctypes.CDLL(None).malloc_trim(0)


def fingerprint(config: DataConfig, sources: Iterable[str]) -> str:
    """Return a digest of everything that the clips depend on. The location of the cache is not part of it."""
    left_out = {
        "path",
        "weights",
        "cache_dir",
        *("heldout", "root", "column", "label_column", "split", "subset"),  # the files say what these have chosen
        *([] if config.fps else ["fps"]),
        "cache",
        *([] if config.image_ratio else ["image_ratio"]),
        *([] if config.zoom > 1 else ["zoom"]),
        *([] if config.drawn_clips != DRAWN_CLIPS else ["drawn_clips"]),
    }  # older runs had no such fields
    settings = {name: value for name, value in asdict(config).items() if name not in left_out}
    kind = config.path if config.path in (*RENDERED, SHIPPED_CLIPS) else "folder"
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, kind, settings]).encode())
    for source in sources:
        digest.update(f"\n{source}".encode())
    return digest.hexdigest()
