"""Context of cross-attention: a sequence of embeddings, for example of a text, or a learned null embedding."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .embeddings import EMBEDDING_STD


class ContextEmbedding(nn.Module):
    """Projects context embeddings to the transformer's width and prepends a learned null embedding.

    A sample attends to the null embedding if, and only if, it has no other embedding. The null embedding passes
    through the same layers, so that every parameter gets a gradient in every step, with or without a context.
    """

    def __init__(self, dim_context: int, width: int) -> None:
        super().__init__()
        self.null = nn.Parameter(torch.empty(dim_context))
        self.norm = nn.LayerNorm(dim_context)  # embeddings may have any scale
        self.projection = nn.Linear(dim_context, width)
        nn.init.normal_(self.null, std=EMBEDDING_STD)

    def forward(
        self, context: Float[Tensor, "b m e"], is_padding: Bool[Tensor, "b m"]
    ) -> tuple[Float[Tensor, "b m+1 c"], Bool[Tensor, "b m+1"]]:
        """Return the projected sequence, and True for each vector to attend to: at least one per sample."""
        embeddings = context.to(self.null.dtype).masked_fill(is_padding[..., None], 0)
        null = self.null.expand(context.shape[0], 1, -1)
        is_seen = torch.cat([is_padding.all(dim=1, keepdim=True), ~is_padding], dim=1)
        return self.projection(self.norm(torch.cat([null, embeddings], dim=1))), is_seen
