"""Train the weights that come with the package, on two CPU cores.

    python train/weights.py                  # all of them, about 150 minutes
    python train/weights.py --names general64
    python train/weights.py --help

An interrupted training continues where it stopped if the command is repeated. Weights are rounded to half precision. A
tokenizer is rounded before its codes are learned, so that the transformer fits the rounded one exactly.

Each folder also contains `training.json`, facts about the training that `magvit2 info` and the model card show, and
`SHA256SUMS` (`sha256sum --check SHA256SUMS`).
"""

if __name__ == "__main__" and not __package__:  # run as a script: its folder is first in sys.path
    from check_installation import check_installation

    check_installation()

import hashlib
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
from magvit2_pytorch.devices import chosen_device
from magvit2_pytorch.files import as_path, read_json, write_json, written_whole
from magvit2_pytorch.hub import WEIGHTS_DIR
from magvit2_pytorch.model_card import write_card
from magvit2_pytorch.pipelines import VideoGenerationPipeline
from magvit2_pytorch.pretrained import TRAINING_NAME, Shareable
from magvit2_pytorch.tokenizer import VideoTokenizer
from magvit2_pytorch.train import maskgit, tokenizer
from magvit2_pytorch.train.process import (
    SignalInterruption,
    available_cores,
    exit_if_interrupted,
    exit_on_error,
    set_up,
)
from magvit2_pytorch.train.session import RunConfig

Run = TypeVar("Run", bound=RunConfig)

logger = logging.getLogger(__name__)

LICENSE = "mit"
SECONDS_NAME, CHECKSUMS_NAME = "seconds.json", "SHA256SUMS"
STAGES = {"tokenizer": "tokenizer", "maskgit": "transformer"}  # names by folder of their runs
PURPOSES = {
    "arcade64": {
        "trained on": "eight arcade games that are drawn as they are needed (--data.path arcade), no videos",
        "good for": "trying generation, prediction and inpainting at once; games in 17 frames of 64 x 64 pixels",
        "not good for": "real videos, for which there is general64; small things that move are often blurred or lost",
    },
    "general64": {
        "trained on": "the four shipped clips (three minutes of film) and dead leaves, drawn pictures under a camera "
        "that moves",
        "good for": "reconstructing and tokenizing any video at 0.07 bits per pixel, in frames of about 64 x 64 pixels",
        "not good for": "faces, text and other small details, which 0.07 bits per pixel do not hold",
    },
}


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
        model = MAKERS[name](name, config)
        folder = config.output_dir / name
        model.save_pretrained(folder, license=LICENSE)
        training = facts_of_training(name, config)
        write_json(folder / TRAINING_NAME, training)
        write_card(folder, model.card(name, license=LICENSE, training=training))
        write_checksums(folder)
        logger.info("%s is in %s", name, folder)


def make_pipeline(name: str, config: WeightsConfig) -> VideoGenerationPipeline:
    """Train both stages."""
    rounded = config.runs_dir / name / "rounded"
    train_tokenizer(name, config).save_pretrained(rounded)
    run = replace(maskgit.PRESETS[name], tokenizer=rounded)
    folder = trained(run, maskgit.train, config.runs_dir / name / "maskgit", config.seed, config.maskgit_steps)
    return VideoGenerationPipeline.from_pretrained(folder, dtype=torch.float16)


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
    run = replace(run, output_dir=folder, seed=seed, num_steps=num_steps or run.num_steps)
    with adding_seconds(folder.parent / SECONDS_NAME):
        result = train(run, interruption)
    exit_if_interrupted(result, interruption)
    assert result is not None
    return result


def facts_of_training(name: str, config: WeightsConfig) -> dict[str, str]:
    """Return facts about a finished training, by name."""
    runs, device = config.runs_dir / name, chosen_device(None).type
    seconds = read_json(runs / SECONDS_NAME)["seconds"]
    steps = {stage: read_json(runs / stage / "config.json")["num_steps"] for stage in STAGES if (runs / stage).is_dir()}
    scores = read_json(runs / "tokenizer" / "metrics.json")
    psnrs = [
        f"{value:.2f} dB" + (f" ({source})" if source else "")
        for score, value in scores.items()
        for source, _, metric in [score.rpartition("/")]
        if metric == "psnr"
    ]
    options = ["--names", name, "--seed", str(config.seed)]
    for stage, chosen_steps in zip(STAGES, (config.tokenizer_steps, config.maskgit_steps), strict=True):
        options += [f"--{stage}-steps", str(chosen_steps)] if chosen_steps and stage in steps else []
    return PURPOSES[name] | {
        "training time": f"{seconds / 60:.0f} minutes on {f'{available_cores()} cores' if device == 'cpu' else device}",
        "steps": ", ".join(f"{number:,} of the {STAGES[stage]}" for stage, number in steps.items()),
        "PSNR of held-out clips": ", ".join(psnrs),
        "trained by": f"python train/weights.py {' '.join(options)}",
    }


def write_checksums(folder: Path) -> None:
    """Write the SHA-256 of each file of a folder, in the format of `sha256sum`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS_NAME)
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}" for path in files]
    with written_whole(folder / CHECKSUMS_NAME) as aside:
        aside.write_text("\n".join(sums) + "\n")


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


MAKERS: dict[str, Callable[[str, WeightsConfig], Shareable]] = {"arcade64": make_pipeline, "general64": train_tokenizer}


if __name__ == "__main__":
    with exit_on_error():
        make_weights(tyro.cli(WeightsConfig, description="Train the weights that come with the package."))
