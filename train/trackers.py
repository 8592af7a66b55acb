"""Trackers of experiments: TensorBoard and the others that accelerate supports."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, TensorBoardTracker, get_available_trackers
from accelerate.utils import LoggerType

from ..messages import allowed_names, printable
from .run_folder import LOGS_NAME

NONE = "none"
PROJECT_NAME = "magvit2-pytorch"


def checked_trackers(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names without `none` and repetitions.

    Raises:
        ValueError: if accelerate has no tracker of a name, or `none` is not the only name.
    """
    known = [name for name in LoggerType.list() if name != str(LoggerType.ALL)]
    for name in names:
        if name not in (*known, NONE):
            raise ValueError(f"unknown tracker {printable(name)!r}: {allowed_names(name, [*known, NONE])}")
    if NONE in names and len(names) > 1:
        raise ValueError(f"trackers must be {NONE} or names of trackers, got {' '.join(names)}")
    return tuple(dict.fromkeys(name for name in names if name != NONE))


def check_installed(names: Sequence[str]) -> None:
    """
    Raises:
        ValueError: if the package of a tracker is not installed.
    """
    available = {str(tracker) for tracker in get_available_trackers()}
    for name in names:
        if name not in available:
            raise ValueError(
                f"the tracker {name} needs a package that is not installed: run `pip install {name.replace('_', '-')}`,"
                " or choose other --trackers"
            )


def trackers_for_accelerate(names: Sequence[str], output_dir: Path) -> list[str | LoggerType | GeneralTracker]:
    """Return the trackers as `Accelerator(log_with=...)` takes them.

    TensorBoard writes into a folder with the name of the project. Here this is a folder in the run's folder.
    """
    return [TensorBoardTracker(LOGS_NAME, output_dir) if name == "tensorboard" else name for name in names]


def start_trackers(accelerator: Accelerator, settings: Mapping[str, Any]) -> None:
    """Start the trackers of this process. Call it on the main process only: accelerate starts some on each process.

    Args:
        settings: of the run, by name.
    """
    config = {name: value if isinstance(value, int | float) else printable(value) for name, value in settings.items()}
    accelerator.init_trackers(PROJECT_NAME, config=config)
