"""The transformer's prediction with classifier-free guidance, as a function of codes and progress."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...maskgit import MaskGit, guide
from ...maskgit.sub_code_heads import Logits, PredictedLogits


class Conditions(NamedTuple):
    """Inputs of the transformer besides the codes, one row per sample."""

    labels: Int[Tensor, " b"]
    tasks: Int[Tensor, " b"]
    context: Float[Tensor, "b m e"] | None = None
    context_padding: Bool[Tensor, "b m"] | None = None

    def with_unconditional(self, null_label: int) -> "Conditions":
        """Return these conditions followed by the unconditional ones, without label and context.

        The task is kept, since it describes the given pixels and not the content.
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
    """Return the `predict_logits` of `iterative_decode`; each call is one pass of the transformer.

    With guidance, conditional and unconditional samples are one batch. Without labels and contexts, or at scale 1, the
    batch has conditional samples only.

    Clips shorter than the training clips are padded with hidden codes, since the transformer was trained on one length
    and its predictions for shorter clips are worse.

    Args:
        guidance_at: function from the progress of a pass to its guidance scale.
    """
    config = maskgit.config
    can_guide = conditions.context is not None or bool((conditions.labels != config.null_label).any())
    both = conditions.with_unconditional(config.null_label)

    def predict(codes: Int[Tensor, "b t h w"], given: Conditions) -> PredictedLogits:
        labels, tasks, context, padding = given
        num_missing = max(0, config.grid[0] - codes.shape[1])
        padded = F.pad(codes, (0, 0, 0, 0, 0, num_missing), value=config.mask_id)
        logits = maskgit(padded, labels, tasks=tasks, context=context, context_padding=padding)
        return tuple(group[:, : codes[0].numel()] for group in logits)

    def predict_logits(codes: Int[Tensor, "b t h w"], progress: float) -> Logits:
        scale = guidance_at(progress)
        if scale == 1 or not can_guide:
            return predict(codes, conditions)
        logits = predict(torch.cat([codes, codes]), both)
        conditional = tuple(group[: len(codes)] for group in logits)
        unconditional = tuple(group[len(codes) :] for group in logits)
        return guide(conditional, unconditional, scale)

    return predict_logits
