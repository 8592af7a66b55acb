"""The videos that a call asks for, each with all that is told of it, checked."""

import operator
from collections.abc import Sequence
from typing import NamedTuple, SupportsIndex

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...choices import as_list

Label = str | SupportsIndex


class Request(NamedTuple):
    """Videos to make; everything has a row for each."""

    pixels: Float[Tensor, "b 3 T H W"]
    """In [0, 1], where they are known."""
    known: Bool[Tensor, "b T H W"]
    labels: Int[Tensor, " b"]
    context: Float[Tensor, "b m e"] | None
    context_padding: Bool[Tensor, "b m"] | None
    task: str | None
    """For all windows; None: the one that fits each."""
    generators: list[torch.Generator]
    """One window after the other draws from them, always as much."""


class ContextRows(NamedTuple):
    """A context with a batch axis."""

    embeddings: Float[Tensor, "b m e"]
    padding: Bool[Tensor, "b m"]
    """True where there is no embedding."""


def label_indices(labels: Label | Sequence[Label], names: Sequence[str]) -> list[int]:
    """The index of each label wanted, by name or index.

    Raises:
        ValueError: none, or one that the model does not have.
    """
    wanted = as_list(labels)
    if not wanted:
        raise ValueError("labels must name at least one label, got none")
    return [_label_index(label, names) for label in wanted]


def _label_index(label: Label, names: Sequence[str]) -> int:
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, SupportsIndex) and not isinstance(label, bool) and 0 <= operator.index(label) < len(names):
        return operator.index(label)
    allowed = ", ".join(f"{index} {name!r}" for index, name in enumerate(names))
    raise ValueError(f"there is no label {label!r}, " + (f"allowed are {allowed}" if names else "the model has none"))


def check_context(
    context: Float[Tensor, "*b m e"] | None, padding: Bool[Tensor, "*b m"] | None, dim_context: int | None
) -> ContextRows | None:
    """Embeddings that the transformer is to attend to, one or a batch; None where none are given.

    Raises:
        ValueError: wrong shape or type, padding without a context, or a model that does not take a context.
    """
    if context is None:
        if padding is not None:
            raise ValueError("context_padding says which embeddings of context are none: give context, too")
        return None
    if dim_context is None:
        raise ValueError("this model was not trained with a context (its dim_context is None), but context was given")
    if not isinstance(context, Tensor) or context.ndim not in (2, 3) or not context.is_floating_point():
        given = f"{context.dtype} of {tuple(context.shape)}" if isinstance(context, Tensor) else type(context).__name__
        raise ValueError(f"context must be floating point of shape (m, e) or (b, m, e), got {given}")
    if context.shape[-1] != dim_context or 0 in context.shape:
        raise ValueError(f"context must have embeddings of {dim_context} channels, got shape {tuple(context.shape)}")
    if padding is None:
        padding = torch.zeros(context.shape[:-1], dtype=torch.bool, device=context.device)
    if not isinstance(padding, Tensor) or padding.shape != context.shape[:-1] or padding.dtype != torch.bool:
        given = f"{padding.dtype} of {tuple(padding.shape)}" if isinstance(padding, Tensor) else type(padding).__name__
        raise ValueError(f"context_padding must be booleans of shape {tuple(context.shape[:-1])}, got {given}")
    batch = (1,) * (3 - context.ndim)
    return ContextRows(context.reshape(*batch, *context.shape), padding.reshape(*batch, *padding.shape))


def repeat_each(rows: Tensor, num_rows: int, times: int) -> Tensor:
    """A batch of `num_rows`, or of one that stands for all, with each row `times` times in a row."""
    return rows.expand(num_rows, *rows.shape[1:]).repeat_interleave(times, dim=0)
