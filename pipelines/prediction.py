"""What the decoding asks at each pass: the transformer's prediction, guided."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..maskgit import MaskGit, guide

Logits = tuple[Float[Tensor, "b n _"], ...]


class Conditions(NamedTuple):
    """What the transformer is told beside the codes; each sample has its own."""

    labels: Int[Tensor, " b"]
    tasks: Int[Tensor, " b"]
    context: Float[Tensor, "b m e"] | None = None
    context_padding: Bool[Tensor, "b m"] | None = None

    def with_unconditional(self, null_label: int) -> "Conditions":
        """These, and after them as many without label and context.

        The task stays: it says what is asked, not what is to be shown.
        """
        labels = torch.cat([self.labels, torch.full_like(self.labels, null_label)])
        tasks = torch.cat([self.tasks, self.tasks])
        if self.context is None:
            return Conditions(labels, tasks)
        padding = self.context_padding
        if padding is None:
            padding = torch.zeros_like(self.context[..., 0], dtype=torch.bool)
        context = torch.cat([self.context, self.context])
        return Conditions(labels, tasks, context, torch.cat([padding, torch.ones_like(padding)]))


def guided_prediction(
    maskgit: MaskGit, conditions: Conditions, guidance_at: Callable[[float], float]
) -> Callable[[Int[Tensor, "b t h w"], float], Logits]:
    """The function of codes and progress that `iterative_decode` asks: one pass of the transformer each.

    Guided, conditional and unconditional halves go through the transformer as one batch. Where nothing is told that
    guidance could drop, or its scale is 1, only the conditional half does.

    Args:
        guidance_at: from the progress of a pass to its guidance scale.
    """
    null_label = maskgit.config.null_label
    can_guide = conditions.context is not None or bool((conditions.labels != null_label).any())
    both = conditions.with_unconditional(null_label)

    def predict(codes: Int[Tensor, "b t h w"], told: Conditions) -> Logits:
        labels, tasks, context, padding = told
        return maskgit(codes, labels, tasks=tasks, context=context, context_padding=padding)

    def predict_logits(codes: Int[Tensor, "b t h w"], progress: float) -> Logits:
        scale = guidance_at(progress)
        if scale == 1 or not can_guide:
            return predict(codes, conditions)
        halves = (group.chunk(2) for group in predict(torch.cat([codes, codes]), both))
        conditional, unconditional = zip(*halves, strict=True)
        return guide(conditional, unconditional, scale)

    return predict_logits
