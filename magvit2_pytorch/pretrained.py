"""Saving, loading and sharing: configs as strict JSON, weights as safetensors, every file written whole."""

import json
import tempfile
import textwrap
from pathlib import Path
from typing import Any, ClassVar, Self

import safetensors.torch
import torch
from huggingface_hub import HfApi
from torch import nn

from .configs import config_from_dict, config_to_dict
from .files import read_json, write_json, written_whole
from .hub import fetch, hub_errors_in_words
from .model_card import CARD_NAME, is_card_of_ours, model_card, write_card

FORMAT_VERSION = 3
"""Of what is written. Every older one is read: 1 lacks fields of `TokenizerConfig` whose defaults are what it did, and
`MaskGit.upgrade_config` says what 1 and 2 lack of `MaskGitConfig`."""
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
FEW_DETAILS, LONGEST_DETAIL = 3, 200  # of what is wrong with a file of weights: lines, and letters of each


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

    def card(self, name: str, *, license: str | None) -> str:
        """The text of the model card.

        Args:
            name: what `from_pretrained` is to be given.
        """
        kind = type(self)
        return model_card(
            kind.__name__,
            " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
            example=kind.card_example.format(name=json.dumps(name)),
            facts=self.card_facts() | {"format version": str(FORMAT_VERSION)},
            tags=("magvit2", "video", *kind.card_tags),
            license=license,
        )

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
            write_card(folder, self.card(repo_id, license=license))
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
        write_card(folder, self.card(f"path/to/{folder.name}", license=license))

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
