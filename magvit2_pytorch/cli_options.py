"""Options that several verbs of the command line share. Nothing here loads torch: `magvit2 --help` needs none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

Positional = tyro.conf.Positional
Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    model: Path = Path("outputs/demo/pipeline")
    """Folder or Hub name of a pipeline; where no transformer is needed, of a tokenizer too."""
    device: str | None = None
    """Where to compute, say cpu or cuda:1; by default the accelerator that is there."""

    def check(self) -> None:
        """
        Raises:
            FileNotFoundError: no model is named, and the demo has not made one.
        """
        if self.model == ModelOptions.model and not self.model.exists():
            raise FileNotFoundError(
                f"there is no {self.model}: run `magvit2 demo`, which makes it, or name another pipeline"
            )


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    max_frames: int | None = None
    """Read only so many frames from the start of a file."""
    own_size: bool = False
    """Take frames as large as they are; otherwise they are cropped and resized to the size trained on."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """Arguments of `VideoGenerationPipeline.generate` of the same names, with the same defaults."""

    labels: tuple[str, ...] = ()
    """Names or indices, a video for each."""
    num_videos_per_label: int = 1
    """Videos for each label, or for each video that something is given of."""
    overlap: int = 5
    """Frames before it that a window of a long video sees."""
    num_steps: int = 12
    """Passes through the transformer for each window."""
    guidance_scale: float = 1.0
    """How strongly the label is followed; 1 is no guidance."""
    guidance_schedule: str = "constant"
    """constant, or rising from pass to pass: linear, cosine."""
    temperature: float = 1.0
    """Less is safer, more is wilder."""
    top_k: int | None = None
    """Draw from so many of the likeliest sub-codes only."""
    top_p: float | None = None
    """Draw from the likeliest sub-codes only that together have this probability."""
    order: str = "confidence"
    """Which codes are settled first: confidence, random, halton, critic."""
    choice_temperature: float | None = None
    """How much chance there is in the orders by confidence (by default 8) and by critic (1)."""
    schedule: str = "cosine"
    """How many codes are settled in each pass: cosine, linear, square, cubic, arccos, log."""
    seed: int | None = None
    """The same seed gives the same videos."""


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    fps: float | None = None
    """Frames per second of the file; by default those of the video that is given, or 12."""
    min_width: int = 512
    """The picture is enlarged by a whole factor to at least so many pixels; 0 for none."""
    decoding: Path | None = None
    """Another file to write, .gif, .mp4, or .png for frames in a row: how the codes were filled in."""


Model = Annotated[ModelOptions, tyro.conf.arg(name="")]
Reading = Annotated[ReadingOptions, tyro.conf.arg(name="")]
Sampling = Annotated[SamplingOptions, tyro.conf.arg(name="")]
Picture = Annotated[PictureOptions, tyro.conf.arg(name="")]
