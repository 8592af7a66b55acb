"""The demo: train both stages on the shipped clips or on arcade games, sized for two CPU cores, then generate."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from ..choices import chosen
from ..files import as_path, write_json, written_whole
from ..pipelines import VideoGenerationPipeline
from ..pipelines.media.pictures import save_videos
from ..tokenizer import VideoTokenizer
from ..tokenizer.pixels import to_unit_range
from ..train import maskgit, tokenizer
from .codes import encoded
from .data import VideoData, load_data
from .data.config import ARCADE, SHIPPED_CLIPS
from .metrics import (
    bits_per_pixel,
    codebook_perplexity,
    evaluate_tokenizer,
    psnr_first_frame,
    psnr_mean_colour,
)
from .process import SignalInterruption, exit_if_interrupted, set_up

T = TypeVar("T")

logger = logging.getLogger(__name__)

METRICS_NAME = "metrics.json"
PICTURED_PAIRS = 8
SAMPLES_PER_LABEL = 4
PICTURE_WIDTH = 768  # pixels
PRESETS = {SHIPPED_CLIPS: "demo", ARCADE: "arcade"}  # of both stages, by source of the data


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Settings of `magvit2 demo`."""

    output_dir: Path = Path("outputs/demo")
    data: str = SHIPPED_CLIPS
    """clips or arcade."""
    seed: int = 0
    tokenizer_steps: int | None = None
    """By default those of the preset, as for the transformer."""
    maskgit_steps: int | None = None

    def __post_init__(self) -> None:
        chosen(PRESETS, self.data, "data")
        object.__setattr__(self, "output_dir", as_path(self.output_dir))


def run_demo(config: DemoConfig) -> None:
    """Train both stages, generate and measure, and log the files written. An interrupted demo is continued.

    Sets up the process as a training command does; an interruption ends it with status 1.

    Raises:
        ValueError: if the folder holds a finished demo or other files.
    """
    folder = config.output_dir
    if (folder / METRICS_NAME).is_file():
        raise ValueError(f"{folder} already holds a finished demo; choose another --output-dir")
    started = time.monotonic()
    seconds: dict[str, float] = {}
    presets = tokenizer.PRESETS[PRESETS[config.data]], maskgit.PRESETS[PRESETS[config.data]]
    tokenizer_run = replace(
        presets[0],
        output_dir=folder / "runs" / "tokenizer",
        seed=config.seed,
        num_steps=config.tokenizer_steps or presets[0].num_steps,
    )
    maskgit_run = replace(
        presets[1],
        output_dir=folder / "runs" / "maskgit",
        tokenizer=tokenizer_run.output_dir,
        seed=config.seed,
        num_steps=config.maskgit_steps or presets[1].num_steps,
    )

    set_up()
    interruption = SignalInterruption()
    logger.info("magvit2 demo: from %s to generated video, 6 to 10 minutes on two cores.", config.data)
    logger.info("1/3 Training the tokenizer, which encodes video to codes and decodes them (4 to 5 minutes).")
    trained = timed(seconds, "tokenizer", lambda: tokenizer.train(tokenizer_run, interruption))
    exit_if_interrupted(trained, interruption)
    logger.info("2/3 Training the transformer, which generates codes (about 4 minutes).")
    trained = timed(seconds, "maskgit", lambda: maskgit.train(maskgit_run, interruption))
    exit_if_interrupted(trained, interruption)
    assert trained is not None
    logger.info("3/3 Generating and measuring.")
    data = load_data(tokenizer_run.data)
    pipeline = VideoGenerationPipeline.from_pretrained(trained)
    timed(seconds, "generation", lambda: generate(pipeline, config))
    draw_reconstructions(pipeline.tokenizer, data, folder / "reconstruction.gif")
    metrics = {"tokenizer": measure(pipeline.tokenizer, data, tokenizer_run)}
    pipeline.save_pretrained(folder / "pipeline")
    seconds["total"] = time.monotonic() - started
    write_json(folder / METRICS_NAME, {**metrics, "seed": config.seed, "seconds": seconds})

    scores = metrics["tokenizer"]
    logger.info(
        "Held-out clips: PSNR %.2f dB at %.4f bits per pixel (mean colour: %.2f dB, repeated first frame: %.2f dB).",
        *(scores[name] for name in ("psnr", "bits_per_pixel", "psnr_mean_colour", "psnr_first_frame")),
    )
    logger.info("Done in %.0f seconds. Results:", seconds["total"])
    for name in ("reconstruction.gif", "samples.gif", "samples.mp4", METRICS_NAME, "pipeline"):
        logger.info("  %s", folder / name)
    logger.info("To generate more videos: magvit2 generate %s --seed 1 --output sample.mp4", folder / "pipeline")


def timed(seconds: dict[str, float], name: str, work: Callable[[], T]) -> T:
    start = time.monotonic()
    result = work()
    seconds[name] = time.monotonic() - start
    return result


def generate(pipeline: VideoGenerationPipeline, config: DemoConfig) -> None:
    """Generate samples of each label, and save them as pictures and as codes."""
    labels = [label for label in pipeline.labels for _ in range(SAMPLES_PER_LABEL)]
    samples = pipeline.generate(labels=labels, seed=config.seed)
    for name in ("samples.gif", "samples.mp4"):
        samples.save(config.output_dir / name, min_width=PICTURE_WIDTH)
    with written_whole(config.output_dir / "samples.npy") as aside:
        np.save(aside, samples.codes.numpy())


@torch.inference_mode()
def draw_reconstructions(tokenizer: VideoTokenizer, data: VideoData, path: Path) -> None:
    """Draw held-out clips next to their reconstructions."""
    chosen = np.linspace(0, len(data.heldout) - 1, PICTURED_PAIRS).round().astype(int).tolist()
    originals = torch.stack([data.heldout.video(index) for index in chosen])
    pairs = torch.stack([originals, tokenizer(originals)], dim=1).flatten(0, 1)
    captions = ["original", "reconstruction"] * len(chosen)
    save_videos(path, to_unit_range(pairs), captions=captions, columns=4, min_width=PICTURE_WIDTH)


def measure(tokenizer: VideoTokenizer, data: VideoData, run: tokenizer.TokenizerRun) -> dict[str, float]:
    """Return the scores of the tokenizer on the held-out clips, and the perplexity on the codes for stage two."""
    table = encoded(tokenizer, data, run.data.codes_dir).with_format("numpy")
    codes = torch.from_numpy(np.stack(table["codes"][:]))
    size = run.data.resolution
    return {
        "psnr": evaluate_tokenizer(tokenizer, data.heldout).psnr,
        "psnr_mean_colour": psnr_mean_colour(data.heldout),
        "psnr_first_frame": psnr_first_frame(data.heldout),
        "bits_per_pixel": bits_per_pixel(tokenizer, run.data.num_frames, size, size),
        "codebook_perplexity": codebook_perplexity(codes, tokenizer.codebook_size),
        "codebook_size": tokenizer.codebook_size,
    }
