"""Embedding tables of sub-codes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

EMBEDDING_STD = 0.02  # small, so that the heads, which share these vectors, start with nearly uniform predictions


class SubCodeEmbedding(nn.Module):
    """Embedding table of one group's sub-codes, shared by the input embedding and the output head.

    The vector of a sub-code is the sum of its own vector and, for each of its bits, the vector of that bit: added if
    the bit is 1, subtracted if it is 0. Sub-codes with common bits share parameters, which helps in large codebooks,
    where most codes are rare.
    """

    def __init__(self, num_bits: int, width: int) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.empty(2**num_bits, width))
        self.of_bits = nn.Parameter(torch.empty(num_bits, width))
        self.bias = nn.Parameter(torch.zeros(2**num_bits))
        nn.init.normal_(self.own, std=EMBEDDING_STD)
        nn.init.normal_(self.of_bits, std=EMBEDDING_STD)

    def vectors(self) -> Float[Tensor, "v c"]:
        """Return the embedding table."""
        return self.own + self._signs() @ self.of_bits

    def _signs(self) -> Float[Tensor, "v k"]:
        """Return the bits of each sub-code, the highest first, as -1 and 1.

        They are computed in every pass: a buffer outside the state dict would be lost when a model that was built on
        the meta device is loaded.
        """
        num_codes, num_bits = self.own.shape[0], self.of_bits.shape[0]
        shifts = torch.arange(num_bits - 1, -1, -1, device=self.own.device)
        bits = (torch.arange(num_codes, device=self.own.device)[:, None] >> shifts) & 1
        return bits.to(self.of_bits.dtype) * 2 - 1
