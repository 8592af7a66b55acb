"""Record of the passes that settled each code."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class DecodingRecord:
    """The passes that settled each code, for the animation of the decoding."""

    settled_after: Int[Tensor, "b t h w"]
    """Number of passes, over all windows, after which the code was final; 0 for given codes."""
    given: Bool[Tensor, "b T H W"]
    """True where the pixel was given."""
    cell: tuple[int, int, int]
    """Number of frames, rows and columns of pixels per code."""
    first_frame: int
    """Index of the frame of the videos at which the codes start."""


class PassRecorder:
    """Collects the codes of whole videos, window by window, and the pass after which each was final."""

    def __init__(self, grid: Int[Tensor, "b t h w"]) -> None:
        """Args:
        grid: codes of the whole videos, all hidden.
        """
        self.grid = grid
        self.settled_after = torch.zeros_like(grid, dtype=torch.int32)

    def record(self, place: int, codes: Int[Tensor, "b _ h w"], num_passes: int) -> Int[Tensor, "b t h w"]:
        """Store codes and return the codes of the whole videos, hidden where not settled.

        Args:
            place: first latent frame of `codes`.
            num_passes: number of passes so far, over all windows.
        """
        here = slice(place, place + codes.shape[1])
        self.settled_after[:, here][codes != self.grid[:, here]] = num_passes
        self.grid[:, here] = codes
        return self.grid.clone()
