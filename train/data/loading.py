"""From a config to clips: find the videos, decode what is not decoded yet, choose the windows."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int

from .config import MOVING_SHAPES, SHIPPED_CLIPS, DataConfig
from .folder import find_files
from .frame_cache import FORMAT_VERSION, StoredVideo, VideoFile, store_videos
from .shapes import MOTIONS, motion_of
from .shipped import HELDOUT_LIST, shipped_heldout, shipped_videos
from .video_data import Clips, RenderedShapes, StoredFrames, VideoData
from .windows import FrameRange, choose_heldout

BLANK = 0.06  # a window with a smaller standard deviation, of [0, 1], shows nothing
NUM_TRAIN_SHAPES, NUM_HELDOUT_SHAPES = 4096, 256

Starts = Mapping[str, Int[np.ndarray, " _"]]  # first frames of windows, by file

logger = logging.getLogger(__name__)


def load_data(config: DataConfig, *, with_pictures: bool = False, progress: bool = True) -> VideoData:
    """Clips for training and held-out ones.

    The first call with a source decodes it into the cache; later ones only look whether it has changed. A picture is a
    video of one frame: among clips of one frame pictures are clips like the frames of videos.

    Args:
        with_pictures: give the pictures of a folder beside clips of several frames.
        progress: show a bar while decoding.

    Raises:
        FileNotFoundError: no such folder, or nothing in it to make clips of.
        ValueError: no usable video, or too little of it to hold any out.
    """
    if config.path == MOVING_SHAPES:
        return shape_data(config)
    if config.path == SHIPPED_CLIPS:
        return shipped_data(config, progress=progress)
    return folder_data(config, with_pictures=with_pictures, progress=progress)


def shape_data(config: DataConfig) -> VideoData:
    """Never mirrored: the mirrored motion is another label."""

    def clips(split: int, num_clips: int) -> Clips:
        source = RenderedShapes((config.seed, split), config.num_frames, config.frame_stride, config.resolution)
        labels = np.array([motion_of(index) for index in range(num_clips)])
        table = window_table(
            {"file": pa.array([MOVING_SHAPES] * num_clips), "label": labels, "first_frame": np.zeros(num_clips, int)}
            | {"is_blank": np.zeros(num_clips, dtype=bool), "shape": np.arange(num_clips)},
            list(MOTIONS),
        )
        return Clips(table, source, config.resolution)

    return VideoData(
        labels=tuple(MOTIONS),
        train=clips(0, NUM_TRAIN_SHAPES),
        heldout=clips(1, NUM_HELDOUT_SHAPES),
        allows_flip=False,
        fingerprint=fingerprint(config, []),
    )


def shipped_data(config: DataConfig, *, progress: bool) -> VideoData:
    """The listed windows are held out, at any clip length from their first frame on.

    A listed window that gets too long for its shot is left out, but training keeps off what it lists.
    """
    files = shipped_videos()
    videos = long_enough(store_videos(files, config.resolution, config.frames_dir, progress=progress), config.span)
    listed_windows = shipped_heldout()
    train, heldout = {}, {}
    for name, video in videos.items():
        listed, timeline = listed_windows.get(name, []), video.timeline
        firsts = [window.start for window in listed]
        heldout[name] = np.intersect1d(firsts, timeline.window_starts(config.span))
        reserved = [*listed, *(FrameRange(first, first + config.span) for first in heldout[name].tolist())]
        train[name] = timeline.window_starts(config.span, without=[frames.with_margin() for frames in reserved])
    sources = [HELDOUT_LIST.read_text(), *(file.identity for file in files)]
    return file_data(config, files, videos, train, heldout, sources)


def folder_data(config: DataConfig, *, with_pictures: bool, progress: bool) -> VideoData:
    """Blocks of frames chosen by the seed are held out."""
    found = find_files(Path(config.path).expanduser())
    files, kind = found.videos, "videos"
    if config.num_frames == 1 and found.pictures:
        files, kind = [*found.videos, *found.pictures], "videos and pictures"
    elif found.pictures and not with_pictures:
        logger.warning(
            "left out the %d pictures in %s: clips have %d frames (clips of one frame take pictures, and so does "
            "joint training on images)",
            *(len(found.pictures), config.path, config.num_frames),
        )
    if not files:
        raise FileNotFoundError(
            f"no videos in {config.path}, but {len(found.pictures)} pictures: those make clips of 1 frame, "
            f"and num_frames is {config.num_frames}"
        )
    stored = store_videos(files, config.resolution, config.frames_dir, progress=progress)
    videos = long_enough(stored, config.span)
    if skipped := len(files) - len(videos):
        logger.warning("%d of %d %s in %s cannot be used", skipped, len(files), kind, config.path)
    if not videos:
        reason = f"a clip needs {config.span} frames without a cut" if stored else "none of them can be read"
        raise ValueError(f"no usable video among the {len(files)} {kind} in {config.path}: {reason}")
    timelines = {name: video.timeline for name, video in videos.items()}
    blocks = choose_heldout(timelines, config.span, config.heldout_fraction, config.seed)
    train, heldout = {}, {}
    for name, timeline in timelines.items():
        train[name] = timeline.window_starts(config.span, without=[block.with_margin() for block in blocks[name]])
        starts = [np.arange(block.start, block.stop - config.span + 1) for block in sorted(blocks[name])]
        heldout[name] = np.concatenate([np.arange(0), *starts])
    sources = [f"{file.name} {file.label} {file.identity}" for file in files if file.name in videos]
    data = file_data(config, files, videos, train, heldout, sources)
    if not (with_pictures and found.pictures):
        return data
    return add_pictures(data, config, found.pictures, sources, progress=progress)


def add_pictures(
    data: VideoData, config: DataConfig, files: Sequence[VideoFile], sources: Sequence[str], *, progress: bool
) -> VideoData:
    """The same data, to train on these pictures as well; a label is an index into the names of both."""
    pictures = store_videos(files, config.resolution, config.frames_dir, progress=progress)
    if skipped := len(files) - len(pictures):
        logger.warning("%d of %d pictures in %s cannot be used", skipped, len(files), config.path)
    if not pictures:
        raise ValueError(f"none of the {len(files)} pictures in {config.path} can be read")


def long_enough(videos: Mapping[str, StoredVideo], span: int) -> dict[str, StoredVideo]:
    """Those with at least one window; the others are named."""
    usable = {}
    for name, video in videos.items():
        longest = max(stop - start for start, stop in video.timeline.shots())
        if longest >= span:
            usable[name] = video
            continue
        num_frames = video.decoded.num_frames
        logger.warning(
            "skipped %s: a clip needs %d frames without a cut, found %d of %d frames", name, span, longest, num_frames
        )
    return usable


def file_data(
    config: DataConfig,
    files: Sequence[VideoFile],
    videos: Mapping[str, StoredVideo],
    train: Starts,
    heldout: Starts,
    sources: Sequence[str],
) -> VideoData:
    labels = sorted({file.label for file in files})
    label_of = {file.name: labels.index(file.label) for file in files}
    source = StoredFrames(dict(videos), config.num_frames, config.frame_stride)

    def clips(split: str, starts: Starts) -> Clips:
        names = [name for name in videos if len(starts[name])]
        if not names:
            raise ValueError(f"no {split} window of {config.span} frames fits between the cuts of {config.path}")
        counts = [len(starts[name]) for name in names]
        files_of_rows = pa.DictionaryArray.from_arrays(np.repeat(np.arange(len(names)), counts), names)
        columns = {
            "file": files_of_rows.cast(pa.string()),
            "label": np.repeat([label_of[name] for name in names], counts),
            "first_frame": np.concatenate([starts[name] for name in names]),
            "is_blank": np.concatenate([is_blank(videos[name], starts[name], config) for name in names]),
        }
        return Clips(window_table(columns, labels), source, config.resolution)

    return VideoData(
        labels=tuple(labels),
        train=clips("training", train),
        heldout=clips("held-out", heldout),
        allows_flip=config.flip,
        fingerprint=fingerprint(config, sources),
    )


def is_blank(
    video: StoredVideo, starts: Int[np.ndarray, " windows"], config: DataConfig
) -> Bool[np.ndarray, " windows"]:
    """Whether the standard deviation over all frames, places and channels of a window is next to nothing."""
    frames = starts[:, None] + config.frame_stride * np.arange(config.num_frames)
    sums = video.moments[frames].sum(axis=1)
    num_values = config.num_frames * video.values_per_frame
    mean, mean_square = (sums / num_values).T
    return mean_square - mean**2 < (255 * BLANK) ** 2


def window_table(columns: Mapping[str, object], labels: Sequence[str]) -> datasets.Dataset:
    """One row for each window."""
    types = {
        "file": datasets.Value("string"),
        "label": datasets.ClassLabel(names=list(labels)),
        "first_frame": datasets.Value("int64"),
        "is_blank": datasets.Value("bool"),
        "shape": datasets.Value("int64"),
    }
    features = datasets.Features({name: types[name] for name in columns})
    return datasets.Dataset(pa.table(dict(columns)), info=datasets.DatasetInfo(features=features))


def fingerprint(config: DataConfig, sources: Sequence[str]) -> str:
    """Digest of everything that the clips depend on; where the cache lies is not part of it."""
    settings = {name: value for name, value in asdict(config).items() if name not in ("path", "cache_dir")}
    kind = config.path if config.path in (MOVING_SHAPES, SHIPPED_CLIPS) else "folder"
    content = json.dumps([FORMAT_VERSION, kind, settings, *sources])
    return hashlib.sha256(content.encode()).hexdigest()
