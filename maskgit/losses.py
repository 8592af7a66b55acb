"""The transformer's losses: unweighted means over places of the joined batch, and their weighted sum."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
import torch.distributed
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .sampling import Logits

Losses = dict[str, Float[Tensor, ""]]

MEASURES = {"accuracy"}  # stand among the losses, and are none
NEED_A_HEAD = {"critic"}  # their weights may stand without a loss


@dataclass(frozen=True, kw_only=True)
class MaskGitLossWeights:
    """One weight for each loss. The first three are cross-entropies in nats, the three parts of COMMIT's."""

    masked_code: float = 1.0
    """Of codes that are hidden."""
    refined_code: float = 1.0
    """Of codes in whose place the code of the condition clip is shown."""
    reconstructed_code: float = 0.1
    """Of codes that are shown. Little, since decoding never asks for them, and copying a code is wrong where it is one
    of the condition clip, which looks the same."""
    critic: float = 1.0
    """Binary cross-entropy of the self-critic's verdict on each code, in nats, where there is a critic."""


def weighted_sum(losses: Losses, weights: MaskGitLossWeights) -> Float[Tensor, ""]:
    """The total loss.

    Raises:
        ValueError: a loss without a weight, or a weight without a loss, but for that of a critic.
    """
    weight_of = asdict(weights)
    weighed = {name: loss for name, loss in losses.items() if name not in MEASURES}
    if weighed.keys() | NEED_A_HEAD != weight_of.keys():
        raise ValueError(f"the losses {sorted(weighed)} do not match the weights {sorted(weight_of)}")
    return torch.stack([weight_of[name] * loss for name, loss in weighed.items()]).sum()


def cross_entropies(
    logits: Logits, targets: Int[Tensor, "b n g"], label_smoothing: float = 0.0
) -> Float[Tensor, "b n"]:
    """The cross-entropy of each code in nats, summed over its sub-codes."""
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
def are_right(logits: Logits, targets: Int[Tensor, "b n g"]) -> Bool[Tensor, "b n"]:
    """Where the likeliest sub-codes are all right."""
    likeliest = torch.stack([group.argmax(dim=-1) for group in logits], dim=-1)
    return (likeliest == targets).all(dim=-1)


def criticisms(verdicts: Float[Tensor, "b n"], *, is_real: Bool[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """The binary cross-entropy in nats of each verdict, a logit that the code is as in the data."""
    return F.binary_cross_entropy_with_logits(verdicts.float(), is_real.float(), reduction="none")


def means_over_places(values: Mapping[str, Float[Tensor, "b n"]], places: Mapping[str, Bool[Tensor, "b n"]]) -> Losses:
    """The mean of the values at those places, by name; 0 where there is no such place, with a gradient of 0.

    The mean over all processes of what each gets is the mean over all places of the joined batch, however the places
    are shared out among them.
    """
    counts = torch.stack([places[name].sum() for name in values]).double()
    num_processes = 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(counts)
        num_processes = torch.distributed.get_world_size()
    divisors = counts.clamp(min=1) / num_processes
    return {
        name: value.masked_fill(~places[name], 0).sum() / divisor.to(value.dtype)
        for (name, value), divisor in zip(values.items(), divisors, strict=True)
    }
