"""The tasks that one transformer is trained on at once (MAGVIT's COMMIT): what is asked of it, without a pixel."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is given and what is asked for."""

    name: str
    uses_label: bool = False
    """Whether the label is told; the other tasks always see the null label."""
    has_region: bool = True
    """Whether some pixels of the clip are given."""


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
"""By name. A transformer knows those in its config's `tasks`, each by its index there."""


def task_named(name: str) -> Task:
    """The task of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in TASKS:
        nearest = difflib.get_close_matches(name, TASKS, n=1)
        hint = f"perhaps you meant {nearest[0]!r}; " if nearest else ""
        raise ValueError(f"there is no task {name!r}, {hint}allowed are {', '.join(TASKS)}")
    return TASKS[name]


def labels_seen(
    labels: Int[Tensor, " b"], tasks: Int[Tensor, " b"], names: Sequence[str], null_label: int
) -> Int[Tensor, " b"]:
    """The labels, but the null label where the task does not use it.

    Args:
        tasks: indices into `names`; beyond them the null task, plain generation, which uses the label.
        names: the tasks that the transformer knows, its config's `tasks`.
    """
    uses_label = torch.tensor([*(task_named(name).uses_label for name in names), True], device=labels.device)
    return torch.where(uses_label[tasks], labels, null_label)
