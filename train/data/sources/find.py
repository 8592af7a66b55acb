"""Where the files of a data set are found: a folder, a list, tar files, or a data set of the datasets library."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from ....files import as_path
from ....messages import printable
from ....pipelines.media.decoding import PICTURE_ENDINGS
from ..config import RENDERED, SHIPPED_CLIPS, DataConfig
from .archives import ARCHIVE_ENDING, archives_of, find_in_archives
from .file_lists import LIST_ENDINGS, find_in_list
from .files import VIDEO_ENDINGS, FoundFiles
from .folder import find_in_folder, visible_files
from .tables import HUB_PREFIX, TABLE_ENDINGS, find_in_table, is_saved_table, load_table

FORMS = (
    f"a folder of videos, a list ({' '.join(LIST_ENDINGS)}), tar files (clips-{{000..127}}{ARCHIVE_ENDING} or a folder "
    f"of them), a data set ({' '.join(TABLE_ENDINGS)}, a folder of save_to_disk, or {HUB_PREFIX}USER/NAME)"
)


def find_files(source: str, config: DataConfig) -> FoundFiles:
    """Find the videos and images of a source.

    Raises:
        FileNotFoundError: if there is no such source, or if it contains neither videos nor images.
        ValueError: if it is a list, an archive or a table that cannot be read.
    """
    path = as_path(source)
    match kind_of(source):
        case "table":
            place, split = without_split(source, config.split)
            place = place if place.startswith(HUB_PREFIX) else str(as_path(place))
            table = load_table(place, split=split, subset=config.subset)
            return find_in_table(table, place, column=config.column, label_column=config.label_column)
        case "archives":
            archives = sorted(files_with(path, (ARCHIVE_ENDING,))) if path.is_dir() else archives_of(str(path))
            return find_in_archives(archives, label_column=config.label_column)
        case "list":
            root = None if config.root is None else as_path(config.root)
            return find_in_list(path, root=root, column=config.column, label_column=config.label_column)
        case "folder":
            return find_in_folder(path)
    reason = "is a file of another kind" if path.is_file() else "does not exist"
    raise FileNotFoundError(f"no videos or images: {printable(path.resolve())} {reason}; allowed are {FORMS}")


Kind = Literal["table", "archives", "list", "folder"]


def kind_of(source: str) -> Kind | None:
    """Return what a source is, None if it is nothing of this.

    A folder with videos or images is a folder of them, whatever else is in it.
    """
    source, split = without_split(source)
    path = as_path(source)
    if split:
        return "table"
    if source.startswith(HUB_PREFIX) or is_saved_table(path):
        return "table"
    if path.is_dir():
        if any(files_with(path, (*VIDEO_ENDINGS, *PICTURE_ENDINGS))):
            return "folder"
        if any(files_with(path, (ARCHIVE_ENDING,))):
            return "archives"
        return "table" if any(files_with(path, TABLE_ENDINGS)) else "folder"
    ending = path.suffix.lower()
    if ending == ARCHIVE_ENDING:
        return "archives"
    if ending in LIST_ENDINGS and path.is_file():
        return "list"
    return "table" if ending in TABLE_ENDINGS and path.is_file() else None


def without_split(source: str, split: str = "") -> tuple[str, str]:
    """Return a source without the `#SPLIT` at its end, and this split, or else the given one."""
    name, _, own_split = source.rpartition("#")
    if not name or as_path(source).exists():
        return source, split
    return name, own_split


def files_with(folder: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    """Yield the visible files in a folder that have one of these extensions."""
    return (path for path in visible_files(folder) if path.suffix.lower() in endings)


def folder_of_files(config: DataConfig) -> Path | None:
    """Return the folder that the names of the only source's files are relative to, None if they are not on disk."""
    (source,) = config.sources
    if source in (SHIPPED_CLIPS, *RENDERED):
        return None
    path = as_path(source)
    match kind_of(source):
        case "folder":
            return path
        case "list":
            return path.parent if config.root is None else as_path(config.root)
    return None
