"""Generation: the masked transformer writes codes, the tokenizer draws them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from ..maskgit import guide, iterative_decode
from ..maskgit.orders import ConfidenceOrder
from ..tokenizer.pixels import to_unit_range
from .pictures import MIN_WIDTH, save_videos
from .saved_pipeline import SavedPipeline
from .seeds import seeded_generator

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


class VideoGenerationPipeline(SavedPipeline):
    """Both halves of the model and the names of its labels, from one folder.

    The folder holds `model_index.json`, `tokenizer/`, `maskgit/` and model cards.
    """

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

        def predict_logits(codes: Int[Tensor, "b t h w"], _: float) -> tuple[Float[Tensor, "b n _"], ...]:
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
                order=ConfidenceOrder(choice_temperature),
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
