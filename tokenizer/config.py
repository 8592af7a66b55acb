"""Configuration of a tokenizer: its architecture, and how it is trained."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from ..choices import chosen, whole_number
from ..messages import allowed_names, printable
from .layer_kinds import CONDITIONED, LARGEST_WIDTH, Layer, LayerSpec, Parts, product_of_factors, resolve_layers
from .losses import PIXEL_LOSSES, TokenizerLossWeights
from .norms import NORMS, ConditionedNorm

KERNEL_FRAMES = 3  # temporal size of a kernel, in a video tokenizer
MAX_CODEBOOK_SIZE = 2**20  # cost of the codebook entropy and perplexity grows with it
MAX_FSQ_LEVELS = 12  # an entry is at least 3, so more entries would exceed MAX_CODEBOOK_SIZE
LARGEST_PATCH, LARGEST_STRIDE = 64, 256  # along each axis
LARGEST_IMAGE = 8192
SEPARATOR = "/"  # between the two digests of `codes_of`

QuantizerName = Literal["lfq", "bsq", "fsq"]


@dataclass(frozen=True, kw_only=True)
class TokenizerArchitecture:
    """Architecture of a `VideoTokenizer`: the settings that determine its parameters and their meaning.

    All sizes are bounded, so that checking a config and building its modules on the meta device are quick.
    """

    image_only: bool = False
    """Build an image tokenizer, which encodes each frame independently: temporal kernels and attention windows have
    size 1, and time is not compressed. `inflate` converts it to a video tokenizer."""
    init_dim: int = 64
    """Channels of the first layer."""
    layers: tuple[LayerSpec, ...] = (
        "residual",
        ("compress_space", 128),
        "residual",
        "residual",
        "attend_space",
        ("compress_time", 256),
        "attend_time",
    )
    """Layers of the encoder, in order. The decoder mirrors them."""
    decoder_layers: tuple[LayerSpec, ...] | None = None
    """Layers that the decoder mirrors instead of `layers`. Their strides must be the same."""
    codebook_size: int = 2**18
    """Number of codes, a power of two: each latent channel is one bit. With `fsq`, the product of `fsq_levels`."""
    channels: int = 3
    """Color channels of the video."""
    patch_size: tuple[int, int, int] = (1, 1, 1)
    """Frames, rows and columns folded into channels before the first layer. (1, 1, 1): no folding."""
    overlapping_patches: bool = False
    """The blocks of pixels that the decoder returns with a `patch_size` overlap by half, and are added. Otherwise they
    are placed next to each other, and their edges are visible."""
    quantizer: QuantizerName = "lfq"
    """Lookup-free (`lfq`), binary spherical (`bsq`: lookup-free on the unit sphere) or finite scalar (`fsq`)
    quantization."""
    fsq_levels: tuple[int, ...] | None = None
    """Levels of each latent channel with `fsq`."""
    dim_cond: int | None = None
    """Size of the condition vector of `cond_...` layers."""
    norm: Literal["group", "channel"] = "group"
    """`group`: normalize groups of channels over each frame. `channel`: normalize all channels at each position. The
    receptive field stays finite, which exact tiling requires."""
    antialiased_downsample: bool = False
    """Blur before each strided convolution."""

    def __post_init__(self) -> None:
        for name in ("image_only", "antialiased_downsample", "overlapping_patches"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        whole_number("init_dim", self.init_dim, 1, LARGEST_WIDTH)
        whole_number("channels", self.channels, 1, LARGEST_WIDTH)
        if len(self.patch_size) != 3:
            raise ValueError(f"patch_size must be three integers (t, h, w), got {self.patch_size!r}")
        for size in self.patch_size:
            whole_number("each entry of patch_size", size, 1, LARGEST_PATCH)
        if (folded := self.channels * math.prod(self.patch_size)) > LARGEST_WIDTH:
            raise ValueError(f"patch_size folds the video into {folded} channels, at most {LARGEST_WIDTH} are allowed")
        chosen(NORMS, self.norm, "norm")
        self._check_quantizer()
        self._check_layers()

    def _check_quantizer(self) -> None:
        kinds, levels = get_args(QuantizerName), self.fsq_levels
        if self.quantizer not in kinds:
            raise ValueError(f"unknown quantizer {printable(self.quantizer)!r}: {allowed_names(self.quantizer, kinds)}")
        if self.quantizer == "fsq" and levels is None:
            raise ValueError("fsq_levels must be given with quantizer='fsq', got None")
        if self.quantizer != "fsq" and levels is not None:
            raise ValueError(f"fsq_levels must be None with quantizer={self.quantizer!r}, got {levels!r}")
        size = whole_number("codebook_size", self.codebook_size, 2, MAX_CODEBOOK_SIZE)
        if levels is None:
            if size & (size - 1):
                raise ValueError(f"codebook_size must be a power of two, got {size}")
            return
        if not 1 <= len(levels) <= MAX_FSQ_LEVELS:
            raise ValueError(f"fsq_levels must have 1 to {MAX_FSQ_LEVELS} entries, got {len(levels)}")
        for level in levels:
            whole_number("each entry of fsq_levels", level, 3, MAX_CODEBOOK_SIZE)
        if size != math.prod(levels):
            raise ValueError(f"codebook_size must be {math.prod(levels)}, the product of fsq_levels, got {size}")

    def _check_layers(self) -> None:
        encoder, decoder = self.encoder_layers_resolved, self.decoder_layers_resolved
        strides = [product_of_factors(layers) for layers in (encoder, decoder)]
        if strides[0] != strides[1]:
            raise ValueError(
                f"decoder_layers must divide (frames, height, width) by {printable(strides[0])}, the factors of "
                f"layers, got {printable(strides[1])}"
            )
        total = tuple(stride * size for stride, size in zip(strides[0], self.patch_size, strict=True))
        if max(total) > LARGEST_STRIDE:
            raise ValueError(
                f"layers and patch_size divide (frames, height, width) by {printable(total)}, "
                f"at most {LARGEST_STRIDE} is allowed"
            )
        is_conditioned = any(layer.name.startswith(CONDITIONED) for layer in (*encoder, *decoder))
        if is_conditioned and self.dim_cond is None:
            raise ValueError(f"`{CONDITIONED}...` layers need dim_cond, the size of the condition vector, got None")
        if self.dim_cond is not None:
            whole_number("dim_cond", self.dim_cond, 1, LARGEST_WIDTH)
            if not is_conditioned:
                raise ValueError(f"dim_cond is {self.dim_cond}, but no layer is conditioned (`{CONDITIONED}...`)")

    @property
    def encoder_layers_resolved(self) -> list[Layer]:
        """Layers of the encoder with their widths and arguments."""
        return resolve_layers(self.init_dim, self.layers)

    @property
    def decoder_layers_resolved(self) -> list[Layer]:
        """Layers that the decoder mirrors, in the order of the encoder."""
        return resolve_layers(self.init_dim, self.layers if self.decoder_layers is None else self.decoder_layers)

    @property
    def parts(self) -> Parts:
        """Settings that all layers share."""
        make_plain_norm = NORMS[self.norm]

        def make_conditioned_norm(width: int) -> nn.Module:
            assert self.dim_cond is not None
            return ConditionedNorm(make_plain_norm(width, affine=False), width, self.dim_cond)

        return Parts(
            frames=1 if self.image_only else KERNEL_FRAMES,
            antialiased=self.antialiased_downsample,
            latent_channels=self.latent_channels,
            make_plain_norm=make_plain_norm,
            make_conditioned_norm=make_conditioned_norm,
        )

    @property
    def folding(self) -> tuple[int, int, int]:
        """Frames, rows and columns folded into channels. An image tokenizer folds no frames."""
        frames, rows, columns = self.patch_size
        return (1 if self.image_only else frames, rows, columns)

    @property
    def unfolding(self) -> tuple[int, int, int]:
        """Frames, rows and columns of a block of pixels that the decoder returns."""
        frames, *space = self.folding
        rows, columns = ((2 if self.overlapping_patches and size > 1 else 1) * size for size in space)
        return frames, rows, columns

    @property
    def code_bits(self) -> int:
        """Number of bits of a code."""
        return (self.codebook_size - 1).bit_length()

    @property
    def latent_channels(self) -> int:
        """Number of channels of the latents: one for each bit, or for each entry of `fsq_levels`."""
        return self.code_bits if self.fsq_levels is None else len(self.fsq_levels)

    @property
    def temporal_stride(self) -> int:
        """Number of frames for each latent frame. The first latent frame stands for one frame."""
        if self.image_only:
            return 1
        return self.folding[0] * product_of_factors(self.encoder_layers_resolved)[0]

    @property
    def spatial_stride(self) -> tuple[int, int]:
        """Rows and columns of pixels for each code."""
        _, rows, columns = product_of_factors(self.encoder_layers_resolved)
        return self.folding[1] * rows, self.folding[2] * columns

    def code_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Return the shape (t, h, w) of the codes of a clip.

        Height and width are padded to a multiple of the stride, frames to 1 + a multiple.

        Raises:
            ValueError: if a size is not positive.
        """
        if min(num_frames, height, width) < 1:
            raise ValueError(f"a clip must have at least one frame, row and column, got {(num_frames, height, width)}")
        rows, columns = self.spatial_stride
        return 1 + -(-(num_frames - 1) // self.temporal_stride), -(-height // rows), -(-width // columns)

    def clip_shape(self, t: int, h: int, w: int) -> tuple[int, int, int]:
        """Return frames, height and width of the clip that codes of this shape decode to, with its padding."""
        rows, columns = self.spatial_stride
        return 1 + (t - 1) * self.temporal_stride, h * rows, w * columns


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig(TokenizerArchitecture):
    """Everything that determines a `VideoTokenizer` and its training, apart from the weights."""

    image_size: int | tuple[int, int] = 128
    """Height and width of the training videos, in pixels. Other sizes work as well."""
    inverse_temperature: float = 1.0
    """Sharpness t of p(code | latents) in the entropy losses: a bit is 1 with probability sigmoid(4 t latent)."""
    reconstruction_loss: Literal["l2", "l1"] = "l2"
    """Squared or absolute error of the pixels."""
    loss_weights: TokenizerLossWeights = TokenizerLossWeights()
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Recompute activations in the backward pass to save memory. auto: if they are estimated to exceed half of it."""
    codes_of: str | None = None
    """Set by training with a frozen encoder: the fingerprint of the tokenizer that training started from, and a digest
    of the encoder. As long as the encoder has not changed, the tokenizer keeps this fingerprint."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.image_size, tuple) and len(self.image_size) != 2:
            raise ValueError(f"image_size must be an integer or (height, width), got {self.image_size!r}")
        for size in self.image_size if isinstance(self.image_size, tuple) else (self.image_size,):
            whole_number("image_size", size, 1, LARGEST_IMAGE)
        if not 0 < self.inverse_temperature < math.inf:
            raise ValueError(f"inverse_temperature must be positive and finite, got {self.inverse_temperature}")
        if self.gradient_checkpointing not in (True, False, "auto"):
            raise ValueError(
                f"gradient_checkpointing must be True, False or 'auto', got {self.gradient_checkpointing!r}"
            )
        if not isinstance(self.loss_weights, TokenizerLossWeights):
            raise ValueError(f"loss_weights must be a TokenizerLossWeights, got {self.loss_weights!r}")
        chosen(PIXEL_LOSSES, self.reconstruction_loss, "reconstruction_loss")
        if self.codes_of is not None and self.codes_of.count(SEPARATOR) != 1:
            raise ValueError(f"codes_of must be two digests separated by a slash, got {printable(self.codes_of)!r}")

    @property
    def height_width(self) -> tuple[int, int]:
        """Height and width of the training videos, in pixels."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size
