"""Embedding tables of sub-codes."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

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
        return self.own + self._values() @ self.of_bits

    def _values(self) -> Float[Tensor, "v k"]:
        """Return the value of each digit of each sub-code, the highest first, in [-1, 1].

        They are computed in every pass: a buffer outside the state dict would be lost when a model that was built on
        the meta device is loaded.
        """
        sub_codes = torch.arange(self.own.shape[0], device=self.own.device)
        digits = split_codes(sub_codes[None], self.digits)[0].to(self.of_bits.dtype)
        return 2 * digits / (digits.new_tensor(self.digits) - 1) - 1
