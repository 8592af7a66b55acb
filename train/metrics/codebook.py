"""Use of the codebook."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def codebook_perplexity(codes: Int[Tensor, "*shape"], codebook_size: int) -> float:
    """Return exp of the entropy of the code frequencies, from 1 to `codebook_size`.

    It is at most the number of codes given.
    """
    frequencies = torch.bincount(codes.flatten(), minlength=codebook_size).double() / codes.numel()
    return torch.special.entr(frequencies).sum().exp().item()


def num_used_codes(codes: Int[Tensor, "*shape"]) -> int:
    """Return the number of different codes."""
    return codes.unique().numel()


def bit_balance(codes: Int[Tensor, "*shape"], codebook_size: int) -> Float[Tensor, " k"]:
    """Return the share of ones of each bit, from the highest bit; one half is best."""
    place_values = torch.tensor(codebook_size // 2, device=codes.device) >> torch.arange(
        codebook_size.bit_length() - 1, device=codes.device
    )
    return torch.stack([(codes & place_value != 0).double().mean() for place_value in place_values])


def dead_bits(balance: Float[Tensor, " k"]) -> list[int]:
    """Return the bits that never change, counted from the highest. Each halves the codebook."""
    return ((balance == 0) | (balance == 1)).nonzero().flatten().tolist()
