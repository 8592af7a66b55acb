"""What a run reports while it trains: `metrics.jsonl`, trackers, and a progress bar or lines."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

from .metrics_file import HELDOUT, append_record, drop_records_after

T = TypeVar("T")

logger = logging.getLogger(__name__)


def can_show_bars() -> bool:
    """Return whether progress bars can be seen: standard error is a terminal, or this is a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class RunLog:
    """Reports every `log_every`-th step, and evaluations. Tensors are read only then.

    The trackers and `metrics.jsonl` get the same values under the same names.
    """

    def __init__(
        self, accelerator: Accelerator, path: Path, *, log_every: int, num_steps: int, clips_per_step: int
    ) -> None:
        """
        Args:
            path: of `metrics.jsonl`.
            num_steps: of the whole run.
            clips_per_step: in the batches of all processes.
        """
        self.accelerator = accelerator
        self.path = path
        self.log_every = log_every
        self.num_steps = num_steps
        self.clips_per_step = clips_per_step

    def resume(self, done: int) -> None:
        """Drop what the file says about steps that will be done again."""
        if self.accelerator.is_main_process:
            drop_records_after(self.path, done, self.num_steps)

    def begin(self, bar: "tqdm[int]", first: int, last: int, *, codes_per_clip: int | None = None) -> None:
        """Start the clocks.

        Args:
            first, last: number of steps before and after the loop.
            codes_per_clip: None: no codes are counted.
        """
        self.bar = bar
        self.first, self.last = first, last
        self.codes_per_clip = codes_per_clip
        self.reported = first
        self.started = self.since = time.monotonic()
        self.waited = 0.0

    def timed(self, batches: Iterable[T]) -> Iterator[T]:
        """Return an iterator over the batches that measures how long they are waited for."""
        # Here and not in the generator: when its iteration starts, a DataLoader draws from torch's global generator.
        return self._timed(iter(batches))

    def _timed(self, batches: Iterator[T]) -> Iterator[T]:
        started = time.monotonic()
        for batch in batches:
            self.waited += time.monotonic() - started
            yield batch
            started = time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time inside the context as time of training steps."""
        started = time.monotonic()
        yield
        self.since += time.monotonic() - started

    def step(
        self, done: int, losses: Mapping[str, Tensor], optimizer: Mapping[str, float | Tensor | None], *, group: str
    ) -> None:
        """Report a step if it is due. Called on all processes.

        Args:
            done: number of steps.
            losses: of the last batch; they are averaged over the processes.
            optimizer: learning rates and norms of gradients, the same on all processes.
            group: prefix of the names of the losses.
        """
        if done % self.log_every:
            return
        gathered = {name: self.accelerator.gather(loss.detach()[None]) for name, loss in losses.items()}
        if not self.accelerator.is_main_process:
            return
        means = {name: float(torch.as_tensor(values).mean()) for name, values in gathered.items()}
        speed = self.speed(done)
        self.write(
            done,
            {f"{group}/{name}": value for name, value in means.items()}
            | {f"optimizer/{name}": float(value) for name, value in optimizer.items() if value is not None}
            | {f"speed/{name}": value for name, value in speed.items()},
        )
        self.bar.set_postfix({name: f"{value:.3f}" for name, value in means.items()}, refresh=False)
        if self.bar.disable:
            logger.info(
                "step %d of %d: %s (%.3g s per step, %.3g clips per second, %s left)",
                *(done, self.num_steps, ", ".join(f"{name} {value:.3f}" for name, value in means.items())),
                *(speed["seconds_per_step"], speed["clips_per_second"], tqdm.format_interval(self.seconds_left(done))),
            )

    def speed(self, done: int) -> dict[str, float]:
        """Return the speed since the last report, and start to measure that until the next one."""
        now = time.monotonic()
        seconds, steps = max(now - self.since, 1e-9), done - self.reported
        clips = self.clips_per_step * steps / seconds
        speed = {"seconds_per_step": seconds / steps, "clips_per_second": clips}
        if self.codes_per_clip is not None:
            speed["codes_per_second"] = clips * self.codes_per_clip
        speed["data_wait_share"] = self.waited / seconds
        self.since, self.reported, self.waited = now, done, 0.0
        return speed

    def seconds_left(self, done: int) -> float:
        """Return an estimate from all steps since the start of the process, with evaluations and checkpoints."""
        return (time.monotonic() - self.started) / (done - self.first) * (self.last - done)

    def evaluation(
        self, done: int, scores: Mapping[str, float], details: Mapping[str, list[float]] | None = None
    ) -> None:
        """Report an evaluation. Called on all processes; the values of the main process count.

        Args:
            details: values for the file alone.
        """
        if self.accelerator.is_main_process and scores:
            self.write(
                done,
                {f"{HELDOUT}{name}": value for name, value in scores.items()},
                {f"{HELDOUT}{name}": values for name, values in (details or {}).items()},
            )

    def write(self, done: int, values: Mapping[str, float], details: Mapping[str, list[float]] | None = None) -> None:
        """Write values to the file and the trackers. If that is not possible, the run goes on without it."""
        try:
            append_record(self.path, {"step": done, "time": time.time(), **values, **(details or {})})
            self.accelerator.log(dict(values), step=done)
        except OSError as error:
            logger.warning("the values of step %d cannot be logged: %s", done, error)

    def finish(self) -> None:
        """Let the trackers write what they hold."""
        for tracker in self.accelerator.trackers:
            try:
                tracker.finish()
            except OSError as error:
                logger.warning("the last values cannot be logged: %s", error)
