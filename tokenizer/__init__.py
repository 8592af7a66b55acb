"""The causal video tokenizer: video to codes and back."""

from .adversarial import DiscriminatorObjective
from .config import TokenizerConfig
from .discriminator import DetailDiscriminator, DiscriminatorConfig, VideoDiscriminator
from .losses import TokenizerLossWeights
from .model import VideoTokenizer
from .objective import TokenizerObjective

__all__ = [
    "DetailDiscriminator",
    "DiscriminatorConfig",
    "DiscriminatorObjective",
    "TokenizerConfig",
    "TokenizerLossWeights",
    "TokenizerObjective",
    "VideoDiscriminator",
    "VideoTokenizer",
]
