"""The tokenizer's losses: unweighted scalars by name, and their weighted sum."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Losses = dict[str, Float[Tensor, ""]]

PIXEL_LOSSES = {"l2": F.mse_loss, "l1": F.l1_loss}
NEED_A_NETWORK = {"perceptual", "adversarial"}  # their weights may stand without a loss
OF_BITS = {"commitment", "sample_entropy", "codebook_entropy"}  # so may these together: FSQ has none of them


@dataclass(frozen=True, kw_only=True)
class TokenizerLossWeights:
    """One weight for each loss; a negative one rewards (the MAGVIT-v2 values are the defaults)."""

    reconstruction: float = 5.0
    """Mean squared (or absolute) error of the pixels in [-1, 1]."""
    commitment: float = 0.25
    """Mean squared distance of the latents to their corners."""
    sample_entropy: float = 0.1
    """Entropy of one assignment, in nats: to be low."""
    codebook_entropy: float = -0.1
    """Entropy of the mean assignment, in nats: to be high."""
    perceptual: float = 0.1
    """Distance in the features of a frozen network, where there is one."""
    adversarial: float = 0.1
    """Adversarial loss of the tokenizer, if there are discriminators."""

    def __post_init__(self) -> None:
        for name, weight in asdict(self).items():
            if isinstance(weight, bool) or not math.isfinite(weight):
                raise ValueError(f"the loss weight {name} must be a finite number, got {weight!r}")


def weighted_sum(
    losses: Losses, weights: TokenizerLossWeights, *, adversarial_factors: Sequence[float | Float[Tensor, ""]] = ()
) -> Float[Tensor, ""]:
    """The total loss.

    Args:
        adversarial_factors: what multiplies the adversarial weight for `adversarial_0`, `adversarial_1` and so on.

    Raises:
        ValueError: a loss without a weight, or a weight without a loss; only those that need another network may be
            missing, or all that the quantizer gives.
    """
    weight_of: dict[str, float | Tensor] = asdict(weights)
    weight_of |= {
        f"adversarial_{index}": factor * weights.adversarial for index, factor in enumerate(adversarial_factors)
    }
    missing = weight_of.keys() - losses.keys() - NEED_A_NETWORK
    if losses.keys() - weight_of.keys() or missing not in (set(), OF_BITS):
        raise ValueError(f"the losses {sorted(losses)} do not match the weights {sorted(weight_of)}")
    return torch.stack([weight_of[name] * loss for name, loss in losses.items()]).sum()
