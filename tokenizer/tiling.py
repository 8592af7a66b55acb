"""Encode and decode large frames tile by tile, if the activations of a whole frame do not fit into memory.

If every layer has a bounded receptive field (`norm="channel"`, no attention over whole frames), tiles with enough
overlap give the same result as the whole frame. Otherwise each tile has its own statistics: codes may differ from those
of the whole frame, and decoded tiles are blended across their overlap.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .autoencoder import Autoencoder
from .config import TokenizerArchitecture
from .encoder_decoder import outer_kernel
from .inputs import Condition, Video, as_video, check_codes, decoded_sizes, pad, trim
from .layer_kinds import Layer


class Tile(NamedTuple):
    """An interval of one axis of the grid of codes: the input of a tile, and the part of its result that is kept."""

    start: int
    stop: int
    first_kept: int
    last_kept: int  # exclusive
    margin: int  # codes between the kept part and an edge of the tile inside the frame


def exact_overlap(config: TokenizerArchitecture) -> int | None:
    """Return the overlap in pixels that makes tiling exact; None if no overlap does."""
    needed = 0
    for axis, stride in zip((1, 2), config.spatial_stride, strict=True):
        for reach in (_reach_of_codes(config, axis), _reach_of_pixels(config, axis)):
            if reach is None:
                return None
            needed = max(needed, 2 * -(-reach // stride) * stride)
    return needed


def encode_tiled(
    tokenizer: Autoencoder,
    video: Video,
    *,
    tile_size: int = 256,
    overlap: int | None = None,
    cond: Condition | None = None,
) -> Int[Tensor, "b t h w"]:
    """Encode large frames in square tiles, with the memory of one tile.

    Args:
        video: as in `encode`.
        tile_size: height and width of a tile in pixels, including the overlap.
        overlap: pixels that neighboring tiles share. None: `exact_overlap` if that is at most half a tile, else a
            quarter of a tile.
        cond: as in `encode`.

    Raises:
        ValueError: as in `encode`, or if tiles are too small for their overlap.
    """
    config = tokenizer.config
    whole = pad(as_video(video, config, tokenizer.dtype), config)
    rows, columns = config.spatial_stride
    grid = config.code_shape(*whole.shape[2:])
    vertical, horizontal = (
        _tiles(size, tile_size, overlap, stride, config) for size, stride in zip(grid[1:], (rows, columns), strict=True)
    )
    codes = torch.empty(whole.shape[0], *grid, dtype=torch.long, device=whole.device)
    for up in vertical:
        for left in horizontal:
            pixels = whole[..., up.start * rows : up.stop * rows, left.start * columns : left.stop * columns]
            tile = tokenizer.encode(pixels, cond)
            codes[..., up.first_kept : up.last_kept, left.first_kept : left.last_kept] = tile[
                ...,
                up.first_kept - up.start : up.last_kept - up.start,
                left.first_kept - left.start : left.last_kept - left.start,
            ]
    return codes


def decode_tiled(
    tokenizer: Autoencoder,
    codes: Int[Tensor, "b t h w"],
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    *,
    tile_size: int = 256,
    overlap: int | None = None,
    cond: Condition | None = None,
) -> Float[Tensor, "b c T H W"]:
    """Decode large frames in square tiles, with the memory of one tile. If no overlap is exact, tiles are blended.

    Args:
        codes, num_frames, height, width, cond: as in `decode`.
        tile_size, overlap: as in `encode_tiled`.

    Raises:
        ValueError: as in `decode`, or if tiles are too small for their overlap.
    """
    config = tokenizer.config
    check_codes(codes, config.codebook_size)
    b, t, h, w = codes.shape
    sizes = decoded_sizes(config, (t, h, w), num_frames, height, width)
    rows, columns = config.spatial_stride
    vertical, horizontal = (
        _tiles(size, tile_size, overlap, stride, config) for size, stride in zip((h, w), (rows, columns), strict=True)
    )
    whole = torch.zeros(b, config.channels, *config.clip_shape(t, h, w), dtype=tokenizer.dtype, device=codes.device)
    for up in vertical:
        share_down = _shares(up, h, rows, _reach_of_pixels(config, 1), whole)
        for left in horizontal:
            share_right = _shares(left, w, columns, _reach_of_pixels(config, 2), whole)
            tile = tokenizer.decode(codes[..., up.start : up.stop, left.start : left.stop], cond=cond)
            whole[..., up.start * rows : up.stop * rows, left.start * columns : left.stop * columns] += (
                tile * share_down[:, None] * share_right
            )
    return trim(whole, sizes)


def seams(config: TokenizerArchitecture, size: int, *, tile_size: int = 256, overlap: int | None = None) -> list[int]:
    """Return the first pixel of each tile except the first, along the columns, without the overlap.

    Args:
        size: width of the frames in pixels, a multiple of the spatial stride.
        tile_size, overlap: as in `encode_tiled`.
    """
    stride = config.spatial_stride[1]
    return [tile.first_kept * stride for tile in _tiles(size // stride, tile_size, overlap, stride, config)[1:]]


def _tiles(size: int, tile_size: int, overlap: int | None, stride: int, config: TokenizerArchitecture) -> list[Tile]:
    """Return the tiles along an axis of `size` codes. The parts that are kept cover the axis exactly once."""
    if overlap is not None and overlap < 0:
        raise ValueError(f"overlap must be at least 0, got {overlap}")
    if overlap is None:
        exact = exact_overlap(config)
        overlap = exact if exact is not None and 2 * exact <= tile_size else tile_size // 4
    margin = -(-overlap // (2 * stride))
    kept = tile_size // stride - 2 * margin
    if tile_size < 1 or kept < 2 * margin or kept < 1:
        raise ValueError(
            f"tile_size must be at least {max(4 * margin, 2 * margin + 1) * stride} for an overlap of {overlap} pixels "
            f"and a stride of {stride}, got {tile_size}"
        )
    return [
        Tile(max(0, first - margin), min(size, first + kept + margin), first, min(size, first + kept), margin)
        for first in range(0, size, kept)
    ]


def _shares(tile: Tile, size: int, stride: int, reach: int | None, like: Tensor) -> Float[Tensor, " pixels"]:
    """Return the weight of each pixel of a tile: from 0 to 1 across the overlap, 0 at edges inside the frame."""
    margin = tile.margin * stride
    halo = min(reach or 0, margin)

    def rising(border: int) -> Tensor:
        # The weights of two neighbors are symmetric about the same border, so they sum to one.
        ramp = 2 * (margin - halo)
        return ((pixels - border) / ramp + 0.5).clamp(0, 1) if ramp else (pixels > border).to(pixels)

    exact = torch.promote_types(like.dtype, torch.float32)  # 16 bits do not resolve half a pixel
    pixels = torch.arange(tile.start * stride, tile.stop * stride, dtype=exact, device=like.device) + 0.5
    shares = torch.ones_like(pixels)
    if tile.start > 0:
        shares = rising(tile.first_kept * stride)
    if tile.last_kept < size:
        shares = shares * (1 - rising(tile.last_kept * stride))
    return shares.to(like.dtype)


def _reach_of_codes(config: TokenizerArchitecture, axis: int) -> int | None:
    """Return how many pixels beyond its own a code depends on, in each direction along `axis` of (t, h, w)."""
    kernel, folding = outer_kernel(config)[axis], config.folding[axis]
    reach = 0
    for layer in reversed(config.encoder_layers_resolved):
        factor = layer.factors[axis]
        own = _reach_of_layer(layer, 0)
        if own is None:
            return None
        reach = reach * factor + own + int(config.antialiased_downsample and factor > 1)
    return None if config.norm == "group" else (reach + kernel // 2) * folding


def _reach_of_pixels(config: TokenizerArchitecture, axis: int) -> int | None:
    """Return the largest distance, in pixels along `axis` of (t, h, w), from a pixel to a code it depends on."""
    reach = outer_kernel(config)[axis] // 2 + int(config.unfolding[axis] > config.folding[axis])
    for layer in config.decoder_layers_resolved:
        own = _reach_of_layer(layer, 1)
        if own is None:
            return None
        reach = -(-reach // layer.factors[axis]) + own
    return None if config.norm == "group" else (reach + 1) * config.spatial_stride[axis - 1]


def _reach_of_layer(layer: Layer, half: int) -> int | None:
    """Return the reach, in positions, of a layer of the encoder (half 0) or the decoder (1); None: the whole frame."""
    if layer.kind.reach is None:
        return None
    return layer.kind.reach[half] * layer.number + (0 if layer.kind.is_temporal else layer.window // 2)
