"""A folder of the user's own videos and pictures, laid out like UCF-101: each sub-folder is a label."""

import os
from pathlib import Path
from typing import NamedTuple

from ...pipelines.media.decoding import PICTURE_ENDINGS
from .frame_cache import VideoFile

VIDEO_ENDINGS = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm"),
    *(".mpg", ".mpeg", ".ogv", ".wmv", ".flv", ".gif"),
)


class FoundFiles(NamedTuple):
    """In the order of their paths."""

    videos: list[VideoFile]
    pictures: list[VideoFile]


def find_files(root: Path) -> FoundFiles:
    """All files at any depth; the label is the first folder below `root`, or `root` itself for files right in it.

    Raises:
        FileNotFoundError: there is no such folder, or there are neither videos nor pictures in it.
    """
    if not root.is_dir():
        reason = "is a file: give the folder that it lies in" if root.is_file() else "does not exist"
        raise FileNotFoundError(f"no folder of videos or pictures: {root.resolve()} {reason}")
    paths = sorted(visible_files(root))
    videos, pictures = (
        [describe(path, root) for path in paths if path.suffix.lower() in endings]
        for endings in (VIDEO_ENDINGS, PICTURE_ENDINGS)
    )
    if not videos and not pictures:
        raise FileNotFoundError(
            f"no videos or pictures in {root.resolve()}: looked for files ending in {' '.join(VIDEO_ENDINGS)}, "
            f"and in {' '.join(PICTURE_ENDINGS)}"
        )
    return FoundFiles(videos, pictures)


def visible_files(root: Path) -> list[Path]:
    """Files whose path below `root` has no hidden part; links to folders are followed, each folder once."""
    found: list[Path] = []
    visited: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if os.path.realpath(folder) in visited:
            subfolders.clear()
            continue
        visited.add(os.path.realpath(folder))
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return found


def describe(path: Path, root: Path) -> VideoFile:
    below = path.relative_to(root)
    label = below.parts[0] if len(below.parts) > 1 else root.resolve().name
    return VideoFile(path, below.as_posix(), label, file_identity(path))


def file_identity(path: Path) -> str:
    """Place, size and time of change: cheap to ask even for a large folder."""
    try:
        status = path.stat()
    except OSError:  # a link to nowhere, say; decoding will tell what is wrong
        return str(path.absolute())
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
