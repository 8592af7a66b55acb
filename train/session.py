"""Shared parts of both training stages: processes, the output folder, logs, progress bars, interruption."""

import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..files import as_path
from ..messages import printable
from .bad_steps import BadSteps
from .data import VideoData
from .data.report import write_skipped
from .run_folder import ARITHMETIC, NUM_PROCESSES, RunFolder, flat

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
    """Clips per process and batch."""
    gradient_accumulation: int = 1
    """Batches per optimizer step."""
    seed: int = 0
    """Seed of the initial weights, the batches and the noise."""
    log_every: int = 20
    """Steps between log lines of the losses."""
    evaluate_every: int = 1000
    """Steps between evaluations, which also draw pictures."""
    save_every: int = 1000
    """Steps between checkpoints. The last step and an interruption also save one."""
    max_bad_steps: int = 10
    """Steps in a row with a loss or gradient that is NaN or infinite after which the run stops. Such steps are
    skipped."""
    num_workers: int = 0
    """Number of worker processes that load data."""
    resume: bool = False
    """Continue the run in the output folder from its last checkpoint; start it if the folder is empty."""
    stop_after: int | None = None
    """Stop after this step, counted from the start of the run. Continue with --resume."""
    progress: bool = True
    """Progress bars, on by default. Without them, the losses are logged as lines."""
    dry_run: bool = False
    """Print the parameters, memory, operations and disk space that the run needs, and stop. Nothing is trained, decoded
    or written."""
    peak_tflops: float = 312.0
    """Peak of one GPU in TFLOP/s, for the hours of --dry-run. 312 is that of an A100 in bf16."""

    @property
    def last_step(self) -> int:
        """Step after which the training loop ends: `stop_after`, at most `num_steps`."""
        return self.num_steps if self.stop_after is None else min(self.num_steps, self.stop_after)

    def __post_init__(self) -> None:
        for field in fields(self):
            if isinstance(path := getattr(self, field.name), Path):
                object.__setattr__(self, field.name, as_path(path))
        at_least_one = (
            "num_steps",
            "batch_size",
            "gradient_accumulation",
            "log_every",
            "evaluate_every",
            "save_every",
            "max_bad_steps",
        )
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("seed", "num_workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 < self.peak_tflops < math.inf:
            raise ValueError(f"peak_tflops must be positive and finite, got {self.peak_tflops}")
        if self.stop_after is not None and self.stop_after < 1:
            raise ValueError(f"stop_after must be at least 1, got {self.stop_after}")
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
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def is_asked(self) -> bool:
        """Whether to stop the run. Called after each step."""
        return self.asked


class Session:
    """One execution of a run in this process: its accelerator, its folder and its loop.

    Attributes:
        done: number of optimizer steps taken.
    """

    def __init__(self, run: RunConfig, interruption: Interruption | None) -> None:
        """Check the output folder, then join the other processes.

        Raises:
            ValueError: if the output folder or the environment cannot be used.
        """
        self.run = run
        self.folder = RunFolder(run.output_dir, run)
        self.accelerator = create_accelerator(run)
        self.interruption = Interruption() if interruption is None else interruption
        self.is_main = self.accelerator.is_main_process
        self.shows_progress = run.progress and self.is_main
        self.done = 0
        has_scaler = self.accelerator.scaler is not None
        self.bad_steps = BadSteps(run.max_bad_steps, run.seed, has_scaler=has_scaler)
        self.at_end = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self.accelerator.wait_for_everyone()
        self.at_end.close()
        self.accelerator.free_memory()
        self.folder.release()

    @property
    def is_complete(self) -> bool:
        """Whether all steps of the run are done."""
        return self.done >= self.run.num_steps

    def begin(self, inputs: Mapping[str, Any], *sources: VideoData) -> None:
        """Claim the output folder, start TensorBoard and seed PyTorch.

        Args:
            inputs: what the run depends on besides its config; see `RunFolder.claim`.
            sources: the data; files that are not used are listed in the folder.
        """
        if self.is_main:
            dynamo = self.accelerator.state.dynamo_plugin
            arithmetic = {
                "mixed_precision": self.accelerator.mixed_precision,
                "dynamo_backend": str(dynamo and dynamo.backend),
                "float32_matmul_precision": torch.get_float32_matmul_precision(),
            }
            self.folder.claim({**inputs, NUM_PROCESSES: self.accelerator.num_processes, ARITHMETIC: arithmetic})
            reports = [source.report for source in sources if source.report is not None]
            write_skipped(self.run.output_dir, reports)
        settings = flat(self.folder.config)
        self.accelerator.init_trackers(
            "tensorboard",
            config={
                name: value if isinstance(value, int | float) else printable(value) for name, value in settings.items()
            },
        )
        for tracker in self.accelerator.trackers:
            self.at_end.callback(tracker.finish)
        torch.manual_seed(self.run.seed)

    def resume(self, ema: nn.Module) -> int:
        """Load the last checkpoint, if there is one, and return its number of optimizer steps, or 0."""
        self.done = self.folder.load(self.accelerator, ema)
        return self.done

    @contextmanager
    def loop(self, description: str) -> Iterator["tqdm[int]"]:
        """Yield a progress bar over the remaining optimizer steps, and handle interruptions inside the context."""
        bar = tqdm(
            range(self.done, self.run.last_step),
            initial=self.done,
            total=self.run.num_steps,
            desc=description,
            unit="step",
            disable=not self.shows_progress,
            dynamic_ncols=True,
            mininterval=1.0,
        )
        with self.interruption, bar:
            yield bar
        if not self.is_complete:
            logger.warning("stopped after %d of %d steps; continue with --resume", self.done, self.run.num_steps)

    def ends_after(self, done: int, ema: nn.Module) -> bool:
        """Save a checkpoint if one is due, and return whether to stop here. Called on all processes.

        Raises:
            ValueError: after too many bad steps, or if the weights are not finite.
        """
        self.done = done
        self.bad_steps.end_step()
        interrupted = self.is_interrupted()
        too_many = self.bad_steps.are_too_many
        if interrupted or too_many or done % self.run.save_every == 0 or done == self.run.last_step:
            self.folder.save(self.accelerator, ema, done)
        if too_many:
            raise ValueError(self.bad_steps.message(done))
        return interrupted and not self.is_complete

    def is_interrupted(self) -> bool:
        """Whether any process was asked to stop. Called on all processes."""
        is_asked = self.interruption.is_asked()
        if self.accelerator.num_processes == 1:
            return is_asked
        num_asked = self.accelerator.reduce(torch.tensor(int(is_asked), device=self.accelerator.device), "sum")
        return int(torch.as_tensor(num_asked)) > 0

    def log_losses(self, bar: "tqdm[int]", losses: Mapping[str, Tensor], done: int, *, group: str) -> None:
        """Every `log_every` steps, log the losses of the last batch, averaged over the processes.

        Args:
            group: prefix of the names in TensorBoard.
        """
        if done % self.run.log_every:
            return
        gathered = {name: self.accelerator.gather(loss.detach()[None]) for name, loss in losses.items()}
        means = {name: float(torch.as_tensor(values).mean()) for name, values in gathered.items()}
        self.accelerator.log({f"{group}/{name}": value for name, value in means.items()}, step=done)
        bar.set_postfix({name: f"{value:.3f}" for name, value in means.items()}, refresh=False)
        if bar.disable:
            logger.info("step %d: %s", done, ", ".join(f"{name} {value:.3f}" for name, value in means.items()))


def create_accelerator(run: RunConfig) -> Accelerator:
    """Return the accelerator of this process, with a TensorBoard tracker.

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
    accelerator = Accelerator(
        # ACCELERATE_GRADIENT_ACCUMULATION_STEPS would override `gradient_accumulation_steps`, but not a plugin.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=run.gradient_accumulation),
        log_with="tensorboard",
        project_dir=run.output_dir,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=1))],  # while one process evaluates
    )
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size != accelerator.num_processes:
        raise ValueError(
            f"{world_size} processes were launched, but they are not connected. Without a GPU, set "
            "ACCELERATE_USE_CPU=true: `ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 train/...`"
        )
    return accelerator
