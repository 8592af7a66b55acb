"""The tokenizer under the import path `magvit2_pytorch.magvit2_pytorch`."""

from magvit2_pytorch.tokenizer import VideoTokenizer

__all__ = ["VideoTokenizer"]
