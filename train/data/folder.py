"""A folder of the user's own videos and images, laid out like UCF-101: each sub-folder is a label."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from ...labels import normalized
from ...messages import printable
from ...pipelines.media.decoding import PICTURE_ENDINGS, is_picture
from .frame_cache import VideoFile

VIDEO_ENDINGS = (
    *(".mp4", ".m4v", ".mov", ".qt", ".f4v", ".3gp", ".3g2", ".mj2", ".mkv", ".webm", ".avi", ".divx"),
    *(".wmv", ".asf", ".flv", ".rm", ".rmvb", ".ogv", ".ogg", ".ogm", ".mxf", ".nut", ".dv", ".amv"),
    *(".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".m2t", ".mod", ".tod"),
    *(".h264", ".264", ".h265", ".265", ".hevc", ".ivf", ".obu", ".y4m", ".mjpg", ".mjpeg"),
    *(".gif", ".apng", ".avifs", ".heic", ".heif"),
)
CONTEXT_ENDING = ".context.safetensors"
"""Files of embeddings next to the videos; see `contexts.py`."""
MOST_REASONS = 12


class FoundFiles(NamedTuple):
    """The visible files of a folder, in the order of their paths."""

    videos: list[VideoFile]
    pictures: list[VideoFile]
    others: list[Path]
    """Neither videos, nor images, nor contexts."""


def find_files(root: Path) -> FoundFiles:
    """Find all files at any depth. Their label is the first folder below `root`, or `root` itself for files in it.

    Animated images are videos.

    Raises:
        FileNotFoundError: if there is no such folder, or if it contains neither videos nor images.
    """
    if not root.is_dir():
        reason = "is a file: pass the folder that contains it" if root.is_file() else "does not exist"
        raise FileNotFoundError(f"no folder of videos or images: {printable(root.resolve())} {reason}")
    found = FoundFiles([], [], [])
    for path in sorted(visible_files(root)):
        ending = path.suffix.lower()
        if is_picture(path):
            found.pictures.append(describe(path, root))
        elif ending in VIDEO_ENDINGS or ending in PICTURE_ENDINGS:
            found.videos.append(describe(path, root))
        elif not path.name.endswith(CONTEXT_ENDING):
            found.others.append(path)
    if not found.videos and not found.pictures:
        raise FileNotFoundError(
            f"no videos or images in {printable(root.resolve())}: found {counted(by_ending(found.others))}; supported "
            f"extensions: {' '.join(VIDEO_ENDINGS)} (videos), {' '.join(PICTURE_ENDINGS)} (images)"
        )
    return found


def visible_files(root: Path) -> list[Path]:
    """Return the files whose path below `root` has no hidden part; links to folders are followed, each folder once."""
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
    return VideoFile(path, name_below(path, root), label_of(path, root), file_identity(path))


def name_below(path: Path, root: Path) -> str:
    """Return the path of a file below `root`; bytes that are not UTF-8 are escaped, since a table cannot hold them."""
    return path.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode()


def label_of(path: Path, root: Path) -> str:
    folders = path.relative_to(root).parts[:-1]
    return normalized(folders[0] if folders else root.resolve().name)


def file_identity(path: Path) -> str:
    """Return path, size and modification time, which are quick to read even for a large folder."""
    try:
        status = path.stat()
    except OSError:  # for example a link to a missing file; decoding reports it
        return str(path.absolute())
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def by_ending(paths: Iterable[Path]) -> Counter[str]:
    """Return how many files have each extension."""
    return Counter(printable(path.suffix.lower()) or "without an extension" for path in paths)


def counted(reasons: Mapping[str, int]) -> str:
    """Return the most frequent reasons with their counts: `8 .txt, 3 .json, 1 unreadable`."""
    ranked = Counter(reasons).most_common()
    rest = sum(count for _, count in ranked[MOST_REASONS:])
    parts = [f"{count} {reason}" for reason, count in ranked[:MOST_REASONS]] + [f"{rest} more"] * bool(rest)
    return ", ".join(parts) or "no files"
