"""Stage two: train the masked transformer on the codes of a frozen tokenizer.

accelerate launch train/maskgit.py                                           # after `train/tokenizer.py`
accelerate launch train/maskgit.py demo --tokenizer RUN --data.path my_videos
accelerate launch train/maskgit.py --help
"""

if __name__ == "__main__" and not __package__:  # run as a script: its folder is first in sys.path
    from check_installation import check_installation

    check_installation()

import logging
import math
import time
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Self

import torch

from magvit2_pytorch.files import write_json
from magvit2_pytorch.hub import local_folder
from magvit2_pytorch.maskgit import MaskGit, MaskGitConfig, MaskGitObjective
from magvit2_pytorch.maskgit.losses import MaskGitLossWeights, weighted_sum
from magvit2_pytorch.maskgit.presets import BASE, MAGVIT2, MAGVIT2_SMALL, TINY
from magvit2_pytorch.maskgit.seeds import seeded_generator
from magvit2_pytorch.maskgit.tasks import TASKS
from magvit2_pytorch.messages import printable
from magvit2_pytorch.pipelines import VideoGenerationPipeline
from magvit2_pytorch.pipelines.saved_pipeline import INDEX_NAME
from magvit2_pytorch.pretrained import CONFIG_NAME
from magvit2_pytorch.tokenizer import TokenizerConfig, VideoTokenizer
from magvit2_pytorch.train.bad_steps import nan_unless_finite
from magvit2_pytorch.train.budget import maskgit_budget
from magvit2_pytorch.train.code_batches import ClipBatches, CodeBatches, encoded_batch
from magvit2_pytorch.train.codes import CodesConfig, Encoder, encoded, fingerprint
from magvit2_pytorch.train.command_line import WrittenTasks
from magvit2_pytorch.train.compilation import compile_objective
from magvit2_pytorch.train.contexts import find_contexts
from magvit2_pytorch.train.data import Clips, DataConfig, load_data
from magvit2_pytorch.train.data.config import ARCADE
from magvit2_pytorch.train.data.sources.find import folder_of_files
from magvit2_pytorch.train.data.transfer import batches_on
from magvit2_pytorch.train.dry_run import num_processes, print_once, report
from magvit2_pytorch.train.heldout_loss import LOSS, HeldoutLoss, joined, overfitting_message
from magvit2_pytorch.train.metrics_file import read_records
from magvit2_pytorch.train.optimization import (
    ExponentialMovingAverage,
    OptimizerConfig,
    make_optimizers,
    set_learning_rate,
    update,
)
from magvit2_pytorch.train.process import run_command
from magvit2_pytorch.train.session import Interruption, RunConfig, Session
from magvit2_pytorch.train.task_mix import WeightedTask, check_mix, conditions_of
from magvit2_pytorch.train.task_samples import draw_tasks
from magvit2_pytorch.train.tokenizer import PRESETS as TOKENIZER_PRESETS

logger = logging.getLogger(__name__)

PIPELINE_FOLDER = "pipeline"  # in a run's folder: the complete pipeline
PICTURED_LABELS = 8
LOSS_GROUP = "train"  # prefix of the names of the losses in logs


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The fields of `MaskGitConfig` that do not follow from the tokenizer and the data."""

    width: int = MaskGitConfig.width
    """Channels of the transformer."""
    depth: int = MaskGitConfig.depth
    """Number of layers."""
    num_heads: int = MaskGitConfig.num_heads
    """Number of attention heads."""
    split: int | tuple[int, ...] = MaskGitConfig.split
    """Number of sub-codes of each code, or the number of bits (FSQ: levels) of each. 1 predicts whole codes."""
    sequential: bool = MaskGitConfig.sequential
    """Predict each sub-code with knowledge of the earlier sub-codes of its code."""
    mlp_ratio: float = MaskGitConfig.mlp_ratio
    """Hidden channels of the MLPs as a multiple of the width."""
    dropout: float = MaskGitConfig.dropout
    """Dropout probability of attention weights and hidden units."""
    num_registers: int = MaskGitConfig.num_registers
    """Number of register tokens."""
    qk_norm: bool = MaskGitConfig.qk_norm
    """Normalization of queries and keys, on by default."""
    critic: bool = MaskGitConfig.critic
    """Train a self-critic: a head that distinguishes real from generated codes, for the decoding order `critic`."""

    @classmethod
    def of(cls, preset: MaskGitConfig) -> Self:
        """Return these fields of a preset of `maskgit/presets.py`."""
        return cls(**{choice.name: getattr(preset, choice.name) for choice in fields(cls)})


@dataclass(frozen=True, kw_only=True)
class MaskGitRun(RunConfig):
    """Settings of a run of `train/maskgit.py`."""

    output_dir: Path = Path("outputs/maskgit")
    tokenizer: Path = Path("outputs/tokenizer")
    """Output folder of a run of stage one, folder of a pipeline or a saved tokenizer, or weights that come with the
    package: general64, arcade64."""
    num_steps: int = 100_000
    batch_size: int = 16
    data: DataConfig = field(default_factory=DataConfig)
    codes: CodesConfig = CodesConfig()
    model: TransformerConfig = field(default_factory=TransformerConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(betas=(0.9, 0.96), weight_decay=0.045))
    tasks: WrittenTasks = ()
    """Tasks to train on, with relative frequencies, for example class_generation:2,frame_prediction. all: all tasks.
    none: only generation by label."""
    loss_weights: MaskGitLossWeights = MaskGitLossWeights(reconstructed_code=0.0)
    """Weights of the losses. Decoding uses only the predictions of hidden codes."""
    label_dropout: float = 0.1
    """Probability of replacing the label by the null label. Classifier-free guidance needs a value above 0."""
    condition_dropout: float = 0.1
    """Probability of replacing the task by plain generation."""
    context_dropout: float = 0.1
    """Probability of replacing the context embeddings by the null context. Classifier-free guidance needs a
    value above 0."""
    label_balance: float = 0.0
    """Oversampling of rare labels: 0 = none, 1 = equal frequency."""
    label_smoothing: float = 1e-4
    """Label smoothing: share of the target probability that is distributed evenly over all classes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_mix(self.tasks)
        if not 0 <= self.label_balance <= 1:
            raise ValueError(f"label_balance must be in [0, 1], got {self.label_balance}")
        if len(self.data.sources) > 1:
            raise ValueError(
                f"data.path must name one source for the transformer, got {printable(' '.join(self.data.sources))}; "
                "train the tokenizer on several"
            )
        if self.data.image_ratio > 0:
            raise ValueError(
                f"data.image_ratio must be 0 for the transformer, whose code grids all have the same size, got "
                f"{self.data.image_ratio}; use it for training the tokenizer"
            )
        if self.data.zoom > 1:
            raise ValueError(
                f"data.zoom must be 1 for the transformer, which is trained on whole views, got {self.data.zoom}; use "
                "it for training the tokenizer"
            )

    @property
    def may_be_extended(self) -> bool:
        return self.optimizer.schedule != "cosine"


DEMO = MaskGitRun(
    num_steps=1500,
    batch_size=16,
    evaluate_every=500,
    save_every=500,
    # For the same CPU time, twice the steps at a high learning rate are better than twice the width.
    model=TransformerConfig.of(TINY),
    label_balance=0.5,
    optimizer=OptimizerConfig(
        learning_rate=5e-3, warmup_steps=40, betas=(0.9, 0.96), weight_decay=0.045, ema_decay=0.99, matrices="muon"
    ),
)
LAPTOP = replace(
    DEMO,
    output_dir=Path("outputs/maskgit-laptop"),
    tokenizer=Path("outputs/tokenizer-laptop"),
    num_steps=6000,
    batch_size=8,
    evaluate_every=2000,
    save_every=1000,
    tasks=(
        WeightedTask(name="class_generation", weight=2.0),
        WeightedTask(name="class_frame_prediction", weight=1.0),
    ),
    model=TransformerConfig.of(TINY),
    label_balance=0.0,
    optimizer=replace(DEMO.optimizer, warmup_steps=100, ema_decay=0.995),
)
# Relative frequencies, higher for harder tasks: generation and prediction without a label are the hardest, inpainting
# and outpainting are the easiest.
MIX = {"class_generation": 12.0, "frame_prediction": 7.0, "class_frame_prediction": 4.0, "frame_interpolation": 2.0}
# The paper's optimizer and 256 clips per step, on 1 to 64 GPUs. The accumulation is for one of them.
MAGVIT2_RUN = MaskGitRun(
    output_dir=Path("outputs/maskgit-magvit2"),
    tokenizer=Path("outputs/tokenizer-magvit2"),
    batch_size=4,
    gradient_accumulation=64,
    data=DataConfig(resolution=128),
    model=TransformerConfig.of(MAGVIT2),
    optimizer=OptimizerConfig(betas=(0.9, 0.96), weight_decay=0.045, warmup_steps=5000),
)
PRESETS = {
    "demo": DEMO,
    "shapes": replace(
        DEMO,
        output_dir=Path("outputs/maskgit-shapes"),
        tokenizer=Path("outputs/tokenizer-shapes"),
        data=DataConfig(path="shapes"),
    ),
    "shapes-tasks": replace(
        DEMO,
        output_dir=Path("outputs/maskgit-shapes-tasks"),
        tokenizer=Path("outputs/tokenizer-shapes-tasks"),
        num_steps=4400,
        evaluate_every=1000,
        save_every=500,
        data=DataConfig(path="shapes"),
        model=replace(TransformerConfig.of(TINY), width=192, num_heads=6, split=1, critic=True),
        label_balance=0.0,
        tasks=tuple(WeightedTask(name=name, weight=MIX.get(name, 0.5)) for name in TASKS),
        loss_weights=MaskGitLossWeights(),
        optimizer=replace(DEMO.optimizer, learning_rate=1.5e-3, ema_decay=0.995, matrices="adamw"),
    ),
    "laptop": LAPTOP,
    # `magvit2 demo --data arcade`: as `laptop`, in four minutes.
    "arcade": replace(
        LAPTOP,
        output_dir=Path("outputs/maskgit-arcade"),
        tokenizer=Path("outputs/tokenizer-arcade"),
        num_steps=1000,
        evaluate_every=500,
        save_every=500,
        data=DataConfig(path=ARCADE),
    ),
    # The weights that come with the package (train/weights.py).
    "arcade64": replace(
        LAPTOP,
        output_dir=Path("outputs/maskgit-arcade64"),
        tokenizer=Path("outputs/tokenizer-arcade64"),
        num_steps=20_000,
        evaluate_every=5000,
        data=DataConfig(path=ARCADE, drawn_clips=2**14),
        tasks=(
            WeightedTask(name="class_generation", weight=4.0),
            WeightedTask(name="class_frame_prediction", weight=2.0),
            WeightedTask(name="frame_prediction", weight=1.0),
            WeightedTask(name="dynamic_inpainting", weight=1.0),
        ),
        optimizer=replace(LAPTOP.optimizer, ema_decay=0.998),
    ),
    # One GPU with 24 GB. The recipe of `laptop` with a lower learning rate, as usual for larger models.
    "base": MaskGitRun(
        output_dir=Path("outputs/maskgit-base"),
        tokenizer=Path("outputs/tokenizer-base"),
        batch_size=16,
        data=DataConfig(resolution=128),
        model=TransformerConfig.of(BASE),
        optimizer=OptimizerConfig(learning_rate=1e-3, betas=(0.9, 0.96), weight_decay=0.045, matrices="muon"),
    ),
    # A GPU with 24 GB, or up to 8: 64 clips per step.
    "magvit2-small": replace(
        MAGVIT2_RUN,
        output_dir=Path("outputs/maskgit-magvit2-small"),
        tokenizer=Path("outputs/tokenizer-magvit2-small"),
        batch_size=8,
        gradient_accumulation=8,
        model=TransformerConfig.of(MAGVIT2_SMALL),
    ),
    "magvit2": MAGVIT2_RUN,
}


def train(run: MaskGitRun, interruption: Interruption | None = None) -> Path | None:
    """Encode the data, train a transformer on the codes, and export the pipeline.

    Args:
        interruption: asked after each step whether to stop.

    Returns:
        The folder of the complete pipeline, with the averaged weights; None if the run has stopped before its end, or
        is only a dry run.

    Raises:
        ValueError, FileNotFoundError: if the output folder is in use, there is no tokenizer, or the data cannot be
            read.
    """
    if run.dry_run:
        return print_once(dry_run(run))
    with Session(run, interruption) as session:
        return train_in(session, run)


def dry_run(run: MaskGitRun) -> str:
    """Return what a run needs, as text. Nothing is trained or written. Labels, tasks and contexts are not counted.

    Raises:
        FileNotFoundError: if there is no tokenizer, and `run.tokenizer` is not the output folder of a preset.
    """
    tokenizer = planned_tokenizer(run.tokenizer)
    config = MaskGitConfig(
        codebook_size=tokenizer.codebook_size,
        levels=tokenizer.fsq_levels,
        grid=tokenizer.code_shape(run.data.num_frames, run.data.resolution, run.data.resolution),
        **vars(run.model),
    )
    clips = run.clips_per_process(num_processes())
    budget = maskgit_budget(config, clips, optimizer=run.optimizer, tokenizer=tokenizer)
    return report(run, run.data, tokenizer, budget)


def train_in(session: Session, run: MaskGitRun) -> Path | None:
    """Do the work of `train` in a session."""
    accelerator = session.accelerator
    tokenizer = load_tokenizer(run.tokenizer).to(accelerator.device).requires_grad_(False)
    data = load_data(run.data, progress=session.shows_progress)
    grid = tokenizer.code_shape(run.data.num_frames, run.data.resolution, run.data.resolution)
    if tokenizer.config.height_width != (run.data.resolution, run.data.resolution):
        raise ValueError(
            f"the tokenizer was trained for {tokenizer.config.height_width} pixels, "
            f"but --data.resolution is {run.data.resolution}"
        )
    folder = folder_of_files(run.data)
    contexts = None if folder is None else find_contexts(folder, data.train.reader.source.names())
    config = MaskGitConfig(
        codebook_size=tokenizer.codebook_size,
        levels=tokenizer.config.fsq_levels,
        grid=grid,
        num_labels=len(data.labels),
        tasks=tuple(task.name for task in run.tasks),
        dim_context=None if contexts is None else contexts.channels,
        **vars(run.model),
    )
    conditions, precision = conditions_of(run.tasks), accelerator.mixed_precision
    passes = run.codes.passes_over(data)
    encoder = Encoder(tokenizer, data, conditions, precision)
    encoder.check()
    table = None
    if not run.codes.online:
        table = encoded(
            tokenizer,
            data,
            run.data.codes_dir,
            passes=passes,
            conditions=conditions,
            precision=precision,
            progress=session.shows_progress,
        )
    # Of every precision, which is an input of its own.
    inputs = {"codes": fingerprint(tokenizer, data, conditions, "no", passes)}
    session.begin(inputs if contexts is None else inputs | {"contexts": contexts.fingerprint}, data)

    objective = MaskGitObjective(
        MaskGit(config),
        label_smoothing=run.label_smoothing,
        label_dropout=run.label_dropout,
        condition_dropout=run.condition_dropout,
        context_dropout=run.context_dropout,
    )
    ema = ExponentialMovingAverage(objective.maskgit, run.optimizer.ema_decay)
    ema.model.to(accelerator.device)
    pipeline = VideoGenerationPipeline(tokenizer, ema.model, labels=data.labels, num_frames=run.data.num_frames)
    optimizers = make_optimizers(objective, run.optimizer, mixed_precision=accelerator.mixed_precision)
    objective, *optimizers = accelerator.prepare(objective, *optimizers)
    if run.compile:
        compile_objective(accelerator.unwrap_model(objective))
    first_step = session.resume(ema.model)
    heldout_loss = HeldoutLoss(
        accelerator,
        data.heldout.spread(run.evaluation_clips),
        encoder,
        mask_id=config.mask_id,
        mix=run.tasks,
        contexts=contexts,
        label_smoothing=run.label_smoothing,
        batch_size=session.batch_size,
    )

    settings = {
        "batch_size": session.batch_size,
        "seed": run.seed,
        "mix": run.tasks,
        "contexts": contexts,
        "label_balance": run.label_balance,
        "start": first_step * run.gradient_accumulation,
        "process_index": accelerator.process_index,
        "num_processes": accelerator.num_processes,
    }
    batches = (
        ClipBatches(data, passes, **settings)
        if table is None
        else CodeBatches(data, table, grid, mask_id=config.mask_id, **settings)
    )
    stream = session.log.timed(batches_on(accelerator.device, batches, num_workers=run.num_workers))
    logger.info(
        "transformer of %.2f M parameters, %d rows of %s codes an epoch, %d labels, steps %d to %d, on %s",
        sum(parameter.numel() for parameter in ema.model.parameters()) / 1e6,
        batches.rows_per_epoch,
        "x".join(str(size) for size in grid),
        len(data.labels),
        first_step,
        run.num_steps,
        accelerator.device,
    )
    if contexts is not None:
        num_with = sum(file is not None for file in contexts.files)
        logger.info(
            "%d of %d videos have context embeddings, with %d channels",
            *(num_with, len(contexts.files), contexts.channels),
        )

    started = time.monotonic()
    with session.loop("MaskGIT", codes_per_clip=math.prod(grid)) as bar:
        for step in bar:
            learning_rate = run.optimizer.learning_rate_at(step, run.num_steps)
            for optimizer in optimizers:
                set_learning_rate(optimizer, learning_rate)
            torch.manual_seed(seeded_generator(run.seed, step, accelerator.process_index).initial_seed())  # dropout
            losses, norm = {}, None
            for micro_step in range(run.gradient_accumulation):
                batch = next(stream)
                if table is None:
                    batch = encoded_batch(batch, encoder, run.tasks, config.mask_id)
                noise = seeded_generator(run.seed, step, 0, 1 + micro_step)  # the same on all processes
                with accelerator.accumulate(objective):
                    losses = objective(generator=noise, **batch)
                    total = weighted_sum(losses, run.loss_weights)
                    accelerator.backward(total * nan_unless_finite(losses))
                    is_bad = False
                    if accelerator.sync_gradients:
                        norm = accelerator.clip_grad_norm_(objective.parameters(), run.optimizer.max_grad_norm)
                        is_bad = session.bad_steps.is_bad(norm, losses, step)
                    update(optimizers, skip=is_bad)
            ema.update(accelerator.unwrap_model(objective).maskgit, step)

            done = step + 1
            optimization = {"learning_rate": learning_rate, "gradient_norm": norm}
            session.log.step(done, losses, optimization, group=LOSS_GROUP)
            scores = {}
            if done % run.evaluate_every == 0:
                with session.log.paused():
                    if done < run.num_steps:
                        scores = evaluate(session, ema.model, heldout_loss, done)
                    if session.is_main:
                        session.unless_interrupted(lambda: sample(pipeline, data.heldout, run, done))  # noqa: B023
            if session.ends_after(done, ema.model, score=-scores[LOSS] if LOSS in scores else None):
                break
    if not session.is_complete:
        return None

    scores = evaluate(session, ema.model, heldout_loss, run.num_steps)
    session.mark_if_best(-scores[LOSS] if LOSS in scores else None)
    result = run.output_dir / PIPELINE_FOLDER
    if session.is_main:
        pipeline.save_pretrained(result)
        write_json(run.output_dir / "metrics.json", scores)
    logger.info("trained for %.0f seconds; the pipeline is in %s", time.monotonic() - started, result)
    return result


def evaluate(session: Session, averaged: MaskGit, heldout_loss: HeldoutLoss, step: int) -> dict[str, float]:
    """Measure the averaged weights on the held-out clips, log the scores, and warn of overfitting.

    Called on all processes. Returns no scores if it was interrupted.
    """
    parts = session.results_of_all(lambda: heldout_loss.part(averaged))
    if parts is None:
        return {}
    scores = joined(parts)
    session.log.evaluation(step, scores)
    if session.is_main:
        logger.info("step %d, held out: %s", step, ", ".join(f"{name} {value:.4g}" for name, value in scores.items()))
        if message := overfitting_message(read_records(session.log.path), LOSS_GROUP):
            logger.warning("step %d: %s", step, message)
    return scores


def load_tokenizer(folder: Path) -> VideoTokenizer:
    """Load the tokenizer from its own folder, from that of a run or of a pipeline, or from the weights in the package.

    Raises:
        FileNotFoundError: if there is none.
    """
    return VideoTokenizer.from_pretrained(tokenizer_folder(folder))


def tokenizer_folder(folder: Path) -> Path:
    """Return the folder of the tokenizer that `load_tokenizer` loads.

    Raises:
        FileNotFoundError: if there is none.
    """
    folder = local_folder(folder)
    inner = folder / "tokenizer"
    if not (inner / CONFIG_NAME).is_file() and not (folder / CONFIG_NAME).is_file():
        raise FileNotFoundError(
            f"there is no trained tokenizer in {folder}: run train/tokenizer.py, or choose another --tokenizer"
        )
    return inner if (inner / CONFIG_NAME).is_file() else folder


def planned_tokenizer(folder: Path) -> TokenizerConfig:
    """Return the config of the tokenizer in a folder or, before it is trained, of the preset that would write it there.

    Raises:
        FileNotFoundError: if there is neither.
    """
    try:
        return VideoTokenizer.load_config(tokenizer_folder(folder))
    except FileNotFoundError:
        for run in TOKENIZER_PRESETS.values():
            if run.output_dir == folder:
                return run.model
        raise


def load_pipeline(folder: Path) -> VideoGenerationPipeline:
    """Load the pipeline from its own folder, from that of a run or of the demo, or from the weights in the package.

    Raises:
        FileNotFoundError: if there is none.
    """
    folder = local_folder(folder)
    for candidate in (folder / PIPELINE_FOLDER, folder):
        if (candidate / INDEX_NAME).is_file():
            return VideoGenerationPipeline.from_pretrained(candidate)
    raise FileNotFoundError(
        f"there is no trained pipeline in {folder}: run train/maskgit.py, or run `magvit2 demo` and pass outputs/demo"
    )


def sample(pipeline: VideoGenerationPipeline, heldout: Clips, run: MaskGitRun, step: int) -> None:
    """Save one sample of each of the first labels and of each task with known pixels, with the seed of the run."""
    pictures = run.output_dir / "pictures"
    videos = pipeline.generate(labels=list(pipeline.labels[:PICTURED_LABELS]), seed=run.seed, progress=False)
    videos.save(pictures / f"samples-{step:08d}.gif")
    names = pipeline.maskgit.config.tasks
    draw_tasks(pipeline, heldout, pictures / f"tasks-{step:08d}.gif", tasks=names, seed=run.seed)
    logger.info("step %d: samples saved in %s", step, pictures)


def main() -> None:
    """Run the command line of this stage."""
    run_command(train, PRESETS, description="Train the masked transformer (stage two).")


if __name__ == "__main__":
    main()
