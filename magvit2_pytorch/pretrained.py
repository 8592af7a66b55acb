"""Saving and loading: configs as strict JSON, weights as safetensors, every file written whole."""

import dataclasses
import difflib
import json
import os
import tempfile
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import safetensors.torch
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import nn

T = TypeVar("T")

FORMAT_VERSION = 2
"""Of what is written. Every older one is read: 1 lacks fields of `TokenizerConfig` whose defaults are what it did."""
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A path to write to in place of `path`, renamed to `path` at the end and removed after an error.

    Nobody ever sees half a file: a crash leaves the old one, or none. The ending stays the same,
    for writers that choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
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


class Pretrained(nn.Module):
    """Base of the models: a frozen config dataclass builds one, a folder or a Hub repository keeps one.

    A folder holds `config.json` (the config's fields, the class's name and a format version) and
    `model.safetensors`. Loading runs no code from either.
    """

    config_class: ClassVar[type]

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def from_config(cls, config: Any) -> Self:
        return cls(config)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into `folder`, each whole or not at all."""
        folder = Path(folder)
        if folder.is_file():
            raise ValueError(f"a model is saved into a folder, but {folder} is a file")
        with written_whole(folder / WEIGHTS_NAME) as aside:
            safetensors.torch.save_model(self, str(aside), metadata={"format": "pt"})
        header = {"_class": type(self).__name__, "_format": FORMAT_VERSION}
        write_json(folder / CONFIG_NAME, header | config_to_dict(self.config))

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
            raise ValueError(f"{weights} does not hold the weights of this {cls.__name__}: {error}") from error
        return model.eval()

    @classmethod
    def load_config(cls, folder: Path) -> Any:
        """The config in a folder that `save_pretrained` wrote."""
        path = folder / CONFIG_NAME
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no {CONFIG_NAME}: it is not a saved {cls.__name__}")
        return config_from_dict(cls.config_class, read_header(path, cls.__name__), where=str(path))


def read_header(path: Path, class_name: str) -> dict[str, Any]:
    """The fields of a saved config, after checking that it is one of `class_name` in a format known here."""
    values = read_json(path)
    found, version = values.pop("_class", None), values.pop("_format", None)
    if found != class_name:
        raise ValueError(f"{path} describes a {found}, not a {class_name}")
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, this release reads 1 to {FORMAT_VERSION}; upgrade to load it"
        )
    return values


def fetch(name_or_folder: str | Path, *, revision: str | None = None) -> Path:
    """The folder itself, or the local copy of a Hub repository of that name.

    Raises:
        FileNotFoundError: neither a folder nor a repository that can be reached.
    """
    folder = Path(name_or_folder)
    if folder.is_dir():
        return folder
    name = str(name_or_folder)
    if folder.is_absolute() or name.count("/") != 1 or name.startswith((".", "~")):
        raise FileNotFoundError(f"there is no folder {name_or_folder}")
    try:
        return Path(snapshot_download(name, revision=revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(
            f"there is no folder {name}, and no Hub repository of that name could be read: {error}"
        ) from error


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
