"""Pipelines that generate and tokenize videos."""

from .code_files import VideoCodes
from .generation import GenerationOutput, VideoGenerationPipeline
from .tokenization import TokenizationPipeline

__all__ = ["GenerationOutput", "TokenizationPipeline", "VideoCodes", "VideoGenerationPipeline"]
