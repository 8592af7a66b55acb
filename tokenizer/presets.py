"""Presets for `VideoTokenizer.from_preset`."""

from .config import TokenizerConfig
from .layer_kinds import LayerSpec
from .losses import TokenizerLossWeights


def paper_layers(width: int, num_blocks: int) -> tuple[tuple[LayerSpec, ...], tuple[LayerSpec, ...]]:
    """Return the layers of the encoder and those that the decoder mirrors, as in the architecture figure of MAGVIT-v2.

    They differ in where the width changes: in the encoder after downsampling, in the decoder after upsampling.
    """

    def blocks(number: int) -> tuple[LayerSpec, ...]:
        return ("paper_residual",) * number

    def widen(to: int) -> LayerSpec:
        return ("paper_residual", to)

    encoder = (
        *blocks(num_blocks),
        ("compress", (1, 2, 2)),
        *(widen(2 * width), *blocks(num_blocks - 1)),
        ("compress", (2, 2, 2)),
        *blocks(num_blocks),
        ("compress", (2, 2, 2)),
        *(widen(4 * width), *blocks(num_blocks - 1)),
        *blocks(num_blocks),
    )
    decoder = (
        *(*blocks(num_blocks - 1), widen(2 * width)),
        *("adaptive_norm", ("compress", (1, 2, 2))),
        *blocks(num_blocks),
        *("adaptive_norm", ("compress", (2, 2, 2))),
        *(*blocks(num_blocks - 1), widen(4 * width)),
        *("adaptive_norm", ("compress", (2, 2, 2))),
        *(*blocks(num_blocks), "adaptive_norm", *blocks(num_blocks)),
    )
    return encoder, decoder


_PAPER_ENCODER, _PAPER_DECODER = paper_layers(128, num_blocks=4)
_SMALL_ENCODER, _SMALL_DECODER = paper_layers(64, num_blocks=2)

# Memory for each clip: what the forward and backward pass of 17 float32 frames of the preset's size need besides
# weights and gradients, as counted by train/budget.py. With gradient checkpointing it is about a third. A test compares
# all figures with the models.

MAGVIT2 = TokenizerConfig(
    image_size=128, init_dim=128, layers=_PAPER_ENCODER, decoder_layers=_PAPER_DECODER, codebook_size=2**18
)
"""The architecture of the paper: encoder 144.88 M and decoder 225.70 M parameters. 17 x 128 x 128 pixels are encoded as
5 x 16 x 16 codes.

Hardware: GPUs with 80 GB, one or several. Weights, gradients, optimizer and averaged weights take 6.9 GiB on each. The
batch of the paper is 256 clips.
Memory for each clip: 13.4 GiB.
Expected result: not trained in this project. The paper reports rFVD 16.12 and LPIPS 0.0694 on UCF-101.
"""

MAGVIT2_SMALL = TokenizerConfig(
    image_size=128, init_dim=64, layers=_SMALL_ENCODER, decoder_layers=_SMALL_DECODER, codebook_size=2**18
)
"""The architecture of the paper with half the width and half the blocks: 56.46 M parameters. 17 x 128 x 128 pixels are
encoded as 5 x 16 x 16 codes.

Hardware: a GPU with 40 to 80 GB. Weights, gradients, optimizer and averaged weights take 1.1 GiB.
Memory for each clip: 4.03 GiB.
Expected result: not trained in this project, and not in the paper.
"""

BASE = TokenizerConfig(
    image_size=128,
    init_dim=256,
    patch_size=(4, 4, 4),
    overlapping_patches=True,
    layers=("residual", "residual", ("compress_space", 512), *("residual",) * 4),
    codebook_size=2**15,
    quantizer="fsq",
    fsq_levels=(8, 8, 8, 8, 8),
    norm="channel",
    loss_weights=TokenizerLossWeights(reconstruction=4.0, commitment=0.1),
)
"""The recipe that was best in small trainings, with more channels: 30.37 M parameters. 17 x 128 x 128 pixels are
encoded as 5 x 16 x 16 codes.

Hardware: a GPU with 24 GB. Weights, gradients, optimizer and averaged weights take 0.57 GiB.
Memory for each clip: 0.38 GiB.
Expected result: not trained in this project. With fewer channels, at 64 x 64 pixels: docs/results.md, preset `laptop`.
"""

SEED = TokenizerConfig(image_size=256)
"""The default layers, with few weights and many codes: 1.96 M parameters. 17 x 256 x 256 pixels are encoded as
9 x 128 x 128 codes.

Hardware: one GPU at 256 pixels. At 64 pixels, which takes a sixteenth of the memory, a CPU is enough.
Memory for each clip: 14.3 GiB.
Expected result: not trained in this project.
"""

TINY = TokenizerConfig(
    image_size=64,
    init_dim=48,
    patch_size=(4, 4, 4),
    overlapping_patches=True,
    layers=("residual", ("compress_space", 96), "residual", ("compress_space", 192), "residual"),
    codebook_size=2**16,
    quantizer="fsq",
    fsq_levels=(16, 16, 16, 16),
    loss_weights=TokenizerLossWeights(reconstruction=4.0, commitment=0.0),
)
"""The tokenizer of the demo: 1.53 M parameters. 17 x 64 x 64 pixels are encoded as 5 x 4 x 4 codes.

Hardware: two CPU cores. The demo (1,800 steps with batches of 4 clips) takes about three minutes.
Memory for each clip: 0.010 GiB.
Expected result: 22.87 dB on the held-out windows of the shipped clips at 0.018 bits per pixel (`make demo`).
"""

PRESETS = {"magvit2": MAGVIT2, "magvit2-small": MAGVIT2_SMALL, "base": BASE, "seed": SEED, "tiny": TINY}
