"""What users call: generation, reconstruction, video files in and out."""

from .generation import GenerationOutput, VideoGenerationPipeline

__all__ = ["GenerationOutput", "VideoGenerationPipeline"]
