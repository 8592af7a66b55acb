"""Shared parts of both training stages: processes, the output folder, progress bars, interruption."""

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    gather_object,
)
from torch import nn
from tqdm.auto import tqdm

from ..files import as_path
from ..messages import printable
from .bad_steps import BadSteps
from .compilation import compilation
from .data import VideoData
from .data.report import write_skipped
from .metrics_file import METRICS_NAME
from .run_folder import ARITHMETIC, CLIPS_PER_STEP, NUM_PROCESSES, RunFolder, flat
from .run_log import RunLog, can_show_bars
from .trackers import check_installed, checked_trackers, start_trackers, trackers_for_accelerate

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

# Settings in accelerate's environment under which averaged weights, checkpoints or precision would be wrong.
UNSUPPORTED = {
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_USE_FSDP": "true",
    "ACCELERATE_USE_MEGATRON_LM": "true",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
    "ACCELERATE_MIXED_PRECISION": "fp8",
}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings of every training run."""

    output_dir: Path
    """Folder for checkpoints, pictures, logs and the trained model. A folder in use is never overwritten."""
    num_steps: int
    """Number of optimizer steps."""
    batch_size: int
    """Clips per batch of all processes together."""
    batch_size_per_process: int | None = None
    """Clips per batch of each process, in place of `batch_size`."""
    gradient_accumulation: int = 1
    """Batches per optimizer step."""
    seed: int = 0
    """Seed of the initial weights, the batches and the noise."""
    log_every: int = 20
    """Steps between reports of losses and speed."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Trackers that get the same values as `metrics.jsonl`: tensorboard, wandb, comet_ml, aim, mlflow, clearml,
    dvclive, swanlab, trackio, several of them, or none."""
    evaluate_every: int = 1000
    """Steps between evaluations, which also draw pictures."""
    evaluation_clips: int = 256
    """Largest number of held-out clips of each source that evaluations measure, always the same ones, spread over
    labels and videos."""
    save_every: int = 1000
    """Steps between checkpoints. The last step and an interruption also save one."""
    keep_last: int = 2
    """Number of checkpoints that are kept, the newest ones."""
    keep_best: bool = False
    """Save and keep the checkpoint with the best score of the evaluations, too."""
    max_bad_steps: int = 10
    """Steps in a row with a loss or gradient that is NaN or infinite after which the run stops. Such steps are
    skipped."""
    num_workers: int | None = None
    """Number of worker processes that load data. None: none on a CPU; with a GPU one for each core of the process, at
    most four. Results do not depend on it."""
    compile: bool = False
    """Compile the models with torch.compile. The first steps take minutes, all others less time on a GPU."""
    timeout: float = 30.0
    """Minutes after which a process gives up if another one does not answer. Only for several processes."""
    restart_in: Path | None = None
    """Start the run from the beginning in this folder, which must be new, in place of `output_dir`. Without it, the run
    in `output_dir` is continued from its last checkpoint, if there is one."""
    allow_changed_precision: bool = False
    """Continue a run with another precision, compiler or kind of device than before."""
    stop_after: int | None = None
    """Stop after this step, counted from the start of the run. The same command without this option continues."""
    progress: bool = True
    """Progress bars, on by default. Without them, and where standard error is not a terminal, losses and speed are
    logged as lines."""
    dry_run: bool = False
    """Print the parameters, memory, operations and disk space that the run needs, and stop. Nothing is trained, decoded
    or written."""
    peak_tflops: float = 312.0
    """Peak of one GPU in TFLOP/s, for the hours of --dry-run. 312 is that of an A100 in bf16."""

    @property
    def last_step(self) -> int:
        """Step after which the training loop ends: `stop_after`, at most `num_steps`."""
        return self.num_steps if self.stop_after is None else min(self.num_steps, self.stop_after)

    @property
    def may_be_extended(self) -> bool:
        """Whether more steps are a continuation of the same run, because no schedule depends on `num_steps`."""
        return False

    def clips_per_process(self, num_processes: int) -> int:
        """Return the clips per batch of each of `num_processes` processes.

        Raises:
            ValueError: if they cannot share a batch evenly.
        """
        if self.batch_size_per_process is not None:
            return self.batch_size_per_process
        if self.batch_size % num_processes:
            raise ValueError(
                f"batch_size must be a multiple of the number of processes, {num_processes}, got {self.batch_size}; "
                "with a higher batch_size and a lower gradient_accumulation, a step has the same clips"
            )
        return self.batch_size // num_processes

    def __post_init__(self) -> None:
        if self.restart_in is not None:
            object.__setattr__(self, "output_dir", self.restart_in)
        for field in fields(self):
            if isinstance(path := getattr(self, field.name), Path):
                object.__setattr__(self, field.name, as_path(path))
        at_least_one = (
            "num_steps",
            "batch_size",
            "gradient_accumulation",
            "log_every",
            "evaluate_every",
            "evaluation_clips",
            "save_every",
            "keep_last",
            "max_bad_steps",
        )
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("seed", "num_workers"):
            if (number := getattr(self, name)) is not None and number < 0:
                raise ValueError(f"{name} must not be negative, got {number}")
        for name in ("stop_after", "batch_size_per_process"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        if not self.timeout > 0:
            raise ValueError(f"timeout must be positive, got {self.timeout}")
        if not 0 < self.peak_tflops < math.inf:
            raise ValueError(f"peak_tflops must be positive and finite, got {self.peak_tflops}")
        object.__setattr__(self, "trackers", checked_trackers(self.trackers))
        try:
            str(self.output_dir).encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"output_dir must be valid UTF-8, because TensorBoard cannot write to other paths, got "
                f"{printable(self.output_dir)}"
            ) from error


class Interruption:
    """A request to stop a run after its current step, with a checkpoint.

    Set `asked` to True to make the request, for example from another thread. A run uses it as a context manager around
    its loop.

    Attributes:
        ends_at_once: True during work that may be given up, such as an evaluation. The one who makes the request may
            then raise `WorkGivenUp` in the thread of the run.
    """

    def __init__(self) -> None:
        self.asked = False
        self.ends_at_once = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def is_asked(self) -> bool:
        """Whether to stop the run. Called after each step."""
        return self.asked


class WorkGivenUp(BaseException):
    """Work besides the training was given up because of an interruption."""


class Session:
    """One execution of a run in this process: its accelerator, its folder and its loop.

    Attributes:
        batch_size: clips per batch of this process.
        done: number of optimizer steps taken.
        log: reports steps and evaluations.
    """

    def __init__(self, run: RunConfig, interruption: Interruption | None) -> None:
        """Check the output folder, then join the other processes.

        Raises:
            ValueError: if the output folder, a tracker or the environment cannot be used.
        """
        self.run = run
        check_installed(run.trackers)
        self.folder = RunFolder(run.output_dir, run)
        self.accelerator = create_accelerator(run)
        self.interruption = Interruption() if interruption is None else interruption
        self.is_main = self.accelerator.is_main_process
        self.batch_size = run.clips_per_process(self.accelerator.num_processes)
        self.shows_progress = run.progress and self.is_main
        self.done = 0
        has_scaler = self.accelerator.scaler is not None
        self.bad_steps = BadSteps(run.max_bad_steps, run.seed, has_scaler=has_scaler)
        self.log = RunLog(
            self.accelerator,
            run.output_dir / METRICS_NAME,
            log_every=run.log_every,
            num_steps=run.num_steps,
            clips_per_step=self.batch_size * run.gradient_accumulation * self.accelerator.num_processes,
        )
        self.at_end = ExitStack()
        if run.compile:
            self.at_end.enter_context(compilation(self.accelerator.device))
        self.has_begun = False
        self.is_in_loop = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        if error is None:
            self.accelerator.wait_for_everyone()
        elif isinstance(error, Exception) and self.has_begun:
            if isinstance(error, OSError):
                error.add_note(f"The run is in {self.run.output_dir}; the same command continues it.")
            path = self.folder.log_error(error, self.accelerator.process_index)
            if path is not None:
                error.add_note(f"The traceback is in {path}.")
        self.at_end.close()
        self.accelerator.free_memory()
        self.folder.release()

    @property
    def is_complete(self) -> bool:
        """Whether all steps of the run are done."""
        return self.done >= self.run.num_steps

    def begin(self, inputs: Mapping[str, Any], *sources: VideoData) -> None:
        """Claim the output folder, start the trackers and seed PyTorch.

        Args:
            inputs: what the run depends on besides its config; see `RunFolder.claim`.
            sources: the data; files that are not used are listed in the folder.
        """
        if self.is_main:
            dynamo = self.accelerator.state.dynamo_plugin
            arithmetic = {
                "device": self.accelerator.device.type,
                "mixed_precision": self.accelerator.mixed_precision,
                "dynamo_backend": "--compile" if self.run.compile else str(dynamo and dynamo.backend),
                "float32_matmul_precision": torch.get_float32_matmul_precision(),
            }
            num_processes = self.accelerator.num_processes
            own = {
                NUM_PROCESSES: num_processes,
                CLIPS_PER_STEP: self.batch_size * num_processes * self.run.gradient_accumulation,
                ARITHMETIC: arithmetic,
            }
            self.folder.claim({**inputs, **own})
            reports = [source.report for source in sources if source.report is not None]
            write_skipped(self.run.output_dir, reports)
            start_trackers(self.accelerator, flat(self.folder.config))
        self.has_begun = True
        self.at_end.callback(self.log.finish)
        torch.manual_seed(self.run.seed)

    def resume(self, ema: nn.Module) -> int:
        """Load the last checkpoint, if there is one, and return its number of optimizer steps, or 0."""
        self.done = self.folder.load(self.accelerator, ema)
        self.log.resume(self.done)
        return self.done

    @contextmanager
    def loop(self, description: str, *, codes_per_clip: int | None = None) -> Iterator["tqdm[int]"]:
        """Yield a progress bar over the remaining optimizer steps, and handle interruptions inside the context.

        Args:
            codes_per_clip: if the training is on codes.
        """
        bar = tqdm(
            range(self.done, self.run.last_step),
            initial=self.done,
            total=self.run.num_steps,
            desc=description,
            unit="step",
            disable=not (self.shows_progress and can_show_bars()),
            dynamic_ncols=True,
            mininterval=1.0,
        )
        self.log.begin(bar, self.done, self.run.last_step, codes_per_clip=codes_per_clip)
        with self.interruption, bar:
            self.is_in_loop = True
            try:
                yield bar
            finally:
                self.is_in_loop = False
        if not self.is_complete:
            logger.warning("stopped after %d of %d steps; the same command continues", self.done, self.run.num_steps)

    def unless_interrupted(self, work: Callable[[], Result]) -> Result | None:
        """Do work besides the training, such as drawing pictures. In the loop, an interruption ends it at once, because
        launchers do not wait for long: the result is then None.

        Args:
            work: must not communicate with other processes.
        """
        if not self.is_in_loop:
            return work()
        if self.interruption.is_asked():
            return None
        try:
            try:
                self.interruption.ends_at_once = True
                return work()
            finally:
                self.interruption.ends_at_once = False
        except WorkGivenUp:
            return None

    def results_of_all(self, work: Callable[[], Result]) -> list[Result] | None:
        """Do work as in `unless_interrupted` on all processes, and return the results of all, in their order; None if
        one of them was interrupted."""
        results = gather_object([self.unless_interrupted(work)])
        return None if any(result is None for result in results) else results

    def ends_after(self, done: int, ema: nn.Module, score: float | None = None) -> bool:
        """Save a checkpoint if one is due, and return whether to stop here. Called on all processes.

        Args:
            score: of the evaluation after this step, if there was one; higher is better. Only that of the main process
                is used.

        Raises:
            ValueError: after too many bad steps, or if the weights are not finite.
        """
        self.done = done
        self.bad_steps.end_step()
        if interrupted := self.is_interrupted():
            self.interruption.asked = True  # in another process perhaps; the exit status depends on it
        too_many = self.bad_steps.are_too_many
        best = self.run.keep_best and done % self.run.evaluate_every == 0 and self.is_best(score)
        if interrupted or too_many or best or done % self.run.save_every == 0 or done == self.run.last_step:
            with self.log.paused():
                self.folder.save(self.accelerator, ema, done)
        if best and score is not None and self.is_main:
            self.folder.mark_best(done, score)
        if too_many:
            raise ValueError(self.bad_steps.message(done))
        return interrupted and not self.is_complete

    def mark_if_best(self, score: float | None) -> None:
        """Keep the last checkpoint as the best one if the evaluation at the end has the best score. Called on all
        processes."""
        if self.run.keep_best and self.is_best(score) and score is not None and self.is_main:
            self.folder.mark_best(self.done, score)

    def is_interrupted(self) -> bool:
        """Whether any process was asked to stop. Called on all processes."""
        return self.is_so_for_any(self.interruption.is_asked())

    def is_best(self, score: float | None) -> bool:
        """Whether the main process has a score, and no checkpoint that is kept has a better one. Called on all
        processes."""
        best = self.folder.best() if self.is_main else None
        return self.is_so_for_any(self.is_main and score is not None and (best is None or score > best[1]))

    def is_so_for_any(self, is_so: bool) -> bool:
        """Return whether something is so for any process. Called on all processes."""
        if self.accelerator.num_processes == 1:
            return is_so
        number = self.accelerator.reduce(torch.full((), int(is_so), device=self.accelerator.device), "sum")
        return int(torch.as_tensor(number)) > 0


def create_accelerator(run: RunConfig) -> Accelerator:
    """Return the accelerator of this process, with the trackers of the run.

    Raises:
        ValueError: if the environment asks for something unsupported, or if this is one of several processes that are
            not connected to each other.
    """
    for name, value in UNSUPPORTED.items():
        if os.environ.get(name, "").lower() == value:
            raise ValueError(
                f"{name}={value} is not supported: each process trains the whole model, in float32, bf16 or fp16. "
                f"Unset {name}, or change it with `accelerate config`"
            )
    if run.compile and (backend := os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no")).lower() != "no":
        raise ValueError(
            f"--compile and ACCELERATE_DYNAMO_BACKEND={backend} must not both be set, since each compiles the models; "
            "unset ACCELERATE_DYNAMO_BACKEND"
        )
    accelerator = Accelerator(
        # ACCELERATE_GRADIENT_ACCUMULATION_STEPS would override `gradient_accumulation_steps`, but not a plugin.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=run.gradient_accumulation),
        log_with=trackers_for_accelerate(run.trackers, run.output_dir) or None,
        project_dir=run.output_dir,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=timedelta(minutes=run.timeout)),
            DistributedDataParallelKwargs(broadcast_buffers=False),  # all processes compute the same values
        ],
    )
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise ValueError("fp16 needs a GPU: a CPU would train in float32; use `--mixed_precision bf16` or no")
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size != accelerator.num_processes:
        raise ValueError(
            f"{world_size} processes were launched, but they are not connected. Without a GPU, set "
            "ACCELERATE_USE_CPU=true: `ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 train/...`"
        )
    return accelerator
