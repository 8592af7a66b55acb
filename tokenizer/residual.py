"""Residual blocks."""

from jaxtyping import Float
from torch import Tensor, nn

from .context import WHOLE, Context
from .convolution import CausalConv3d, Sequence, Swish, start_small
from .norms import MakeNorm


class ResidualBlock(nn.Module):
    """A spatial, then a temporal convolution, each after norm and Swish, added to the input.

    At equal time the factorized pair learns far more than the paper's two 3x3x3 convolutions.
    """

    def __init__(self, width: int, make_norm: MakeNorm, frames: int) -> None:
        """
        Args:
            frames: temporal size of the kernel.
        """
        super().__init__()
        self.branch = Sequence(
            make_norm(width),
            Swish(),
            CausalConv3d(width, width, (1, 3, 3)),
            make_norm(width),
            Swish(),
            start_small(CausalConv3d(width, width, (frames, 1, 1))),
        )

    def forward(self, input: Float[Tensor, "b c t h w"], context: Context = WHOLE) -> Float[Tensor, "b c t h w"]:
        return input + self.branch(input, context)


class PaperResidualBlock(nn.Module):
    """Two 3x3x3 convolutions, each after norm and Swish, added to the input (MAGVIT-v2, the architecture figure).

    Where the width changes, a pointwise convolution brings the input to the new one.
    """

    def __init__(self, in_width: int, out_width: int, make_norm: MakeNorm, frames: int) -> None:
        super().__init__()
        self.branch = Sequence(
            make_norm(in_width),
            Swish(),
            CausalConv3d(in_width, out_width, (frames, 3, 3)),
            make_norm(out_width),
            Swish(),
            start_small(CausalConv3d(out_width, out_width, (frames, 3, 3))),
        )
        self.skip = CausalConv3d(in_width, out_width, (1, 1, 1)) if in_width != out_width else None

    def forward(self, input: Float[Tensor, "b c t h w"], context: Context = WHOLE) -> Float[Tensor, "b d t h w"]:
        skipped = input if self.skip is None else self.skip(input)
        return skipped + self.branch(input, context)
