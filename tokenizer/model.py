"""The tokenizer: video to codes and back."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal, Self, overload

from jaxtyping import Float, Int
from torch import Tensor, nn

from ..choices import chosen
from ..messages import allowed_names, printable
from .autoencoder import Autoencoder, Autoencoding
from .config import QuantizerName, TokenizerConfig
from .entropy import at_least_float32
from .fingerprint import fingerprint
from .inflation import inflate
from .inputs import Condition, Video, as_video
from .layer_kinds import LayerSpec, as_tuples
from .losses import PIXEL_LOSSES, Losses, TokenizerLossWeights, weighted_sum
from .pixels import check_pixels
from .presets import PRESETS
from .streaming import decode_stream, encode_stream
from .tiling import decode_tiled, encode_tiled, exact_overlap


class VideoTokenizer(Autoencoder):
    """Causal video autoencoder with lookup-free quantization (MAGVIT-v2, section 3).

    Videos are floating point `b c T H W`, nominally in [-1, 1], and are converted to the type of the weights. An image
    `b c H W` is a video of one frame. Codes are integers `b t h w` in [0, codebook_size). A code depends only on the
    frames up to the end of its latent frame. The first latent frame stands for the first frame, each later one for
    `temporal_stride` frames. By repeating the last frame, row and column, height and width are padded to a multiple of
    the stride, frames to 1 + a multiple.

    The arguments are the fields of `TokenizerConfig`.
    """

    part = "tokenizer"
    card_tags = ("video-tokenizer",)
    card_example = "tokenizer = VideoTokenizer.from_pretrained({name})\ncodes = tokenizer.encode(video)"

    def __init__(
        self,
        image_size: int | Sequence[int] = TokenizerConfig.image_size,
        init_dim: int = TokenizerConfig.init_dim,
        layers: Sequence[LayerSpec | Sequence[Any]] = TokenizerConfig.layers,
        decoder_layers: Sequence[LayerSpec | Sequence[Any]] | None = TokenizerConfig.decoder_layers,
        codebook_size: int = TokenizerConfig.codebook_size,
        channels: int = TokenizerConfig.channels,
        patch_size: Sequence[int] = TokenizerConfig.patch_size,
        overlapping_patches: bool = TokenizerConfig.overlapping_patches,
        quantizer: QuantizerName = TokenizerConfig.quantizer,
        fsq_levels: Sequence[int] | None = TokenizerConfig.fsq_levels,
        dim_cond: int | None = TokenizerConfig.dim_cond,
        norm: Literal["group", "channel"] = TokenizerConfig.norm,
        antialiased_downsample: bool = TokenizerConfig.antialiased_downsample,
        image_only: bool = TokenizerConfig.image_only,
        inverse_temperature: float = TokenizerConfig.inverse_temperature,
        reconstruction_loss: Literal["l2", "l1"] = TokenizerConfig.reconstruction_loss,
        loss_weights: TokenizerLossWeights = TokenizerConfig.loss_weights,
        gradient_checkpointing: bool | Literal["auto"] = TokenizerConfig.gradient_checkpointing,
        codes_of: str | None = TokenizerConfig.codes_of,
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
        super().__init__(TokenizerConfig(**given))

    encode_stream = encode_stream
    decode_stream = decode_stream
    encode_tiled = encode_tiled
    decode_tiled = decode_tiled
    inflate = inflate
    fingerprint = fingerprint

    @classmethod
    def from_config(cls, config: TokenizerConfig) -> Self:
        return cls(**{field.name: getattr(config, field.name) for field in fields(config)})

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> Self:
        """Return a new tokenizer with the config of a preset.

        Args:
            name: `magvit2`, `magvit2-small`, `base`, `seed` or `tiny`. `tokenizer/presets.py` describes each: the
                hardware it is meant for, its memory for each clip and the expected result.
            changes: fields of the config that differ from the preset.

        Raises:
            ValueError: if there is no such preset or field.
        """
        preset = chosen(PRESETS, name, "preset")
        known = [field.name for field in fields(TokenizerConfig)]
        if unknown := [field for field in changes if field not in known]:
            raise ValueError(f"unknown option {printable(unknown[0])!r}: {allowed_names(unknown[0], known)}")
        return cls(**{field: getattr(preset, field) for field in known} | changes)

    def card_facts(self) -> dict[str, str]:
        """Return the properties that the model card lists, by name."""
        height, width = self.config.height_width
        frames = 1 + 4 * self.temporal_stride
        strides = (self.temporal_stride, *self.spatial_stride)
        return {
            "parameters": f"{self.num_parameters:,}",
            "video": f"floating point of shape (batch, {self.config.channels}, frames, height, width), in [-1, 1]",
            "codes": f"integers of shape (batch, t, h, w), in [0, {self.codebook_size})",
            "quantizer": self.config.quantizer,
            "codebook size": f"{self.codebook_size:,}",
            "strides (time, height, width)": " x ".join(map(str, strides)),
            "trained for": f"{height} x {width} pixels",
            f"codes of {frames} such frames": " x ".join(map(str, self.code_shape(frames, height, width))),
        }

    @property
    def codebook_size(self) -> int:
        """Number of codes."""
        return self.config.codebook_size

    @property
    def temporal_stride(self) -> int:
        """Number of frames for each latent frame. The first latent frame stands for one frame."""
        return self.config.temporal_stride

    @property
    def spatial_stride(self) -> tuple[int, int]:
        """Rows and columns of pixels for each code."""
        return self.config.spatial_stride

    def code_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Return the shape (t, h, w) of the codes of a clip of this size."""
        return self.config.code_shape(num_frames, height, width)

    @property
    def exact_overlap(self) -> int | None:
        """Overlap in pixels with which tiling gives the same result as the whole frame.

        None if layers see the whole frame, so that no overlap is enough: `norm="group"`, `attend_space` and
        `linear_attend_space`.
        """
        return exact_overlap(self.config)

    @overload
    def forward(
        self, video: Video, *, return_codes: Literal[True], cond: Condition | None = None
    ) -> Int[Tensor, "b t h w"]: ...

    @overload
    def forward(
        self, video: Video, *, return_loss: Literal[True], cond: Condition | None = None
    ) -> tuple[Float[Tensor, ""], Losses]: ...

    @overload
    def forward(self, video: Video, *, cond: Condition | None = None) -> Video: ...

    def forward(
        self, video: Video, return_loss: bool = False, return_codes: bool = False, cond: Condition | None = None
    ) -> Video | Int[Tensor, "b t h w"] | tuple[Float[Tensor, ""], Losses]:
        """Return the reconstruction of a video, with the same shape.

        Args:
            video: as in `encode`.
            return_loss: return the weighted sum of the losses that need no other network, and a dictionary of the
                unweighted losses, instead.
            return_codes: return the codes instead.
            cond: as in `encode`.

        Raises:
            ValueError: if both flags are set, or if a shape, a data type or (outside training) a value is wrong.
        """
        if return_loss and return_codes:
            raise ValueError("return_loss and return_codes must not both be set; `autoencode` returns everything")
        if return_codes:
            return self.encode(video, cond)
        if not self.training:
            check_pixels(as_video(video, self.config, self.dtype))
        output = self.autoencode(video, cond)
        if not return_loss:
            return output.reconstruction if video.ndim == 5 else output.reconstruction[:, :, 0]
        losses = self.losses(as_video(video, self.config, self.dtype), output)
        return weighted_sum(losses, self.config.loss_weights), losses

    def losses(
        self, video: Float[Tensor, "b c T H W"], output: Autoencoding, *, inverse_temperature: float | None = None
    ) -> Losses:
        """Return the unweighted losses that need no other network, by name.

        Args:
            video: the target of the reconstruction.
            output: result of `autoencode`.
            inverse_temperature: sharpness of the entropies. None: that of the config.
        """
        sharpness = self.config.inverse_temperature if inverse_temperature is None else inverse_temperature
        pixel_loss = PIXEL_LOSSES[self.config.reconstruction_loss]
        return {
            "reconstruction": pixel_loss(at_least_float32(output.reconstruction), at_least_float32(video)),
            **self.quantizer.losses(output.latents, output.quantized, sharpness),
        }

    @property
    def last_weight(self) -> nn.Parameter:
        """Kernel of the last convolution of the decoder, at which the gradients of losses are compared."""
        return self.decoder.last_weight
