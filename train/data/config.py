"""What the data is: which videos, at which size, how long the clips are."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...files import as_path
from ...messages import printable

SHIPPED_CLIPS = "clips"
MOVING_SHAPES = "shapes"
CHOOSE_CACHE = "choose another folder with --data.cache-dir or the environment variable MAGVIT2_CACHE"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where clips come from and what is cut from it."""

    path: str = SHIPPED_CLIPS  # "clips": the four shipped clips; "shapes": moving shapes; else a folder of yours
    resolution: int = 64  # the short side is resized to it by area averaging, then a square is cropped
    num_frames: int = 17  # of a clip; 1 trains on images: the pictures of a folder, and the frames of its videos
    frame_stride: int = 1  # a clip shows every so many-th frame
    image_ratio: float = 0.0  # share of the training batches that are images: single frames, and a folder's pictures
    heldout_fraction: float = 0.05  # of a folder's windows and of its pictures; other sources have a fixed hold-out
    seed: int = 0  # chooses the held-out blocks and pictures of a folder, and the shapes
    flip: bool = True  # half of the training clips mirrored, where the source allows it
    cache_dir: str | None = None  # for decoded frames; without one $MAGVIT2_CACHE or ~/.cache/magvit2-pytorch

    def __post_init__(self) -> None:
        for name, least in (("resolution", 8), ("num_frames", 1), ("frame_stride", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.heldout_fraction < 0.5:
            raise ValueError(f"heldout_fraction must be between 0 and 0.5, got {self.heldout_fraction}")
        if not 0 <= self.image_ratio < 1:
            raise ValueError(
                f"image_ratio must be at least 0 and below 1, got {self.image_ratio}; num_frames 1 trains on images"
            )
        if self.image_ratio > 0 and self.num_frames == 1:
            raise ValueError(
                f"image_ratio must be 0 where num_frames is 1, and every clip an image, got {self.image_ratio}"
            )
        if not self.path:
            raise ValueError(f"path must be {SHIPPED_CLIPS!r}, {MOVING_SHAPES!r} or a folder of files, got ''")

    @property
    def span(self) -> int:
        """Frames of the source from a window's first to its last, both counted."""
        return (self.num_frames - 1) * self.frame_stride + 1

    @property
    def takes_pictures(self) -> bool:
        """Whether training has a use for single pictures."""
        return self.num_frames == 1 or self.image_ratio > 0

    @property
    def frames_dir(self) -> Path:
        """Where decoded frames are kept. They can be deleted at any time between runs."""
        return self._cache_root / "frames"

    @property
    def codes_dir(self) -> Path:
        """Where tables of codes are kept. They can be deleted at any time between runs."""
        return self._cache_root / "codes"

    @property
    def _cache_root(self) -> Path:
        try:
            return as_path(self.cache_dir or os.environ.get("MAGVIT2_CACHE") or "~/.cache/magvit2-pytorch")
        except ValueError as error:
            raise ValueError(f"no folder for the cache: {error}; {CHOOSE_CACHE}") from error


@contextmanager
def naming_the_cache(folder: Path) -> Iterator[None]:
    """Say in errors of the file system that `folder` is the cache, and how to choose another one.

    Raises:
        OSError: if the cache cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        raise OSError(f"the cache in {printable(folder)} cannot be used: {error}; {CHOOSE_CACHE}") from error
