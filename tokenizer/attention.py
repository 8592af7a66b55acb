"""Attention over space or over time, with rotary position embeddings. Attention over time is causal."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import parse_shape, rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .context import WHOLE, Context
from .convolution import OverChannels, start_small
from .norms import MakeNorm
from .rotary import rotate

HEAD_SIZE = 32
MOST_SEQUENCES = 2**16 - 1  # the size of a grid of CUDA blocks along an axis; some kernels have a block per sequence

Rows = Float[Tensor, "b heads n d"]
"""Vectors of the positions of each sequence, in row-major order."""


class Attention(nn.Module):
    """Multi-head self-attention with a residual connection. Subclasses define which positions attend to which."""

    sequences: ClassVar[str]  # einops axes of independent sequences
    positions: ClassVar[tuple[str, ...]]  # axes of the positions of a sequence

    def __init__(self, width: int, make_norm: MakeNorm) -> None:
        super().__init__()
        self.head_size = math.gcd(width, HEAD_SIZE)
        self.norm = make_norm(width)
        self.to_queries_keys_values = OverChannels(width, 3 * width)
        self.to_output = start_small(OverChannels(width, width))

    def forward(self, input: Float[Tensor, "b c t h w"], context: Context = WHOLE) -> Float[Tensor, "b c t h w"]:
        sizes = parse_shape(input, "b _ t h w")
        grid = tuple(sizes[axis] for axis in self.positions)
        in_rows = f"({self.sequences}) heads ({' '.join(self.positions)}) d"
        normed = rearrange(self.norm(input, context), "b c t h w -> b t h w c").contiguous()
        queries, keys, values = rearrange(
            self.to_queries_keys_values(normed),
            f"b t h w (three heads d) -> three {in_rows}",
            three=3,
            d=self.head_size,
        )
        attended = rearrange(
            self.attend(queries, keys, values, grid, context), f"{in_rows} -> b t h w (heads d)", **sizes
        )
        return input + rearrange(self.to_output(attended), "b t h w c -> b c t h w")

    def attend(self, queries: Rows, keys: Rows, values: Rows, grid: tuple[int, ...], context: Context) -> Rows:
        """Return the result of attention between the positions of a sequence.

        Args:
            grid: sizes of the axes `positions`.
        """
        raise NotImplementedError


def attention(
    queries: Float[Tensor, "b heads n d"],
    keys: Float[Tensor, "b heads m d"],
    values: Float[Tensor, "b heads m d"],
    mask: Bool[Tensor, "*_ n m"] | None = None,
    *,
    is_causal: bool = False,
) -> Float[Tensor, "b heads n d"]:
    """Return the scaled dot product attention of any number of sequences, which kernels for GPUs limit.

    Args:
        mask: True where a query may attend to a key, the same for all sequences.
    """
    parts = zip(*(rows.split(MOST_SEQUENCES) for rows in (queries, keys, values)), strict=True)
    attended = [F.scaled_dot_product_attention(*part, attn_mask=mask, is_causal=is_causal) for part in parts]
    return attended[0] if len(attended) == 1 else torch.cat(attended)


class SpaceAttention(Attention):
    """Full attention between the positions of a frame."""

    sequences, positions = "b t", ("h", "w")

    def attend(self, queries: Rows, keys: Rows, values: Rows, grid: tuple[int, ...], context: Context) -> Rows:
        return attention(rotate(queries, grid), rotate(keys, grid), values)


class LinearSpaceAttention(Attention):
    """Linear attention between the positions of a frame (Shen et al., Efficient Attention, arXiv 1812.01243).

    The cost is linear in the number of positions. There are no position embeddings.
    """

    sequences, positions = "b t", ("h", "w")

    def attend(self, queries: Rows, keys: Rows, values: Rows, grid: tuple[int, ...], context: Context) -> Rows:
        summary = keys.softmax(dim=-2).mT @ values
        return queries.softmax(dim=-1) @ summary


class LocalSpaceAttention(Attention):
    """Attention to the positions of a frame that are at most `window // 2` rows and columns away."""

    sequences, positions = "b t", ("h", "w")

    def __init__(self, width: int, make_norm: MakeNorm, window: int) -> None:
        super().__init__(width, make_norm)
        self.reach = window // 2
        self.block = max(window, 4)

    def attend(self, queries: Rows, keys: Rows, values: Rows, grid: tuple[int, ...], context: Context) -> Rows:
        # Each square block of queries attends to the keys of the block and of a border around it.
        height, width = grid
        block, reach = self.block, self.reach
        rows, columns = -height % block, -width % block
        side = block + 2 * reach

        def laid_out(x: Tensor, border: int) -> Tensor:
            grown = F.pad(
                rearrange(x, "b heads (h w) d -> (b heads) d h w", h=height),
                (border, border + columns, border, border + rows),
            )
            blocks = grown.unfold(2, block + 2 * border, block).unfold(3, block + 2 * border, block)
            return rearrange(blocks, "n d y x p q -> n (y x) (p q) d")

        attended = attention(
            rotate(laid_out(queries, 0), (block, block), start=reach),
            rotate(laid_out(keys, reach), (side, side)),
            laid_out(values, reach),
            self._may_see(height, width, queries.device),
        )
        whole = rearrange(
            attended,
            "(b heads) (y x) (p q) d -> b heads (y p) (x q) d",
            heads=queries.shape[1],
            y=(height + rows) // block,
            p=block,
        )
        return rearrange(whole[:, :, :height, :width], "b heads h w d -> b heads (h w) d")

    def _may_see(self, height: int, width: int, device: torch.device) -> Bool[Tensor, "1 blocks queries keys"]:
        """Return the attention mask between blocks and their surroundings: True for near positions inside the frame."""

        def along(size: int) -> Bool[Tensor, "blocks queries keys"]:
            starts = torch.arange(0, size, self.block, device=device)[:, None, None]
            positions = torch.arange(self.block, device=device)[None, :, None]
            others = torch.arange(-self.reach, self.block + self.reach, device=device)[None, None, :]
            is_near = (others - positions).abs() <= self.reach
            is_inside = (starts + others >= 0) & (starts + others < size)
            is_inside = is_inside | (starts + positions >= size)  # softmax over no key is undefined
            return is_near & is_inside

        allowed = along(height)[:, None, :, None, :, None] & along(width)[None, :, None, :, None, :]
        return rearrange(allowed, "y x p q r s -> 1 (y x) (p q) (r s)")


class TimeAttention(Attention):
    """Attention of each position to the same position in its own and all earlier frames.

    In a stream, the keys and values of all frames are kept, so memory grows with the length of the video.
    """

    sequences, positions = "b h w", ("t",)

    def attend(self, queries: Rows, keys: Rows, values: Rows, grid: tuple[int, ...], context: Context) -> Rows:
        num_queries = queries.shape[2]
        if not context.begins:
            assert context.past is not None
            keys, values = (torch.cat(pair, dim=2) for pair in zip(context.past[self], (keys, values), strict=True))
        elif context.past is not None:
            keys, values = keys.clone(), values.clone()  # views would keep the queries in memory
        if context.past is not None:
            context.past[self] = keys, values
        num_keys = keys.shape[2]
        queries, keys = rotate(queries, grid, start=num_keys - num_queries), rotate(keys, (num_keys,))
        if num_keys == num_queries:
            return attention(queries, keys, values, is_causal=True)
        is_earlier = torch.ones(num_queries, num_keys, dtype=torch.bool, device=keys.device)
        return attention(queries, keys, values, is_earlier.tril(num_keys - num_queries))


class LocalTimeAttention(Attention):
    """Attention of each position to the same position in its own frame and the `window` - 1 frames before."""

    sequences, positions = "b h w", ("t",)

    def __init__(self, width: int, make_norm: MakeNorm, window: int) -> None:
        super().__init__(width, make_norm)
        self.window = window

    def attend(self, queries: Rows, keys: Rows, values: Rows, grid: tuple[int, ...], context: Context) -> Rows:
        num_queries, border = queries.shape[2], self.window - 1
        num_earlier = 0
        if not context.begins:
            assert context.past is not None
            num_earlier = context.past[self][0].shape[2]
            keys, values = (torch.cat(pair, dim=2) for pair in zip(context.past[self], (keys, values), strict=True))
        if context.past is not None:
            first_kept = max(0, keys.shape[2] - border)
            context.past[self] = keys[:, :, first_kept:].clone(), values[:, :, first_kept:].clone()

        # Each block of queries attends to the keys of the block and of the frames before it. Positions are relative
        # to the block, so they stay small in a video of any length.
        block = min(self.window, num_queries)
        surplus = -num_queries % block

        def laid_out(x: Tensor, missing: int, size: int) -> Tensor:
            grown = F.pad(x, (0, 0, missing, surplus))
            return rearrange(grown.unfold(2, size, block), "b heads m d n -> (b heads) m n d")

        size = block + border
        missing = border - num_earlier
        starts = torch.arange(0, num_queries, block, device=keys.device)[:, None, None]
        positions = torch.arange(block, device=keys.device)[None, :, None]
        others = torch.arange(size, device=keys.device)[None, None, :]
        is_visible = (others >= positions) & (others <= positions + border) & (starts + others >= missing)
        attended = attention(
            rotate(laid_out(queries, 0, block), (block,), start=border),
            rotate(laid_out(keys, missing, size), (size,)),
            laid_out(values, missing, size),
            is_visible[None],
        )
        whole = rearrange(attended, "(b heads) m n d -> b heads (m n) d", heads=queries.shape[1])
        return whole[:, :, :num_queries]
