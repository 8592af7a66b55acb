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

MAGVIT2 = TokenizerConfig(
    image_size=128, init_dim=128, layers=_PAPER_ENCODER, decoder_layers=_PAPER_DECODER, codebook_size=2**18
)
MAGVIT2_SMALL = TokenizerConfig(
    image_size=128, init_dim=64, layers=_SMALL_ENCODER, decoder_layers=_SMALL_DECODER, codebook_size=2**18
)
SEED = TokenizerConfig(image_size=256)
TINY = TokenizerConfig(
    image_size=64,
    init_dim=48,
    patch_size=(4, 4, 4),
    layers=("residual", ("compress_space", 96), "residual", ("compress_space", 192), "residual"),
    codebook_size=2**16,
    inverse_temperature=2.0,
    loss_weights=TokenizerLossWeights(reconstruction=4.0, commitment=0.05, sample_entropy=0.02, codebook_entropy=-0.02),
)

PRESETS = {"magvit2": MAGVIT2, "magvit2-small": MAGVIT2_SMALL, "seed": SEED, "tiny": TINY}
