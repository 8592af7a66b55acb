"""The tokenizer: video to codes and back."""

import logging
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal, NamedTuple, Self, overload

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..pretrained import Pretrained
from .autoencoder import Decoder, Encoder
from .config import TokenizerConfig
from .layer_kinds import LayerSpec
from .losses import Losses, TokenizerLossWeights, autoencoding_losses, weighted_sum
from .memory import activations_fit
from .pixels import check_pixels
from .quantizer import LookupFreeQuantizer

logger = logging.getLogger(__name__)

Video = Float[Tensor, "b c T H W"] | Float[Tensor, "b c H W"]


class Autoencoding(NamedTuple):
    """One pass through the tokenizer, with everything that a loss may want."""

    reconstruction: Float[Tensor, "b c T H W"]
    """Of the size of the video that went in; nominally in [-1, 1], not clipped."""
    latents: Float[Tensor, "b k t h w"]
    quantized: Float[Tensor, "b k t h w"]
    codes: Int[Tensor, "b t h w"]


class VideoTokenizer(Pretrained):
    """Causal video autoencoder with lookup-free quantization (MAGVIT-v2, section 3).

    Videos are floating point `b c T H W`, nominally in [-1, 1], and are taken in the weights' own type; an image
    `b c H W` is a video of one frame. Codes are integers `b t h w` in [0, codebook_size). A code depends on its own and
    earlier frames only. The first latent frame stands for the first frame, each later one for `temporal_stride` more;
    sizes that the strides do not divide are padded by repeating the last frame, row and column.

    The arguments are the fields of `TokenizerConfig`, described there.
    """

    config_class = TokenizerConfig
    config: TokenizerConfig

    def __init__(
        self,
        image_size: int | Sequence[int] = TokenizerConfig.image_size,
        init_dim: int = TokenizerConfig.init_dim,
        layers: Sequence[LayerSpec | Sequence[Any]] = TokenizerConfig.layers,
        decoder_layers: Sequence[LayerSpec | Sequence[Any]] | None = TokenizerConfig.decoder_layers,
        codebook_size: int = TokenizerConfig.codebook_size,
        channels: int = TokenizerConfig.channels,
        patch_size: Sequence[int] = TokenizerConfig.patch_size,
        quantizer: Literal["lfq", "bsq", "fsq"] = TokenizerConfig.quantizer,
        fsq_levels: Sequence[int] | None = TokenizerConfig.fsq_levels,
        dim_cond: int | None = TokenizerConfig.dim_cond,
        norm: Literal["group", "channel"] = TokenizerConfig.norm,
        antialiased_downsample: bool = TokenizerConfig.antialiased_downsample,
        image_only: bool = TokenizerConfig.image_only,
        inverse_temperature: float = TokenizerConfig.inverse_temperature,
        reconstruction_loss: Literal["l2", "l1"] = TokenizerConfig.reconstruction_loss,
        loss_weights: TokenizerLossWeights = TokenizerConfig.loss_weights,
        gradient_checkpointing: bool | Literal["auto"] = TokenizerConfig.gradient_checkpointing,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        for name in ("layers", "decoder_layers", "patch_size", "fsq_levels"):
            value = given[name]
            if value is None and name in ("decoder_layers", "fsq_levels"):
                continue
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise ValueError(f"{name} must be a tuple, got {value!r}")
            given[name] = as_tuples(value)  # JSON has lists
        if isinstance(image_size, Sequence):
            given["image_size"] = as_tuples(image_size)
        config = TokenizerConfig(**given)
        super().__init__(config)
        self.encoder = Encoder(config)
        self.quantizer = LookupFreeQuantizer(config.codebook_size)
        self.decoder = Decoder(config)

    @classmethod
    def from_config(cls, config: TokenizerConfig) -> Self:
        return cls(**{field.name: getattr(config, field.name) for field in fields(config)})

    @property
    def codebook_size(self) -> int:
        """Number of codes."""
        return self.config.codebook_size

    @property
    def temporal_stride(self) -> int:
        """Frames that a latent frame stands for; the first stands for one."""
        return self.config.temporal_stride

    @property
    def spatial_stride(self) -> tuple[int, int]:
        """Rows and columns of pixels that a code stands for."""
        return self.config.spatial_stride

    @property
    def last_weight(self) -> Float[Tensor, "..."]:
        """The kernel of the decoder's last convolution, where an adaptive adversarial weight compares gradients."""
        return self.decoder[-1][2].weight

    def code_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Grid of codes (t, h, w) of a clip of these sizes."""
        return self.config.code_shape(num_frames, height, width)

    def encode(self, video: Video) -> Int[Tensor, "b t h w"]:
        """The codes of a video.

        Raises:
            ValueError: wrong shape, type or values.
        """
        check_pixels(self._as_video(video))
        return self.quantizer(self.video_to_latents(video)).codes

    def decode(
        self,
        codes: Int[Tensor, "b t h w"],
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Float[Tensor, "b c T H W"]:
        """The video that codes stand for, nominally in [-1, 1].

        Codes do not know what was padded: without sizes the full grid is decoded.

        Raises:
            ValueError: wrong shape or type, codes out of range, or sizes that are not those of this grid.
        """
        quantized = self.codes_to_quantized(codes)
        t, h, w = codes.shape[1:]
        full = self.config.clip_shape(t, h, w)
        sizes = tuple(
            whole if given is None else given for given, whole in zip((num_frames, height, width), full, strict=True)
        )
        if self.code_shape(*sizes) != (t, h, w):
            raise ValueError(
                f"a grid of {(t, h, w)} codes cannot stand for {sizes} (frames, height, width); in full it is {full}"
            )
        return self._trim(self.decoder(quantized, checkpointing=False), sizes)

    def codes_to_quantized(self, codes: Int[Tensor, "b t h w"]) -> Float[Tensor, "b k t h w"]:
        """The corner of {-1, +1}^k that each code names, in the weights' type: what the decoder sees.

        Raises:
            ValueError: wrong shape or type, or codes out of range.
        """
        if not isinstance(codes, Tensor):
            raise ValueError(f"codes must be a torch.Tensor, got {type(codes).__name__}")
        if codes.ndim != 4 or codes.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8):
            raise ValueError(
                f"codes must be integers of shape (batch, t, h, w), got {codes.dtype} of shape {tuple(codes.shape)}"
            )
        if codes.numel() == 0:
            raise ValueError(f"there must be at least one code, got shape {tuple(codes.shape)}")
        if codes.device.type != "meta" and not torch.compiler.is_compiling():
            low, high = (int(bound) for bound in torch.aminmax(codes))
            if low < 0 or high >= self.codebook_size:
                raise ValueError(f"codes must be in [0, {self.codebook_size}), got {low} to {high}")
        return self.quantizer.dequantize(codes.long()).to(self._dtype)

    def video_to_latents(self, video: Video) -> Float[Tensor, "b k t h w"]:
        """The continuous latents of a video, before quantization; their signs are the bits of the codes.

        Raises:
            ValueError: wrong shape or type.
        """
        aligned = self._pad(self._as_video(video))
        return self.encoder(aligned, checkpointing=self._checkpoint(aligned))

    def autoencode(self, video: Video) -> Autoencoding:
        """Encode, quantize and decode; gradients pass straight through the quantizer.

        Raises:
            ValueError: wrong shape or type.
        """
        video = self._as_video(video)
        aligned = self._pad(video)
        checkpointing = self._checkpoint(aligned)
        latents = self.encoder(aligned, checkpointing=checkpointing)
        quantized, codes = self.quantizer(latents)
        reconstruction = self.decoder(quantized, checkpointing=checkpointing)
        return Autoencoding(self._trim(reconstruction, video.shape[2:]), latents, quantized, codes)

    @overload
    def forward(self, video: Video, *, return_codes: Literal[True]) -> Int[Tensor, "b t h w"]: ...

    @overload
    def forward(self, video: Video, *, return_loss: Literal[True]) -> tuple[Float[Tensor, ""], Losses]: ...

    @overload
    def forward(self, video: Video) -> Video: ...

    def forward(
        self, video: Video, return_loss: bool = False, return_codes: bool = False
    ) -> Video | Int[Tensor, "b t h w"] | tuple[Float[Tensor, ""], Losses]:
        """The reconstruction of a video, of its shape.

        With `return_codes` its codes instead; with `return_loss` the weighted total of the losses that need no
        other network, and each of them unweighted by name.

        Raises:
            ValueError: both flags, or wrong shape, type or (outside training) values.
        """
        if return_loss and return_codes:
            raise ValueError("return_loss and return_codes cannot both be given; `autoencode` gives everything")
        if return_codes:
            return self.encode(video)
        if not self.training:
            check_pixels(self._as_video(video))
        output = self.autoencode(video)
        if not return_loss:
            return output.reconstruction if video.ndim == 5 else output.reconstruction[:, :, 0]
        losses = autoencoding_losses(
            self._as_video(video),
            output.reconstruction,
            output.latents,
            output.quantized,
            inverse_temperature=self.config.inverse_temperature,
            reconstruction_loss=self.config.reconstruction_loss,
        )
        return weighted_sum(losses, self.config.loss_weights), losses

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def _as_video(self, video: Video) -> Float[Tensor, "b c T H W"]:
        channels = self.config.channels
        if not isinstance(video, Tensor):
            raise ValueError(f"a video must be a torch.Tensor, got {type(video).__name__}")
        if video.ndim not in (4, 5) or video.shape[1] != channels or video.numel() == 0:
            raise ValueError(
                f"a video must have the shape (batch, {channels}, frames, height, width), "
                f"an image (batch, {channels}, height, width), got {tuple(video.shape)}"
            )
        if not video.is_floating_point():
            raise ValueError(f"a video must be floating point in [-1, 1], got {video.dtype}")
        video = video.to(self._dtype)
        return video if video.ndim == 5 else video[:, :, None]

    def _pad(self, video: Float[Tensor, "b c T H W"]) -> Float[Tensor, "b c padded_T padded_H padded_W"]:
        """Repeat the last frame, row and column up to whole strides."""
        sizes = video.shape[2:]
        frames, rows, columns = (
            whole - size for whole, size in zip(self.config.clip_shape(*self.code_shape(*sizes)), sizes, strict=True)
        )
        if not (frames or rows or columns):
            return video
        return F.pad(video, (0, columns, 0, rows, 0, frames), mode="replicate")

    @staticmethod
    def _trim(
        video: Float[Tensor, "b c padded_T padded_H padded_W"], sizes: Sequence[int]
    ) -> Float[Tensor, "b c T H W"]:
        num_frames, height, width = sizes
        return video[:, :, :num_frames, :height, :width]

    def _checkpoint(self, aligned: Float[Tensor, "b c T H W"]) -> bool:
        """Whether to compute activations again in the backward pass; says so once where it decides that itself."""
        choice = self.config.gradient_checkpointing
        if choice != "auto":
            return choice
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return False
        if activations_fit(self.config, aligned.shape, self._dtype, aligned.device):
            return False
        if not getattr(self, "_said_checkpointing", False):
            self._said_checkpointing = True
            logger.warning(
                "gradient checkpointing is on: the activations of videos of shape %s may not fit into the memory of "
                "this device (gradient_checkpointing=False turns it off, True on without this line)",
                tuple(aligned.shape),
            )
        return True


def as_tuples(values: Sequence[Any]) -> tuple[Any, ...]:
    """Lists within lists as tuples within tuples."""
    return tuple(as_tuples(value) if isinstance(value, list | tuple) else value for value in values)
