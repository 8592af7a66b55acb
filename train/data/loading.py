"""From a config to clips: find the files, decode those that are not in the cache, choose the windows."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace

import datasets
import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int

from ...labels import natural_order
from ...messages import printable
from . import arcade, leaves, shapes
from .cache.frame_cache import StoredVideo, store_videos
from .cache.shards import CacheKind
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
from .report import IMAGES_ARE_USED, UNUSED_IMAGES, DataReport
from .shipped import HELDOUT_LIST, shipped_heldout, shipped_videos
from .sources.files import Skipped, VideoFile
from .sources.find import find_files
from .sources.heldout import Split, split_files
from .video_data import Clips, Render, RenderedClips, StoredFrames, VideoData
from .windows import FrameRange, choose_heldout, too_few_frames

BLANK = 0.06  # windows whose standard deviation, of pixels in [0, 1], is smaller are blank
NUM_HELDOUT_RENDERED = 256
FORMAT_VERSION = 3  # of the clips of files; increase it if the same files would give other clips
RAW_PER_BYTE = 25  # estimate: bytes of raw frames at 128 pixels per byte of a video
MOST_RAW = 2**36  # estimated bytes of raw frames above which they are compressed by default

Starts = Mapping[str, Int[np.ndarray, " _"]]  # first frames of windows, by file

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
    return files_data(config, progress=progress)


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

    def clips(split: int, num_clips: int, num_frames: int) -> Clips:
        source = RenderedClips(render, (config.seed, split), num_frames, config.frame_stride, config.resolution)
        numbers = np.arange(num_clips)
        table = window_table(
            {"file": pa.array([config.path] * num_clips), "label": numbers % len(labels)}
            | {"first_frame": np.zeros(num_clips, int), "is_blank": np.zeros(num_clips, dtype=bool), "number": numbers},
            labels,
        )
        return Clips(table, source, config.resolution)

    return VideoData(
        labels=labels,
        train=clips(0, config.drawn_clips, config.num_frames),
        heldout=clips(1, NUM_HELDOUT_RENDERED, config.num_frames),
        allows_flip=False,
        fingerprint=fingerprint(config, [f"version {version}"]),
        image_ratio=config.image_ratio,
        images=clips(0, config.drawn_clips, 1) if config.image_ratio > 0 else None,
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
    stored, skipped = store_videos(files, config.resolution, config.frames_dir, kind=kind, progress=progress)
    videos = {name: video for name, video in stored.items() if longest_shot(video) >= config.span}
    listed_windows = shipped_heldout()
    heldout, reserved = {}, {}
    for name, video in videos.items():
        listed = listed_windows.get(name, [])
        firsts = [window.start for window in listed]
        heldout[name] = np.intersect1d(firsts, video.timeline.window_starts(config.span))
        reserved[name] = [*listed, *(FrameRange(first, first + config.span) for first in heldout[name].tolist())]
    sources = [HELDOUT_LIST.read_text(), *(file.digest for file in files)]
    return file_data(config, files, videos, heldout, reserved, sources, skipped, kind=kind, progress=progress)


def files_data(config: DataConfig, *, progress: bool) -> VideoData:
    """Return clips of the user's own files.

    Held out are the files of `config.heldout` or, without it, random blocks of video frames and random image files.
    """
    (source,) = config.sources
    found = find_files(source, config)
    split = Split(found, frozenset()) if config.heldout is None else split_files(found, config)
    found = split.found
    if config.num_frames > 1 and not found.videos:
        raise FileNotFoundError(
            f"no videos in {printable(source)}, only {len(found.pictures)} images; set num_frames to 1 to train on "
            f"them, got {config.num_frames}"
        )
    files = [*found.videos, *(found.pictures if config.takes_pictures else [])]
    unused = [] if config.takes_pictures else found.pictures
    kind = cache_kind(config, files)
    stored, unreadable = store_videos(
        files, config.resolution, config.frames_dir, fps=config.fps, kind=kind, progress=progress
    )
    videos = {file.name: stored[file.name] for file in found.videos if file.name in stored}
    pictures = {file.name: stored[file.name] for file in found.pictures if file.name in stored}
    short = [file for file in found.videos if file.name in videos and longest_shot(videos[file.name]) < config.span]
    skipped = [
        *found.skipped,
        *unreadable,
        *(Skipped(file.name, "too short", too_short(videos[file.name], config.span), file.label) for file in short),
        *(Skipped(file.name, UNUSED_IMAGES, IMAGES_ARE_USED, file.label) for file in unused),
    ]
    for file in short:
        del videos[file.name]
    usable = videos | pictures
    used = [file for file in files if file.name in usable]
    sources_of_clips = usable if config.num_frames == 1 else videos
    if not sources_of_clips:
        reason = f"a clip needs {config.span} frames without a cut" if stored else "none of them can be read"
        examples = "; ".join(f"{one.name}: {one.reason}" for one in skipped if one.reason != IMAGES_ARE_USED)
        raise ValueError(
            f"nothing usable among the {len(files)} files in {printable(source)}: {reason} "
            f"({printable(examples, 1000)})"
        )

    timelines = {name: video.timeline for name, video in usable.items()}
    blocks: dict[str, list[FrameRange]] = {}
    if config.heldout is not None:
        blocks = {name: timelines[name].shots() if name in split.heldout else [] for name in usable}
    else:
        for group, span in ((videos, config.span), (pictures, 1)):
            of_group = {name: timelines[name] for name in group}
            blocks |= choose_heldout(of_group, span, config.heldout_fraction, config.seed)
        if not any(blocks[name] for name in sources_of_clips):
            raise ValueError(too_few_frames({name: timelines[name] for name in sources_of_clips}, config.span))
    heldout = {name: window_starts_in(blocks[name], config.span) for name in sources_of_clips}
    described = [f"{file.identity} {file.label}{' held out' * (file.name in split.heldout)}" for file in used]
    return file_data(config, used, usable, heldout, blocks, described, skipped, kind=kind, progress=progress)


def window_starts_in(blocks: Sequence[FrameRange], span: int) -> Int[np.ndarray, " windows"]:
    """Return the first frames of all windows inside the blocks, each of which lies in one shot."""
    starts = [np.arange(block.start, block.stop - span + 1) for block in sorted(blocks)]
    return np.concatenate([np.arange(0), *starts])


def cache_kind(config: DataConfig, files: Sequence[VideoFile]) -> CacheKind:
    """Return how the frames of the files are stored."""
    if config.cache != "auto":
        return config.cache
    estimate = sum(file.num_bytes for file in files) * RAW_PER_BYTE * (config.resolution / 128) ** 2
    if estimate <= MOST_RAW:
        return "raw"
    logger.info(
        "frames are stored compressed, since raw ones would take about %.0f GiB; see --data.cache", estimate / 2**30
    )
    return "compressed"


def longest_shot(video: StoredVideo) -> int:
    """Return the number of frames of the longest shot."""
    return max(stop - start for start, stop in video.timeline.shots())


def too_short(video: StoredVideo, span: int) -> str:
    """Return why a video has no window."""
    return (
        f"a clip needs {span} frames without a cut, but the longest shot has {longest_shot(video)} of "
        f"{video.decoded.num_frames} frames"
    )


def file_data(
    config: DataConfig,
    files: Sequence[VideoFile],
    stored: Mapping[str, StoredVideo],
    heldout: Starts,
    reserved: Mapping[str, Sequence[FrameRange]],
    sources: Sequence[str],
    skipped: Sequence[Skipped],
    *,
    kind: CacheKind,
    progress: bool,
) -> VideoData:
    """Return clips of the files in `heldout`, and images of all stored files.

    With a zoom, the files are decoded a second time, with more detail.

    Args:
        heldout: first frames of the held-out windows, possibly none, of each file that clips are cut from.
        reserved: ranges of each stored file that training does not use, with a margin around them.
    """
    labels = sorted({file.label for file in files}, key=natural_order)
    label_indices = {file.name: labels.index(file.label) for file in files}
    largest_side = round(config.zoom * config.resolution) if config.zoom > 1 else None
    detailed = None
    if largest_side is not None:
        detailed = store_videos(
            files, largest_side, config.frames_dir, fps=config.fps, kind=kind, progress=progress
        ).videos

    def clips(split: str, starts: Starts, num_frames: int) -> Clips:
        names = [name for name in starts if len(starts[name])]
        if not names:
            raise ValueError(
                f"there is no {split} window of {config.span} frames without a cut in {printable(config.path, 4096)}"
            )
        counts = [len(starts[name]) for name in names]
        files_of_rows = pa.DictionaryArray.from_arrays(np.repeat(np.arange(len(names)), counts), names)
        source = StoredFrames(stored, num_frames, config.frame_stride)
        close = StoredFrames(detailed, num_frames, config.frame_stride) if detailed else None
        columns = {
            "file": files_of_rows.cast(pa.string()),
            "label": np.repeat([label_indices[name] for name in names], counts),
            "first_frame": np.concatenate([starts[name] for name in names]),
            "is_blank": np.concatenate([is_blank(source, name, starts[name]) for name in names]),
        }
        return Clips(window_table(columns, labels), source, config.resolution, close)

    def for_training(names: Iterable[str], span: int) -> Starts:
        without = {name: [frames.with_margin() for frames in reserved[name]] for name in names}
        return {name: stored[name].timeline.window_starts(span, without=taken) for name, taken in without.items()}

    train = clips("training", for_training(heldout, config.span), config.num_frames)
    held_out = clips("held-out", heldout, config.num_frames)
    decoded = [stored[file.name].decoded for file in files if file.name in stored]
    report = DataReport(
        source=str(config.path),
        num_files=len(decoded),
        num_frames=sum(video.num_frames for video in decoded),
        hours=sum(video.seconds for video in decoded) / 3600,
        num_cuts=sum(len(video.cuts) for video in decoded),
        num_windows=len(train),
        num_heldout=len(held_out),
        blank_share=float(np.mean(train.table["is_blank"][:])),
        labels=Counter(file.label for file in files if file.name in stored),
        skipped=skipped,
    )
    report.log()
    return VideoData(
        labels=tuple(labels),
        train=train,
        heldout=held_out,
        allows_flip=config.flip,
        fingerprint=fingerprint(config, [*sources, "compressed"] if kind == "compressed" else sources),
        report=report,
        largest_side=largest_side,
        image_ratio=config.image_ratio,
        images=clips("training", for_training(stored, 1), 1) if config.image_ratio > 0 else None,
    )


def is_blank(source: StoredFrames, file: str, starts: Int[np.ndarray, " windows"]) -> Bool[np.ndarray, " windows"]:
    """Return whether the standard deviation over all values of a window is below `BLANK`."""
    video = source.videos[file]
    frames = starts[:, None] + source.stride * np.arange(source.num_frames)
    sums = video.moments[frames].sum(axis=1)
    num_values = source.num_frames * video.values_per_frame
    mean, mean_square = (sums / num_values).T
    return mean_square - mean**2 < (255 * BLANK) ** 2


def window_table(columns: Mapping[str, object], labels: Sequence[str]) -> datasets.Dataset:
    """Return a table with one row per window."""
    types = {
        "file": datasets.Value("string"),
        "label": datasets.ClassLabel(names=list(labels)),
        "first_frame": datasets.Value("int64"),
        "is_blank": datasets.Value("bool"),
        "number": datasets.Value("int64"),
    }
    features = datasets.Features({name: types[name] for name in columns})
    return datasets.Dataset(pa.table(dict(columns)), info=datasets.DatasetInfo(features=features))


def fingerprint(config: DataConfig, sources: Sequence[str]) -> str:
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
    version = FORMAT_VERSION if kind == "folder" else 1  # the frames of other sources have never changed
    content = json.dumps([version, kind, settings, *sources])
    return hashlib.sha256(content.encode()).hexdigest()
