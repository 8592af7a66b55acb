"""Given pixels beside drawn ones: no jump where they meet."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def join_given(
    drawn: Float[Tensor, "b 3 t H W"], given: Float[Tensor, "b 3 T H W"], known: Bool[Tensor, "b T H W"]
) -> Float[Tensor, "b 3 T H W"]:
    """The given pixels where they are known, the drawn ones elsewhere.

    Args:
        drawn: the last frames of the video; those before are known whole.
    """
    start = given.shape[2] - drawn.shape[2]
    is_known = known[:, None]
    return torch.cat([given[:, :, :start], torch.where(is_known[:, :, start:], given[:, :, start:], drawn)], dim=2)
