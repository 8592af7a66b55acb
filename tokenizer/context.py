"""What a layer may know beside its input."""

from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

Past = dict[nn.Module, Any]


class Context(NamedTuple):
    """Handed to every layer of the encoder and the decoder, and by them to their parts."""

    condition: Float[Tensor, "b dim_cond"] | None = None
    """What `cond_...` layers are conditioned on."""
    quantized: Float[Tensor, "b k t h w"] | None = None
    """In the decoder, the quantized latents that it draws; `adaptive_norm` takes its scale and shift from them."""
    past: Past | None = None
    """While a long video is passed through piece by piece, what each layer keeps of the pieces before: a layer adds
    its own entry. None: the input is the whole."""

    def begins(self, layer: nn.Module) -> bool:
        """Whether `layer` now sees the first frame; from then on it does not."""
        if self.past is None:
            return True
        is_first = layer not in self.past
        self.past.setdefault(layer, None)
        return is_first


WHOLE = Context()
