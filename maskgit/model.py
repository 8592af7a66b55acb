"""The masked transformer: predicts the hidden codes of a grid from the visible ones, a label, a task and a context."""

import math
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..pretrained import Pretrained
from .attention import make_encoder
from .checks import check_integers
from .config import MaskGitConfig
from .context import ContextEmbedding
from .embeddings import EMBEDDING_STD, SubCodeEmbedding
from .factorization import split_codes
from .positions import NUM_POSITION_FEATURES, position_features, rotary_turns
from .presets import PRESETS


class MaskGit(Pretrained):
    """Bidirectional transformer over a grid of codes, some of them hidden (MaskGIT; MAGVIT-v2).

    Codes are integers in [0, codebook_size); `config.mask_id` (= codebook_size) stands for a hidden one. Labels are
    integers in [0, num_labels); `config.null_label` (= num_labels) stands for none; tasks are numbered alike, in the
    order of `config.tasks`. A code is seen and predicted as `config.group_bits` sub-codes: their vectors are summed,
    and each has a head, tied to its vectors. Label and task are vectors added to every place. Any grid runs, since
    positions are numbers and not entries of a table.
    """

    config_class = MaskGitConfig
    config: MaskGitConfig
    card_tags = ("masked-transformer",)
    card_example = "maskgit = MaskGit.from_pretrained({name})\nlogits = maskgit(codes, labels)"

    def __init__(self, config: MaskGitConfig) -> None:
        super().__init__(config)
        width = config.width
        self.embeddings = nn.ModuleList(SubCodeEmbedding(num_bits, width) for num_bits in config.group_bits)
        self.mask_vector = nn.Parameter(torch.empty(width))
        self.position = nn.Linear(NUM_POSITION_FEATURES, width)
        self.label = nn.Embedding(config.num_labels + 1, width)
        self.task = nn.Embedding(len(config.tasks) + 1, width) if config.tasks else None
        self.registers = nn.Parameter(torch.empty(config.num_registers, width)) if config.num_registers else None
        self.context = ContextEmbedding(config.dim_context, width) if config.dim_context else None
        self.encoder = make_encoder(config)
        self.critic = nn.Linear(width, 1) if config.critic else None
        for module in (self.position, self.critic):
            if module is not None:
                nn.init.normal_(module.weight, std=EMBEDDING_STD)
                nn.init.zeros_(module.bias)
        for vectors in (self.mask_vector, self.label.weight, self.task and self.task.weight, self.registers):
            if vectors is not None:
                nn.init.normal_(vectors, std=EMBEDDING_STD)

    @classmethod
    def from_preset(cls, name: str, *, codebook_size: int, grid: tuple[int, int, int], **changes: Any) -> Self:
        """A new transformer for a tokenizer's codes with the config of a preset, changed where `changes` names a field.

        `tiny`, `small`, `base` or `magvit2`: `maskgit/presets.py` says of each what it is for.

        Raises:
            ValueError: there is no such preset or field, or the config cannot be.
        """
        if name not in PRESETS:
            raise ValueError(f"there is no preset {name!r}, allowed are {', '.join(PRESETS)}")
        known = [field.name for field in fields(MaskGitConfig)]
        if unknown := [field for field in changes if field not in known]:
            raise ValueError(f"a transformer has no option {unknown[0]!r}, allowed are {', '.join(known)}")
        return cls(replace(PRESETS[name], codebook_size=codebook_size, grid=grid, **changes))

    @classmethod
    def upgrade_config(cls, values: dict[str, Any], version: int) -> dict[str, Any]:
        """Formats 1 and 2 have `num_groups` for `split`, and neither registers nor normalized queries and keys."""
        if version >= 3:
            return values
        renamed = {"split" if name == "num_groups" else name: value for name, value in values.items()}
        return renamed | {"num_registers": 0, "qk_norm": False}

    def forward(
        self,
        codes: Int[Tensor, "b t h w"],
        labels: Int[Tensor, " b"],
        *,
        tasks: Int[Tensor, " b"] | None = None,
        context: Float[Tensor, "b m e"] | None = None,
        context_padding: Bool[Tensor, "b m"] | None = None,
    ) -> tuple[Float[Tensor, "b t*h*w _"], ...]:
        """Logits of each sub-code at every place, hidden or not; the places of the grid in row-major order.

        In evaluation mode the values of codes, labels and tasks are checked; in training `MaskGitObjective` does that.

        Args:
            tasks: by default the null task for all.
            context: embeddings that a model with `dim_context` attends to.
            context_padding: True where `context` holds no embedding. A row of nothing else, and every row where there
                is no `context`, is given the learned null context.

        Raises:
            ValueError: codes, labels or tasks that are no integers, codes outside [0, mask_id], labels outside
                [0, null_label], tasks outside [0, null_task], not one label and task for each grid, or a context that
                the model does not take.
        """
        tables = [group.vectors() for group in self._groups]
        x = self._encode(codes, labels, tasks, context, context_padding, tables)
        return tuple(F.linear(x, table, group.bias) for table, group in zip(tables, self._groups, strict=True))

    def criticize(
        self,
        codes: Int[Tensor, "b t h w"],
        labels: Int[Tensor, " b"],
        *,
        tasks: Int[Tensor, " b"] | None = None,
        context: Float[Tensor, "b m e"] | None = None,
        context_padding: Bool[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b t*h*w"]:
        """The logit that each code is as in the data; arguments and refusals as of `forward`.

        Raises:
            ValueError: the model has no critic.
        """
        if self.critic is None:
            raise ValueError("this transformer has no critic: its config has critic=False")
        tables = [group.vectors() for group in self._groups]
        return self.critic(self._encode(codes, labels, tasks, context, context_padding, tables))[..., 0]

    @property
    def _groups(self) -> list[SubCodeEmbedding]:
        return list(cast(Iterable[SubCodeEmbedding], self.embeddings))

    def _encode(
        self,
        codes: Int[Tensor, "b t h w"],
        labels: Int[Tensor, " b"],
        tasks: Int[Tensor, " b"] | None,
        context: Float[Tensor, "b m e"] | None,
        context_padding: Bool[Tensor, "b m"] | None,
        tables: list[Float[Tensor, "_ c"]],
    ) -> Float[Tensor, "b t*h*w c"]:
        """What the heads see of each place; `tables` holds the vectors of each group's sub-codes."""
        self._check(codes, labels, tasks, context, context_padding)
        config = self.config
        grid = (codes.shape[1], codes.shape[2], codes.shape[3])
        codes = rearrange(codes, "b t h w -> b (t h w)")
        is_masked = codes == config.mask_id
        sub_codes = split_codes(codes.masked_fill(is_masked, 0), config.group_bits).unbind(dim=-1)
        embedded = [F.embedding(sub_code, table) for sub_code, table in zip(sub_codes, tables, strict=True)]
        x = torch.where(is_masked[..., None], self.mask_vector, torch.stack(embedded).sum(dim=0))
        features = position_features(grid, codes.device)
        x = x + self.position(features.to(x.dtype))
        if self.registers is not None:
            x = torch.cat([self.registers.expand(len(x), -1, -1), x], dim=1)
        x = x + self.label(labels)[:, None]
        if self.task is not None:
            x = x + self.task(torch.full_like(labels, config.null_task) if tasks is None else tasks)[:, None]

        seen = {}
        if self.context is not None:
            given = x.new_zeros(len(x), 0, len(self.context.null)) if context is None else context
            nothing = torch.zeros(given.shape[:2], dtype=torch.bool, device=x.device)
            is_padding = nothing if context_padding is None else context_padding
            seen["context"], seen["context_mask"] = self.context(given, is_padding)
        turns = F.pad(rotary_turns(grid, config.head_size, codes.device), (0, 0, config.num_registers, 0), value=1)
        x = self.encoder(x * math.sqrt(config.width), rotary_pos_emb=turns, **seen)
        return x[:, config.num_registers :]

    def card_facts(self) -> dict[str, str]:
        """What a model card tells of this transformer."""
        config = self.config
        return {
            "parameters": f"{self.num_parameters:,}",
            "codes": f"integers of shape (batch, t, h, w), in [0, {config.mask_id}); "
            f"{config.mask_id} stands for a hidden one",
            "labels": f"integers in [0, {config.null_label}); {config.null_label} stands for none",
            **({"tasks": f"{', '.join(config.tasks)}; {config.null_task} stands for none"} if config.tasks else {}),
            **({"context": f"embeddings of {config.dim_context} channels"} if config.dim_context else {}),
            "grid of codes trained on": " x ".join(map(str, config.grid)),
            "bits of each sub-code": ", ".join(map(str, config.group_bits)),
        }

    def _check(
        self,
        codes: Tensor,
        labels: Tensor,
        tasks: Tensor | None,
        context: Tensor | None,
        context_padding: Tensor | None,
    ) -> None:
        for name, values in (("label", labels), ("task", tasks)):
            if codes.ndim != 4 or (values is not None and values.shape != codes.shape[:1]):
                raise ValueError(
                    f"codes must be (b, t, h, w) with one {name} for each grid, got codes of shape "
                    f"{tuple(codes.shape)} and {name}s of shape {values if values is None else tuple(values.shape)}"
                )
        if context is None:
            if context_padding is not None:
                raise ValueError("context_padding says where context holds no embedding, but there is no context")
        else:
            channels = self.config.dim_context
            if channels is None:
                raise ValueError("this transformer attends to no context: its config has dim_context=None")
            if context.ndim != 3 or (len(context), context.shape[-1]) != (len(codes), channels):
                raise ValueError(
                    f"context must be (b, m, {channels}) with one sequence for each of {len(codes)} grids, "
                    f"got {tuple(context.shape)}"
                )
            if context_padding is not None and context_padding.shape != context.shape[:2]:
                raise ValueError(
                    f"context_padding must have a value for each embedding of context, {tuple(context.shape[:2])}, "
                    f"got {tuple(context_padding.shape)}"
                )
        if not self.training:
            check_integers("codes", codes, self.config.mask_id)
            check_integers("labels", labels, self.config.null_label)
            if tasks is not None:
                check_integers("tasks", tasks, self.config.null_task)
