"""The mix of tasks that the transformer is trained on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ..maskgit.tasks import TASKS, task_named

CLASS_FRAME_PREDICTION, FRAME_PREDICTION = "class_frame_prediction", "frame_prediction"
TASKS_DRAWN = 2**31  # marks the seeds of tasks; larger than any epoch, so that they differ from those of the order


@dataclass(frozen=True, kw_only=True)
class WeightedTask:
    """A task of a mix."""

    name: str
    weight: float = 1.0
    """Relative frequency of the task."""

    def __post_init__(self) -> None:
        task_named(self.name)
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise ValueError(f"the weight of {self.name} must be positive and finite, got {self.weight}")


ALL_TASKS = tuple(WeightedTask(name=name) for name in TASKS)


def check_mix(mix: Sequence[WeightedTask]) -> None:
    """Check that no task is in a mix twice.

    Raises:
        ValueError: if a task is in it more than once.
    """
    names = [task.name for task in mix]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"each task must appear at most once, got {twice[0]} {names.count(twice[0])} times")


def condition_of(task: str) -> str | None:
    """Return the name of the task whose condition codes a task is trained on; None if it has no condition.

    Tasks with the same region share their condition codes.
    """
    if not task_named(task).has_region:
        return None
    return FRAME_PREDICTION if task == CLASS_FRAME_PREDICTION else task


def conditions_of(mix: Sequence[WeightedTask]) -> tuple[str, ...]:
    """Return the names of the tasks whose condition codes a mix needs, without repetition."""
    needed = {condition_of(task.name) for task in mix}
    return tuple(name for name in TASKS if name in needed)


def drawn_tasks(mix: Sequence[WeightedTask], seed: int, positions: Sequence[int]) -> Int[np.ndarray, " b"]:
    """Return the index into the mix for each sample, drawn by weight.

    Args:
        positions: positions in the endless sequence of samples. The task of a sample is a function of (seed, position).
    """
    bounds = np.cumsum([task.weight for task in mix])
    chances = np.array([np.random.default_rng((seed, TASKS_DRAWN, position)).random() for position in positions])
    return np.searchsorted(bounds, chances * bounds[-1], side="right").clip(max=len(mix) - 1)
