"""Losses of the tokenizer: unweighted scalars by name, and their weighted sum."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Losses = dict[str, Float[Tensor, ""]]

PIXEL_LOSSES = {"l2": F.mse_loss, "l1": F.l1_loss}
NEED_A_NETWORK = {"perceptual", "adversarial"}  # their losses may be missing
ENTROPIES = {"sample_entropy", "codebook_entropy"}  # FSQ has none


@dataclass(frozen=True, kw_only=True)
class TokenizerLossWeights:
    """Weight of each loss. The defaults are those of MAGVIT-v2."""

    reconstruction: float = 5.0
    """Mean squared (or absolute) error of the pixels in [-1, 1]."""
    commitment: float = 0.25
    """Mean squared distance of the latents to their quantized values; for FSQ in distances between two levels."""
    sample_entropy: float = 0.1
    """Mean entropy of the assignment of a latent to a code, in nats. It should be low."""
    codebook_entropy: float = -0.1
    """Entropy of the mean assignment, in nats. It should be high, so the weight is negative."""
    perceptual: float = 0.1
    """Perceptual loss, if there is a perceptual network."""
    adversarial: float = 0.1
    """Adversarial loss of the tokenizer, if there are discriminators."""

    def __post_init__(self) -> None:
        for name, weight in asdict(self).items():
            if isinstance(weight, bool) or not math.isfinite(weight):
                raise ValueError(f"the loss weight {name} must be a finite number, got {weight!r}")


def weighted_sum(
    losses: Losses, weights: TokenizerLossWeights, *, adversarial_factors: Sequence[float | Float[Tensor, ""]] = ()
) -> Float[Tensor, ""]:
    """Return the total loss.

    Args:
        adversarial_factors: factors of the adversarial weight for `adversarial_0`, `adversarial_1` and so on.

    Raises:
        ValueError: if a loss has no weight, or a weight has no loss. `perceptual`, `adversarial` and both entropies
            together (FSQ) may be missing.
    """
    weight_of: dict[str, float | Tensor] = asdict(weights)
    weight_of |= {
        f"adversarial_{index}": factor * weights.adversarial for index, factor in enumerate(adversarial_factors)
    }
    missing = weight_of.keys() - losses.keys() - NEED_A_NETWORK
    if losses.keys() - weight_of.keys() or missing not in (set(), ENTROPIES):
        raise ValueError(f"the losses {sorted(losses)} do not match the weights {sorted(weight_of)}")
    return torch.stack([weight_of[name] * loss for name, loss in losses.items()]).sum()
