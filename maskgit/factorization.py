"""Token factorization: codes as several sub-codes, so that no softmax has the size of the codebook (MAGVIT-v2)."""

import torch
from jaxtyping import Int
from torch import Tensor


def split_codes(codes: Int[Tensor, "b n"], group_bits: tuple[int, ...]) -> Int[Tensor, "b n g"]:
    """Split codes into sub-codes, each in [0, 2**bits); the first holds the highest bits.

    Args:
        codes: in [0, 2**sum(group_bits)); not checked.
        group_bits: number of bits of each sub-code.
    """
    sub_codes = []
    shift = sum(group_bits)
    for bits in group_bits:
        shift -= bits
        sub_codes.append((codes.long() >> shift) & (2**bits - 1))
    return torch.stack(sub_codes, dim=-1)


def join_codes(sub_codes: Int[Tensor, "b n g"], group_bits: tuple[int, ...]) -> Int[Tensor, "b n"]:
    """Join sub-codes to codes; the inverse of `split_codes`."""
    codes = torch.zeros_like(sub_codes[..., 0], dtype=torch.long)
    for sub_code, bits in zip(sub_codes.unbind(dim=-1), group_bits, strict=True):
        codes = (codes << bits) | sub_code
    return codes
