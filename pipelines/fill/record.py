"""When each code of a video was settled."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class DecodingRecord:
    """When each code was settled: all that the animation needs beside the videos."""

    settled_after: Int[Tensor, "b t h w"]
    """Passes after which a code was there for good, counted over all windows; 0 where it was given."""
    given: Bool[Tensor, "b T H W"]
    """Pixels that were given by the user."""
    cell: tuple[int, int, int]
    """Frames, rows and columns of pixels that a code stands for."""
    first_frame: int
    """The frame of the videos that the first latent frame stands for."""


class PassRecorder:
    """The codes of whole videos while they are decoded, window by window, and when each was there for good."""

    def __init__(self, grid: Int[Tensor, "b t h w"]) -> None:
        """Args:
        grid: a hidden code at every place.
        """
        self.grid = grid
        self.settled_after = torch.zeros_like(grid, dtype=torch.int32)

    def record(self, place: int, codes: Int[Tensor, "b _ h w"], num_passes: int) -> Int[Tensor, "b t h w"]:
        """The codes of the whole videos after so many passes in all, hidden ones among them.

        Args:
            place: latent frame from which on they now are `codes`.
        """
        here = slice(place, place + codes.shape[1])
        self.settled_after[:, here][codes != self.grid[:, here]] = num_passes
        self.grid[:, here] = codes
        return self.grid.clone()
