"""Additional inputs of the layers: condition, quantized latents, and the state of a stream."""

from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

Past = dict[nn.Module, Any]
"""State of each layer: what it keeps of the earlier pieces of a stream."""


class Context(NamedTuple):
    """Additional inputs, passed to every layer of the encoder and the decoder and to their sub-layers."""

    condition: Float[Tensor, "b dim_cond"] | None = None
    """Condition of `cond_...` layers."""
    quantized: Float[Tensor, "b k t h w"] | None = None
    """Input of the decoder, from which `adaptive_norm` computes its scale and shift. None in the encoder."""
    begins: bool = True
    """Whether the input starts with the first frame of the video. False for every later piece of a stream."""
    past: Past | None = None
    """In a stream, the state of the layers: each layer that needs earlier frames replaces its own entry. None: the
    input is the whole video."""


WHOLE = Context()
