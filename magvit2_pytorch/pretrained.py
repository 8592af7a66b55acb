"""Saving, loading and sharing of models: configs as strict JSON, weights as safetensors, every file atomic."""

import json
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, Unpack

import safetensors.torch
import torch
from huggingface_hub import HfApi
from torch import Tensor, nn

from .configs import config_from_dict, config_to_dict
from .files import MAX_JSON_BYTES, as_path, check_tensor_file, read_json, utf8_name, write_json, written_whole
from .hub import HubOptions, fetch, readable_hub_errors
from .messages import printable
from .model_card import CARD_NAME, is_card_of_ours, model_card, write_card

FORMAT_VERSION = 3
"""Version of the saved format. Older formats can be read: fields of `TokenizerConfig` that format 1 lacks take their
defaults, and `MaskGit.upgrade_config` adds the fields of `MaskGitConfig` that formats 1 and 2 lack."""
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
TRAINING_NAME = "training.json"
MAX_CONFIG_BYTES = 2**18
MAX_LAYERS = 256  # of a loaded model: layers are built before their tensors are compared with those of the file
FEW_DETAILS, LONGEST_DETAIL = 3, 200  # lines and characters per line of PyTorch's report on wrong weights
INTEGER_BUFFER = "quantizer.lfq.mask"  # the only saved tensor of integers
FLOATING_POINT = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class Shareable:
    """Base of everything that can be saved into a folder with a model card and uploaded to the Hugging Face Hub."""

    card_tags: ClassVar[tuple[str, ...]]
    """Tags for the search of the Hub."""
    card_example: ClassVar[str]
    """Lines of Python that load it from {name} and use it."""

    def save_pretrained(self, folder: str | Path, *, license: str | None = None) -> None:
        raise NotImplementedError

    def card_facts(self) -> dict[str, str]:
        """Return the properties that the model card lists, by name."""
        raise NotImplementedError

    def card(self, name: str, *, license: str | None, training: Mapping[str, str] | None = None) -> str:
        """Return the text of the model card.

        Args:
            name: argument of `from_pretrained` in the example.
            training: facts about the training by name, which the card lists first.
        """
        kind = type(self)
        return model_card(
            kind.__name__,
            " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
            example=kind.card_example.format(name=json.dumps(name)),
            facts=dict(training or {}) | self.card_facts() | {"format version": str(FORMAT_VERSION)},
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
        """Upload the files of `save_pretrained` to a Hub repository, which is created if it does not exist.

        An edited model card in the repository is kept.

        Args:
            repo_id: `owner/name`, or `name` for the owner of the token.
            private: whether a new repository is private; by default the owner's setting.
            token: access token with the role write; by default that of `hf auth login`.
            license: the Hub's identifier of the license of the weights, for the model card; by default none.
            commit_message: by default it names the class.
            branch: created if it does not exist; by default the main branch.

        Returns:
            The address of the repository.

        Raises:
            ValueError: if `repo_id` is not a valid name.
            PermissionError: if there is no token, or if it has no write access to the repository.
            ConnectionError: if the Hub cannot be reached or refuses the upload for another reason.
        """
        api = HfApi(token=token)
        with readable_hub_errors(repo_id), tempfile.TemporaryDirectory() as temporary:
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
    """Base of the models: built from a frozen config dataclass, saved in a folder or a Hub repository.

    A folder contains `config.json` (the fields of the config, the name of the class and a format version),
    `model.safetensors` and a model card, `README.md`. Loading executes no code from any of them.
    """

    config_class: ClassVar[type]
    part: ClassVar[str]
    """Sub-folder of a pipeline that contains a model of this class."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def from_config(cls, config: Any) -> Self:
        return cls(config)

    @classmethod
    def num_layers(cls, config: Any) -> int:
        """Return the number of layers of a model with this config."""
        raise NotImplementedError

    def save_pretrained(self, folder: str | Path, *, license: str | None = None) -> None:
        """Write `config.json`, `model.safetensors` and a model card into `folder`, each file atomically.

        An existing `README.md` is kept unless it is an unedited, generated model card.

        Args:
            license: the Hub's identifier of the license of the weights, for the model card; by default none.

        Raises:
            ValueError: if `folder` is a file.
            OSError: if a file cannot be written, for example to a full disk.
        """
        folder = as_path(folder)
        if folder.is_file():
            raise ValueError(f"a model is saved into a folder, but {folder} is a file")
        with written_whole(folder / WEIGHTS_NAME) as aside:
            try:
                safetensors.torch.save_model(self, str(aside), metadata={"format": "pt"})
            except safetensors.SafetensorError as error:
                raise OSError(f"{folder / WEIGHTS_NAME} cannot be written: {error}") from error
        header = {"_class": type(self).__name__, "_format": FORMAT_VERSION}
        write_json(folder / CONFIG_NAME, header | config_to_dict(self.config))
        write_card(folder, self.card(f"path/to/{folder.name}", license=license))

    @property
    def num_parameters(self) -> int:
        """Number of parameters, shared ones counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        subfolder: str = "",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        **hub: Unpack[HubOptions],
    ) -> Self:
        """Load a saved model, in evaluation mode.

        Args:
            name_or_folder: a folder that `save_pretrained` wrote, or the name of a Hub repository (`owner/name`). The
                folder of a pipeline or of a training run is also accepted; its model of this class is loaded.
            subfolder: sub-folder of `name_or_folder` that contains the model.
            dtype: floating point type of the weights; by default torch's default type.
            device: by default the CPU.
            hub: for Hub repositories, `revision`, `token`, `cache_dir` and `local_files_only` (see `HubOptions`).

        Raises:
            FileNotFoundError: if there is no such folder or repository, or if a file is missing in it.
            ValueError: if the files are of another class, of a newer format, or damaged.
        """
        folder = fetch(name_or_folder, **hub) / subfolder
        if (folder / cls.part / CONFIG_NAME).is_file():
            folder = folder / cls.part
        config = cls.load_config(folder)
        weights = folder / WEIGHTS_NAME
        if not weights.is_file():
            raise FileNotFoundError(f"{folder} contains no {WEIGHTS_NAME}")
        try:
            cls.check_weights(config, read_shapes(weights))
            with torch.random.fork_rng(devices=[]):  # initial weights are overwritten: keep the random state
                model = cls.from_config(config)
            constants = {name: values.clone() for name, values in model.state_dict().items() if is_constant(values)}
            with utf8_name(weights) as name:
                safetensors.torch.load_model(model, name, strict=True)
        except (RuntimeError, OverflowError, TypeError, ValueError, safetensors.SafetensorError) as error:
            raise ValueError(
                f"{weights} does not contain the weights of this {cls.__name__}: {few_details(str(error))}"
            ) from error
        for name, values in model.state_dict().items():
            if values.is_floating_point() and not values.isfinite().all():
                raise ValueError(f"{weights}: {name} contains NaN or infinity")
            if is_constant(values) and not torch.equal(values, constants[name]):
                raise ValueError(f"{weights}: {name} is a constant and must have the values that the config determines")
        return model.to(device=device, dtype=dtype).eval()

    @classmethod
    def check_weights(cls, config: Any, tensors: dict[str, Tensor]) -> None:
        """Check that tensors are the weights of a model with this config, before memory is allocated for it.

        Args:
            tensors: on the meta device, by name.

        Raises:
            ValueError: if the config describes more than `MAX_LAYERS` layers, or more layers than there are tensors.
            RuntimeError: if names or shapes differ.
        """
        if (num_layers := cls.num_layers(config)) > MAX_LAYERS:
            raise ValueError(f"{CONFIG_NAME} describes {num_layers} layers, at most {MAX_LAYERS} can be loaded")
        if num_layers > len(tensors):
            raise ValueError(f"{CONFIG_NAME} describes {num_layers} layers, but there are only {len(tensors)} tensors")
        with torch.device("meta"):  # allocates nothing
            model = cls.from_config(config)
        model.load_state_dict(tensors, strict=True)

    @classmethod
    def load_config(cls, folder: Path) -> Any:
        """Return the config in a folder that `save_pretrained` wrote."""
        path = folder / CONFIG_NAME
        if not path.is_file():
            raise FileNotFoundError(f"{folder} contains no {CONFIG_NAME}: it is not a saved {cls.__name__}")
        values, version = read_versioned(path, cls.__name__, MAX_CONFIG_BYTES)
        return config_from_dict(cls.config_class, cls.upgrade_config(values, version), where=str(path))

    @classmethod
    def upgrade_config(cls, values: dict[str, Any], version: int) -> dict[str, Any]:
        """Return the fields of a config of format `version` under their current names, with missing fields added."""
        return values


def training_facts(folder: Path) -> dict[str, str]:
    """Return what `training.json` in the folder of a model says about its training; empty if there is none.

    Raises:
        ValueError: if the file is damaged or does not contain strings.
    """
    path = folder / TRAINING_NAME
    facts = read_json(path) if path.is_file() else {}
    for name, fact in facts.items():
        if not isinstance(fact, str):
            raise ValueError(f"{path}: {printable(name)} must be a string, got {printable(repr(fact))}")
    return facts


def read_shapes(weights: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file on the meta device: names, shapes and types without values.

    Raises:
        ValueError: if the header is too large, or if a tensor is not floating point.
        SafetensorError: if the file is damaged.
    """
    check_tensor_file(weights)
    tensors = {}
    with utf8_name(weights) as name, safetensors.safe_open(name, framework="pt") as file:
        names = file.keys()
        for name in names:
            described = file.get_slice(name)
            kind = described.get_dtype()
            if kind not in FLOATING_POINT and name != INTEGER_BUFFER:
                raise ValueError(
                    f"{printable(name)} has type {kind}, weights must be one of {', '.join(FLOATING_POINT)}"
                )
            dtype = FLOATING_POINT.get(kind, torch.int64)
            tensors[name] = torch.empty(described.get_shape(), dtype=dtype, device="meta")
    return tensors


def is_constant(values: Tensor) -> bool:
    """Return whether a tensor of a state dict is not trained."""
    return not values.is_floating_point()


def few_details(message: str) -> str:
    """Return the first lines of PyTorch's report on wrong weights, shortened."""
    lines = [line.strip().rstrip(".") for line in message.splitlines() if "Error(s) in loading" not in line]
    shown = "; ".join(
        textwrap.shorten(printable(line, 10 * LONGEST_DETAIL), LONGEST_DETAIL, placeholder=" ...")
        for line in lines[:FEW_DETAILS]
    )
    return shown + (f" (and {len(lines) - FEW_DETAILS} more)" if len(lines) > FEW_DETAILS else "")


def read_versioned(path: Path, class_name: str, max_bytes: int = MAX_JSON_BYTES) -> tuple[dict[str, Any], int]:
    """Return the fields of a saved config of `class_name`, and the version of its format.

    Raises:
        ValueError: if it is of another class or of an unknown format.
    """
    values = read_json(path, max_bytes=max_bytes)
    found, version = values.pop("_class", None), values.pop("_format", None)
    if found != class_name:
        raise ValueError(f"{path} must describe a {class_name}, got _class = {printable(repr(found))}")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        newer = "; upgrade magvit2-pytorch to load it" if type(version) is int and version > FORMAT_VERSION else ""
        got = f"got _format = {printable(repr(version))}{newer}"
        raise ValueError(f"{path} must have a format version from 1 to {FORMAT_VERSION}, {got}")
    return values, version
