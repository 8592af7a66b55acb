"""Settings of the process of a training command: logs, threads, signals, exit status. Not set by `train(run)`."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Self, TypeVar

import psutil
import torch

from .command_line import parse_run
from .cores import available_cores, processes_here
from .session import Interruption, RunConfig, WorkGivenUp

Run = TypeVar("Run", bound=RunConfig)

logger = logging.getLogger(__name__)

LAUNCHERS = {
    *("accelerate", "accelerate-launch", "accelerate.commands.launch", "accelerate.commands.accelerate_cli"),
    *("torchrun", "torch.distributed.run", "torch.distributed.launch"),
}
INTERRUPTED = 75  # exit status EX_TEMPFAIL of sysexits.h: the same command continues


def run_command(
    train: Callable[[Run, Interruption], Path | None], presets: Mapping[str, Run], *, description: str
) -> None:
    """Run the training that the command line describes.

    The exit status is 0 at the end of the run and after `--stop-after`; 1 after an error; 2 if the options cannot be
    read; 75 after an interruption with a checkpoint, and 130 after one without.
    """
    with exit_on_error():
        run = parse_run(presets, description=description)
        set_up()
        interruption = SignalInterruption()
        result = train(run, interruption)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        exit_if_interrupted(result, interruption)


def set_up() -> None:
    """Log to the terminal on the main process, and use all cores."""
    is_main = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger().setLevel(logging.INFO if is_main else logging.ERROR)
    for library in ("httpx", "datasets", "accelerate"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # `accelerate launch` sets OMP_NUM_THREADS=1.
    torch.set_num_threads(max(1, available_cores() // processes_here()))


class SignalInterruption(Interruption):
    """An interruption by Ctrl-C, SIGTERM, or the end of the launcher, for runs in the main thread.

    Signals are caught only during the loop of a run. `accelerate launch` does not forward SIGTERM to its child
    processes, and a launcher that is killed forwards nothing, so its end is also a request to stop.
    """

    def __init__(self) -> None:
        super().__init__()
        launcher = launcher_of(psutil.Process())
        self.launcher = None if launcher is None else launcher.pid

    def __enter__(self) -> Self:
        self.before = {number: signal.signal(number, self.handle) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def handle(self, signum: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        logger.warning("stopping after this step, with a checkpoint; interrupt again to stop now, without one")
        if self.ends_at_once:
            raise WorkGivenUp

    def is_asked(self) -> bool:
        if self.launcher is not None and os.getppid() != self.launcher and not self.asked:
            self.handle(signal.SIGTERM, None)
        return self.asked


def launcher_of(process: psutil.Process) -> psutil.Process | None:
    """Return the parent of a process if its command line is that of `accelerate launch` or `torchrun`, None
    otherwise."""
    try:
        parent = process.parent()
        words = [] if parent is None else parent.cmdline()
    except psutil.Error:  # it has ended, or belongs to another user
        return None
    is_python = bool(words) and "python" in Path(words[0]).name
    names = {Path(word).name for word in words[1:4]}  # the script or module comes after options of the interpreter
    return parent if is_python and names & LAUNCHERS else None


def exit_if_interrupted(result: Path | None, interruption: Interruption) -> None:
    """End the process with status 75 if a run was interrupted before it had a result."""
    if result is None and interruption.asked:
        sys.exit(INTERRUPTED)


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End the process with the message of a ValueError or OSError, or after Ctrl-C, without a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        sys.exit(" ".join([f"error: {error}", *getattr(error, "__notes__", ())]))
    except KeyboardInterrupt:
        logger.warning("interrupted")
        sys.exit(128 + signal.SIGINT)
