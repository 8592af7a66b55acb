"""Stage one: train the video tokenizer.

accelerate launch train/tokenizer.py                              # the shipped clips, minutes on a laptop
accelerate launch train/tokenizer.py demo --data.path my_videos   # a folder of videos, sub-folder = label
accelerate launch train/tokenizer.py --help
"""

if __name__ == "__main__" and not __package__:  # run as a script: its folder is first in sys.path
    from check_installation import check_installation

    check_installation()

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.utils.data import DataLoader

from magvit2_pytorch.files import write_json
from magvit2_pytorch.messages import printable
from magvit2_pytorch.pipelines.media.pictures import save_videos
from magvit2_pytorch.tokenizer import DiscriminatorConfig, TokenizerConfig, TokenizerObjective, VideoTokenizer
from magvit2_pytorch.tokenizer.config import TokenizerArchitecture
from magvit2_pytorch.tokenizer.fingerprint import shared_codes
from magvit2_pytorch.tokenizer.losses import TokenizerLossWeights, weighted_sum
from magvit2_pytorch.tokenizer.perceptual import load_perceptual_network
from magvit2_pytorch.tokenizer.pixels import to_unit_range
from magvit2_pytorch.tokenizer.presets import PRESETS as MODEL_PRESETS
from magvit2_pytorch.train.adversarial import AdversarialConfig, Adversary
from magvit2_pytorch.train.annealing import AnnealingConfig
from magvit2_pytorch.train.bad_steps import nan_unless_finite
from magvit2_pytorch.train.budget import tokenizer_budget
from magvit2_pytorch.train.data import Clips, DataConfig, TrainingBatches, load_sources
from magvit2_pytorch.train.data.config import ARCADE, DEAD_LEAVES, SHIPPED_CLIPS
from magvit2_pytorch.train.dry_run import print_once, report
from magvit2_pytorch.train.metrics import (
    bit_balance,
    codebook_perplexity,
    dead_bits,
    evaluate_tokenizer,
    num_used_codes,
    psnr_mean_colour,
)
from magvit2_pytorch.train.metrics.reconstruction import ReconstructionScores, joined
from magvit2_pytorch.train.optimization import (
    ExponentialMovingAverage,
    OptimizerConfig,
    make_optimizers,
    set_learning_rate,
    update,
)
from magvit2_pytorch.train.process import run_command
from magvit2_pytorch.train.session import Interruption, RunConfig, Session

logger = logging.getLogger(__name__)

WEIGHTS_FOLDER = "tokenizer"  # in a run's folder: the exported model
PICTURED_CLIPS = 8


@dataclass(frozen=True, kw_only=True)
class TokenizerRun(RunConfig):
    """Settings of a run of `train/tokenizer.py`."""

    output_dir: Path = Path("outputs/tokenizer")
    num_steps: int = 100_000
    batch_size: int = 8
    data: DataConfig = field(default_factory=DataConfig)
    model: TokenizerConfig = field(default_factory=TokenizerConfig)
    """Architecture and losses of the tokenizer. `image_size` is set to `data.resolution`."""
    init_from: str | None = None
    """Folder or Hub name of a saved tokenizer to start from. It must have the same architecture, except that an image
    tokenizer is inflated to a video tokenizer."""
    freeze_encoder: bool = False
    """Train only the decoder of the tokenizer in `init_from`. Its codes do not change, so that code files and
    transformers remain valid. The decoder may have other `decoder_layers`; it is then trained from the beginning."""
    perceptual: str | None = None
    """Network of the perceptual loss: `efficientnet-lite0`, `lpips`, or a safetensors file with weights of
    EfficientNet-Lite0."""
    perceptual_stride: int = 1
    """The perceptual loss sees every n-th frame of a clip. The first of them changes from step to step."""
    evaluation_clips: int = 256
    """Largest number of held-out clips of each source that evaluations measure, always the same ones, spread over
    labels and videos."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    annealing: AnnealingConfig = field(default_factory=AnnealingConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adversarial.discriminators and self.adversarial.start_step >= self.num_steps:
            raise ValueError(
                f"adversarial.start_step must be less than num_steps, got {self.adversarial.start_step} and "
                f"{self.num_steps}"
            )
        if self.freeze_encoder and self.init_from is None:
            raise ValueError("freeze_encoder requires init_from, the tokenizer whose encoder is kept, got None")
        for name in ("perceptual_stride", "evaluation_clips"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.model.dim_cond is not None:
            raise ValueError(
                "model.dim_cond must be None: this command trains without a condition. Train a model with `cond_...` "
                "layers in your own loop, with TokenizerObjective(tokenizer)(video, cond=...)"
            )
        # `model.image_size` always follows `data.resolution`.
        object.__setattr__(self, "model", replace(self.model, image_size=self.data.resolution))


DEMO_OPTIMIZER = OptimizerConfig(learning_rate=3e-3, warmup_steps=40, ema_decay=0.99, matrices="muon")
DEMO = TokenizerRun(
    num_steps=1800,
    batch_size=4,
    evaluate_every=600,
    save_every=600,
    model=MODEL_PRESETS["tiny"],
    optimizer=DEMO_OPTIMIZER,
)
LAPTOP = replace(  # four times as many codes as the demo: 0.069 bits per pixel
    DEMO,
    output_dir=Path("outputs/tokenizer-laptop"),
    num_steps=8000,
    evaluate_every=2000,
    save_every=1000,
    data=DataConfig(zoom=2.0),
    model=replace(
        MODEL_PRESETS["tiny"],
        init_dim=96,
        layers=("residual", ("compress_space", 128), "residual", "residual"),
        codebook_size=2**15,
        fsq_levels=(8, 8, 8, 8, 8),
        norm="channel",
        loss_weights=TokenizerLossWeights(reconstruction=4.0, commitment=0.1),
    ),
)
# The paper's losses, optimizer and 256 clips per step, on 1 to 64 GPUs with 80 GB. The accumulation is for one of them.
MAGVIT2 = TokenizerRun(
    output_dir=Path("outputs/tokenizer-magvit2"),
    batch_size=4,
    gradient_accumulation=64,
    data=DataConfig(resolution=128),
    model=MODEL_PRESETS["magvit2"],
    optimizer=OptimizerConfig(betas=(0.0, 0.99), weight_decay=0.0),
    annealing=AnnealingConfig(entropy_factor=3.0),
    perceptual="efficientnet-lite0",
    adversarial=AdversarialConfig(discriminators=(DiscriminatorConfig(),)),
)
PRESETS = {
    "demo": DEMO,
    "shapes": replace(DEMO, output_dir=Path("outputs/tokenizer-shapes"), data=DataConfig(path="shapes")),
    # For a small transformer: few codes with few bits.
    "shapes-tasks": replace(
        DEMO,
        output_dir=Path("outputs/tokenizer-shapes-tasks"),
        num_steps=3000,
        evaluate_every=1000,
        save_every=1000,
        data=DataConfig(path="shapes"),
        model=replace(
            MODEL_PRESETS["tiny"],
            layers=("residual", ("compress_space", 96), "residual", ("compress_space", 192), *("residual",) * 3),
            codebook_size=2**8,
            fsq_levels=(4, 4, 4, 4),
        ),
    ),
    "laptop": LAPTOP,
    # `magvit2 demo --data arcade`: as `laptop`, in five minutes.
    "arcade": replace(
        LAPTOP,
        output_dir=Path("outputs/tokenizer-arcade"),
        num_steps=3400,
        evaluate_every=1700,
        data=DataConfig(path=ARCADE),
    ),
    # For videos of any kind. Dead leaves and close-ups keep the tokenizer from learning the four films by heart.
    "general": replace(
        LAPTOP,
        output_dir=Path("outputs/tokenizer-general"),
        data=DataConfig(path=(SHIPPED_CLIPS, DEAD_LEAVES), zoom=2.0),
    ),
    # The weights that come with the package (train/weights.py).
    "arcade64": replace(
        LAPTOP,
        output_dir=Path("outputs/tokenizer-arcade64"),
        num_steps=16_000,
        data=DataConfig(path=ARCADE, drawn_clips=2**16),
    ),
    "general64": replace(
        LAPTOP,
        output_dir=Path("outputs/tokenizer-general64"),
        num_steps=20_000,
        data=DataConfig(path=(SHIPPED_CLIPS, DEAD_LEAVES), zoom=2.0, drawn_clips=2**16),
    ),
    # One GPU with 24 GB. The recipe of `laptop` with a lower learning rate, as usual for larger models.
    "base": TokenizerRun(
        output_dir=Path("outputs/tokenizer-base"),
        batch_size=16,
        data=DataConfig(resolution=128),
        model=MODEL_PRESETS["base"],
        optimizer=OptimizerConfig(learning_rate=1e-3, matrices="muon"),
    ),
    # A GPU with 40 to 80 GB, or up to 8: 64 clips per step.
    "magvit2-small": replace(
        MAGVIT2,
        output_dir=Path("outputs/tokenizer-magvit2-small"),
        batch_size=8,
        gradient_accumulation=8,
        model=MODEL_PRESETS["magvit2-small"],
        adversarial=AdversarialConfig(discriminators=(DiscriminatorConfig(width=64),)),
    ),
    "magvit2": MAGVIT2,
}


def train(run: TokenizerRun, interruption: Interruption | None = None) -> Path | None:
    """Train, evaluate and export a tokenizer.

    Args:
        interruption: asked after each step whether to stop.

    Returns:
        The folder of the exported tokenizer, with the averaged weights; None if the run has stopped before its end, or
        is only a dry run.

    Raises:
        ValueError, FileNotFoundError: if the output folder is in use, or the data cannot be read.
    """
    if run.dry_run:
        return print_once(dry_run(run))
    with Session(run, interruption) as session:
        return train_in(session, run)


def dry_run(run: TokenizerRun) -> str:
    """Return what a run needs, as text. Nothing is trained or written."""
    shape = (run.batch_size, run.model.channels, run.data.num_frames, run.data.resolution, run.data.resolution)
    budget = tokenizer_budget(
        run.model,
        shape,
        optimizer=run.optimizer,
        adversarial=run.adversarial,
        perceptual=run.perceptual,
        perceptual_stride=run.perceptual_stride,
        freeze_encoder=run.freeze_encoder,
    )
    return report(run, run.data, run.model, budget)


def train_in(session: Session, run: TokenizerRun) -> Path | None:
    """Do the work of `train` in a session."""
    accelerator = session.accelerator
    sources = load_sources(run.data, progress=session.shows_progress)
    session.begin({"data": " ".join(source.fingerprint for source in sources)}, *sources)
    heldout = {
        name: source.heldout.spread(run.evaluation_clips)
        for name, source in zip(run.data.source_names, sources, strict=True)
    }

    objective = TokenizerObjective(
        new_tokenizer(run),
        None if run.perceptual is None else load_perceptual_network(run.perceptual),
        perceptual_stride=run.perceptual_stride,
        adaptive_weight=run.adversarial.adaptive_weight,
    )
    ema = ExponentialMovingAverage(objective.tokenizer, run.optimizer.ema_decay)
    ema.model.to(accelerator.device)
    optimizers = make_optimizers(objective, run.optimizer, mixed_precision=accelerator.mixed_precision)
    objective, *optimizers = accelerator.prepare(objective, *optimizers)
    adversary = None
    if run.adversarial.discriminators:
        adversary = Adversary(accelerator, run.adversarial, channels=run.model.channels, num_steps=run.num_steps)
    first_step = session.resume(ema.model)

    batches = TrainingBatches(
        *sources,
        shares=run.data.shares,
        batch_size=run.batch_size,
        seed=run.seed,
        start=first_step * run.gradient_accumulation,
        process_index=accelerator.process_index,
        num_processes=accelerator.num_processes,
    )
    videos = (batch["video"] for batch in DataLoader(batches, batch_size=None, num_workers=run.num_workers))
    logger.info(
        "tokenizer of %.2f M parameters, %d windows of %d labels, steps %d to %d, on %s",
        sum(parameter.numel() for parameter in ema.model.parameters()) / 1e6,
        sum(len(source.train) for source in sources),
        sum(len(source.labels) for source in sources),
        first_step,
        run.num_steps,
        accelerator.device,
    )

    started = time.monotonic()
    with session.loop("Tokenizer") as bar:
        for step in bar:
            for optimizer in optimizers:
                set_learning_rate(optimizer, run.optimizer.learning_rate_at(step, run.num_steps))
            loss_weights = run.annealing.loss_weights_at(step, run.model.loss_weights)
            inverse_temperature = run.annealing.inverse_temperature_at(step, run.model.inverse_temperature)
            opponent = adversary if step >= run.adversarial.start_step else None
            losses = {}
            for _ in range(run.gradient_accumulation):
                video = next(videos).to(accelerator.device)
                with accelerator.accumulate(objective, *([opponent.objective] if opponent else [])):
                    losses, reconstruction, adaptive_weight = objective(
                        video,
                        accelerator.unwrap_model(opponent.objective) if opponent else None,
                        inverse_temperature=inverse_temperature,
                        phase=step,
                    )
                    factors = opponent.factors(adaptive_weight) if opponent else ()
                    total = weighted_sum(losses, loss_weights, adversarial_factors=factors)
                    accelerator.backward(total * nan_unless_finite(losses))
                    is_bad = False
                    if accelerator.sync_gradients:
                        norm = accelerator.clip_grad_norm_(objective.parameters(), run.optimizer.max_grad_norm)
                        is_bad = session.bad_steps.is_bad(norm, losses, step)
                    update(optimizers, skip=is_bad)
                    if opponent:
                        learned = opponent.learn(video, reconstruction, step, None if is_bad else session.bad_steps)
                        losses |= learned | {"adaptive_weight": adaptive_weight}
            ema.update(accelerator.unwrap_model(objective).tokenizer, step)

            done = step + 1
            session.log_losses(bar, losses, done, group="loss")
            if done % run.evaluate_every == 0 and done < run.num_steps:
                evaluate(accelerator, ema.model, heldout, run.output_dir, done)
            if session.ends_after(done, ema.model):
                break
    if not session.is_complete:
        return None

    scores = evaluate(accelerator, ema.model, heldout, run.output_dir, run.num_steps)
    weights = run.output_dir / WEIGHTS_FOLDER
    if session.is_main:
        ema.model.save_pretrained(weights)
        write_json(run.output_dir / "metrics.json", scores)
    logger.info("trained for %.0f seconds; the tokenizer is in %s", time.monotonic() - started, weights)
    return weights


def new_tokenizer(run: TokenizerRun) -> VideoTokenizer:
    """Return the tokenizer to train, with the weights to start from.

    Raises:
        ValueError: if these weights have another architecture.
    """
    if run.init_from is None:
        return VideoTokenizer.from_config(run.model)
    saved = VideoTokenizer.from_pretrained(run.init_from)
    if saved.config.image_only and not run.model.image_only:
        saved = saved.inflate(run.model.layers, run.model.decoder_layers)
    differing = [
        (of_weights.name, getattr(saved.config, of_weights.name), getattr(run.model, of_weights.name))
        for of_weights in fields(TokenizerArchitecture)
        if getattr(saved.config, of_weights.name) != getattr(run.model, of_weights.name)
    ]
    has_new_decoder = run.freeze_encoder and [name for name, *_ in differing] == ["decoder_layers"]
    if differing and not has_new_decoder:
        name, theirs, ours = differing[0]
        raise ValueError(
            f"the tokenizer in {run.init_from} has another architecture: its {name} is {theirs!r}, but model.{name} is "
            f"{ours!r}"
        )
    if not run.freeze_encoder:
        tokenizer = VideoTokenizer.from_config(run.model)
        tokenizer.load_state_dict(saved.state_dict())
        return tokenizer
    tokenizer = VideoTokenizer.from_config(replace(run.model, codes_of=shared_codes(saved)))
    tokenizer.encoder.load_state_dict(saved.encoder.state_dict())
    tokenizer.encoder.requires_grad_(False)
    if not has_new_decoder:
        tokenizer.decoder.load_state_dict(saved.decoder.state_dict())
    return tokenizer


def evaluate(
    accelerator: Accelerator, tokenizer: VideoTokenizer, heldout: Mapping[str, Clips], output_dir: Path, step: int
) -> dict[str, float]:
    """Evaluate the averaged weights on the held-out clips of each source, log the scores, and draw reconstructions.

    The processes share the clips. If there are several sources, their names come first in the names of the scores and
    of the pictures. Called on all processes.
    """
    scores: dict[str, float] = {}
    for source, clips in heldout.items():
        prefix = f"{printable(source)}/" if len(heldout) > 1 else ""
        measured = evaluate_together(accelerator, tokenizer, clips)
        if accelerator.is_main_process:
            what = f"step {step}, held out{' of ' if prefix else ''}{prefix[:-1]}"
            scores |= {f"{prefix}{name}": value for name, value in scores_of(tokenizer, clips, measured, what).items()}
            name = f"reconstruction-{prefix.replace('/', '-')}{step:08d}.png"
            draw(tokenizer, clips, output_dir / "pictures" / name)
    accelerator.log({f"heldout/{name}": value for name, value in scores.items()}, step=step)
    return scores


def evaluate_together(accelerator: Accelerator, tokenizer: VideoTokenizer, clips: Clips) -> ReconstructionScores:
    """Encode and decode every clip, each on one of the processes, in the precision of the training."""
    own = clips.select(range(accelerator.process_index, len(clips), accelerator.num_processes))
    with accelerator.autocast():
        part = evaluate_tokenizer(tokenizer, own)
    return joined(gather_object([part]))


def scores_of(tokenizer: VideoTokenizer, clips: Clips, measured: ReconstructionScores, what: str) -> dict[str, float]:
    """Return the scores of held-out clips, and log them."""
    psnr, codes = measured.psnr, measured.codes
    scores = {
        "psnr": psnr,
        "codes_used": num_used_codes(codes),
        "codebook_perplexity": codebook_perplexity(codes, tokenizer.codebook_size),
    }
    logger.info("%s: %s", what, ", ".join(f"{name} {value:.4g}" for name, value in scores.items()))
    if psnr <= (mean_colour := psnr_mean_colour(clips)):
        logger.warning(
            "%s: reconstructions (%.2f dB) are no better than each clip's mean colour (%.2f dB)",
            *(what, psnr, mean_colour),
        )
    has_bits = tokenizer.config.quantizer != "fsq"
    if has_bits and (dead := dead_bits(bit_balance(codes, tokenizer.codebook_size))):
        logger.warning("%s: these bits of the codes never change (0 is the highest): %s", what, dead)
    return scores


@torch.inference_mode()
def draw(tokenizer: VideoTokenizer, clips: Clips, path: Path) -> None:
    """Draw the middle frames of evenly spaced clips, with the originals above the reconstructions."""
    chosen = torch.linspace(0, len(clips) - 1, min(PICTURED_CLIPS, len(clips))).round().long().unique().tolist()
    parameter = next(tokenizer.parameters())
    originals = torch.stack([clips.video(index) for index in chosen]).to(parameter)
    pairs = torch.cat([originals, tokenizer(originals)])
    middle = pairs.shape[2] // 2
    save_videos(path, to_unit_range(pairs[:, :, middle : middle + 1].float()), columns=len(chosen))


if __name__ == "__main__":
    run_command(train, PRESETS, description="Train the video tokenizer (stage one).")
