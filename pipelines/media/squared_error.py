"""Squared error of videos that come in pieces."""

import math

from jaxtyping import Float
from torch import Tensor


class SquaredError:
    """Sum of the squared errors of pixels in [0, 1], in double precision."""

    def __init__(self) -> None:
        self.total = 0.0
        self.num_values = 0

    def add(self, reference: Float[Tensor, "*shape"], video: Float[Tensor, "*shape"]) -> None:
        self.total += (reference.double() - video.double()).square().sum().item()
        self.num_values += video.numel()

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in dB; infinite if there is no error."""
        return 10 * math.log10(self.num_values / self.total) if self.total else math.inf
