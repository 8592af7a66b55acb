"""Encode and decode videos of any length piece by piece, with the same result as for the whole video.

Every layer keeps what it needs of the earlier pieces (`Context.past`): a convolution its last input frames, attention
over time the keys and values of the frames that it still attends to. Nothing is computed twice.
"""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .autoencoder import Autoencoder
from .context import Context, Past
from .inputs import Condition, as_condition, as_video, check_codes, decoded_sizes, repeat_last, trim
from .pixels import check_pixels


def encode_stream(
    tokenizer: Autoencoder, chunks: Iterable[Float[Tensor, "b c _ H W"]], cond: Condition | None = None
) -> Iterator[Int[Tensor, "b _ h w"]]:
    """Encode a video of any length that arrives in pieces of any length. Yield codes as soon as they are known.

    Concatenated along time, they are the codes of the whole video. No gradients are kept. Memory does not grow with the
    length of the video, except for the keys and values of full `attend_time` layers.

    Args:
        chunks: pieces of one video, in order, all of the same batch size, height and width.
        cond: as in `encode`.

    Raises:
        ValueError: if a piece has a wrong shape, data type or value.
    """
    config, dtype = tokenizer.config, tokenizer.dtype
    past: Past = {}
    begins = True
    waiting: Tensor | None = None  # frames that do not fill a latent frame yet
    expected: torch.Size | None = None

    def encode(frames: Tensor) -> Tensor:
        with torch.no_grad():
            context = Context(as_condition(cond, config, frames.shape[0], dtype), begins=begins, past=past)
            return tokenizer.quantizer(tokenizer.encoder(frames, context)).codes

    for chunk in chunks:
        chunk = as_video(chunk, config, dtype).detach()
        check_pixels(chunk)
        shape = chunk.shape[:2] + chunk.shape[3:]
        expected = expected or shape
        if shape != expected:
            raise ValueError(
                f"all pieces of a video must have the same batch size, channels, height and width: "
                f"{tuple(expected)} in the first piece, got {tuple(shape)}"
            )
        rows, columns = (-size % stride for size, stride in zip(chunk.shape[3:], config.spatial_stride, strict=True))
        chunk = repeat_last(chunk, (0, rows, columns))
        waiting = chunk if waiting is None else torch.cat([waiting, chunk], dim=2)
        num_first = int(begins)
        whole = (waiting.shape[2] - num_first) // config.temporal_stride * config.temporal_stride + num_first
        if whole > 0:
            codes = encode(waiting[:, :, :whole])
            begins = False
            waiting = waiting[:, :, whole:].clone()  # a view would keep the whole piece in memory
            yield codes
    if waiting is not None and waiting.shape[2]:
        yield encode(repeat_last(waiting, (-waiting.shape[2] % config.temporal_stride, 0, 0)))


def decode_stream(
    tokenizer: Autoencoder,
    code_chunks: Iterable[Int[Tensor, "b _ h w"]],
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    *,
    cond: Condition | None = None,
) -> Iterator[Float[Tensor, "b c _ H W"]]:
    """Decode codes that arrive in pieces of any number of latent frames. Yield the frames of each piece.

    Concatenated along time, they are the video of all codes. No gradients are kept.

    Args:
        code_chunks: pieces of the codes of one video, in order, all of the same batch size, height and width.
        num_frames, height, width: size of the encoded video, to remove its padding. None: keep the padding.
        cond: as in `encode`.

    Raises:
        ValueError: if codes have a wrong shape, data type or value, or do not match the given size. Too many codes
            for `num_frames` raise it when the surplus piece arrives, too few when the input ends.
    """
    config = tokenizer.config
    past: Past = {}
    expected: torch.Size | None = None
    num_latent_frames = done = 0
    wanted = None if num_frames is None else config.code_shape(num_frames, 1, 1)[0]
    for codes in code_chunks:
        check_codes(codes, config.codebook_size)
        shape = codes.shape[:1] + codes.shape[2:]
        expected = expected or shape
        if shape != expected:
            raise ValueError(
                f"all pieces of the codes must have the same batch size, height and width: "
                f"{tuple(expected)} in the first piece, got {tuple(shape)}"
            )
        b, t, h, w = codes.shape
        _, *sizes = decoded_sizes(config, (t, h, w), None, height, width)
        begins = num_latent_frames == 0
        num_latent_frames += t
        whole = config.clip_shape(num_latent_frames, h, w)[0]
        if wanted is not None and num_latent_frames > wanted:
            raise ValueError(f"the codes stand for at least {whole} frames, but num_frames is {num_frames}")
        with torch.no_grad():
            context = Context(as_condition(cond, config, b, tokenizer.dtype), begins=begins, past=past)
            video = tokenizer.decoder(tokenizer.codes_to_quantized(codes), context)
        new = (whole if num_frames is None else min(whole, num_frames)) - done
        done += new
        yield trim(video, (new, *sizes))
    if num_frames is not None and done < num_frames:
        raise ValueError(f"the codes stand for {done} frames, but num_frames is {num_frames}")
