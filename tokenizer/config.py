"""What a tokenizer is made of."""

import math
from dataclasses import dataclass
from typing import Literal

from torch import nn

from .layer_kinds import CONDITIONED, Layer, LayerSpec, Parts, resolve_layers
from .losses import TokenizerLossWeights
from .norms import NORMS, ConditionedNorm

KERNEL_FRAMES = 3  # temporal size of a kernel, in a video tokenizer


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """Everything that determines a `VideoTokenizer`, apart from its weights."""

    image_size: int | tuple[int, int] = 128
    """Height and width trained for, in pixels: a default for users of the tokenizer, no limit of it."""
    init_dim: int = 64
    """Width (channels) of the first layer."""
    layers: tuple[LayerSpec, ...] = (
        "residual",
        ("compress_space", 128),
        "residual",
        "residual",
        "attend_space",
        ("compress_time", 256),
        "attend_time",
    )
    """The encoder's layers in order; the decoder mirrors them."""
    decoder_layers: tuple[LayerSpec, ...] | None = None
    """Layers whose mirror the decoder is, where these are not the encoder's; the strides must agree."""
    codebook_size: int = 2**18
    """Number of codes, a power of two: each latent channel is one bit (under `fsq`, the product of its levels)."""
    channels: int = 3
    """Colour channels of the video."""
    patch_size: tuple[int, int, int] = (1, 1, 1)
    """Frames, rows and columns folded into channels before the first layer; all ones: none."""
    quantizer: Literal["lfq", "bsq", "fsq"] = "lfq"
    """Lookup-free, spherical (BSQ: lookup-free on the unit sphere) or finite scalar quantization."""
    fsq_levels: tuple[int, ...] | None = None
    """Levels of each latent channel under `fsq`; `codebook_size` is their product."""
    dim_cond: int | None = None
    """Width of the vector that `cond_...` layers are conditioned on."""
    norm: Literal["group", "channel"] = "group"
    """Normalize groups of channels over each frame, or all channels at each place (which keeps the receptive field
    finite, as exact tiling needs)."""
    antialiased_downsample: bool = False
    """Blur before each strided convolution."""
    image_only: bool = False
    """An image tokenizer, which takes each frame by itself: temporal kernels and windows of 1 and no compression of
    time; `inflate` makes a video tokenizer of it."""
    inverse_temperature: float = 1.0
    """Sharpness t of the entropies' p(code | latents); a bit is set with probability sigmoid(4 t latent)."""
    reconstruction_loss: Literal["l2", "l1"] = "l2"
    """Squared or absolute error of the pixels."""
    loss_weights: TokenizerLossWeights = TokenizerLossWeights()
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Compute activations again in the backward pass to save memory; auto: where they might not fit."""

    def __post_init__(self) -> None:
        sizes = self.image_size if isinstance(self.image_size, tuple) else (self.image_size,)
        if len(sizes) not in (1, 2) or any(type(size) is not int or size < 1 for size in sizes):
            raise ValueError(f"image_size must be a positive integer or (height, width), got {self.image_size!r}")
        if self.init_dim < 1:
            raise ValueError(f"init_dim must be positive, got {self.init_dim}")
        if self.channels < 1:
            raise ValueError(f"channels must be positive, got {self.channels}")
        if len(self.patch_size) != 3 or any(size < 1 for size in self.patch_size):
            raise ValueError(f"patch_size must be three positive integers (t, h, w), got {self.patch_size!r}")
        if self.inverse_temperature <= 0:
            raise ValueError(f"inverse_temperature must be positive, got {self.inverse_temperature}")
        if self.gradient_checkpointing not in (True, False, "auto"):
            raise ValueError(
                f"gradient_checkpointing must be True, False or 'auto', got {self.gradient_checkpointing!r}"
            )
        if not isinstance(self.loss_weights, TokenizerLossWeights):
            raise ValueError(f"loss_weights must be a TokenizerLossWeights, got {self.loss_weights!r}")
        for name, allowed in (
            ("quantizer", ("lfq", "bsq", "fsq")),
            ("norm", tuple(NORMS)),
            ("reconstruction_loss", ("l2", "l1")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        self._check_quantizer()
        self._check_layers()

    def _check_quantizer(self) -> None:
        levels, size = self.fsq_levels, self.codebook_size
        if (levels is not None) != (self.quantizer == "fsq"):
            raise ValueError(
                f"fsq_levels, and only they, go with quantizer='fsq'; got {levels!r} and quantizer={self.quantizer!r}"
            )
        if levels is None:
            if size < 2 or size & (size - 1):
                raise ValueError(f"codebook_size must be a power of two of at least 2, got {size}")
        elif not levels or any(type(level) is not int or level < 3 for level in levels):
            raise ValueError(f"fsq_levels must be integers of at least 3, one for each latent channel, got {levels!r}")
        elif size != math.prod(levels):
            raise ValueError(f"codebook_size must be {math.prod(levels)}, the product of the fsq_levels, got {size}")

    def _check_layers(self) -> None:
        encoder, decoder = self.encoder_layers_resolved, self.decoder_layers_resolved
        strides = [
            tuple(math.prod(axis) for axis in zip(*(layer.factors for layer in layers), strict=True)) or (1, 1, 1)
            for layers in (encoder, decoder)
        ]
        if strides[0] != strides[1]:
            raise ValueError(
                f"layers divide (frames, height, width) by {strides[0]}, decoder_layers by {strides[1]}: "
                "the decoder must undo what the encoder did"
            )
        is_conditioned = any(layer.name.startswith(CONDITIONED) for layer in (*encoder, *decoder))
        if is_conditioned and (self.dim_cond is None or self.dim_cond < 1):
            raise ValueError(
                f"`{CONDITIONED}...` layers need dim_cond, the width of the condition, got {self.dim_cond}"
            )
        if self.dim_cond is not None and not is_conditioned:
            raise ValueError(f"dim_cond is {self.dim_cond}, but no layer is conditioned (`{CONDITIONED}...`)")

    @property
    def encoder_layers_resolved(self) -> list[Layer]:
        """The encoder's layers with their widths worked out."""
        return resolve_layers(self.init_dim, self.layers)

    @property
    def decoder_layers_resolved(self) -> list[Layer]:
        """The layers that the decoder mirrors, in the encoder's order."""
        return resolve_layers(self.init_dim, self.layers if self.decoder_layers is None else self.decoder_layers)

    @property
    def parts(self) -> Parts:
        """What all layers have in common."""
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
        """Frames, rows and columns folded into channels; an image tokenizer folds no frames."""
        frames, rows, columns = self.patch_size
        return (1 if self.image_only else frames, rows, columns)

    @property
    def height_width(self) -> tuple[int, int]:
        """Height and width trained for, in pixels."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    @property
    def code_bits(self) -> int:
        """Bits of a code."""
        return (self.codebook_size - 1).bit_length()

    @property
    def latent_channels(self) -> int:
        """Channels of the latents: a bit, or one of the FSQ levels, in each."""
        return self.code_bits if self.fsq_levels is None else len(self.fsq_levels)

    @property
    def temporal_stride(self) -> int:
        """Frames that a latent frame stands for; the first stands for one."""
        if self.image_only:
            return 1
        return self.folding[0] * math.prod([layer.factors[0] for layer in self.encoder_layers_resolved])

    @property
    def spatial_stride(self) -> tuple[int, int]:
        """Rows and columns of pixels that a code stands for."""
        layers = self.encoder_layers_resolved
        return (
            self.folding[1] * math.prod([layer.factors[1] for layer in layers]),
            self.folding[2] * math.prod([layer.factors[2] for layer in layers]),
        )

    def code_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Grid of codes (t, h, w) of a clip; sizes that the strides do not divide are rounded up.

        Raises:
            ValueError: a size is not positive.
        """
        if min(num_frames, height, width) < 1:
            raise ValueError(f"a clip has at least one frame, row and column, got {(num_frames, height, width)}")
        rows, columns = self.spatial_stride
        return 1 + -(-(num_frames - 1) // self.temporal_stride), -(-height // rows), -(-width // columns)

    def clip_shape(self, t: int, h: int, w: int) -> tuple[int, int, int]:
        """Frames, height and width of the clip that a full grid of codes stands for."""
        rows, columns = self.spatial_stride
        return 1 + (t - 1) * self.temporal_stride, h * rows, w * columns
