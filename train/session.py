"""What both trainings share around their loop: processes and threads, logs, bars, interruption."""

import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import datasets
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list
from torch import Tensor
from tqdm.auto import tqdm

from .run_folder import RunFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every training run has."""

    output_dir: Path
    """Folder for checkpoints, pictures, logs and the result; a used one is never overwritten."""
    num_steps: int
    """Optimizer steps."""
    batch_size: int
    """Clips for each process and step, before gradient accumulation."""
    gradient_accumulation: int = 1
    """Batches for each optimizer step."""
    seed: int = 0
    log_every: int = 20
    """Steps between log lines of the losses."""
    evaluate_every: int = 1000
    """Steps between evaluations, with their pictures."""
    save_every: int = 1000
    """Steps between checkpoints; the last step and an interruption leave one, too."""
    num_workers: int = 0
    """Processes that load data."""
    resume: bool = False
    """Go on with the run in the output folder, exactly; begin it if there is none."""
    stop_after: int | None = None
    """Stop after so many steps in all, as an interruption would; go on with --resume."""
    progress: bool = True
    """Show progress bars; without them the losses come in lines."""

    @property
    def last_step(self) -> int:
        """The step after which this start ends."""
        return self.num_steps if self.stop_after is None else min(self.num_steps, self.stop_after)

    def __post_init__(self) -> None:
        at_least_one = ("num_steps", "batch_size", "gradient_accumulation", "log_every", "evaluate_every", "save_every")
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("seed", "num_workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.stop_after is not None and self.stop_after < 1:
            raise ValueError(f"stop_after must be at least 1, got {self.stop_after}")


def start(run: RunConfig) -> Accelerator:
    """The accelerator of this process, with all cores in use and a TensorBoard tracker.

    Raises:
        ValueError: started as one of several processes that do not know of each other.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    datasets.disable_progress_bars()  # ours say what is going on
    for noisy in ("httpx", "datasets", "accelerate"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    accelerator = Accelerator(
        gradient_accumulation_steps=run.gradient_accumulation,
        log_with="tensorboard",
        project_dir=run.output_dir,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=1))],  # one process prepares, the others wait
    )
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size != accelerator.num_processes:
        raise ValueError(
            f"{world_size} processes were launched, but each would train by itself. Without a GPU set "
            "ACCELERATE_USE_CPU=true: `ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 train/...`"
        )
    if accelerator.device.type == "cpu":
        # `accelerate launch` sets OMP_NUM_THREADS=1, which would leave all cores but one idle.
        processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(1, available_cores() // processes_here))
    if not accelerator.is_main_process:
        logging.getLogger().setLevel(logging.ERROR)
    return accelerator


def available_cores() -> int:
    """Cores that this process may use; of the whole machine where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def all_cores() -> Iterator[None]:
    """Let this process use all cores, where the others beside it wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(available_cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def track(accelerator: Accelerator, config: Mapping[str, Any]) -> None:
    """Start TensorBoard with the run's config beside it."""
    accelerator.init_trackers("tensorboard", config=flat(config))


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, int | float | str | bool]:
    """A nested config as TensorBoard takes it: one level of plain values."""
    values: dict[str, int | float | str | bool] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{name}.")
        else:
            values[prefix + name] = value if isinstance(value, int | float | str | bool) else str(value)
    return values


class Interruption:
    """Whether somebody has asked this run to stop (Ctrl-C, SIGTERM).

    `accelerate launch` dies of SIGTERM without passing it on: a launcher that is gone asks, too.
    """

    def __init__(self) -> None:
        self.asked = False
        self.launcher = os.getppid() if "ACCELERATE_MIXED_PRECISION" in os.environ else None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt  # asked twice: now
        self.asked = True
        logger.warning("stopping after this step, with a checkpoint (again: at once, without)")

    def agreed(self, accelerator: Accelerator) -> bool:
        """What the main process was asked, on all processes."""
        if self.launcher is not None and os.getppid() != self.launcher and not self.asked:
            self(signal.SIGTERM, None)
        if accelerator.num_processes == 1:
            return self.asked
        return bool(broadcast_object_list([self.asked])[0])


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Catch Ctrl-C and SIGTERM, so that a step and its checkpoint are finished first."""
    interruption = Interruption()
    before = {number: signal.signal(number, interruption) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def steps(run: RunConfig, first: int, *, description: str, is_main: bool) -> "tqdm[int]":
    """The optimizer steps still to take, behind a progress bar."""
    return tqdm(
        range(first, run.last_step),
        initial=first,
        total=run.num_steps,
        desc=description,
        unit="step",
        disable=not (run.progress and is_main),
        dynamic_ncols=True,
        mininterval=1.0,
    )


def check_finite(losses: Mapping[str, Tensor], step: int) -> None:
    """Stop before a loss that is no number reaches the weights.

    Raises:
        ValueError: a loss is infinite or NaN.
    """
    if not torch.stack([loss.detach().float() for loss in losses.values()]).isfinite().all():
        broken = ", ".join(f"{name} is {loss.item()}" for name, loss in losses.items() if not loss.isfinite())
        raise ValueError(
            f"step {step}: {broken}. Training has stopped; the checkpoints are of steps before. "
            "docs/troubleshooting.md says what to change"
        )


def log_losses(
    accelerator: Accelerator, bar: "tqdm[int]", losses: Mapping[str, Tensor], step: int, *, group: str
) -> None:
    """The losses of the last batch, as means over the processes: for TensorBoard, and beside the bar or in a line.

    Args:
        group: of the names in TensorBoard.
    """
    gathered = {name: accelerator.gather(loss.detach()[None]) for name, loss in losses.items()}
    means = {name: float(torch.as_tensor(values).mean()) for name, values in gathered.items()}
    accelerator.log({f"{group}/{name}": value for name, value in means.items()}, step=step)
    bar.set_postfix({name: f"{value:.3f}" for name, value in means.items()}, refresh=False)
    if bar.disable:
        logger.info("step %d: %s", step, ", ".join(f"{name} {value:.3f}" for name, value in means.items()))


def stop(accelerator: Accelerator, folder: RunFolder, run: RunConfig, done: int, *, planned: bool) -> NoReturn:
    """End the program before the run is complete: with status 0 where that was planned, 1 where it was interrupted."""
    finish(accelerator, folder)
    logger.warning("stopped after %d of %d steps; --resume goes on", done, run.num_steps)
    sys.exit(0 if planned else 1)


def finish(accelerator: Accelerator, folder: RunFolder) -> None:
    """Let all processes come to the end together; the trackers write what they hold."""
    accelerator.wait_for_everyone()
    accelerator.end_training()
    accelerator.free_memory()
    folder.release()


@contextmanager
def errors_in_words() -> Iterator[None]:
    """End the program with the message alone where the user's input was refused."""
    try:
        yield
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
