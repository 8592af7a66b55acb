"""A folder of the user's own videos and images, laid out like UCF-101: each sub-folder is a label."""

import os
from collections.abc import Iterator
from pathlib import Path

from ....labels import normalized
from ....messages import printable
from ....pipelines.media.decoding import PICTURE_ENDINGS
from .files import VIDEO_ENDINGS, FoundFiles, OnDisk, counted, utf8

CONTEXT_ENDING = ".context.safetensors"
"""Files of embeddings next to the videos; see `contexts.py`."""


def find_in_folder(root: Path) -> FoundFiles:
    """Find all files at any depth. Their label is the first folder below `root`, or `root` itself for files in it.

    Raises:
        FileNotFoundError: if it contains neither videos nor images.
    """
    found = FoundFiles()
    for path in sorted(visible_files(root)):
        if not path.name.endswith(CONTEXT_ENDING):
            found.add(name_below(path, root), label_of(path, root), OnDisk(str(path)))
    if not found.videos and not found.pictures:
        raise FileNotFoundError(
            f"no videos or images in {printable(root.resolve())}: found "
            f"{counted(skipped.kind for skipped in found.skipped)}; supported extensions: "
            f"{' '.join(VIDEO_ENDINGS)} (videos), {' '.join(PICTURE_ENDINGS)} (images)"
        )
    return found.in_order()


def visible_files(root: Path) -> Iterator[Path]:
    """Yield the files whose path below `root` has no hidden part; links to folders are followed, each folder once."""
    visited: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if os.path.realpath(folder) in visited:
            subfolders.clear()
            continue
        visited.add(os.path.realpath(folder))
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def name_below(path: Path, root: Path) -> str:
    """Return the path of a file below `root`."""
    return utf8(path.relative_to(root).as_posix())


def label_of(path: Path, root: Path) -> str:
    folders = path.relative_to(root).parts[:-1]
    return normalized(folders[0] if folders else root.resolve().name)
