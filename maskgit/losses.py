"""Losses of the transformer: unweighted means over the positions of the global batch, and their weighted sum."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
import torch.distributed
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

Losses = dict[str, Float[Tensor, ""]]

MEASURES = {"accuracy"}  # reported with the losses, but not part of the total loss
NEED_A_HEAD = {"critic"}  # absent if the model lacks the head


@dataclass(frozen=True, kw_only=True)
class MaskGitLossWeights:
    """Weight of each loss. The first three losses are cross-entropies in nats, the three parts of COMMIT's loss."""

    masked_code: float = 1.0
    """Cross-entropy of hidden codes."""
    refined_code: float = 1.0
    """Cross-entropy of codes that are replaced by the code of the condition clip."""
    reconstructed_code: float = 0.1
    """Cross-entropy of codes that are visible. The weight is small, since decoding does not use these predictions, and
    since a model that copies visible codes also copies condition codes, which it cannot tell apart from them."""
    critic: float = 1.0
    """Binary cross-entropy of the self-critic's logits in nats, if the model has a critic."""


def weighted_sum(losses: Losses, weights: MaskGitLossWeights) -> Float[Tensor, ""]:
    """Return the total loss.

    Raises:
        ValueError: if a loss has no weight, or if a weight other than that of the critic has no loss.
    """
    weight_of = asdict(weights)
    weighed = {name: loss for name, loss in losses.items() if name not in MEASURES}
    if weighed.keys() | NEED_A_HEAD != weight_of.keys():
        raise ValueError(f"losses and weights must have the same names, got {sorted(weighed)} and {sorted(weight_of)}")
    return torch.stack([weight_of[name] * loss for name, loss in weighed.items()]).sum()


def cross_entropies(
    logits: tuple[Float[Tensor, "b n _"], ...], targets: Int[Tensor, "b n g"], label_smoothing: float = 0.0
) -> Float[Tensor, "b n"]:
    """Return the cross-entropy of each code in nats, summed over its sub-codes."""
    groups = [
        F.cross_entropy(
            rearrange(group, "b n v -> (b n) v"),
            rearrange(target, "b n -> (b n)"),
            label_smoothing=label_smoothing,
            reduction="none",
        )
        for group, target in zip(logits, targets.unbind(dim=-1), strict=True)
    ]
    return rearrange(torch.stack(groups).sum(dim=0), "(b n) -> b n", b=len(targets))


@torch.no_grad()
def are_right(logits: tuple[Float[Tensor, "b n _"], ...], targets: Int[Tensor, "b n g"]) -> Bool[Tensor, "b n"]:
    """Return True where the most likely sub-codes are all correct."""
    likeliest = torch.stack([group.argmax(dim=-1) for group in logits], dim=-1)
    return (likeliest == targets).all(dim=-1)


def criticisms(verdicts: Float[Tensor, "b n"], *, is_real: Bool[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Return the binary cross-entropy of each critic logit in nats. The target is 1 if the code is from the data."""
    return F.binary_cross_entropy_with_logits(verdicts.float(), is_real.float(), reduction="none")


def masked_means(values: Mapping[str, Float[Tensor, "b n"]], masks: Mapping[str, Bool[Tensor, "b n"]]) -> Losses:
    """Return the mean of each entry of `values` where the mask of the same name is True; 0 if it is nowhere True.

    The mean of the results of all processes is the mean over the global batch, however the positions with True are
    distributed over the processes.
    """
    counts = torch.stack([masks[name].sum() for name in values])
    num_processes = 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(counts)
        num_processes = torch.distributed.get_world_size()
    # Not in float64, which not every device has.
    exact = torch.promote_types(torch.float32, next(iter(values.values())).dtype)
    divisors = counts.clamp(min=1).to(exact) / num_processes
    return {
        name: value.masked_fill(~masks[name], 0).sum() / divisor.to(value.dtype)
        for (name, value), divisor in zip(values.items(), divisors, strict=True)
    }
