"""What stage one trains: the tokenizer and everything that its loss needs, as one module to prepare."""

from jaxtyping import Float
from torch import Tensor, nn

from .losses import Losses, autoencoding_losses
from .model import VideoTokenizer


class TokenizerObjective(nn.Module):
    """A video to unweighted losses by name.

    A loss must pass through the `forward` of the module that is prepared for data-parallel training, or its
    gradients are not synchronized between processes; so the losses are computed here and weighted outside.
    """

    def __init__(self, tokenizer: VideoTokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, video: Float[Tensor, "b c T H W"]) -> Losses:
        output = self.tokenizer.autoencode(video)
        return autoencoding_losses(
            video,
            output.reconstruction,
            output.latents,
            output.quantized,
            inverse_temperature=self.tokenizer.config.inverse_temperature,
        )
