"""What the transformer attends to beside its grid: an embedding sequence that the user brings, or none."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .embeddings import EMBEDDING_STD


class ContextEmbedding(nn.Module):
    """A sequence of embeddings in the transformer's width, headed by a vector that stands for having none.

    The null vector is seen where a row holds no embedding, and only there. It passes through the same layers as an
    embedding, so that all of them are in use at every step, whatever is given.
    """

    def __init__(self, dim_context: int, width: int) -> None:
        super().__init__()
        self.null = nn.Parameter(torch.empty(dim_context))
        self.norm = nn.LayerNorm(dim_context)  # embeddings come in any size
        self.projection = nn.Linear(dim_context, width)
        nn.init.normal_(self.null, std=EMBEDDING_STD)

    def forward(
        self, context: Float[Tensor, "b m e"], is_padding: Bool[Tensor, "b m"]
    ) -> tuple[Float[Tensor, "b m+1 c"], Bool[Tensor, "b m+1"]]:
        """The sequence, and which of its vectors are seen: at least one of each row."""
        embeddings = context.to(self.null.dtype).masked_fill(is_padding[..., None], 0)
        null = self.null.expand(len(context), 1, -1)
        is_seen = torch.cat([is_padding.all(dim=1, keepdim=True), ~is_padding], dim=1)
        return self.projection(self.norm(torch.cat([null, embeddings], dim=1))), is_seen
