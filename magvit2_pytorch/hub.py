"""The Hugging Face Hub: folders from it, and its errors in words."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of the client that the library happens to use  # pyright: ignore[reportPrivateImportUsage]
    LocalEntryNotFoundError,
)


def fetch(name_or_folder: str | Path, *, revision: str | None = None) -> Path:
    """The folder itself, or the local copy of a Hub repository of that name.

    Raises:
        FileNotFoundError: a file, or neither a folder nor a repository that can be reached.
    """
    folder = Path(name_or_folder)
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise FileNotFoundError(f"{folder} is a file: give the folder that it lies in")
    name = str(name_or_folder)
    if folder.is_absolute() or name.count("/") != 1 or name.startswith((".", "~")):
        raise FileNotFoundError(f"there is no folder {name_or_folder}")
    try:
        return Path(snapshot_download(name, revision=revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(
            f"there is no folder {name}, and no Hub repository of that name could be read: {error}"
        ) from error


@contextmanager
def hub_errors_in_words(repo_id: str) -> Iterator[None]:
    """Say what was wrong with an upload to `repo_id` and what to do about it."""
    try:
        yield
    except HFValidationError as error:
        raise ValueError(f"a Hub repository is named owner/name, got {repo_id!r}: {error}") from error
    except (HTTPError, ConnectionError) as error:  # with a status where the Hub has answered
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            raise PermissionError(
                f"uploading to {repo_id} takes an access token with the role write: "
                f"run `hf auth login`, or give token= ({error})"
            ) from error
        raise ConnectionError(f"uploading to {repo_id} failed: {error}") from error
