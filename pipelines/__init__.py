"""What users call: generation, tokenization of whole videos, video files in and out."""

from .code_files import VideoCodes
from .generation import GenerationOutput, VideoGenerationPipeline
from .tokenization import TokenizationPipeline

__all__ = ["GenerationOutput", "TokenizationPipeline", "VideoCodes", "VideoGenerationPipeline"]
