"""The attention of the layers: rotary positions that are made once a pass, normalized queries and keys."""

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn
from x_transformers import Attention as LibraryAttention
from x_transformers import Encoder
from x_transformers.x_transformers import LayerNorm as LibraryLayerNorm

from .config import MaskGitConfig


class Attention(nn.Module):
    """Multi-head attention to the same sequence or to a context, called as `x_transformers.Encoder` calls its layers.

    The library's own takes angles and computes their sines and cosines anew in every layer, for queries and for keys,
    and turns and normalizes in many small steps: a third of the time of a pass. Here the turns come ready-made.
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
        """What each vector of `x` takes from `x`, or from `context`; and nothing else that the encoder could keep.

        Args:
            context_mask: True where `context` is seen.
            rotary_pos_emb: the turns of each place's queries and keys (`rotary_turns`).
            others: what the encoder passes to layers of its own, with nothing in it.

        Raises:
            TypeError: something that only a layer of the library does.
        """
        if asked := [name for name, value in others.items() if value is not None and name != "return_intermediates"]:
            raise TypeError(f"this attention knows no {', '.join(asked)}")
        if context is None:
            q, k, v = self.to_qkv(x).chunk(3, dim=-1)
        else:
            of_x, of_context = self.to_qkv.weight.tensor_split([x.shape[-1]])
            q, (k, v) = F.linear(x, of_x), F.linear(context, of_context).chunk(2, dim=-1)
        # Plain views: einops takes 2 % of a pass of 320 places to say the same.
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
    """Take the weights of queries, keys and values that were saved one by one, as those of the library are."""
    names = [f"{prefix}to_{part}.weight" for part in "qkv"]
    if all(name in weights for name in names):
        weights[f"{prefix}to_qkv.weight"] = torch.cat([weights.pop(name) for name in names])


class LayerNorm(LibraryLayerNorm):
    """The library's in one operation, where its own takes two."""

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        return F.layer_norm(x, self.gamma.shape, self.gamma + float(self.unit_offset))


def turn(x: Float[Tensor, "b n heads d"], turns: Complex[Tensor, "n d/2"]) -> Float[Tensor, "b n heads d"]:
    """`x` with each pair of neighbouring channels turned, as complex numbers are by multiplication, in float32."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns[:, None]).flatten(-2)


def make_encoder(config: MaskGitConfig) -> Encoder:
    """The library's encoder with layers of `Attention`, attending to a context after each where there is one."""
    encoder = Encoder(
        dim=config.width,
        depth=config.depth,
        heads=config.num_heads,
        cross_attend=config.dim_context is not None,
        attn_dim_head=config.head_size,
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
