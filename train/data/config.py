"""Config of the training data: source, size and length of the clips."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...files import as_path
from ...messages import printable

SHIPPED_CLIPS = "clips"
MOVING_SHAPES = "shapes"
ARCADE = "arcade"
DEAD_LEAVES = "leaves"
DRAWN_CLIPS = 4096
LARGEST_ZOOM = 8  # files are decoded at zoom times the resolution, which takes its square of the memory
RENDERED = (MOVING_SHAPES, ARCADE, DEAD_LEAVES)  # drawn on demand, without files
MOST_FPS = 1000
CHOOSE_CACHE = "choose another folder with --data.cache-dir or the environment variable MAGVIT2_CACHE"


def is_built_in(source: str) -> bool:
    """Return whether a source needs no files of the user."""
    return source in (SHIPPED_CLIPS, *RENDERED)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Source of the clips, and how they are cut from it."""

    path: str | tuple[str, ...] = SHIPPED_CLIPS
    """Source: `clips` (the four shipped clips), `shapes`, `arcade` or `leaves` (drawn); a folder of videos; a list of
    files (csv, jsonl, txt); tar files, for example `clips-{000..127}.tar`; a data set of the datasets library: a
    Parquet file, a folder of `save_to_disk`, or `hf://datasets/USER/NAME`. Several sources are mixed."""
    weights: tuple[float, ...] = ()
    """Relative frequencies of the sources in training. Without them, all sources are equally frequent."""
    resolution: int = 64  # The short side is resized to it by area averaging; then a square is cropped.
    num_frames: int = 17  # Frames per clip. 1: train on single images: image files and frames of videos.
    frame_stride: int = 1  # Distance between the frames of a clip. 2: every second frame of the video.
    zoom: float = 1.0
    """Largest magnification of the files' clips in stage one. Above 1, half of the clips show a random square of the
    frames, with a side between 1 / zoom of the short side and all of it. 1: no magnification."""
    image_ratio: float = 0.0  # Share of training batches with images: image files and frames of videos.
    fps: float | None = None
    """Frames per second of the clips of files: the frames nearest to an even clock. None: all frames of each file."""
    heldout_fraction: float = 0.05  # Held-out share of the windows and image files; fixed for the built-in sources.
    heldout: str | None = None
    """Files to hold out, instead of a share of the windows: a list with their names, for example UCF-101's
    testlist01.txt, or another source of files."""
    root: str | None = None  # Folder that the paths in lists are relative to. None: the folder of the list.
    column: str | None = None  # Column of the files in a list or table. None: `path`, or the first column of videos.
    label_column: str = "label"  # Column of the labels in a list or table, and key in the JSON files of tar files.
    split: str = "train"  # Split of a data set of the datasets library.
    subset: str | None = None  # Subset (config) of a data set on the Hub.
    drawn_clips: int = DRAWN_CLIPS
    """Number of different training clips of `shapes`, `arcade` and `leaves`. A longer training needs more, or it learns
    them by heart; stage two encodes all of them first."""
    seed: int = 0  # Seed of the held-out set of a folder, and of drawn clips.
    flip: bool = True  # Training mirrors half of the clips by default, but never "shapes" and "arcade".
    cache: Literal["auto", "raw", "compressed", "none"] = "auto"
    """How decoded frames of files are stored: raw; compressed (JPEG, an eighth of the bytes); none: files are decoded
    at each use. auto: compressed if raw frames need more than about 64 GiB."""
    cache_dir: str | None = None  # Cache of decoded frames and codes. None: $MAGVIT2_CACHE or ~/.cache/magvit2-pytorch.

    def __post_init__(self) -> None:
        for name, least in (("resolution", 8), ("num_frames", 1), ("frame_stride", 1), ("drawn_clips", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 1 <= self.zoom <= LARGEST_ZOOM:
            raise ValueError(f"zoom must be in [1, {LARGEST_ZOOM}], got {self.zoom}")
        if self.fps is not None and not 0 < self.fps <= MOST_FPS:
            raise ValueError(f"fps must be positive and at most {MOST_FPS}, got {self.fps}")
        if not 0 < self.heldout_fraction < 0.5:
            raise ValueError(f"heldout_fraction must be in (0, 0.5), got {self.heldout_fraction}")
        if not 0 <= self.image_ratio < 1:
            raise ValueError(
                f"image_ratio must be in [0, 1), got {self.image_ratio}; to train on images only, set num_frames to 1"
            )
        if self.image_ratio > 0 and self.num_frames == 1:
            raise ValueError(
                f"image_ratio must be 0 if num_frames is 1 (training on images only), got {self.image_ratio}"
            )
        if isinstance(self.path, tuple) and len(self.path) == 1:
            object.__setattr__(self, "path", self.path[0])
        if not self.path or "" in self.sources:
            allowed = ", ".join(map(repr, (SHIPPED_CLIPS, *RENDERED)))
            raise ValueError(f"path must be {allowed}, a source of files, or several of these, got {self.path!r}")
        if len(set(self.sources)) < len(self.sources):
            raise ValueError(f"path must not name a source twice, got {' '.join(map(printable, self.sources))}")
        if self.heldout is not None and sum(not is_built_in(source) for source in self.sources) != 1:
            raise ValueError(f"heldout needs exactly one source of files, got {' '.join(map(printable, self.sources))}")
        if sum(source.lower().endswith(".tar") for source in self.sources) > 1:
            raise ValueError(
                "several tar files are one source: pass their folder, or a range in quotes, for example "
                f"'clips-{{000..127}}.tar', got {printable(' '.join(self.sources))}"
            )
        if self.weights and len(self.weights) != len(self.sources):
            raise ValueError(
                f"weights must have one number for each of the {len(self.sources)} sources of path, got {self.weights}"
            )
        if not all(0 < weight < math.inf for weight in self.weights):
            raise ValueError(f"weights must be positive and finite, got {self.weights}")

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources, one or several."""
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def source_names(self) -> tuple[str, ...]:
        """Short names of the sources: for a folder its own name, or its path if two have the same name."""
        short = [Path(source).name or source for source in self.sources]
        return tuple(
            name if short.count(name) == 1 else source for name, source in zip(short, self.sources, strict=True)
        )

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares of the sources in training, with the sum 1."""
        weights = self.weights or (1.0,) * len(self.sources)
        return tuple(weight / sum(weights) for weight in weights)

    @property
    def span(self) -> int:
        """Number of source frames from the first to the last frame of a window, inclusive."""
        return (self.num_frames - 1) * self.frame_stride + 1

    @property
    def takes_pictures(self) -> bool:
        """Whether training uses image files."""
        return self.num_frames == 1 or self.image_ratio > 0

    @property
    def frames_dir(self) -> Path:
        """Folder of decoded frames, which may be deleted between runs."""
        return self._cache_root / "frames"

    @property
    def codes_dir(self) -> Path:
        """Folder of tables of codes, which may be deleted between runs."""
        return self._cache_root / "codes"

    @property
    def _cache_root(self) -> Path:
        try:
            return as_path(self.cache_dir or os.environ.get("MAGVIT2_CACHE") or "~/.cache/magvit2-pytorch")
        except ValueError as error:
            raise ValueError(f"no folder for the cache: {error}; {CHOOSE_CACHE}") from error


@contextmanager
def naming_the_cache(folder: Path) -> Iterator[None]:
    """Raise file system errors again, with the name of the cache folder and how to choose another one.

    Raises:
        OSError: if the cache cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        raise OSError(f"the cache in {printable(folder)} cannot be used: {error}; {CHOOSE_CACHE}") from error
