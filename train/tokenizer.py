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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor, nn

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
from magvit2_pytorch.train.bad_steps import Update, nan_unless_finite
from magvit2_pytorch.train.budget import tokenizer_budget
from magvit2_pytorch.train.compilation import compile_objective
from magvit2_pytorch.train.data import Clips, DataConfig, TrainingBatches, load_sources
from magvit2_pytorch.train.data.config import ARCADE, DEAD_LEAVES, SHIPPED_CLIPS
from magvit2_pytorch.train.data.transfer import batches_on
from magvit2_pytorch.train.dry_run import num_processes, print_once, report
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
        if self.perceptual_stride < 1:
            raise ValueError(f"perceptual_stride must be at least 1, got {self.perceptual_stride}")
        if self.model.dim_cond is not None:
            raise ValueError(
                "model.dim_cond must be None: this command trains without a condition. Train a model with `cond_...` "
                "layers in your own loop, with TokenizerObjective(tokenizer)(video, cond=...)"
            )
        # `model.image_size` always follows `data.resolution`.
        object.__setattr__(self, "model", replace(self.model, image_size=self.data.resolution))

    @property
    def may_be_extended(self) -> bool:
        optimizers = [self.optimizer, *([self.adversarial.optimizer] if self.adversarial.discriminators else [])]
        return all(optimizer.schedule != "cosine" for optimizer in optimizers)


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
    shape = (
        run.clips_per_process(num_processes()),
        run.model.channels,
        run.data.num_frames,
        run.data.resolution,
        run.data.resolution,
    )
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
    check_precision(run, accelerator.mixed_precision)
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
    if run.compile:
        for trained in (objective, *([adversary.objective] if adversary else [])):
            compile_objective(accelerator.unwrap_model(trained))
    first_step = session.resume(ema.model)

    batches = TrainingBatches(
        *sources,
        shares=run.data.shares,
        batch_size=session.batch_size,
        seed=run.seed,
        start=first_step * run.gradient_accumulation,
        process_index=accelerator.process_index,
        num_processes=accelerator.num_processes,
    )
    stream = session.log.timed(batches_on(accelerator.device, batches, num_workers=run.num_workers))
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
            learning_rate = run.optimizer.learning_rate_at(step, run.num_steps)
            for optimizer in optimizers:
                set_learning_rate(optimizer, learning_rate)
            loss_weights = run.annealing.loss_weights_at(step, run.model.loss_weights)
            inverse_temperature = run.annealing.inverse_temperature_at(step, run.model.inverse_temperature)
            opponent = adversary if step >= run.adversarial.start_step else None
            losses, norm = {}, None
            for _ in range(run.gradient_accumulation):
                video = next(stream)["video"]
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
                    norm = None
                    if accelerator.sync_gradients:
                        norm = accelerator.clip_grad_norm_(objective.parameters(), run.optimizer.max_grad_norm)
                    updates = [Update(norm, losses)]
                    if opponent:
                        updates.append(opponent.learn(video, reconstruction, step))
                        losses = losses | updates[-1].losses | opponent.latest_r1 | {"adaptive_weight": adaptive_weight}
                    skips = session.bad_steps.are_bad(*updates, step=step) if accelerator.sync_gradients else [False]
                    update(optimizers, skip=skips[0])
                    if opponent:
                        opponent.update(skip=skips[-1])
            ema.update(accelerator.unwrap_model(objective).tokenizer, step)

            done = step + 1
            optimization = {"learning_rate": learning_rate, "gradient_norm": norm}
            session.log.step(done, losses, optimization | (opponent.optimization if opponent else {}), group="loss")
            scores = {}
            if done % run.evaluate_every == 0 and done < run.num_steps:
                with session.log.paused():
                    scores = evaluate(session, ema.model, accelerator.unwrap_model(objective).tokenizer, heldout, done)
            if session.ends_after(done, ema.model, score=mean_psnr(scores)):
                break
    if not session.is_complete:
        return None

    scores = evaluate(session, ema.model, accelerator.unwrap_model(objective).tokenizer, heldout, run.num_steps)
    session.mark_if_best(mean_psnr(scores))
    weights = run.output_dir / WEIGHTS_FOLDER
    if session.is_main:
        ema.model.save_pretrained(weights)
        write_json(run.output_dir / "metrics.json", scores)
    logger.info("trained for %.0f seconds; the tokenizer is in %s", time.monotonic() - started, weights)
    return weights


def check_precision(run: TokenizerRun, mixed_precision: str) -> None:
    """
    Raises:
        ValueError: if the perceptual or adversarial losses are used with fp16. Their gradients at the pixels are
            computed in the forward pass, where the gradient scaler does not keep them from underflowing; see `Judged`.
    """
    if mixed_precision == "fp16" and (run.perceptual is not None or run.adversarial.discriminators):
        raise ValueError(
            "the perceptual and adversarial losses cannot be trained in fp16, because their gradients may underflow; "
            "use `--mixed_precision bf16`"
        )


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
    session: Session, averaged: VideoTokenizer, trained: VideoTokenizer, heldout: Mapping[str, Clips], step: int
) -> dict[str, float]:
    """Evaluate the averaged weights on the held-out clips of each source, log the scores, and draw reconstructions.

    The PSNR of the trained weights, which are not averaged, is a score, too. The processes share the clips. If there
    are several sources, their names come first in the names of the scores and of the pictures. Called on all processes.
    The main process gets the scores; none of a source at which the evaluation was interrupted.
    """
    accelerator = session.accelerator
    scores: dict[str, float] = {}
    details: dict[str, list[float]] = {}
    for source, clips in heldout.items():
        prefix = f"{printable(source)}/" if len(heldout) > 1 else ""
        parts = session.results_of_all(lambda: evaluate_part(accelerator, averaged, clips))  # noqa: B023
        with evaluating(trained):
            raw_parts = session.results_of_all(lambda: evaluate_part(accelerator, trained, clips))  # noqa: B023
        if parts is None or raw_parts is None:
            break
        if session.is_main:
            what = f"step {step}, held out{' of ' if prefix else ''}{prefix[:-1]}"
            measured = joined(parts)
            of_source = scores_of(averaged, clips, measured, joined(raw_parts), what)
            scores |= {f"{prefix}{name}": value for name, value in of_source.items()}
            if averaged.config.quantizer != "fsq":
                balance = bit_balance(measured.codes, averaged.codebook_size)
                warn_of_dead_bits(balance, what)
                details[f"{prefix}bit_balance"] = balance.tolist()
            name = f"reconstruction-{prefix.replace('/', '-')}{step:08d}.png"
            path = session.run.output_dir / "pictures" / name
            session.unless_interrupted(lambda: draw(averaged, clips, path))  # noqa: B023
    session.log.evaluation(step, scores, details)
    return scores


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set a model to evaluation mode inside the context, and each of its modules to its own mode afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def evaluate_part(accelerator: Accelerator, tokenizer: VideoTokenizer, clips: Clips) -> ReconstructionScores:
    """Encode and decode the clips of this process, in the precision of the training."""
    own = clips.select(range(accelerator.process_index, len(clips), accelerator.num_processes))
    with accelerator.autocast():
        return evaluate_tokenizer(tokenizer, own)


def mean_psnr(scores: Mapping[str, float]) -> float | None:
    """Return the mean PSNR of the sources, in dB; None without scores."""
    psnrs = [value for name, value in scores.items() if name.rpartition("/")[2] == "psnr"]
    return sum(psnrs) / len(psnrs) if psnrs else None


def scores_of(
    tokenizer: VideoTokenizer, clips: Clips, measured: ReconstructionScores, raw: ReconstructionScores, what: str
) -> dict[str, float]:
    """Return the scores of held-out clips, and log them."""
    psnr, codes = measured.psnr, measured.codes
    scores = {
        "psnr": psnr,
        "codes_used": num_used_codes(codes),
        "codebook_perplexity": codebook_perplexity(codes, tokenizer.codebook_size),
        "psnr_raw_weights": raw.psnr,
    }
    logger.info("%s: %s", what, ", ".join(f"{name} {value:.4g}" for name, value in scores.items()))
    if psnr <= (mean_colour := psnr_mean_colour(clips)):
        logger.warning(
            "%s: reconstructions (%.2f dB) are no better than each clip's mean colour (%.2f dB)",
            *(what, psnr, mean_colour),
        )
    return scores


def warn_of_dead_bits(balance: Float[Tensor, " k"], what: str) -> None:
    if dead := dead_bits(balance):
        logger.warning("%s: these bits of the codes never change (0 is the highest): %s", what, dead)


@torch.inference_mode()
def draw(tokenizer: VideoTokenizer, clips: Clips, path: Path) -> None:
    """Draw the middle frames of evenly spaced clips, with the originals above the reconstructions."""
    chosen = torch.linspace(0, len(clips) - 1, min(PICTURED_CLIPS, len(clips))).round().long().unique().tolist()
    parameter = next(tokenizer.parameters())
    originals = torch.stack([clips.video(index) for index in chosen]).to(parameter)
    pairs = torch.cat([originals, tokenizer(originals)])
    middle = pairs.shape[2] // 2
    save_videos(path, to_unit_range(pairs[:, :, middle : middle + 1].float()), columns=len(chosen))


def main() -> None:
    """Run the command line of this stage."""
    run_command(train, PRESETS, description="Train the video tokenizer (stage one).")


if __name__ == "__main__":
    main()
