"""Train the weights that come with the package, on two CPU cores.

    python train/weights.py                  # all of them, about 150 minutes
    python train/weights.py --names general64
    python train/weights.py --help

An interrupted training continues where it stopped if the command is repeated. Weights are rounded to half precision. A
tokenizer is rounded before its codes are learned, so that the transformer fits the rounded one exactly.
"""

if __name__ == "__main__" and not __package__:  # run as a script: its folder is first in sys.path
    from check_installation import check_installation

    check_installation()

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
import tyro

from magvit2_pytorch.choices import chosen
from magvit2_pytorch.files import as_path, read_json, write_json
from magvit2_pytorch.hub import WEIGHTS_DIR
from magvit2_pytorch.pipelines import VideoGenerationPipeline
from magvit2_pytorch.tokenizer import VideoTokenizer
from magvit2_pytorch.train import maskgit, tokenizer
from magvit2_pytorch.train.process import SignalInterruption, exit_if_interrupted, exit_on_error, set_up
from magvit2_pytorch.train.session import RunConfig

Run = TypeVar("Run", bound=RunConfig)

logger = logging.getLogger(__name__)

LICENSE = "mit"
SECONDS_NAME = "seconds.json"


@dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """Settings of `train/weights.py`."""

    names: tuple[str, ...] = ("arcade64", "general64")
    """Which weights to train."""
    runs_dir: Path = Path("outputs/weights")
    """Folder of the training runs."""
    output_dir: Path = WEIGHTS_DIR
    """Folder of the results. By default they replace those of the package."""
    seed: int = 0
    """Random seed of the trainings."""
    tokenizer_steps: int | None = None
    """Steps of the tokenizers in place of those of their presets. Few steps are enough for a test run."""
    maskgit_steps: int | None = None
    """Steps of the transformer in place of those of its preset."""

    def __post_init__(self) -> None:
        for name in self.names:
            chosen(MAKERS, name, "names")
        for name in ("runs_dir", "output_dir"):
            object.__setattr__(self, name, as_path(getattr(self, name)))


def make_weights(config: WeightsConfig) -> None:
    """Train all weights and save them. An interruption ends the process with status 1."""
    set_up()
    for name in config.names:
        with adding_seconds(config.runs_dir / name / SECONDS_NAME):
            MAKERS[name](name, config)
        logger.info("%s is in %s", name, config.output_dir / name)


def make_tokenizer(name: str, config: WeightsConfig) -> None:
    """Train and save a tokenizer."""
    train_tokenizer(name, config).save_pretrained(config.output_dir / name, license=LICENSE)


def make_pipeline(name: str, config: WeightsConfig) -> None:
    """Train both stages, and save the pipeline."""
    rounded = config.runs_dir / name / "rounded"
    train_tokenizer(name, config).save_pretrained(rounded)
    run = replace(maskgit.PRESETS[name], tokenizer=rounded)
    folder = trained(run, maskgit.train, config.runs_dir / name / "maskgit", config.seed, config.maskgit_steps)
    pipeline = VideoGenerationPipeline.from_pretrained(folder, dtype=torch.float16)
    pipeline.save_pretrained(config.output_dir / name, license=LICENSE)


def train_tokenizer(name: str, config: WeightsConfig) -> VideoTokenizer:
    """Return a trained tokenizer in half precision."""
    folder = config.runs_dir / name / "tokenizer"
    weights = trained(tokenizer.PRESETS[name], tokenizer.train, folder, config.seed, config.tokenizer_steps)
    return VideoTokenizer.from_pretrained(weights, dtype=torch.float16)


def trained(
    run: Run,
    train: Callable[[Run, SignalInterruption], Path | None],
    folder: Path,
    seed: int,
    num_steps: int | None,
) -> Path:
    """Begin or continue a training, and return the folder of its result."""
    interruption = SignalInterruption()
    run = replace(run, output_dir=folder, seed=seed, num_steps=num_steps or run.num_steps, resume=True)
    result = train(run, interruption)
    exit_if_interrupted(result, interruption)
    assert result is not None
    return result


@contextmanager
def adding_seconds(path: Path) -> Iterator[None]:
    """Add the seconds that are spent to those in a file, also after an interruption."""
    before = read_json(path)["seconds"] if path.is_file() else 0.0
    started = time.monotonic()
    try:
        yield
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"seconds": before + time.monotonic() - started})


MAKERS: dict[str, Callable[[str, WeightsConfig], None]] = {"arcade64": make_pipeline, "general64": make_tokenizer}


if __name__ == "__main__":
    with exit_on_error():
        make_weights(tyro.cli(WeightsConfig, description="Train the weights that come with the package."))
