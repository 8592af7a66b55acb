"""Where models come from: folders, the package, and the Hugging Face Hub, with clear messages for its errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict, Unpack

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of the HTTP client that the library uses  # pyright: ignore[reportPrivateImportUsage]
    LocalEntryNotFoundError,
)

from .files import as_path
from .messages import allowed_names, printable

WEIGHTS_DIR = Path(__file__).resolve().parent / "weights"
"""Folder of the weights that come with the package: one folder for each name."""


class HubOptions(TypedDict, total=False):
    """Options of downloads from the Hub. They do not matter for local folders."""

    revision: str | None
    """Branch, tag or commit of the repository; by default the main branch."""
    token: str | bool | None
    """Access token; by default that of `hf auth login`. False sends none."""
    cache_dir: str | Path | None
    """Folder for downloads; by default the Hub's cache."""
    local_files_only: bool
    """Use only what was downloaded before."""


def fetch(name_or_folder: str | Path, **hub: Unpack[HubOptions]) -> Path:
    """Return a local folder, that of weights in the package, or the local copy of a Hub repository.

    Args:
        name_or_folder: a folder, the name of weights in the package, or the name of a Hub repository (`owner/name`). A
            folder of the same name takes precedence.
        hub: `revision`, `token`, `cache_dir` and `local_files_only` (see `HubOptions`).

    Raises:
        TypeError: if there is no such option.
        FileNotFoundError: if there is neither such a folder nor such a repository, or if the name is a file.
    """
    for option in hub.keys() - HubOptions.__annotations__:
        raise TypeError(f"unknown option {option!r}: {allowed_names(option, HubOptions.__annotations__)}")
    folder, name = local_folder(name_or_folder), str(name_or_folder)
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise FileNotFoundError(f"{folder} is a file; pass the folder that contains it")
    known = f", a name of weights in the package ({', '.join(names)}) " if (names := names_in_package()) else " "
    if folder.is_absolute() or name.count("/") != 1 or name.startswith((".", "~")):
        raise FileNotFoundError(
            f"there is no folder {printable(name_or_folder)}; pass a folder{known}or a Hub repository (owner/name)"
        )
    if (cache_dir := hub.get("cache_dir")) is not None:
        hub["cache_dir"] = as_path(cache_dir)
    try:
        downloaded = snapshot_download(name, **hub)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(
            f"there is no folder {printable(name)}, and no Hub repository of this name can be read: {error}"
        ) from error
    return Path(downloaded)


def local_folder(name_or_folder: str | Path) -> Path:
    """Return the folder of weights in the package, or the path of any other folder, which may not exist.

    A folder of the same name as weights in the package takes precedence.
    """
    folder = as_path(name_or_folder)
    return WEIGHTS_DIR / folder if str(folder) in names_in_package() and not folder.exists() else folder


def names_in_package() -> tuple[str, ...]:
    """Return the names of the weights that come with the package."""
    return tuple(sorted(path.name for path in WEIGHTS_DIR.glob("*/"))) if WEIGHTS_DIR.is_dir() else ()


@contextmanager
def readable_hub_errors(repo_id: str) -> Iterator[None]:
    """Raise errors of an upload to `repo_id` with messages that say what to do."""
    try:
        yield
    except HFValidationError as error:
        raise ValueError(f"repo_id must be owner/name, got {printable(repo_id)!r}: {error}") from error
    except (HTTPError, ConnectionError) as error:  # HfHubHTTPError has a status code
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            raise PermissionError(
                f"uploading to {repo_id} requires an access token with the role write: "
                f"run `hf auth login`, or pass token= ({error})"
            ) from error
        raise ConnectionError(f"uploading to {repo_id} failed: {error}") from error
