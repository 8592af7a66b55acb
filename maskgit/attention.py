"""Attention with rotary positions and normalized queries and keys, and the encoder built from it."""

import warnings
from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn

from .config import MaskGitConfig

with warnings.catch_warnings():
    # The library scripts a function when it is imported, which torch deprecates under several warning classes.
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
    from x_transformers import Attention as LibraryAttention
    from x_transformers import Encoder
    from x_transformers.x_transformers import LayerNorm as LibraryLayerNorm


class Attention(nn.Module):
    """Multi-head self-attention or cross-attention, with the interface of the layers of `x_transformers.Encoder`.

    It replaces the library's attention, which takes a third of the time of a pass to compute the sines and cosines of
    the rotary positions in every layer. Here the rotations are computed once per pass.
    """

    def __init__(self, width: int, num_heads: int, *, qk_norm: bool, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)
        head_size = width // num_heads
        self.q_norm = nn.LayerNorm(head_size, bias=False) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(head_size, bias=False) if qk_norm else nn.Identity()
        nn.init.zeros_(self.to_out.weight)
        self.register_load_state_dict_pre_hook(join_projections)

    def forward(
        self,
        x: Float[Tensor, "b n c"],
        *,
        context: Float[Tensor, "b m c"] | None = None,
        context_mask: Bool[Tensor, "b m"] | None = None,
        rotary_pos_emb: Complex[Tensor, "n pairs"] | None = None,
        **others: Any,
    ) -> tuple[Float[Tensor, "b n c"], None]:
        """Attend to `x`, or to `context` if it is given.

        Args:
            context_mask: True for the vectors of `context` to attend to.
            rotary_pos_emb: rotations of queries and keys at each position (`rotary_turns`).
            others: other arguments of the library's layers; must be None.

        Returns:
            The output, and None in place of the intermediates of the library's layers.

        Raises:
            TypeError: if an argument of the library's layers is given that is not supported here.
        """
        if asked := [name for name, value in others.items() if value is not None and name != "return_intermediates"]:
            raise TypeError(f"this attention does not support {', '.join(asked)}")
        if context is None:
            q, k, v = self.to_qkv(x).chunk(3, dim=-1)
        else:
            of_x, of_context = self.to_qkv.weight.tensor_split([x.shape[-1]])
            q, (k, v) = F.linear(x, of_x), F.linear(context, of_context).chunk(2, dim=-1)
        # Without einops, which would take 2 % of the time of a pass over 320 positions.
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)) for part in (q, k, v))
        q, k = self.q_norm(q), self.k_norm(k)
        if rotary_pos_emb is not None:
            q, k = turn(q, rotary_pos_emb), turn(k, rotary_pos_emb)
        q, k, v = (part.to(v.dtype).transpose(1, 2) for part in (q, k, v))
        is_seen = None if context_mask is None else context_mask[:, None, None]
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=is_seen, dropout_p=dropout)
        return self.to_out(out.transpose(1, 2).flatten(2)), None


def join_projections(_: nn.Module, weights: dict[str, Tensor], prefix: str, *__: Any) -> None:
    """Join weights of queries, keys and values that were saved separately, as the library saves them."""
    names = [f"{prefix}to_{part}.weight" for part in "qkv"]
    if all(name in weights for name in names):
        weights[f"{prefix}to_qkv.weight"] = torch.cat([weights.pop(name) for name in names])


class LayerNorm(LibraryLayerNorm):
    """The library's layer norm in one operation instead of two."""

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        return F.layer_norm(x, self.gamma.shape, self.gamma + float(self.unit_offset))


def turn(x: Float[Tensor, "b n heads d"], turns: Complex[Tensor, "n d/2"]) -> Float[Tensor, "b n heads d"]:
    """Rotate each pair of adjacent channels, as a complex number, in float32."""
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # inductor generates no code for complex numbers
        cos, sin = torch.view_as_real(turns)[:, None].unbind(dim=-1)
        real, imaginary = pairs.unbind(dim=-1)
        return torch.stack([real * cos - imaginary * sin, real * sin + imaginary * cos], dim=-1).flatten(-2)
    return torch.view_as_real(torch.view_as_complex(pairs) * turns[:, None]).flatten(-2)


def make_encoder(config: MaskGitConfig) -> Encoder:
    """Build the library's encoder with `Attention` layers, each followed by cross-attention if there is a context.

    Parts of the encoder are replaced by index, and the indices depend on the library's version. A test checks them.
    """
    encoder = Encoder(
        dim=config.width,
        depth=config.depth,
        heads=config.num_heads,
        cross_attend=config.dim_context is not None,
        attn_dim_head=config.head_size,
        attn_project_out=True,  # without it the library cannot initialize attention with one head
        ff_mult=config.mlp_ratio,
        ff_dropout=config.dropout,
        zero_init_branch_output=True,
    )
    for layer in cast(Iterable[Any], encoder.layers):
        layer[0][0] = LayerNorm(config.width, unit_offset=True)
        if isinstance(layer[1], LibraryAttention):
            layer[1] = Attention(config.width, config.num_heads, qk_norm=config.qk_norm, dropout=config.dropout)
    encoder.final_norm = LayerNorm(config.width, unit_offset=True)
    return encoder
