"""Quantizers: latents to codes and back, and the losses of the quantizer.

Lookup-free quantization (LFQ) takes the sign of each latent channel as one bit. Binary spherical quantization (BSQ)
does the same on the unit sphere. Finite scalar quantization (FSQ) rounds each channel to one of its levels.

All state of a quantizer is saved with the model, so it can be built on the meta device and loaded.
"""

import math
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from vector_quantize_pytorch import LFQ

from ..devices import built_once
from .config import TokenizerArchitecture
from .entropy import at_least_float32, codebook_entropy, sample_entropy
from .losses import Losses

FSQ_MARGIN = 1e-3  # the tanh reaches a little beyond the outermost levels, as in the paper's code

Latents = Float[Tensor, "b k t h w"]
Codes = Int[Tensor, "b t h w"]


class Quantization(NamedTuple):
    quantized: Latents
    """Input of the decoder, exactly what `dequantize` returns for the codes. Gradients pass straight through."""
    codes: Codes
    """In [0, codebook_size)."""


class LookupFreeQuantizer(nn.Module):
    """Sign quantizer whose codebook is the set of corners of {-1, +1}^k (MAGVIT-v2, section 3.1).

    A code is the integer whose binary digits are the k bits, with channel 0 as the highest. Zero is quantized to -1.
    vector-quantize-pytorch quantizes; the losses are computed by `entropy.py`.
    """

    def __init__(self, codebook_size: int) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.code_bits = codebook_size.bit_length() - 1
        with torch.device("meta"):  # the library builds a table of all codes
            self.lfq = LFQ(dim=self.code_bits, codebook_size=codebook_size)
        # Remove the buffers that are not saved. Only the library's own losses use them, which are never computed.
        del self.lfq.codebook, self.lfq.zero
        self.lfq.zero = 0.0  # type: ignore[assignment]
        self.lfq.mask = 2 ** torch.arange(self.code_bits - 1, -1, -1)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.lfq.eval()  # in training mode it would compute its own losses
        return self

    def forward(self, latents: Latents) -> Quantization:
        with torch.no_grad():
            quantized, codes, _ = self.lfq(latents)
        return Quantization(straight_through(quantized, latents), codes)

    def dequantize(self, codes: Codes, dtype: torch.dtype) -> Latents:
        """Return the corner of each code: the exact inverse of `forward`."""
        shifts = torch.arange(self.code_bits - 1, -1, -1, device=codes.device)
        return (codes[..., None] >> shifts & 1).to(dtype).mul_(2).sub_(1).movedim(-1, 1)

    def losses(self, latents: Latents, quantized: Latents, inverse_temperature: float) -> Losses:
        """Return the commitment loss and both entropies, unweighted."""
        return {
            "commitment": F.mse_loss(at_least_float32(latents), at_least_float32(quantized.detach())),
            "sample_entropy": sample_entropy(latents, inverse_temperature),
            "codebook_entropy": codebook_entropy(latents, inverse_temperature),
        }


class SphericalQuantizer(LookupFreeQuantizer):
    """Sign quantizer on the unit sphere: latents and corners are scaled to length 1 at each position (BSQ-ViT).

    Each channel of a corner is ±1/sqrt(k), and the logit of a bit is 4 t / sqrt(k) times the scaled latent. For
    entropies as sharp as those of plain LFQ, the inverse temperature t has to be about k times as high.
    """

    def forward(self, latents: Latents) -> Quantization:
        codes = super().forward(latents).codes
        return Quantization(
            straight_through(self.dequantize(codes, type_of_quantized(latents)), on_sphere(latents)), codes
        )

    def dequantize(self, codes: Codes, dtype: torch.dtype) -> Latents:
        return F.normalize(super().dequantize(codes, dtype), dim=1)

    def losses(self, latents: Latents, quantized: Latents, inverse_temperature: float) -> Losses:
        """Return the commitment loss and both entropies of the scaled latents, unweighted."""
        return super().losses(on_sphere(latents), quantized, inverse_temperature * latents.shape[1] ** -0.5)


class FiniteScalarQuantizer(nn.Module):
    """Bounds each channel by a tanh and rounds it to one of its levels in [-1, 1] (FSQ, arXiv 2309.15505).

    A code is the integer whose digits are the levels, with channel 0 as the lowest. Bounding keeps the latents near the
    levels and rounding spreads them over the codes, so there are no entropy losses. The commitment loss, which the
    paper does not have, keeps latents away from the middle between two levels, where the smallest change of the input
    would change the code. The values are those of `vector_quantize_pytorch.FSQ`, whose buffers are not saved and which
    cannot be built on the meta device.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = levels
        self.codebook_size = math.prod(levels)

    def forward(self, latents: Latents) -> Quantization:
        levels, place_values = digits_of_levels(self.levels, latents.device)
        bounded = self._bounded(latents)
        digits = bounded.detach().round().long() + levels // 2
        codes = (digits * place_values).sum(dim=1)
        quantized = self.dequantize(codes, type_of_quantized(latents))
        return Quantization(straight_through(quantized, (bounded / (levels // 2)).to(latents.dtype)), codes)

    def dequantize(self, codes: Codes, dtype: torch.dtype) -> Latents:
        """Return the levels of each code: the exact inverse of `forward`."""
        levels, place_values = (values.flatten() for values in digits_of_levels(self.levels, codes.device))
        steps = codes[..., None] // place_values % levels - levels // 2
        exact = steps.to(torch.promote_types(dtype, torch.float32))
        return (exact / (levels // 2)).to(dtype).movedim(-1, 1)

    def losses(self, latents: Latents, quantized: Latents, inverse_temperature: float) -> Losses:
        """Return the commitment loss, unweighted: the distances between neighbouring levels are 1."""
        bounded = self._bounded(latents)
        return {"commitment": F.mse_loss(bounded, bounded.detach().round())}

    def _bounded(self, latents: Latents) -> Latents:
        """Return the latents between the lowest and the highest level of their channel. Levels are integers."""
        exact = at_least_float32(latents)
        levels, _ = digits_of_levels(self.levels, latents.device)
        half = (levels - 1).to(exact) * (1 + FSQ_MARGIN) / 2
        offset = 0.5 * (levels % 2 == 0).to(exact)
        return (exact + (offset / half).atanh()).tanh() * half - offset


Quantizer = LookupFreeQuantizer | FiniteScalarQuantizer


def make_quantizer(config: TokenizerArchitecture) -> Quantizer:
    """Return the quantizer of a config."""
    if config.fsq_levels is not None:
        return FiniteScalarQuantizer(config.fsq_levels)
    return {"lfq": LookupFreeQuantizer, "bsq": SphericalQuantizer}[config.quantizer](config.codebook_size)


@built_once
def digits_of_levels(levels: tuple[int, ...], device: torch.device) -> Int[Tensor, "2 k 1 1 1"]:
    """Return the number of levels of each channel, and the place value of its digit in a code."""
    place_values = [math.prod(levels[:channel]) for channel in range(len(levels))]
    return torch.tensor([levels, place_values], device=device).view(2, -1, 1, 1, 1)


def straight_through(quantized: Latents, latents: Latents) -> Latents:
    """Return `quantized`, exactly, with the gradient of `latents`."""
    return quantized + (latents - latents.detach()).to(quantized.dtype)


def type_of_quantized(latents: Latents) -> torch.dtype:
    """Return the type of the weights: that of the latents, except under autocast."""
    kind = latents.device.type
    is_autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return at_least_float32(latents).dtype if is_autocast else latents.dtype


def on_sphere(latents: Latents) -> Latents:
    """Return the latents scaled to length 1 at each position, in float32 or float64."""
    return F.normalize(at_least_float32(latents), dim=1)
