"""Saving, loading and sharing: configs as strict JSON, weights as safetensors, every file written whole."""

import dataclasses
import difflib
import hashlib
import json
import os
import tempfile
import textwrap
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import safetensors.torch
import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of the client that the library happens to use  # pyright: ignore[reportPrivateImportUsage]
    LocalEntryNotFoundError,
)
from torch import nn

T = TypeVar("T")

FORMAT_VERSION = 3
"""Of what is written. Every older one is read: 1 lacks fields of `TokenizerConfig` whose defaults are what it did, and
`MaskGit.upgrade_config` says what 1 and 2 lack of `MaskGitConfig`."""
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"
FEW_DETAILS, LONGEST_DETAIL = 3, 200  # of what is wrong with a file of weights: lines, and letters of each
CARD_MARK = b"<!-- Written by magvit2-pytorch, which writes it anew until somebody edits it (digest "


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A path to write to in place of `path`, renamed to `path` at the end and removed after an error.

    Nobody ever sees half a file: a crash leaves the old one, or none. The ending stays the same,
    for writers that choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # what was asked for
        raise
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.chmod(0o666 & ~_umask())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with written_whole(path) as aside:
        aside.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no JSON object.
    """
    try:
        content = json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def config_to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as what JSON can hold: tuples become lists, paths become strings."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=os.fspath))


def config_from_dict(config_class: type[T], values: dict[str, Any], *, where: str = "config") -> T:
    """The inverse of `config_to_dict`: unknown names and wrong types are refused, missing ones take the default.

    Raises:
        ValueError: naming the field, what was given and what is allowed.
    """
    hints = get_type_hints(config_class)
    known = {field.name for field in dataclasses.fields(config_class) if field.init}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"perhaps you meant {nearest[0]!r}" if nearest else f"its fields are {', '.join(sorted(known))}"
            raise ValueError(f"{where}: a {config_class.__name__} has no field {name!r}; {hint}")
    try:
        return config_class(**{name: _typed(hints[name], value, f"{where}.{name}") for name, value in values.items()})
    except TypeError as error:  # a required field is missing
        raise ValueError(f"{where}: {error}") from error


class Shareable:
    """What can be saved into a folder with a model card, and that folder uploaded to the Hugging Face Hub."""

    card_tags: ClassVar[tuple[str, ...]]
    """For those who search the Hub."""
    card_example: ClassVar[str]
    """Lines that load it from {name} and use it."""

    def save_pretrained(self, folder: str | Path, *, license: str | None = None) -> None:
        raise NotImplementedError

    def card_facts(self) -> dict[str, str]:
        """What the model card tells of this object, by name."""
        raise NotImplementedError

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        license: str | None = None,
        commit_message: str | None = None,
        branch: str | None = None,
    ) -> str:
        """Upload what `save_pretrained` writes to a Hub repository, which is made where there is none.

        A model card that somebody has edited there stays as it is.

        Args:
            repo_id: `owner/name`, or `name` for the owner of the token.
            private: whether a repository that is made is private; by default as the owner has set.
            token: an access token that may write; by default the one of `hf auth login`.
            license: the Hub's identifier of the weights' license, for the model card; by default it names none.
            commit_message: by default it names the class.
            branch: made where there is none; by default the main one.

        Returns:
            The address of the repository.

        Raises:
            ValueError: `repo_id` is no name of a repository.
            PermissionError: no token, or one that may not write there.
            ConnectionError: the Hub cannot be reached, or refuses for another reason.
        """
        api = HfApi(token=token)
        with hub_errors_in_words(repo_id), tempfile.TemporaryDirectory() as temporary:
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            repo_id = address.repo_id
            if branch is not None:
                api.create_branch(repo_id, branch=branch, exist_ok=True)
            folder = Path(temporary)
            self.save_pretrained(folder, license=license)
            write_card(folder, model_card(self, repo_id, license=license))
            for path in folder.rglob(CARD_NAME):
                name = path.relative_to(folder).as_posix()
                if api.file_exists(repo_id, name, revision=branch):
                    there = Path(api.hf_hub_download(repo_id, name, revision=branch)).read_bytes()
                    if not is_card_of_ours(there):
                        path.write_bytes(there)
            api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                revision=branch,
                commit_message=commit_message or f"Upload a {type(self).__name__}",
            )
        return str(address)


class Pretrained(nn.Module, Shareable):
    """Base of the models: a frozen config dataclass builds one, a folder or a Hub repository keeps one.

    A folder holds `config.json` (the config's fields, the class's name and a format version), `model.safetensors`
    and a model card, `README.md`. Loading runs no code from any of them.
    """

    config_class: ClassVar[type]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def from_config(cls, config: Any) -> Self:
        return cls(config)

    def save_pretrained(self, folder: str | Path, *, license: str | None = None) -> None:
        """Write `config.json`, `model.safetensors` and a model card into `folder`, each whole or not at all.

        A `README.md` that is there already stays, unless it is a model card of ours that nobody has edited.

        Args:
            license: the Hub's identifier of the weights' license, for the model card; by default it names none.
        """
        folder = Path(folder)
        if folder.is_file():
            raise ValueError(f"a model is saved into a folder, but {folder} is a file")
        with written_whole(folder / WEIGHTS_NAME) as aside:
            safetensors.torch.save_model(self, str(aside), metadata={"format": "pt"})
        header = {"_class": type(self).__name__, "_format": FORMAT_VERSION}
        write_json(folder / CONFIG_NAME, header | config_to_dict(self.config))
        write_card(folder, model_card(self, f"path/to/{folder.name}", license=license))

    @property
    def num_parameters(self) -> int:
        """Trained numbers, each counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, *, subfolder: str = "", revision: str | None = None) -> Self:
        """The saved model, on the CPU and in evaluation mode.

        Args:
            name_or_folder: a folder that `save_pretrained` wrote, or the name of a Hub repository (`owner/name`).
            subfolder: where in it the model lies.
            revision: branch, tag or commit of the Hub repository.

        Raises:
            FileNotFoundError: there is no such folder or repository, or a file is missing in it.
            ValueError: the files are of another class, of a newer format, or damaged.
        """
        folder = fetch(name_or_folder, revision=revision) / subfolder
        config = cls.load_config(folder)
        weights = folder / WEIGHTS_NAME
        if not weights.is_file():
            raise FileNotFoundError(f"{folder} holds no {WEIGHTS_NAME}")
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are overwritten: leave no trace
            model = cls.from_config(config)
        try:
            safetensors.torch.load_model(model, str(weights), strict=True)
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise ValueError(
                f"{weights} does not hold the weights of this {cls.__name__}: {few_details(str(error))}"
            ) from error
        return model.eval()

    @classmethod
    def load_config(cls, folder: Path) -> Any:
        """The config in a folder that `save_pretrained` wrote."""
        path = folder / CONFIG_NAME
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no {CONFIG_NAME}: it is not a saved {cls.__name__}")
        values, version = read_versioned(path, cls.__name__)
        return config_from_dict(cls.config_class, cls.upgrade_config(values, version), where=str(path))

    @classmethod
    def upgrade_config(cls, values: dict[str, Any], version: int) -> dict[str, Any]:
        """The fields of a config of format `version`, under today's names and with what was then no field."""
        return values


def few_details(message: str) -> str:
    """The first of the lines in which PyTorch tells all that is wrong with some weights, and none of them long."""
    lines = [line.strip().rstrip(".") for line in message.splitlines() if "Error(s) in loading" not in line]
    shown = "; ".join(textwrap.shorten(line, LONGEST_DETAIL, placeholder=" ...") for line in lines[:FEW_DETAILS])
    return shown + (f" (and {len(lines) - FEW_DETAILS} more)" if len(lines) > FEW_DETAILS else "")


def read_header(path: Path, class_name: str) -> dict[str, Any]:
    """The fields of a saved config, after checking that it is one of `class_name` in a format known here."""
    return read_versioned(path, class_name)[0]


def read_versioned(path: Path, class_name: str) -> tuple[dict[str, Any], int]:
    """The same, and the version of the format."""
    values = read_json(path)
    found, version = values.pop("_class", None), values.pop("_format", None)
    if found != class_name:
        raise ValueError(f"{path} describes a {found}, not a {class_name}")
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, this release reads 1 to {FORMAT_VERSION}; upgrade to load it"
        )
    return values, version


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


def model_card(model: Shareable, name: str, *, license: str | None) -> str:
    """The text of a model card: header, what the model is, how to load it, its facts.

    Args:
        name: what `from_pretrained` is to be given.
    """
    kind = type(model)
    tags = ("magvit2", "video", *kind.card_tags)
    header = {"library_name": "magvit2-pytorch"} | ({"license": license} if license else {}) | {"tags": list(tags)}
    facts = model.card_facts() | {"format version": str(FORMAT_VERSION)}
    summary = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    return "\n".join(
        [
            "---",
            *(f"{key}: {json.dumps(value)}" for key, value in header.items()),  # JSON is YAML
            "---",
            "",
            f"# {kind.__name__}",
            "",
            summary,
            "",
            "```python",
            f"from magvit2_pytorch import {kind.__name__}",
            "",
            kind.card_example.format(name=json.dumps(name)),
            "```",
            "",
            "| | |",
            "| --- | --- |",
            *(f"| {fact} | {value} |" for fact, value in facts.items()),
            "",
        ]
    )


def write_card(folder: Path, card: str) -> None:
    """Write a model card, unless there is a `README.md` that somebody else wrote or edited."""
    path = folder / CARD_NAME
    if not path.exists() or is_card_of_ours(path.read_bytes()):
        with written_whole(path) as aside:
            aside.write_bytes(card.encode() + mark_of(card.encode()))


def is_card_of_ours(content: bytes) -> bool:
    """Whether a model card is as it was written here: its last line holds the digest of the rest."""
    card, start, rest = content.rpartition(CARD_MARK)
    return start + rest == mark_of(card)


def mark_of(card: bytes) -> bytes:
    """The last line of a model card."""
    return CARD_MARK + hashlib.sha256(card).hexdigest()[:16].encode() + b") -->\n"


def _typed(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type that `hint` names: JSON's lists become tuples and objects become dataclasses."""
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return config_from_dict(hint, value, where=where)
    if origin in (Union, types.UnionType):
        for option in arguments:
            try:
                return _typed(option, value, where)
            except ValueError:
                continue
    elif origin is Literal and value in arguments:
        return next(option for option in arguments if option == value and type(option) is type(value))
    elif origin is tuple and isinstance(value, list | tuple):
        if len(arguments) == 2 and arguments[1] is ...:
            return tuple(_typed(arguments[0], item, where) for item in value)
        if len(arguments) == len(value):
            return tuple(_typed(option, item, where) for option, item in zip(arguments, value, strict=True))
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif hint is type(None) and value is None:
        return None
    elif isinstance(hint, type) and type(value) is hint:
        return value
    expected = hint.__name__ if isinstance(hint, type) else str(hint)
    raise ValueError(f"{where} must be {expected}, got {value!r}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
