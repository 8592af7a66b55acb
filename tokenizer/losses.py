"""The tokenizer's losses: unweighted scalars by name, and their weighted sum."""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .entropy import codebook_entropy, sample_entropy

Losses = dict[str, Float[Tensor, ""]]


@dataclass(frozen=True, kw_only=True)
class TokenizerLossWeights:
    """One weight for each loss; a negative one rewards (the MAGVIT-v2 values are the defaults)."""

    reconstruction: float = 5.0
    """Mean squared error of the pixels in [-1, 1]."""
    commitment: float = 0.25
    """Mean squared distance of the latents to their corners."""
    sample_entropy: float = 0.1
    """Entropy of one assignment, in nats: to be low."""
    codebook_entropy: float = -0.1
    """Entropy of the mean assignment, in nats: to be high."""


def autoencoding_losses(
    video: Float[Tensor, "b c T H W"],
    reconstruction: Float[Tensor, "b c T H W"],
    latents: Float[Tensor, "b k t h w"],
    quantized: Float[Tensor, "b k t h w"],
    *,
    inverse_temperature: float,
) -> Losses:
    """Every loss that needs no other network, unweighted."""
    return {
        "reconstruction": F.mse_loss(reconstruction.float(), video.float()),
        "commitment": F.mse_loss(latents.float(), quantized.detach().float()),
        "sample_entropy": sample_entropy(latents, inverse_temperature),
        "codebook_entropy": codebook_entropy(latents, inverse_temperature),
    }


def weighted_sum(losses: Losses, weights: TokenizerLossWeights) -> Float[Tensor, ""]:
    """The total loss.

    Raises:
        ValueError: a loss without a weight, or a weight without a loss.
    """
    weight_of = asdict(weights)
    if weight_of.keys() != losses.keys():
        raise ValueError(f"the losses {sorted(losses)} do not match the weights {sorted(weight_of)}")
    return torch.stack([weight_of[name] * loss for name, loss in losses.items()]).sum()
