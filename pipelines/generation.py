"""Generation: the masked transformer writes codes, the tokenizer draws them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from ..maskgit import MaskGit, guide, iterative_decode
from ..pretrained import FORMAT_VERSION, Shareable, fetch, model_card, read_header, write_card, write_json
from ..tokenizer import VideoTokenizer
from ..tokenizer.pixels import to_unit_range
from .pictures import MIN_WIDTH, save_videos

INDEX_NAME = "model_index.json"
Label = str | int


@dataclass(frozen=True)
class GenerationOutput:
    """What `VideoGenerationPipeline.generate` made."""

    videos: Float[Tensor, "b 3 T H W"]
    """In [0, 1], on the CPU."""
    codes: Int[Tensor, "b t h w"]
    """The codes that the videos were decoded from, on the CPU."""
    labels: tuple[str, ...]
    """The name of each video's label."""

    def save(self, path: str | Path, *, fps: float = 12, min_width: int = MIN_WIDTH) -> None:
        """Save all videos in one file, side by side and enlarged: .mp4 or .gif; .png shows frames in rows.

        Args:
            min_width: the picture is enlarged by a whole factor to at least so many pixels; 0 for none.

        Raises:
            ValueError: another ending.
        """
        captions = self.labels if len(self.labels) > 1 else None
        save_videos(path, self.videos, captions=captions, fps=fps, min_width=min_width)


class VideoGenerationPipeline(Shareable):
    """Both halves of the model and the names of its labels, from one folder.

    The folder holds `model_index.json`, `tokenizer/`, `maskgit/` and model cards.
    """

    card_tags = ("video-generation",)
    card_example = (
        'pipeline = VideoGenerationPipeline.from_pretrained({name})\npipeline.generate(seed=0).save("sample.mp4")'
    )

    def __init__(self, tokenizer: VideoTokenizer, maskgit: MaskGit, *, labels: Sequence[str], num_frames: int) -> None:
        """Args:
        labels: the name of each label.
        num_frames: frames of the clips trained on, the most that `generate` makes.

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
            VideoTokenizer.from_pretrained(folder / "tokenizer"),
            MaskGit.from_pretrained(folder / "maskgit"),
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
        write_card(folder, model_card(self, f"path/to/{folder.name}", license=license))
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

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move both halves to a device and to a floating point type."""
        self.tokenizer.to(device=device, dtype=dtype)
        self.maskgit.to(device=device, dtype=dtype)
        return self

    @property
    def device(self) -> torch.device:
        """Where the transformer lives."""
        return next(self.maskgit.parameters()).device

    @torch.inference_mode()
    def generate(
        self,
        num_frames: int | None = None,
        labels: Label | Sequence[Label] | None = None,
        *,
        num_steps: int = 12,
        guidance_scale: float = 1.0,
        temperature: float = 1.0,
        choice_temperature: float = 8.0,
        seed: int | None = None,
        progress: bool = True,
    ) -> GenerationOutput:
        """One video for each label.

        Args:
            num_frames: 1 makes an image; by default as many as the model was trained on, which is the most.
            labels: names or indices, one or several; by default one, drawn at random.
            num_steps: passes through the transformer.
            guidance_scale: how far to go from the unconditional to the label's prediction, and beyond; 1 is none.
            temperature: divides the logits; less than 1 is safer, more is wilder.
            choice_temperature: how much chance there is in which codes are settled first.
            seed: the same seed gives the same videos; video i draws from (seed, i), whatever else is in the call.
            progress: show a progress bar.

        Raises:
            ValueError: an argument out of range, or a label that the model does not have.
        """
        num_frames = self.num_frames if num_frames is None else num_frames
        if not 1 <= num_frames <= self.num_frames:
            raise ValueError(f"num_frames must be from 1 to the {self.num_frames} trained on, got {num_frames}")
        if guidance_scale < 0:
            raise ValueError(f"guidance_scale must not be negative, got {guidance_scale}")
        seed = int(torch.randint(2**31, ())) if seed is None else seed
        indices = self._label_indices(labels, seed)

        config, device = self.maskgit.config, self.device
        label = torch.tensor(indices, device=device)
        null_label = torch.full_like(label, config.null_label)

        def predict_logits(codes: Int[Tensor, "b t h w"]) -> tuple[Float[Tensor, "b n _"], ...]:
            if guidance_scale == 1:
                return self.maskgit(codes, label)
            logits = self.maskgit(torch.cat([codes, codes]), torch.cat([label, null_label]))
            conditional, unconditional = zip(*(group.chunk(2) for group in logits), strict=True)
            return guide(conditional, unconditional, guidance_scale)

        grid = self.tokenizer.code_shape(num_frames, *self.tokenizer.config.height_width)
        with tqdm(total=num_steps, desc="Generating", unit="step", disable=not progress) as bar:

            def show(step: int, _: Int[Tensor, "b t h w"]) -> None:
                bar.update(step + 1 - bar.n)

            codes = iterative_decode(
                predict_logits,
                torch.full((len(indices), *grid), config.mask_id, device=device),
                mask_id=config.mask_id,
                group_bits=config.group_bits,
                num_steps=num_steps,
                temperature=temperature,
                choice_temperature=choice_temperature,
                generators=[seeded_generator(seed, sample) for sample in range(len(indices))],
                callback=show,
            )
        videos = self.tokenizer.decode(codes, num_frames, *self.tokenizer.config.height_width)
        return GenerationOutput(
            to_unit_range(videos.float()).cpu(), codes.cpu(), tuple(self.labels[index] for index in indices)
        )

    def _label_indices(self, labels: Label | Sequence[Label] | None, seed: int) -> list[int]:
        if labels is None:
            return [int(torch.randint(len(self.labels), (), generator=seeded_generator(seed, 0, 1)))]
        wanted = [labels] if isinstance(labels, str | int) else list(labels)
        if not wanted:
            raise ValueError("labels must name at least one label, got none")
        return [self._label_index(label) for label in wanted]

    def _label_index(self, label: Label) -> int:
        if isinstance(label, str) and label in self.labels:
            return self.labels.index(label)
        if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(self.labels):
            return label
        names = ", ".join(f"{index} {name!r}" for index, name in enumerate(self.labels))
        raise ValueError(f"there is no label {label!r}, allowed are {names}")


def seeded_generator(*key: int) -> torch.Generator:
    """A generator on the CPU whose numbers are a function of `key` alone, well mixed.

    Raises:
        ValueError: a negative number in the key.
    """
    if min(key) < 0:
        raise ValueError(f"a seed must not be negative, got {key[0]}")
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))
