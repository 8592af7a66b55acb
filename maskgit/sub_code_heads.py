"""Prediction of the sub-codes of a code, one after another (as in Open-MAGVIT2)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from .attention import LayerNorm


class LaterHead(nn.Module):
    """Adds what is known of a code to the features of its position, for the prediction of its next sub-code.

    Initially it returns the features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = LayerNorm(width, unit_offset=True)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Float[Tensor, "b n c"], known: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        """
        Args:
            known: sum of the embeddings of the earlier sub-codes.
        """
        scale = math.sqrt(features.shape[-1])  # as at the input of the transformer
        return features + self.out(F.silu(self.hidden(self.norm(features + scale * known))))


@dataclass(frozen=True)
class LaterLogits:
    """Logits of a sub-code as a function of the earlier sub-codes of the same positions."""

    features: Float[Tensor, "b n c"]
    head: nn.Module
    earlier_tables: Sequence[Float[Tensor, "_ c"]]
    table: Float[Tensor, "v c"]
    bias: Float[Tensor, " v"]

    def __call__(self, earlier: Sequence[Int[Tensor, "b n"]]) -> Float[Tensor, "b n v"]:
        """
        Args:
            earlier: the earlier sub-codes, the highest first.
        """
        embedded = [F.embedding(code, table) for code, table in zip(earlier, self.earlier_tables, strict=True)]
        return F.linear(self.head(self.features, torch.stack(embedded).sum(dim=0)), self.table, self.bias)

    def __getitem__(self, index: Any) -> "LaterLogits":
        """Return the function for some of the samples or positions."""
        return replace(self, features=self.features[index])


PredictedLogits = tuple[Float[Tensor, "b n _"] | LaterLogits, ...]
"""Prediction of the transformer, one entry for each sub-code."""
SubCodeLogits = Float[Tensor, "b n _"] | Callable[[Sequence[Int[Tensor, "b n"]]], Float[Tensor, "b n _"]]
"""Logits of a sub-code, or a function from the earlier sub-codes of the same positions to them."""
Logits = tuple[SubCodeLogits, ...]
"""One entry for each sub-code, with the positions of the grid in row-major order."""


def logits_given(logits: SubCodeLogits, earlier: Sequence[Int[Tensor, "b n"]]) -> Float[Tensor, "b n _"]:
    """Return the logits of a sub-code, given the earlier sub-codes."""
    return logits if isinstance(logits, Tensor) else logits(earlier)
