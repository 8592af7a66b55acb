"""The masked transformer: predicts the hidden codes of a grid."""

import math
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..choices import chosen
from ..pretrained import Pretrained
from .attention import make_encoder
from .checks import check_integers
from .config import MaskGitConfig
from .context import ContextEmbedding
from .embeddings import EMBEDDING_STD, SubCodeEmbedding
from .factorization import split_codes
from .positions import NUM_POSITION_FEATURES, position_features, rotary_turns
from .presets import PRESETS
from .sub_code_heads import LaterHead, LaterLogits, PredictedLogits


class MaskGit(Pretrained):
    """Bidirectional transformer that predicts the hidden codes of a grid (MaskGIT; MAGVIT-v2).

    Codes are integers in [0, codebook_size); `config.mask_id` (= codebook_size) stands for a hidden code. Labels are
    integers in [0, num_labels); `config.null_label` (= num_labels) stands for no label. Tasks are indices into
    `config.tasks`; `config.null_task` (= len(tasks)) stands for no task.

    Each code is split into sub-codes with `config.vocab_sizes` values. The input embedding of a code is the sum of the
    embeddings of its sub-codes. Each sub-code has an output head, whose weights are tied to its embedding. The
    embeddings of the label and of the task are added at every position of the grid. Position encodings are functions of
    the coordinates, not learned tables, so the model accepts grids of any size.
    """

    config_class = MaskGitConfig
    config: MaskGitConfig
    part = "maskgit"
    card_tags = ("masked-transformer",)
    card_example = "maskgit = MaskGit.from_pretrained({name})\nlogits = maskgit(codes, labels)"

    def __init__(self, config: MaskGitConfig) -> None:
        super().__init__(config)
        width = config.width
        self.embeddings = nn.ModuleList(SubCodeEmbedding(digits, width) for digits in config.group_digits)
        self.later_heads = nn.ModuleList(LaterHead(width) for _ in config.group_digits[1:] if config.sequential)
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
        """Build a new transformer from a preset: `tiny`, `small`, `base`, `magvit2-small` or `magvit2`.

        `maskgit/presets.py` describes them.

        Args:
            codebook_size: codebook size of the tokenizer.
            grid: size (t, h, w) of the code grids of the training clips.
            changes: other fields of `MaskGitConfig` to change.

        Raises:
            ValueError: if there is no such preset or field, or if the config is invalid.
        """
        preset = chosen(PRESETS, name, "preset")
        known = {field.name: field for field in fields(MaskGitConfig)}
        for field in changes:
            chosen(known, field, "option of the transformer")
        return cls(replace(preset, codebook_size=codebook_size, grid=grid, **changes))

    @classmethod
    def num_layers(cls, config: MaskGitConfig) -> int:
        """Return the depth."""
        return config.depth

    @classmethod
    def upgrade_config(cls, values: dict[str, Any], version: int) -> dict[str, Any]:
        """Rename `num_groups` of formats 1 and 2 to `split`, and add `num_registers=0` and `qk_norm=False`."""
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
    ) -> PredictedLogits:
        """Return the logits of each sub-code at every position of the grid, in row-major order.

        If the config has `sequential`, the logits of all sub-codes but the first are functions of the earlier ones.

        The values of codes, labels and tasks are checked in evaluation mode only; `MaskGitObjective` checks those of
        training.

        Args:
            tasks: task of each sample; by default the null task.
            context: embeddings for cross-attention. Requires `dim_context` in the config.
            context_padding: True where `context` holds no embedding. Samples without any embedding, and all samples
                if `context` is None, attend to a learned null embedding.

        Raises:
            ValueError: if codes, labels or tasks are not integers or are out of range, if there is not one label (and
                task) for each grid, or if `context` does not fit the config.
        """
        tables = [group.vectors() for group in self._groups]
        x = self._encode(codes, labels, tables, tasks=tasks, context=context, context_padding=context_padding)
        biases = [group.bias for group in self._groups]
        if not self.later_heads:
            return tuple(F.linear(x, table, bias) for table, bias in zip(tables, biases, strict=True))
        later = (
            LaterLogits(x, head, tables[:group], tables[group], biases[group])
            for group, head in enumerate(self.later_heads, start=1)
        )
        return (F.linear(x, tables[0], biases[0]), *later)

    def criticize(
        self, codes: Int[Tensor, "b t h w"], labels: Int[Tensor, " b"], **conditions: Any
    ) -> Float[Tensor, "b t*h*w"]:
        """Return the critic's logit at every position: high if the code is likely from the data, not generated.

        Args:
            conditions: `tasks`, `context` and `context_padding`, as in `forward`.

        Raises:
            ValueError: if the model has no critic, or as in `forward`.
        """
        if self.critic is None:
            raise ValueError("this model has no critic: its config has critic=False")
        tables = [group.vectors() for group in self._groups]
        return self.critic(self._encode(codes, labels, tables, **conditions))[..., 0]

    @property
    def _groups(self) -> list[SubCodeEmbedding]:
        return list(cast(Iterable[SubCodeEmbedding], self.embeddings))

    def _encode(
        self,
        codes: Int[Tensor, "b t h w"],
        labels: Int[Tensor, " b"],
        tables: list[Float[Tensor, "_ c"]],
        *,
        tasks: Int[Tensor, " b"] | None = None,
        context: Float[Tensor, "b m e"] | None = None,
        context_padding: Bool[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b t*h*w c"]:
        """Return the features of each position, the input of the heads.

        Args:
            tables: embedding table of each group of sub-codes.
        """
        self._check(codes, labels, tasks, context, context_padding)
        config = self.config
        grid = (codes.shape[1], codes.shape[2], codes.shape[3])
        codes = rearrange(codes, "b t h w -> b (t h w)")
        is_masked = codes == config.mask_id
        sub_codes = split_codes(codes.masked_fill(is_masked, 0), config.vocab_sizes).unbind(dim=-1)
        embedded = [F.embedding(sub_code, table) for sub_code, table in zip(sub_codes, tables, strict=True)]
        x = torch.where(is_masked[..., None], self.mask_vector, torch.stack(embedded).sum(dim=0))
        features = position_features(grid, codes.device)
        x = x + self.position(features.to(x.dtype))
        if self.registers is not None:
            x = torch.cat([self.registers.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self.label(labels)[:, None]
        if self.task is not None:
            x = x + self.task(torch.full_like(labels, config.null_task) if tasks is None else tasks)[:, None]

        seen = {}
        if self.context is not None:
            given = x.new_zeros(x.shape[0], 0, self.context.null.shape[0]) if context is None else context
            nothing = torch.zeros(given.shape[:2], dtype=torch.bool, device=x.device)
            is_padding = nothing if context_padding is None else context_padding
            seen["context"], seen["context_mask"] = self.context(given, is_padding)
        turns = F.pad(rotary_turns(grid, config.head_size, codes.device), (0, 0, config.num_registers, 0), value=1)
        x = self.encoder(x * math.sqrt(config.width), rotary_pos_emb=turns, **seen)
        return x[:, config.num_registers :]

    def card_facts(self) -> dict[str, str]:
        """Return the facts about this model for its model card."""
        config = self.config
        return {
            "parameters": f"{self.num_parameters:,}",
            "codes": f"integers of shape (batch, t, h, w), in [0, {config.mask_id}); "
            f"{config.mask_id} stands for a hidden code",
            "labels": f"integers in [0, {config.null_label}); {config.null_label} stands for no label",
            **({"tasks": f"{', '.join(config.tasks)}; {config.null_task} stands for no task"} if config.tasks else {}),
            **({"context": f"embeddings of {config.dim_context} channels"} if config.dim_context else {}),
            "grid of codes trained on": " x ".join(map(str, config.grid)),
            **(
                {"bits of each sub-code": ", ".join(str(len(digits)) for digits in config.group_digits)}
                if config.levels is None
                else {"levels of each sub-code": ", ".join(" x ".join(map(str, d)) for d in config.group_digits)}
            ),
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
                    f"codes must have shape (b, t, h, w), with one {name} for each grid, got codes of shape "
                    f"{tuple(codes.shape)} and {name}s of shape {values if values is None else tuple(values.shape)}"
                )
        if context is None:
            if context_padding is not None:
                raise ValueError("context_padding requires context, but context is None")
        else:
            channels = self.config.dim_context
            if channels is None:
                raise ValueError("this model takes no context: its config has dim_context=None")
            if context.ndim != 3 or context.shape[0] != codes.shape[0] or context.shape[-1] != channels:
                raise ValueError(
                    f"context must have shape (b, m, {channels}), with one sequence for each of {len(codes)} grids, "
                    f"got {tuple(context.shape)}"
                )
            if context_padding is not None and context_padding.shape != context.shape[:2]:
                raise ValueError(
                    f"context_padding must have one value for each embedding of context, shape "
                    f"{tuple(context.shape[:2])}, got {tuple(context_padding.shape)}"
                )
        check_range = not self.training
        check_integers("codes", codes, self.config.mask_id, check_range=check_range)
        check_integers("labels", labels, self.config.null_label, check_range=check_range)
        if tasks is not None:
            check_integers("tasks", tasks, self.config.null_task, check_range=check_range)
