"""Token factorization: codes as several sub-codes, so that no softmax has the size of the codebook (MAGVIT-v2)."""

import torch
from jaxtyping import Int
from torch import Tensor


def split_codes(codes: Int[Tensor, "b n"], vocab_sizes: tuple[int, ...]) -> Int[Tensor, "b n g"]:
    """Split codes into sub-codes, each in [0, size); the first holds the highest digits.

    Args:
        codes: in [0, product of the sizes); not checked.
        vocab_sizes: number of values of each sub-code.
    """
    sub_codes = []
    rest = codes.long()
    for size in reversed(vocab_sizes):
        sub_codes.append(rest % size)
        rest = rest // size
    return torch.stack(sub_codes[::-1], dim=-1)


def join_codes(sub_codes: Int[Tensor, "b n g"], vocab_sizes: tuple[int, ...]) -> Int[Tensor, "b n"]:
    """Join sub-codes to codes; the inverse of `split_codes`."""
    codes = torch.zeros_like(sub_codes[..., 0], dtype=torch.long)
    for sub_code, size in zip(sub_codes.unbind(dim=-1), vocab_sizes, strict=True):
        codes = codes * size + sub_code
    return codes
