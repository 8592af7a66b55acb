"""Options that several commands share. Nothing here imports torch, which `magvit2 --help` does not need."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

PIPELINE, TOKENIZER = Path("arcade64"), Path("general64")
"""Default models: weights that come with the package."""

Positional = tyro.conf.Positional
Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    model: Path = PIPELINE
    """Folder or Hub name of a pipeline, or weights that come with the package: arcade64."""
    device: str | None = None
    """Device such as cpu or cuda:1, by default the accelerator if there is one."""


@dataclass(frozen=True, kw_only=True)
class TokenizerOptions:
    model: Path = TOKENIZER
    """Folder or Hub name of a tokenizer or a pipeline, or weights that come with the package: general64, arcade64."""
    device: str | None = None
    """Device such as cpu or cuda:1, by default the accelerator if there is one."""


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    max_frames: int | None = None
    """Read at most this number of frames of a file."""
    own_size: bool = False
    """Keep the size of the frames. By default they are cropped and resized to the training size."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """Arguments of `VideoGenerationPipeline.generate` with the same names and defaults."""

    labels: tuple[str, ...] = ()
    """Labels to generate, as names or indices."""
    num_videos_per_label: int = 1
    """Videos per label, or per input video."""
    overlap: int = 5
    """Number of previous frames that each window of a long video is conditioned on."""
    num_steps: int = 12
    """Decoding steps per window: passes through the transformer."""
    guidance_scale: float = 1.0
    """Strength of classifier-free guidance; 1 = none."""
    guidance_schedule: str = "constant"
    """constant, or increasing with each step: linear, cosine."""
    temperature: float = 1.0
    """Sampling temperature. Lower values give more likely samples, higher values more varied ones."""
    top_k: int | None = None
    """Sample each sub-code from its k most likely values only."""
    top_p: float | None = None
    """Nucleus sampling: sample each sub-code from its most likely values with this total probability."""
    order: str = "confidence"
    """Which codes each pass keeps: confidence, random, halton, critic."""
    choice_temperature: float | None = None
    """Randomness of the orders confidence (default 8) and critic (default 1)."""
    schedule: str = "cosine"
    """Mask schedule: cosine, linear, square, cubic, arccos, log."""
    seed: int | None = None
    """Random seed. The same seed gives the same videos."""


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    fps: float | None = None
    """Frame rate of the output in frames per second; by default that of the input video, else 12."""
    min_width: int = 512
    """Enlarge the output by an integer factor to at least this width in pixels; 0 = keep its size."""
    decoding: Path | None = None
    """Second output file that shows the decoding steps: .gif, .mp4, or .png (one row of steps per video)."""


Model = Annotated[ModelOptions, tyro.conf.arg(name="")]
Tokenizer = Annotated[TokenizerOptions, tyro.conf.arg(name="")]
Reading = Annotated[ReadingOptions, tyro.conf.arg(name="")]
Sampling = Annotated[SamplingOptions, tyro.conf.arg(name="")]
Picture = Annotated[PictureOptions, tyro.conf.arg(name="")]
