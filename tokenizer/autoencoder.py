"""Encoder, quantizer and decoder as one model: the base of streaming, tiling and inflation."""

import logging
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..pretrained import Pretrained
from .config import TokenizerConfig
from .context import Context
from .encoder_decoder import Decoder, Encoder
from .inputs import Condition, Video, as_condition, as_video, check_codes, decoded_sizes, pad, trim
from .memory import activations_fit
from .pixels import check_pixels
from .quantizer import make_quantizer

logger = logging.getLogger(__name__)


class Autoencoding(NamedTuple):
    """Result of one pass through encoder, quantizer and decoder."""

    reconstruction: Float[Tensor, "b c T H W"]
    """Same shape as the input video, nominally in [-1, 1], not clipped."""
    latents: Float[Tensor, "b k t h w"]
    quantized: Float[Tensor, "b k t h w"]
    codes: Int[Tensor, "b t h w"]


class Autoencoder(Pretrained):
    """Base of `VideoTokenizer`: encodes and decodes a whole video at once."""

    config_class = TokenizerConfig
    config: TokenizerConfig

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.quantizer = make_quantizer(config)
        self.decoder = Decoder(config)

    @classmethod
    def num_layers(cls, config: TokenizerConfig) -> int:
        """Return the number of blocks of encoder and decoder."""
        return sum(layer.number for layer in (*config.encoder_layers_resolved, *config.decoder_layers_resolved))

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights. Videos are converted to it."""
        return next(self.parameters()).dtype

    def encode(self, video: Video, cond: Condition | None = None) -> Int[Tensor, "b t h w"]:
        """Return the codes of a video or an image.

        Args:
            video: floating point of shape `b c T H W` (an image: `b c H W`), in [-1, 1].
            cond: condition vectors for a tokenizer with `cond_...` layers.

        Raises:
            ValueError: if a shape, a data type or a value is wrong.
        """
        check_pixels(as_video(video, self.config, self.dtype))
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
        """Return the video that the codes stand for, nominally in [-1, 1].

        Args:
            codes: integers of shape `b t h w` in [0, codebook_size).
            num_frames, height, width: size of the encoded video, to remove its padding. None: keep the padding.
            cond: as in `encode`.

        Raises:
            ValueError: if a shape, a data type or a code is wrong, or if the shape of the codes does not match the
                given size.
        """
        quantized = self.codes_to_quantized(codes)
        b, t, h, w = codes.shape
        sizes = decoded_sizes(self.config, (t, h, w), num_frames, height, width)
        return trim(self.decoder(quantized, self._context(cond, b)), sizes)

    def codes_to_quantized(self, codes: Int[Tensor, "b t h w"]) -> Float[Tensor, "b k t h w"]:
        """Return the quantized latents of the codes, which are the input of the decoder, in the type of the weights.

        Raises:
            ValueError: if the shape, the data type or a code is wrong.
        """
        check_codes(codes, self.config.codebook_size)
        return self.quantizer.dequantize(codes.long(), self.dtype)

    def video_to_latents(self, video: Video, cond: Condition | None = None) -> Float[Tensor, "b k t h w"]:
        """Return the continuous latents of a video, before quantization. With `lfq` their signs are the bits.

        Raises:
            ValueError: if a shape or a data type is wrong.
        """
        aligned = pad(as_video(video, self.config, self.dtype), self.config)
        context = self._context(cond, video.shape[0])
        return self.encoder(aligned, context, checkpointing=self._checkpoint(aligned))

    def autoencode(self, video: Video, cond: Condition | None = None) -> Autoencoding:
        """Encode, quantize and decode a video. Gradients pass straight through the quantizer.

        Raises:
            ValueError: if a shape or a data type is wrong.
        """
        video = as_video(video, self.config, self.dtype)
        aligned = pad(video, self.config)
        checkpointing = self._checkpoint(aligned)
        context = self._context(cond, video.shape[0])
        latents = self.encoder(aligned, context, checkpointing=checkpointing)
        quantized, codes = self.quantizer(latents)
        reconstruction = self.decoder(quantized, context, checkpointing=checkpointing)
        return Autoencoding(trim(reconstruction, video.shape[2:]), latents, quantized, codes)

    def _context(self, cond: Condition | None, batch: int) -> Context:
        return Context(as_condition(cond, self.config, batch, self.dtype))

    def _checkpoint(self, aligned: Float[Tensor, "b c T H W"]) -> bool:
        """Return whether to use gradient checkpointing. Logs one warning if "auto" turns it on."""
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
                "this device (gradient_checkpointing=False turns it off, True turns it on without this warning)",
                tuple(aligned.shape),
            )
        return True
