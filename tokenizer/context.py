"""What a layer may know in addition to its input."""

from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

Past = dict[nn.Module, Any]
"""By layer, what it keeps of the earlier pieces of a stream."""


class Context(NamedTuple):
    """Passed to every layer of the encoder and the decoder, and by them to their parts."""

    condition: Float[Tensor, "b dim_cond"] | None = None
    """Condition of `cond_...` layers."""
    quantized: Float[Tensor, "b k t h w"] | None = None
    """In the decoder, its input: `adaptive_norm` computes its scale and shift from it."""
    begins: bool = True
    """Whether the input starts with the first frame of the video. False for every later piece of a stream."""
    past: Past | None = None
    """In a stream, the state of the layers: each layer that needs earlier frames replaces its own entry. None: the
    input is the whole video."""


WHOLE = Context()
