"""What a tokenizer is made of."""

import math
from dataclasses import dataclass
from typing import Literal

from .layer_kinds import LayerSpec, resolve_layers
from .losses import TokenizerLossWeights


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
    """Number of codes, a power of two: each latent channel is one bit."""
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
    """An image tokenizer: temporal kernels of 1 and no compression of time; `inflate` makes a video tokenizer of it."""
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
        if self.codebook_size < 2 or self.codebook_size & (self.codebook_size - 1):
            raise ValueError(f"codebook_size must be a power of two of at least 2, got {self.codebook_size}")
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
        resolve_layers(self.init_dim, self.layers)

    @property
    def height_width(self) -> tuple[int, int]:
        """Height and width trained for, in pixels."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size

    @property
    def code_bits(self) -> int:
        """Bits of a code, which are the latent channels."""
        return self.codebook_size.bit_length() - 1

    @property
    def temporal_stride(self) -> int:
        """Frames that a latent frame stands for; the first stands for one."""
        kinds = [layer.kind for layer in resolve_layers(self.init_dim, self.layers)]
        return self.patch_size[0] * math.prod(kind.temporal_stride for kind in kinds)

    @property
    def spatial_stride(self) -> tuple[int, int]:
        """Rows and columns of pixels that a code stands for."""
        kinds = [layer.kind for layer in resolve_layers(self.init_dim, self.layers)]
        stride = math.prod(kind.spatial_stride for kind in kinds)
        return self.patch_size[1] * stride, self.patch_size[2] * stride

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
