"""Lookup-free quantization (LFQ): each latent channel is one bit of the code."""

from typing import NamedTuple, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from vector_quantize_pytorch import LFQ


class Quantization(NamedTuple):
    quantized: Float[Tensor, "b k t h w"]
    """In {-1, +1}; gradients pass straight through to the latents."""
    codes: Int[Tensor, "b t h w"]
    """In [0, 2^k)."""


class LookupFreeQuantizer(nn.Module):
    """Sign quantizer whose codebook is every corner of {-1, +1}^k (MAGVIT-v2, section 3.1).

    A code is the integer that its k bits spell, with channel 0 as the highest bit. Zero and less becomes -1.
    The library quantizes and converts; the penalty is ours (`entropy.py`).
    """

    def __init__(self, codebook_size: int) -> None:
        super().__init__()
        self.lfq = LFQ(dim=codebook_size.bit_length() - 1, codebook_size=codebook_size)
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
