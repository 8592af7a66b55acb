"""Loading and saving of pipelines as folders, and their model cards."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, Unpack

import torch

from ..choices import whole_number
from ..configs import config_from_dict, config_to_dict
from ..files import as_path, write_json
from ..hub import HubOptions, fetch
from ..maskgit import MaskGit
from ..messages import printable
from ..model_card import write_card
from ..pretrained import FORMAT_VERSION, Shareable, read_versioned
from ..tokenizer import VideoTokenizer
from .movable import Movable

INDEX_NAME = "model_index.json"
MAX_CODES = 2**17
"""Maximum number of codes of a window, so that a saved config cannot exhaust the memory."""
MAX_PIXELS = 2**28
"""Maximum number of pixels of a window."""


@dataclass(frozen=True, kw_only=True)
class PipelineIndex:
    """Fields of `model_index.json`."""

    labels: tuple[str, ...]
    num_frames: int


class SavedPipeline(Shareable, Movable):
    """Tokenizer, transformer and the names of the labels, saved in one folder.

    The folder contains `model_index.json`, `tokenizer/`, `maskgit/` and model cards.
    """

    card_tags = ("video-generation",)
    card_example = (
        'pipeline = VideoGenerationPipeline.from_pretrained({name})\npipeline.generate(seed=0).save("sample.mp4")'
    )

    def __init__(self, tokenizer: VideoTokenizer, maskgit: MaskGit, *, labels: Sequence[str], num_frames: int) -> None:
        """Args:
        labels: name of each label.
        num_frames: length of the training clips. `generate` generates longer videos window by window.

        Raises:
            ValueError: if the codebook sizes of the models differ, or if labels or `num_frames` are invalid.
        """
        if tokenizer.codebook_size != maskgit.config.codebook_size:
            raise ValueError(
                f"tokenizer and transformer must have the same codebook_size, "
                f"got {tokenizer.codebook_size} and {maskgit.config.codebook_size}"
            )
        check_labels(labels)
        if len(labels) != maskgit.config.num_labels:
            raise ValueError(f"labels must have {maskgit.config.num_labels} names, got {len(labels)}")
        self.tokenizer = tokenizer.eval()
        self.maskgit = maskgit.eval()
        self.labels = tuple(labels)
        self.num_frames = whole_number("num_frames", num_frames, 1, MAX_PIXELS)

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        **hub: Unpack[HubOptions],
    ) -> Self:
        """Load the pipeline in a folder that `save_pretrained` wrote, or in a Hub repository (`owner/name`).

        Args:
            dtype, device, hub: as in `VideoTokenizer.from_pretrained`.

        Raises:
            FileNotFoundError: if there is no such folder or repository, or if a part of it is missing.
            ValueError: if a file has another class or a newer format, or is damaged.
        """
        folder = fetch(name_or_folder, **hub)
        path = folder / INDEX_NAME
        if not path.is_file():
            raise FileNotFoundError(f"{folder} contains no {INDEX_NAME}: it is not a saved {cls.__name__}")
        index = config_from_dict(PipelineIndex, read_versioned(path, cls.__name__)[0], where=str(path))
        pipeline = cls(
            VideoTokenizer.from_pretrained(folder, subfolder=VideoTokenizer.part, dtype=dtype, device=device),
            MaskGit.from_pretrained(folder, subfolder=MaskGit.part, dtype=dtype, device=device),
            labels=index.labels,
            num_frames=index.num_frames,
        )
        clip = (pipeline.num_frames, *pipeline.tokenizer.config.height_width)
        num_codes = max(math.prod(pipeline.maskgit.config.grid), math.prod(pipeline.tokenizer.code_shape(*clip)))
        if num_codes > MAX_CODES or math.prod(clip) > MAX_PIXELS:
            raise ValueError(
                f"{folder}: a window of {' x '.join(map(str, clip))} pixels and {num_codes} codes is too large; "
                f"at most {MAX_PIXELS} pixels and {MAX_CODES} codes are allowed"
            )
        return pipeline

    def save_pretrained(self, folder: str | Path, *, license: str | None = None) -> None:
        """Write both models, a model card and, last, `model_index.json`.

        An existing `README.md` is kept, unless it is an unedited model card from an earlier call.

        Args:
            license: Hub identifier of the license of the model weights, for the model cards.

        Raises:
            ValueError: if a sub-folder is a symbolic link, since files elsewhere would be overwritten.
        """
        check_labels(self.labels)
        folder = as_path(folder)
        for part in (folder / model.part for model in self.models()):
            if part.is_symlink():
                raise ValueError(f"{part} is a symbolic link to another folder; remove it, or choose a new folder")
        for model in self.models():
            model.save_pretrained(folder / model.part, license=license)
        write_card(folder, self.card(f"path/to/{folder.name}", license=license))
        header = {"_class": type(self).__name__, "_format": FORMAT_VERSION}
        index = PipelineIndex(labels=self.labels, num_frames=self.num_frames)
        write_json(folder / INDEX_NAME, header | config_to_dict(index))

    def card_facts(self) -> dict[str, str]:
        """Return the properties that the model card lists."""
        height, width = self.tokenizer.config.height_width
        sizes = self.tokenizer.num_parameters, self.maskgit.num_parameters
        return {
            "parameters": f"{sizes[0]:,} of the tokenizer, {sizes[1]:,} of the transformer",
            "videos": f"{self.num_frames} frames of {height} x {width} pixels, in [0, 1]",
            "labels": ", ".join(self.labels),
            "codebook size": f"{self.tokenizer.codebook_size:,}",
        }

    def models(self) -> tuple[VideoTokenizer, MaskGit]:
        """Return the tokenizer and the transformer."""
        return self.tokenizer, self.maskgit


def check_labels(labels: Sequence[str]) -> None:
    """Check the names of labels.

    Raises:
        ValueError: if one is not a string, cannot be written as UTF-8, or occurs twice.
    """
    if isinstance(labels, str):
        raise ValueError(f"labels must be a list of names, got the string {printable(labels)!r}")
    for label in labels:
        if not isinstance(label, str):
            raise ValueError(f"labels must be strings, got {printable(repr(label))}")
        if any("\ud800" <= character <= "\udfff" for character in label):
            raise ValueError(f"label {printable(label)!r} is not valid Unicode: it contains surrogates")
    if len(set(labels)) < len(labels):
        duplicate = next(label for label in labels if list(labels).count(label) > 1)
        raise ValueError(f"labels must differ, got {printable(duplicate)!r} twice")
