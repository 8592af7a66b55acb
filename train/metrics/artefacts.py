"""Artefacts of reconstructions: grids, flicker, steps at the seams of tiles, repeated frames.

Pixels are in [0, 1].
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ...tokenizer import VideoTokenizer
from ...tokenizer.pixels import to_model_range, to_unit_range
from ...tokenizer.tiling import seams
from .grid import grid_energy
from .reconstruction import decode, encode
from .seams import frame_differences

BATCH_SIZE = 8  # videos
LEVELS = (0.1, 0.5, 0.9)  # of red, green and blue in the plain colours
ENLARGEMENT, TILED_VIDEOS, TILED_FRAMES = 4, 2, 5  # of the videos that are coded in tiles
MOVES = 0.002  # mean absolute difference of pixels between two frames, of which at least one thing moves
REPEATED = 0.1  # share of the change of the original, below which a frame is a repetition

Videos = Float[Tensor, "b 3 T H W"]


class Artefacts(NamedTuple):
    """Artefacts of a tokenizer; lower is better."""

    grid_on_plain: float
    """Root mean square of the pattern of a block in reconstructions of plain colours."""
    grid: float
    """Energy at the spatial frequencies of the strides in reconstructions, minus that of the originals."""
    flicker: float
    """Largest mean absolute difference between two consecutive frames in reconstructions of still videos."""
    tile_steps: float
    """Steps of the error at the seams of tiles, relative to those at other edges of blocks; 1 if seams are like any
    other place."""
    repeated: float
    """Share of frames that repeat the frame before although the original moves."""


@torch.inference_mode()
def measure_artefacts(tokenizer: VideoTokenizer, videos: Videos) -> Artefacts:
    """Measure the artefacts of a tokenizer on videos, and on plain colours and still videos of the same size."""
    strides = tokenizer.config.spatial_stride
    results = reconstructions(tokenizer, videos)
    still = videos[:, :, :1].expand_as(videos)
    plain = plain_colours(videos.shape[2:])
    return Artefacts(
        grid_on_plain=block_pattern(reconstructions(tokenizer, plain), strides),
        grid=grid_energy(results, strides) - grid_energy(videos, strides),
        flicker=frame_differences(reconstructions(tokenizer, still))[:, 1:].mean(dim=0).max().item(),
        tile_steps=steps_of_tiles(tokenizer, videos),
        repeated=share_of_repeated_frames(results, videos),
    )


def reconstructions(tokenizer: VideoTokenizer, videos: Videos) -> Videos:
    """Encode and decode videos."""
    parts = [decode(tokenizer, encode(tokenizer, part), part.shape[2:]) for part in videos.split(BATCH_SIZE)]
    return torch.cat(parts)


def plain_colours(sizes: Sequence[int]) -> Videos:
    """Return a video of each of 27 colours.

    Args:
        sizes: frames, height and width.
    """
    levels = torch.tensor(LEVELS)
    return torch.cartesian_prod(levels, levels, levels)[:, :, None, None, None].expand(-1, -1, *sizes)


def block_pattern(videos: Float[Tensor, "b c T H W"], strides: Sequence[int]) -> float:
    """Return the root mean square of what all blocks of a frame have in common, without their mean.

    For videos of plain colours this is the amplitude at the spatial frequencies of the strides. Blocks at the edge of
    the frame do not count, since they see its padding.

    Args:
        strides: rows and columns of a block, for example `VideoTokenizer.spatial_stride`.

    Raises:
        ValueError: if frames have fewer than four blocks along an axis.
    """
    rows, columns = strides
    if min(videos.shape[3] // rows, videos.shape[4] // columns) < 4:
        raise ValueError(f"frames must have at least four blocks of {strides}, got {tuple(videos.shape[3:])} pixels")
    blocks = videos.double().unflatten(4, (-1, columns)).unflatten(3, (-1, rows))  # b c T h y w x
    pattern = blocks[:, :, :, 1:-1, :, 1:-1].mean(dim=(3, 5))  # b c T y x
    return (pattern - pattern.mean(dim=(3, 4), keepdim=True)).square().mean().sqrt().item()


def steps_of_tiles(tokenizer: VideoTokenizer, videos: Videos, overlap: int | None = None) -> float:
    """Return the steps at the seams of tiles for enlarged videos, see `relative_steps`.

    Args:
        overlap: as in `VideoTokenizer.encode_tiled`.
    """
    few = videos[:TILED_VIDEOS, :, :TILED_FRAMES]
    large = F.interpolate(few, scale_factor=(1, ENLARGEMENT, ENLARGEMENT), mode="trilinear")
    tile_size = large.shape[-1] // 2
    model_range = to_model_range(large).to(next(tokenizer.parameters()))
    codes = tokenizer.encode_tiled(model_range, tile_size=tile_size, overlap=overlap)
    result = to_unit_range(tokenizer.decode_tiled(codes, *large.shape[2:], tile_size=tile_size, overlap=overlap))
    edges = seams(tokenizer.config, large.shape[-1], tile_size=tile_size, overlap=overlap)
    return relative_steps(result.float().cpu() - large, edges, tokenizer.config.spatial_stride[1])


def relative_steps(errors: Float[Tensor, "b c T H W"], edges: Sequence[int], stride: int) -> float:
    """Return the mean absolute step of errors at the columns of seams, divided by that at the other edges of blocks.

    Args:
        errors: reconstructions minus originals.
        edges: first column of each tile except the first.
        stride: columns of a block.
    """
    steps = errors.double().diff(dim=-1).abs().mean(dim=(0, 1, 2, 3))  # step k is between columns k and k + 1
    others = [column for column in range(stride, errors.shape[-1], stride) if column not in edges]
    at_seams, elsewhere = (steps[[column - 1 for column in columns]].mean() for columns in (edges, others))
    return (at_seams / elsewhere).item()


def share_of_repeated_frames(results: Videos, originals: Videos) -> float:
    """Return the share of frames that are like the frame before, among those at which the original moves."""
    change, expected = frame_differences(results)[:, 1:], frame_differences(originals)[:, 1:]
    moves = expected > MOVES
    return (change < REPEATED * expected)[moves].double().mean().item()
