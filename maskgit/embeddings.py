"""Embedding tables of sub-codes."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..devices import built_once
from .factorization import split_codes

EMBEDDING_STD = 0.02  # small, so that the heads, which share these vectors, start with nearly uniform predictions


class SubCodeEmbedding(nn.Module):
    """Embedding table of one group's sub-codes, shared by the input embedding and the output head.

    The vector of a sub-code is the sum of its own vector and, for each of its digits, the vector of that digit times
    its value: -1 or 1 for a bit, evenly spaced from -1 to 1 for a level of FSQ. Sub-codes with common digits share
    parameters, which helps in large codebooks, where most codes are rare.
    """

    def __init__(self, digits: tuple[int, ...], width: int) -> None:
        """
        Args:
            digits: number of values of each digit, the highest first.
        """
        super().__init__()
        self.digits = digits
        size = math.prod(digits)
        self.own = nn.Parameter(torch.empty(size, width))
        self.of_bits = nn.Parameter(torch.empty(len(digits), width))
        self.bias = nn.Parameter(torch.zeros(size))
        nn.init.normal_(self.own, std=EMBEDDING_STD)
        nn.init.normal_(self.of_bits, std=EMBEDDING_STD)

    def vectors(self) -> Float[Tensor, "v c"]:
        """Return the embedding table."""
        return self.own + values_of_digits(self.digits, self.of_bits.dtype, self.of_bits.device) @ self.of_bits


@built_once
def values_of_digits(sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Float[Tensor, "v k"]:
    """Return the value of each digit of each sub-code, the highest first, in [-1, 1].

    They are no buffer of the module: a buffer outside the state dict would be lost when a model that was built on the
    meta device is loaded.

    Args:
        sizes: number of values of each digit, the highest first.
    """
    sub_codes = torch.arange(math.prod(sizes), device=device)
    digits = split_codes(sub_codes[None], sizes)[0].to(dtype)
    return 2 * digits / (digits.new_tensor(sizes) - 1) - 1
