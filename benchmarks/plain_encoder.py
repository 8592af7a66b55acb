"""A minimal transformer for codes, whose forward pass is the baseline for CPU time."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from magvit2_pytorch.maskgit import MaskGitConfig
from magvit2_pytorch.maskgit.positions import NUM_POSITION_FEATURES, position_features, rotary_turns


class PlainBlock(nn.Module):
    """Attention and an MLP, each after a norm."""

    def __init__(self, config: MaskGitConfig, *, qk_norm: bool) -> None:
        super().__init__()
        width, hidden = config.width, int(config.mlp_ratio * config.width)
        self.num_heads = config.num_heads
        self.attention_norm = nn.LayerNorm(width)
        self.to_queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.query_norm = nn.LayerNorm(config.head_size, bias=False) if qk_norm else nn.Identity()
        self.key_norm = nn.LayerNorm(config.head_size, bias=False) if qk_norm else nn.Identity()
        self.to_output = nn.Linear(width, width, bias=False)
        self.perceptron_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "b n c"], turns: Complex[Tensor, "n pairs"] | None) -> Float[Tensor, "b n c"]:
        q, k, v = rearrange(
            self.to_queries_keys_values(self.attention_norm(x)),
            "b n (three heads d) -> three b n heads d",
            three=3,
            heads=self.num_heads,
        )
        q, k = self.query_norm(q), self.key_norm(k)
        if turns is not None:
            q, k = (
                torch.view_as_real(torch.view_as_complex(part.unflatten(-1, (-1, 2))) * turns[:, None]).flatten(-2)
                for part in (q, k)
            )
        out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        x = x + self.to_output(rearrange(out, "b heads n d -> b n (heads d)"))
        return x + self.down(F.gelu(self.up(self.perceptron_norm(x))))


class PlainEncoder(nn.Module):
    """Embeddings of two sub-codes, blocks and two heads, with the positions and QK-norm of `MaskGit`, or without both.

    Hidden codes have an extra index in both embeddings. The rotations of queries and keys are computed once per pass.
    """

    def __init__(self, config: MaskGitConfig, *, bare: bool) -> None:
        super().__init__()
        self.config, self.bare = config, bare
        self.high, self.low = (nn.Embedding(size + 1, config.width) for size in config.vocab_sizes)
        self.label = nn.Embedding(config.num_labels + 1, config.width)
        self.position = nn.Linear(NUM_POSITION_FEATURES, config.width)
        self.blocks = nn.ModuleList(PlainBlock(config, qk_norm=not bare) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.heads = nn.ModuleList(nn.Linear(config.width, size) for size in config.vocab_sizes)

    def forward(
        self, codes: Int[Tensor, "b t h w"], labels: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b t*h*w _"], ...]:
        grid = (codes.shape[1], codes.shape[2], codes.shape[3])
        codes = rearrange(codes, "b t h w -> b (t h w)")
        high_size, low_size = self.config.vocab_sizes
        low = torch.where(codes == self.config.mask_id, low_size, codes % low_size)
        x = self.high((codes // low_size).clamp(max=high_size)) + self.low(low) + self.label(labels)[:, None]
        turns = None
        if not self.bare:
            x = x + self.position(position_features(grid, codes.device))
            turns = rotary_turns(grid, self.config.head_size, codes.device)
        for block in self.blocks:
            x = block(x, turns)
        x = self.norm(x)
        return tuple(head(x) for head in self.heads)
