"""Tokenizers known by name, for `VideoTokenizer.from_preset`."""

from .config import TokenizerConfig
from .layer_kinds import LayerSpec
from .losses import TokenizerLossWeights


def paper_layers(width: int, num_blocks: int) -> tuple[tuple[LayerSpec, ...], tuple[LayerSpec, ...]]:
    """The architecture figure of MAGVIT-v2: the encoder's layers, and those that the decoder mirrors.

    The two differ in where the width changes: the encoder widens after it has compressed, the decoder narrows after
    it has expanded.
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

# Memory for each clip is what a training step keeps for its backward pass, by the estimate of `activation_bytes`
# (memory.py), for 17 float32 frames of the preset's size; gradient checkpointing keeps only what lies between layers.

MAGVIT2 = TokenizerConfig(
    image_size=128, init_dim=128, layers=_PAPER_ENCODER, decoder_layers=_PAPER_DECODER, codebook_size=2**18
)
"""The paper's architecture: encoder 144.88 M and decoder 225.70 M parameters; 17 x 128 x 128 pixels are 5 x 16 x 16
codes.

Hardware: GPUs; weights, gradients, optimizer and averaged weights are 6.9 GiB on each. The paper's batch is 256 clips.
Memory for each clip: 11.8 GiB.
Expected result: not trained by us. The paper reports, for UCF-101, reconstruction at rFVD 16.12 and LPIPS 0.0694.
"""

MAGVIT2_SMALL = TokenizerConfig(
    image_size=128, init_dim=64, layers=_SMALL_ENCODER, decoder_layers=_SMALL_DECODER, codebook_size=2**18
)
"""The paper's architecture at half the width and half the blocks: 56.46 M parameters, the same grid of codes.

Hardware: one GPU; weights, gradients, optimizer and averaged weights are 1.1 GiB.
Memory for each clip: 3.4 GiB.
Expected result: not trained by us, and not in the paper.
"""

SEED = TokenizerConfig(image_size=256)
"""The default layers, light on weights and heavy on places: 1.96 M parameters; 17 x 256 x 256 pixels are 9 x 128 x 128
codes.

Hardware: one GPU at 256 pixels; at 64, where a clip takes a sixteenth of the memory, a CPU will do.
Memory for each clip: 11.1 GiB.
Expected result: not trained by us.
"""

TINY = TokenizerConfig(
    image_size=64,
    init_dim=48,
    patch_size=(4, 4, 4),
    layers=("residual", ("compress_space", 96), "residual", ("compress_space", 192), "residual"),
    codebook_size=2**16,
    inverse_temperature=2.0,
    loss_weights=TokenizerLossWeights(reconstruction=4.0, commitment=0.05, sample_entropy=0.02, codebook_entropy=-0.02),
)
"""The demo's: 1.57 M parameters; 17 x 64 x 64 pixels are 5 x 4 x 4 codes.

Hardware: two CPU cores, three to seven minutes for the demo's 2,400 steps of 4 clips.
Memory for each clip: 0.009 GiB.
Expected result: 21.20 dB on the held-out windows of the shipped clips at 0.018 bit a pixel (measured by `make demo`).
"""

PRESETS = {"magvit2": MAGVIT2, "magvit2-small": MAGVIT2_SMALL, "seed": SEED, "tiny": TINY}
