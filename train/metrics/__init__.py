"""Metrics: quality of reconstructions, use of the codebook, and quality of generated videos."""

from .codebook import bit_balance, codebook_perplexity, dead_bits, num_used_codes
from .frechet import fd_lite0, frechet_distance, real_floor
from .reconstruction import (
    ReconstructionScores,
    bits_per_pixel,
    evaluate_tokenizer,
    psnr,
    psnr_first_frame,
    psnr_mean_colour,
)
from .sharpness import sharpness, sharpness_ratio

__all__ = [
    "ReconstructionScores",
    "bit_balance",
    "bits_per_pixel",
    "codebook_perplexity",
    "dead_bits",
    "evaluate_tokenizer",
    "fd_lite0",
    "frechet_distance",
    "num_used_codes",
    "psnr",
    "psnr_first_frame",
    "psnr_mean_colour",
    "real_floor",
    "sharpness",
    "sharpness_ratio",
]
