"""Videos of any length, piece by piece: what comes out is what the whole video would give.

Every layer keeps what it needs of the pieces before (`Context.past`): a convolution its last input frames, attention
over time the keys and values of the frames that it still sees. Nothing is computed twice.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .context import Past
from .inputs import Condition, as_video, check_codes, decoded_sizes, make_context, repeat_last, trim
from .pixels import check_pixels

if TYPE_CHECKING:
    from .model import VideoTokenizer


def encode_stream(
    tokenizer: "VideoTokenizer", chunks: Iterable[Float[Tensor, "b c _ H W"]], cond: Condition | None
) -> Iterator[Int[Tensor, "b _ h w"]]:
    """See `VideoTokenizer.encode_stream`."""
    config, dtype = tokenizer.config, tokenizer.dtype
    past: Past = {}
    waiting: Tensor | None = None  # frames that do not fill a latent frame yet
    shape: torch.Size | None = None

    def encode(frames: Tensor) -> Tensor:
        with torch.no_grad():
            context = make_context(config, cond, len(frames), dtype, past)
            return tokenizer.quantizer(tokenizer.encoder(frames, context)).codes

    for chunk in chunks:
        chunk = as_video(chunk, config, dtype).detach()
        check_pixels(chunk)
        around = chunk.shape[:2] + chunk.shape[3:]
        shape = shape or around
        if around != shape:
            raise ValueError(
                f"all pieces of a video have the same batch, channels, height and width: {tuple(shape)} at first, "
                f"now {tuple(around)}"
            )
        rows, columns = (-size % stride for size, stride in zip(chunk.shape[3:], config.spatial_stride, strict=True))
        chunk = repeat_last(chunk, (0, rows, columns))
        waiting = chunk if waiting is None else torch.cat([waiting, chunk], dim=2)
        num_first = 0 if past else 1
        whole = (waiting.shape[2] - num_first) // config.temporal_stride * config.temporal_stride + num_first
        if whole > 0:
            codes = encode(waiting[:, :, :whole])
            waiting = waiting[:, :, whole:].clone()  # a view would keep the whole piece
            yield codes
    if waiting is not None and waiting.shape[2]:
        yield encode(repeat_last(waiting, (-waiting.shape[2] % config.temporal_stride, 0, 0)))


def decode_stream(
    tokenizer: "VideoTokenizer",
    chunks: Iterable[Int[Tensor, "b _ h w"]],
    num_frames: int | None,
    height: int | None,
    width: int | None,
    cond: Condition | None,
) -> Iterator[Float[Tensor, "b c _ H W"]]:
    """See `VideoTokenizer.decode_stream`."""
    config = tokenizer.config
    past: Past = {}
    shape: torch.Size | None = None
    num_latent_frames = done = 0
    wanted = None if num_frames is None else config.code_shape(num_frames, 1, 1)[0]
    for codes in chunks:
        check_codes(codes, config.codebook_size)
        around = codes.shape[:1] + codes.shape[2:]
        shape = shape or around
        if around != shape:
            raise ValueError(
                f"all pieces of a video have the same batch, h and w: {tuple(shape)} at first, now {tuple(around)}"
            )
        t, h, w = codes.shape[1:]
        _, *sizes = decoded_sizes(config, (t, h, w), None, height, width)
        num_latent_frames += t
        whole = config.clip_shape(num_latent_frames, h, w)[0]
        if wanted is not None and num_latent_frames > wanted:
            raise ValueError(f"the codes stand for {whole} frames or more, not for {num_frames}")
        with torch.no_grad():
            context = make_context(config, cond, len(codes), tokenizer.dtype, past)
            video = tokenizer.decoder(tokenizer.codes_to_quantized(codes), context)
        new = (whole if num_frames is None else min(whole, num_frames)) - done
        done += new
        yield trim(video, (new, *sizes))
    if num_frames is not None and done < num_frames:
        raise ValueError(f"the codes stand for {done} frames, not for {num_frames}")
