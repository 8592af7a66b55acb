"""A baseline without a model for generated videos."""

import torch
from jaxtyping import Int
from torch import Tensor


def independent_codes(
    codes: Int[Tensor, "n t h w"],
    labels: Int[Tensor, " n"],
    wanted: Int[Tensor, " b"],
    generator: torch.Generator,
) -> Int[Tensor, "b t h w"]:
    """Draw each code independently, from the frequencies of codes at its position in the clips of the wanted label.

    Such codes have the right colours at the right positions, but not the dependence between codes that a model learns.

    Raises:
        ValueError: if there are no codes of a wanted label.
    """
    drawn = torch.empty((len(wanted), *codes.shape[1:]), dtype=codes.dtype)
    for row, label in enumerate(wanted):
        candidates = codes[labels == label]
        if not len(candidates):
            raise ValueError(f"there are no codes of label {int(label)} to draw from")
        chosen = torch.randint(len(candidates), (1, *codes.shape[1:]), generator=generator)
        drawn[row] = candidates.gather(0, chosen)[0]
    return drawn
