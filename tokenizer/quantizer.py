"""Quantizers: latents to codes and back, and the losses that a quantizer asks for.

Lookup-free quantization (LFQ) takes the sign of each latent channel as one bit; binary spherical quantization (BSQ)
does so on the unit sphere; finite scalar quantization (FSQ) rounds each channel to one of its levels.
"""

import math
from typing import ClassVar, NamedTuple, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from vector_quantize_pytorch import FSQ, LFQ

from .config import TokenizerConfig
from .entropy import at_least_float32, codebook_entropy, sample_entropy
from .losses import Losses

MAX_CODEBOOK_SIZE = 2**20  # the library keeps a table of all codes: 80 MB there, and 280 MB while it is built


class Quantization(NamedTuple):
    quantized: Float[Tensor, "b k t h w"]
    """What the decoder sees, exactly what `dequantize` makes of the codes; gradients pass on to the latents."""
    codes: Int[Tensor, "b t h w"]
    """In [0, codebook_size)."""


class LookupFreeQuantizer(nn.Module):
    """Sign quantizer whose codebook is every corner of {-1, +1}^k (MAGVIT-v2, section 3.1).

    A code is the integer that its k bits spell, with channel 0 as the highest bit. Zero and less becomes -1.
    The library quantizes and converts; the penalty is ours (`entropy.py`).
    """

    spherical: ClassVar[bool] = False

    def __init__(self, codebook_size: int) -> None:
        """Raises:
        ValueError: more codes than the library can hold.
        """
        super().__init__()
        check_codebook_size(codebook_size)
        self.lfq = LFQ(dim=codebook_size.bit_length() - 1, codebook_size=codebook_size, spherical=self.spherical)
        self.codebook_size = codebook_size
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.lfq.eval()  # in training it would compute its own penalty, over a table of latents x codes
        return self

    def forward(self, latents: Float[Tensor, "b k t h w"]) -> Quantization:
        with torch.no_grad():
            quantized, codes, _ = self.lfq(latents)
        # The difference is exactly zero, so what the decoder sees is exactly what `dequantize` gives back.
        return Quantization(quantized + (latents - latents.detach()), codes)

    def dequantize(self, codes: Int[Tensor, "b t h w"]) -> Float[Tensor, "b k t h w"]:
        """The corner that each code names: the exact inverse of `forward`."""
        return self.lfq.indices_to_codes(codes)

    def losses(
        self,
        latents: Float[Tensor, "b k t h w"],
        quantized: Float[Tensor, "b k t h w"],
        inverse_temperature: float,
    ) -> Losses:
        """Commitment and both entropies, unweighted."""
        return {
            "commitment": F.mse_loss(at_least_float32(latents), at_least_float32(quantized.detach())),
            "sample_entropy": sample_entropy(latents, inverse_temperature),
            "codebook_entropy": codebook_entropy(latents, inverse_temperature),
        }


class SphericalQuantizer(LookupFreeQuantizer):
    """The same on the unit sphere: the latents of a place are scaled to length 1, and so are the corners (BSQ-ViT).

    A corner has ±1/sqrt(k) in each channel, and the logit of a bit is 4 t / sqrt(k) times the scaled latent: for
    entropies as sharp as those of plain LFQ, the inverse temperature t has to be about k times as high.
    """

    spherical = True

    def __init__(self, codebook_size: int) -> None:
        super().__init__(codebook_size)
        self.lfq.maybe_l2norm = unit_length  # the same as the library's lambda, but can be pickled

    def forward(self, latents: Float[Tensor, "b k t h w"]) -> Quantization:
        scaled = on_sphere(latents)
        with torch.no_grad():
            _, codes, _ = self.lfq(latents)
            quantized = self.dequantize(codes)
        return Quantization(quantized + (scaled - scaled.detach()).to(quantized.dtype), codes)

    def losses(
        self,
        latents: Float[Tensor, "b k t h w"],
        quantized: Float[Tensor, "b k t h w"],
        inverse_temperature: float,
    ) -> Losses:
        """Commitment and both entropies of the scaled latents, unweighted."""
        return super().losses(on_sphere(latents), quantized, inverse_temperature * latents.shape[1] ** -0.5)


class FiniteScalarQuantizer(nn.Module):
    """Each channel bounded by a tanh and rounded to one of its levels in [-1, 1] (FSQ, arXiv 2309.15505).

    A code is the integer whose digits are the levels, with channel 0 as the lowest. Bounding keeps the latents near the
    levels and rounding spreads them over the codes, so there are no losses.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        """Raises:
        ValueError: more codes than the library can hold.
        """
        super().__init__()
        check_codebook_size(math.prod(levels))
        self.fsq = FSQ(levels)
        self.codebook_size = math.prod(levels)

    def forward(self, latents: Float[Tensor, "b k t h w"]) -> Quantization:
        rounded, codes = self.fsq(latents)
        codes = codes.long()
        quantized = self.dequantize(codes)
        # The gradient is the library's: that of the bounding, straight through the rounding.
        return Quantization(quantized + (rounded - rounded.detach()).to(quantized.dtype), codes)

    def dequantize(self, codes: Int[Tensor, "b t h w"]) -> Float[Tensor, "b k t h w"]:
        """The levels that each code names: the exact inverse of `forward`."""
        return self.fsq.indices_to_codes(codes).to(self.fsq.implicit_codebook.dtype)

    def losses(
        self,
        latents: Float[Tensor, "b k t h w"],
        quantized: Float[Tensor, "b k t h w"],
        inverse_temperature: float,
    ) -> Losses:
        """None."""
        return {}


Quantizer = LookupFreeQuantizer | FiniteScalarQuantizer


def make_quantizer(config: TokenizerConfig) -> Quantizer:
    """The quantizer that a config names.

    Raises:
        ValueError: more codes than the library can hold.
    """
    if config.fsq_levels is not None:
        return FiniteScalarQuantizer(config.fsq_levels)
    return {"lfq": LookupFreeQuantizer, "bsq": SphericalQuantizer}[config.quantizer](config.codebook_size)


def check_codebook_size(codebook_size: int) -> None:
    if codebook_size > MAX_CODEBOOK_SIZE:
        raise ValueError(f"a quantizer holds at most {MAX_CODEBOOK_SIZE} (2^20) codes, got {codebook_size}")


def on_sphere(latents: Float[Tensor, "b k t h w"]) -> Float[Tensor, "b k t h w"]:
    """The latents of each place, scaled to length 1, in float32 at least."""
    return unit_length(at_least_float32(latents), dim=1)


def unit_length(t: Float[Tensor, "*shape"], dim: int = -1) -> Float[Tensor, "*shape"]:
    return F.normalize(t, dim=dim)
