"""Both halves of the model in one folder: loading, saving, model card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from ..files import write_json
from ..hub import fetch
from ..maskgit import MaskGit
from ..model_card import write_card
from ..pretrained import FORMAT_VERSION, Shareable, read_header
from ..tokenizer import VideoTokenizer
from .movable import Movable

INDEX_NAME = "model_index.json"


class SavedPipeline(Shareable, Movable):
    """Tokenizer, transformer and the names of the labels: what a pipeline's folder holds.

    The folder holds `model_index.json`, `tokenizer/`, `maskgit/` and model cards.
    """

    card_tags = ("video-generation",)
    card_example = (
        'pipeline = VideoGenerationPipeline.from_pretrained({name})\npipeline.generate(seed=0).save("sample.mp4")'
    )

    def __init__(self, tokenizer: VideoTokenizer, maskgit: MaskGit, *, labels: Sequence[str], num_frames: int) -> None:
        """Args:
        labels: the name of each label.
        num_frames: frames of the clips trained on; `generate` makes longer videos window by window.

        Raises:
            ValueError: the two halves do not belong together.
        """
        if tokenizer.codebook_size != maskgit.config.codebook_size:
            raise ValueError(
                f"the tokenizer has {tokenizer.codebook_size} codes, "
                f"but the transformer was made for {maskgit.config.codebook_size}"
            )
        if len(labels) != maskgit.config.num_labels:
            raise ValueError(f"the transformer has {maskgit.config.num_labels} labels, got {len(labels)} names")
        self.tokenizer = tokenizer.eval()
        self.maskgit = maskgit.eval()
        self.labels = tuple(labels)
        self.num_frames = num_frames

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, *, revision: str | None = None) -> Self:
        """The pipeline in a folder that `save_pretrained` wrote, or in a Hub repository (`owner/name`).

        Raises:
            FileNotFoundError: there is no such folder or repository, or a part of it is missing.
            ValueError: a file is of another class, of a newer format, or damaged.
        """
        folder = fetch(name_or_folder, revision=revision)
        path = folder / INDEX_NAME
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no {INDEX_NAME}: it is not a saved {cls.__name__}")
        index = read_header(path, cls.__name__)
        labels, num_frames = index.get("labels"), index.get("num_frames")
        if not isinstance(labels, list) or not isinstance(num_frames, int):
            raise ValueError(f"{path} must name the labels and num_frames, got {index}")
        return cls(
            VideoTokenizer.from_pretrained(folder, subfolder="tokenizer"),
            MaskGit.from_pretrained(folder, subfolder="maskgit"),
            labels=labels,
            num_frames=num_frames,
        )

    def save_pretrained(self, folder: str | Path, *, license: str | None = None) -> None:
        """Write both halves, a model card and, last, the index that makes the folder a pipeline.

        A `README.md` that is there already stays, unless it is a model card of ours that nobody has edited.

        Args:
            license: the Hub's identifier of the weights' license, for the model cards; by default they name none.
        """
        folder = Path(folder)
        self.tokenizer.save_pretrained(folder / "tokenizer", license=license)
        self.maskgit.save_pretrained(folder / "maskgit", license=license)
        write_card(folder, self.card(f"path/to/{folder.name}", license=license))
        header = {"_class": type(self).__name__, "_format": FORMAT_VERSION}
        write_json(folder / INDEX_NAME, header | {"labels": list(self.labels), "num_frames": self.num_frames})

    def card_facts(self) -> dict[str, str]:
        """What a model card tells of this pipeline."""
        height, width = self.tokenizer.config.height_width
        halves = self.tokenizer.num_parameters, self.maskgit.num_parameters
        return {
            "parameters": f"{halves[0]:,} of the tokenizer, {halves[1]:,} of the transformer",
            "videos": f"{self.num_frames} frames of {height} x {width} pixels, in [0, 1]",
            "labels": ", ".join(self.labels),
            "codebook size": f"{self.tokenizer.codebook_size:,}",
        }

    def models(self) -> tuple[VideoTokenizer, MaskGit]:
        """Return tokenizer and transformer."""
        return self.tokenizer, self.maskgit
