"""The causal video tokenizer: video to codes and back."""

from .config import TokenizerConfig
from .losses import TokenizerLossWeights
from .model import VideoTokenizer
from .objective import TokenizerObjective

__all__ = ["TokenizerConfig", "TokenizerLossWeights", "TokenizerObjective", "VideoTokenizer"]
