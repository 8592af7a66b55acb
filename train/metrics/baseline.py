"""Video without a model: what any generator has to be better than."""

import torch
from jaxtyping import Int
from torch import Tensor


def independent_codes(
    codes: Int[Tensor, "n t h w"],
    labels: Int[Tensor, " n"],
    wanted: Int[Tensor, " b"],
    generator: torch.Generator,
) -> Int[Tensor, "b t h w"]:
    """Codes drawn at each place by itself, from the frequencies that the wanted label's codes have there.

    Such codes have the right colours at the right places. What they lack is what a model has to learn: that codes
    depend on each other.

    Raises:
        ValueError: a wanted label has no codes.
    """
    drawn = torch.empty((len(wanted), *codes.shape[1:]), dtype=codes.dtype)
    for row, label in enumerate(wanted):
        candidates = codes[labels == label]
        if not len(candidates):
            raise ValueError(f"there are no codes of label {int(label)} to draw from")
        chosen = torch.randint(len(candidates), (1, *codes.shape[1:]), generator=generator)
        drawn[row] = candidates.gather(0, chosen)[0]
    return drawn
