"""The vectors of sub-codes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

EMBEDDING_STD = 0.02  # small, since the heads use the same vectors: they start near uniform


class SubCodeEmbedding(nn.Module):
    """The vectors of one group's sub-codes, which its embedding and its head share.

    A vector is the sub-code's own, plus one for each of its bits, added or subtracted. Sub-codes that share bits
    thus share what is learned, which counts where most codes of a large codebook are rarely seen.
    """

    bits: Float[Tensor, "v k"]

    def __init__(self, num_bits: int, width: int) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.empty(2**num_bits, width))
        self.of_bits = nn.Parameter(torch.empty(num_bits, width))
        self.bias = nn.Parameter(torch.zeros(2**num_bits))
        highest_first = torch.arange(num_bits - 1, -1, -1)
        bits = (torch.arange(2**num_bits)[:, None] >> highest_first) & 1
        self.register_buffer("bits", bits.float() * 2 - 1, persistent=False)
        nn.init.normal_(self.own, std=EMBEDDING_STD)
        nn.init.normal_(self.of_bits, std=EMBEDDING_STD)

    def vectors(self) -> Float[Tensor, "v c"]:
        return self.own + self.bits @ self.of_bits
