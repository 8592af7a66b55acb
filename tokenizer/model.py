"""The tokenizer: video to codes and back."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Literal, NamedTuple, Self, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..pretrained import Pretrained
from ..tokenizer import inflation, streaming, tiling
from .autoencoder import Decoder, Encoder
from .config import TokenizerConfig
from .context import Context
from .entropy import at_least_float32
from .inputs import Condition, Video, as_video, check_codes, decoded_sizes, make_context, pad, trim
from .layer_kinds import LayerSpec
from .losses import PIXEL_LOSSES, Losses, TokenizerLossWeights, weighted_sum
from .memory import activations_fit
from .pixels import check_pixels
from .presets import PRESETS
from .quantizer import make_quantizer

logger = logging.getLogger(__name__)


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
        self.quantizer = make_quantizer(config)
        self.decoder = Decoder(config)

    @classmethod
    def from_config(cls, config: TokenizerConfig) -> Self:
        return cls(**{field.name: getattr(config, field.name) for field in fields(config)})

    @classmethod
    def from_preset(cls, name: str, **changes: Any) -> Self:
        """A new tokenizer with the config of a preset, changed where `changes` names a field.

        `magvit2`, `magvit2-small`, `seed` or `tiny`: `tokenizer/presets.py` says of each what hardware it is for, its
        memory for each clip and what to expect of it.

        Raises:
            ValueError: there is no such preset or field.
        """
        if name not in PRESETS:
            raise ValueError(f"there is no preset {name!r}, allowed are {', '.join(PRESETS)}")
        known = [field.name for field in fields(TokenizerConfig)]
        if unknown := [field for field in changes if field not in known]:
            raise ValueError(f"a tokenizer has no option {unknown[0]!r}, allowed are {', '.join(known)}")
        return cls(**{field: getattr(PRESETS[name], field) for field in known} | changes)

    def card_facts(self) -> dict[str, str]:
        """What a model card tells of this tokenizer."""
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
        """Frames that a latent frame stands for; the first stands for one."""
        return self.config.temporal_stride

    @property
    def spatial_stride(self) -> tuple[int, int]:
        """Rows and columns of pixels that a code stands for."""
        return self.config.spatial_stride

    def code_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Grid of codes (t, h, w) of a clip of these sizes."""
        return self.config.code_shape(num_frames, height, width)

    def encode(self, video: Video, cond: Condition | None = None) -> Int[Tensor, "b t h w"]:
        """The codes of a video.

        Args:
            cond: what `cond_...` layers are conditioned on, in a tokenizer that has such layers.

        Raises:
            ValueError: wrong shape, type or values.
        """
        check_pixels(self._as_video(video))
        return self.quantizer(self.video_to_latents(video, cond)).codes

    def decode(
        self,
        codes: Int[Tensor, "b t h w"],
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        *,
        cond: Condition | None = None,
    ) -> Float[Tensor, "b c T H W"]:
        """The video that codes stand for, nominally in [-1, 1].

        Codes do not know what was padded: without sizes the full grid is decoded.

        Raises:
            ValueError: wrong shape or type, codes out of range, or sizes that are not those of this grid.
        """
        quantized = self.codes_to_quantized(codes)
        t, h, w = codes.shape[1:]
        sizes = decoded_sizes(self.config, (t, h, w), num_frames, height, width)
        return trim(self.decoder(quantized, self._context(cond, len(codes))), sizes)

    def encode_stream(
        self, chunks: Iterable[Float[Tensor, "b c _ H W"]], cond: Condition | None = None
    ) -> Iterator[Int[Tensor, "b _ h w"]]:
        """The codes of a video of any length that comes in pieces of any length, as soon as they are known.

        Joined along time they are the codes of the whole video. No gradients are kept. Memory does not grow with the
        length, except by the keys and values of full `attend_time` layers.

        Args:
            chunks: pieces of one video, in order; all of the same batch, height and width.
            cond: as in `encode`.

        Raises:
            ValueError: a piece of wrong shape, type or values.
        """
        return streaming.encode_stream(self, chunks, cond)

    def decode_stream(
        self,
        code_chunks: Iterable[Int[Tensor, "b _ h w"]],
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        *,
        cond: Condition | None = None,
    ) -> Iterator[Float[Tensor, "b c _ H W"]]:
        """The video of codes that come in pieces of any number of latent frames: the inverse of `encode_stream`.

        Joined along time the pieces are the video of all codes. No gradients are kept.

        Raises:
            ValueError: codes of wrong shape, type or range, or sizes that are not those of this grid; of more or
                fewer codes than those of `num_frames` that is known only on the way.
        """
        return streaming.decode_stream(self, code_chunks, num_frames, height, width, cond)

    def encode_tiled(
        self, video: Video, *, tile_size: int = 256, overlap: int | None = None, cond: Condition | None = None
    ) -> Int[Tensor, "b t h w"]:
        """`encode` for large frames, in square tiles, with the memory of one tile.

        Args:
            tile_size: height and width of a tile, overlap included, in pixels.
            overlap: pixels that neighbouring tiles share. None: `exact_overlap` where half a tile holds it, or else a
                quarter of a tile.

        Raises:
            ValueError: as `encode`, or tiles too small for their overlap.
        """
        return tiling.encode_tiled(self, video, tile_size, overlap, cond)

    def decode_tiled(
        self,
        codes: Int[Tensor, "b t h w"],
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        *,
        tile_size: int = 256,
        overlap: int | None = None,
        cond: Condition | None = None,
    ) -> Float[Tensor, "b c T H W"]:
        """`decode` for large frames, in square tiles. Where no overlap is exact, tiles are blended across theirs.

        Raises:
            ValueError: as `decode`, or tiles too small for their overlap.
        """
        return tiling.decode_tiled(self, codes, num_frames, height, width, tile_size, overlap, cond)

    @property
    def exact_overlap(self) -> int | None:
        """Pixels that neighbouring tiles must share to give what the whole frame gives.

        None where layers see the whole frame, so that no overlap is enough: `norm="group"`, `attend_space` and
        `linear_attend_space`.
        """
        return tiling.exact_overlap(self.config)

    def inflate(
        self,
        layers: Sequence[LayerSpec | Sequence[Any]] | None = None,
        decoder_layers: Sequence[LayerSpec | Sequence[Any]] | None = None,
    ) -> "VideoTokenizer":
        """A video tokenizer that starts from this image tokenizer (`image_only`) and treats an image as it does.

        Args:
            layers: the video tokenizer's: as here, with `compress` factors over time where wanted, and with new
                layers over time that keep the width. None: the same.
            decoder_layers: likewise for the decoder, where it is no mirror.

        Raises:
            ValueError: this is no image tokenizer, or the layers are others.
        """
        given = (None if spec is None else as_tuples(spec) for spec in (layers, decoder_layers))
        return inflation.inflate(self, *given)

    def codes_to_quantized(self, codes: Int[Tensor, "b t h w"]) -> Float[Tensor, "b k t h w"]:
        """The corner of {-1, +1}^k that each code names, in the weights' type: what the decoder sees.

        Raises:
            ValueError: wrong shape or type, or codes out of range.
        """
        check_codes(codes, self.codebook_size)
        return self.quantizer.dequantize(codes.long()).to(self.dtype)

    def video_to_latents(self, video: Video, cond: Condition | None = None) -> Float[Tensor, "b k t h w"]:
        """The continuous latents of a video, before quantization; their signs are the bits of the codes.

        Raises:
            ValueError: wrong shape or type.
        """
        aligned = pad(self._as_video(video), self.config)
        return self.encoder(aligned, self._context(cond, len(video)), checkpointing=self._checkpoint(aligned))

    def autoencode(self, video: Video, cond: Condition | None = None) -> Autoencoding:
        """Encode, quantize and decode; gradients pass straight through the quantizer.

        Raises:
            ValueError: wrong shape or type.
        """
        video = self._as_video(video)
        aligned = pad(video, self.config)
        checkpointing = self._checkpoint(aligned)
        context = self._context(cond, len(video))
        latents = self.encoder(aligned, context, checkpointing=checkpointing)
        quantized, codes = self.quantizer(latents)
        reconstruction = self.decoder(quantized, context, checkpointing=checkpointing)
        return Autoencoding(trim(reconstruction, video.shape[2:]), latents, quantized, codes)

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
        """The reconstruction of a video, of its shape.

        With `return_codes` its codes instead; with `return_loss` the weighted total of the losses that need no
        other network, and each of them unweighted by name.

        Raises:
            ValueError: both flags, or wrong shape, type or (outside training) values.
        """
        if return_loss and return_codes:
            raise ValueError("return_loss and return_codes cannot both be given; `autoencode` gives everything")
        if return_codes:
            return self.encode(video, cond)
        if not self.training:
            check_pixels(self._as_video(video))
        output = self.autoencode(video, cond)
        if not return_loss:
            return output.reconstruction if video.ndim == 5 else output.reconstruction[:, :, 0]
        losses = self.losses(self._as_video(video), output)
        return weighted_sum(losses, self.config.loss_weights), losses

    def losses(
        self, video: Float[Tensor, "b c T H W"], output: Autoencoding, *, inverse_temperature: float | None = None
    ) -> Losses:
        """Every loss of a pass through the tokenizer that needs no other network, unweighted, by name.

        Args:
            inverse_temperature: of the entropies, in place of the config's.
        """
        sharpness = self.config.inverse_temperature if inverse_temperature is None else inverse_temperature
        pixel_loss = PIXEL_LOSSES[self.config.reconstruction_loss]
        return {
            "reconstruction": pixel_loss(at_least_float32(output.reconstruction), at_least_float32(video)),
            **self.quantizer.losses(output.latents, output.quantized, sharpness),
        }

    @property
    def last_weight(self) -> nn.Parameter:
        """The decoder's last kernel, where the gradients of several losses are weighed against each other."""
        return self.decoder.last_weight

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, which videos are taken in."""
        return next(self.parameters()).dtype

    def _as_video(self, video: Video) -> Float[Tensor, "b c T H W"]:
        return as_video(video, self.config, self.dtype)

    def _context(self, cond: Condition | None, batch: int) -> Context:
        return make_context(self.config, cond, batch, self.dtype)

    def _checkpoint(self, aligned: Float[Tensor, "b c T H W"]) -> bool:
        """Whether to compute activations again in the backward pass; says so once where it decides that itself."""
        choice = self.config.gradient_checkpointing
        if choice != "auto":
            return choice
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return False
        if activations_fit(self.config, aligned.shape, self.dtype, aligned.device):
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
