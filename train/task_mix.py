"""Which tasks stage two trains on, and which of them a sample is for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ..maskgit.tasks import TASKS, task_named

CLASS_FRAME_PREDICTION, FRAME_PREDICTION = "class_frame_prediction", "frame_prediction"
TASKS_DRAWN = 2**31  # stands in random seeds where the order of samples has its epochs, which never come to so many


@dataclass(frozen=True, kw_only=True)
class WeightedTask:
    """A task of a mix."""

    name: str
    weight: float = 1.0
    """How often it comes, beside the weights of the others."""

    def __post_init__(self) -> None:
        task_named(self.name)
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise ValueError(f"the weight of {self.name} must be positive and finite, got {self.weight}")


ALL_TASKS = tuple(WeightedTask(name=name) for name in TASKS)


def check_mix(mix: Sequence[WeightedTask]) -> None:
    """
    Raises:
        ValueError: a task that comes twice.
    """
    names = [task.name for task in mix]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"each task can be in a mix once, got {twice[0]} {names.count(twice[0])} times")


def condition_of(task: str) -> str | None:
    """The task whose condition codes a task is trained on: its own, or those of the same region; None without one."""
    if not task_named(task).has_region:
        return None
    return FRAME_PREDICTION if task == CLASS_FRAME_PREDICTION else task


def conditions_of(mix: Sequence[WeightedTask]) -> tuple[str, ...]:
    """The tasks whose condition codes a mix needs, each once."""
    needed = {condition_of(task.name) for task in mix}
    return tuple(name for name in TASKS if name in needed)


def drawn_tasks(mix: Sequence[WeightedTask], seed: int, places: Sequence[int]) -> Int[np.ndarray, " places"]:
    """An index into the mix for each place of the endless row of samples, by weight: a function of (seed, place)."""
    bounds = np.cumsum([task.weight for task in mix])
    chances = np.array([np.random.default_rng((seed, TASKS_DRAWN, place)).random() for place in places])
    return np.searchsorted(bounds, chances * bounds[-1], side="right").clip(max=len(mix) - 1)
