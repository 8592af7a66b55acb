"""The tasks of multi-task training (COMMIT in MAGVIT)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..choices import chosen
from ..devices import built_once


@dataclass(frozen=True, kw_only=True)
class Task:
    """A generation task: which part of a clip is given, and whether the label is."""

    name: str
    uses_label: bool = False
    """Whether the transformer sees the label. Other tasks see the null label."""
    has_region: bool = True
    """Whether pixels of the clip are given."""


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(name="frame_prediction"),
        Task(name="frame_interpolation"),
        Task(name="central_outpainting"),
        Task(name="vertical_outpainting"),
        Task(name="horizontal_outpainting"),
        Task(name="dynamic_outpainting"),
        Task(name="central_inpainting"),
        Task(name="dynamic_inpainting"),
        Task(name="class_generation", uses_label=True, has_region=False),
        Task(name="class_frame_prediction", uses_label=True),
    )
}
"""All tasks by name. A transformer identifies a task by its index in `MaskGitConfig.tasks`."""


def task_named(name: str) -> Task:
    """Return the task of that name.

    Raises:
        ValueError: if there is no such task.
    """
    return chosen(TASKS, name, "task")


def labels_seen(
    labels: Int[Tensor, " b"], tasks: Int[Tensor, " b"], names: Sequence[str], null_label: int
) -> Int[Tensor, " b"]:
    """Return the labels, replaced by the null label where the task does not use labels.

    Args:
        tasks: indices into `names`. The null task, `len(names)`, is plain generation and uses the label.
        names: `MaskGitConfig.tasks`.
    """
    return torch.where(uses_label(tuple(names), labels.device)[tasks], labels, null_label)


@built_once
def uses_label(names: tuple[str, ...], device: torch.device) -> Bool[Tensor, " tasks"]:
    """Return whether each task uses the label, and True for the null task."""
    return torch.tensor([*(task_named(name).uses_label for name in names), True], device=device)
