"""Encoding and decoding of videos in [0, 1] in pieces, on the device of the tokenizer."""

from collections import deque
from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from ..choices import whole_number
from ..tokenizer import VideoTokenizer
from ..tokenizer.pixels import to_model_range, to_unit_range
from .code_files import VideoCodes
from .media.video_source import VideoSource

Piece = Float[Tensor, "b 3 _ H W"]


def encode_pieces(tokenizer: VideoTokenizer, pieces: Iterable[Piece]) -> Iterator[Int[Tensor, "b _ h w"]]:
    """Yield the codes of a video in pieces, on the CPU."""
    parameter = next(tokenizer.parameters())
    for codes in tokenizer.encode_stream(to_model_range(piece).to(parameter) for piece in pieces):
        yield codes.cpu()


def decode_pieces(
    tokenizer: VideoTokenizer, codes: VideoCodes, piece_frames: int, *, progress: bool
) -> Iterator[Piece]:
    """Yield the decoded video in pieces of about `piece_frames` frames, on the CPU.

    Raises:
        ValueError: if the size of the video does not match the grid of its codes.
    """
    whole_number("piece_frames", piece_frames, 1)
    info, device = codes.info, next(tokenizer.parameters()).device
    step = max(1, piece_frames // tokenizer.temporal_stride)
    on_device = (piece.to(device) for piece in codes.pieces(step))
    with tqdm(total=info.num_frames, unit="frame", disable=not progress) as bar:
        for video in tokenizer.decode_stream(on_device, info.num_frames, info.height, info.width):
            yield to_unit_range(video.float()).cpu()
            bar.update(video.shape[2])


def reconstruct_pieces(tokenizer: VideoTokenizer, source: VideoSource) -> Iterator[tuple[Piece, Piece]]:
    """Yield pieces of a video with their reconstructions, on the CPU."""
    waiting: deque[Tensor] = deque()  # frames that are not reconstructed yet

    def remembered() -> Iterator[Piece]:
        for piece in source:
            waiting.extend(piece.split(1, dim=2))
            yield piece

    device = next(tokenizer.parameters()).device
    codes = (piece.to(device) for piece in encode_pieces(tokenizer, remembered()))
    for video in tokenizer.decode_stream(codes, height=source.height, width=source.width):
        num_frames = min(video.shape[2], len(waiting))  # the last latent frame may contain padding
        original = torch.cat([waiting.popleft() for _ in range(num_frames)], dim=2)
        yield original, to_unit_range(video[:, :, :num_frames].float()).cpu()
