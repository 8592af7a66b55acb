"""The masked transformer: predicts the hidden codes of a grid from the visible ones and a label."""

import math
from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from x_transformers import Encoder

from ..pretrained import Pretrained
from .checks import check_integers
from .config import MaskGitConfig
from .factorization import split_codes
from .positions import NUM_POSITION_FEATURES, position_features, rotary_angles

EMBEDDING_STD = 0.02  # small, since the heads use the same vectors: they start near uniform


class SubCodeEmbedding(nn.Module):
    """The vectors of one group's sub-codes, which its embedding and its head share.

    A vector is the sub-code's own, plus one for each of its bits, added or subtracted. Sub-codes that share bits
    thus share what is learned, which counts where most codes of a large codebook are rarely seen.
    """

    bits: Float[Tensor, "v k"]

    def __init__(self, num_bits: int, width: int) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.empty(2**num_bits, width))
        self.of_bits = nn.Parameter(torch.empty(num_bits, width))
        self.bias = nn.Parameter(torch.zeros(2**num_bits))
        highest_first = torch.arange(num_bits - 1, -1, -1)
        bits = (torch.arange(2**num_bits)[:, None] >> highest_first) & 1
        self.register_buffer("bits", bits.float() * 2 - 1, persistent=False)
        nn.init.normal_(self.own, std=EMBEDDING_STD)
        nn.init.normal_(self.of_bits, std=EMBEDDING_STD)

    def vectors(self) -> Float[Tensor, "v c"]:
        return self.own + self.bits @ self.of_bits


class MaskGit(Pretrained):
    """Bidirectional transformer over a grid of codes, some of them hidden (MaskGIT; MAGVIT-v2).

    Codes are integers in [0, codebook_size); `config.mask_id` (= codebook_size) stands for a hidden one. Labels are
    integers in [0, num_labels); `config.null_label` (= num_labels) stands for none. A code is seen and predicted as
    `config.group_bits` sub-codes: their vectors are summed, and each has a head, tied to its vectors. Any grid runs,
    since positions are numbers and not entries of a table.
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
        self.encoder = Encoder(
            dim=width,
            depth=config.depth,
            heads=config.num_heads,
            attn_dim_head=config.head_size,
            attn_flash=True,
            attn_dropout=config.dropout,
            ff_mult=config.mlp_ratio,
            ff_dropout=config.dropout,
            zero_init_branch_output=True,
        )
        for weight in (self.mask_vector, self.position.weight, self.label.weight):
            nn.init.normal_(weight, std=EMBEDDING_STD)
        nn.init.zeros_(self.position.bias)

    def forward(
        self, codes: Int[Tensor, "b t h w"], labels: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, "b t*h*w _"], ...]:
        """Logits of each sub-code at every place, hidden or not; the places of the grid in row-major order.

        In evaluation mode the values of codes and labels are checked; in training `MaskGitObjective` does that.

        Raises:
            ValueError: codes or labels that are no integers, codes outside [0, mask_id], labels outside
                [0, null_label], or not one label for each grid.
        """
        self._check(codes, labels)
        grid = (codes.shape[1], codes.shape[2], codes.shape[3])
        codes = rearrange(codes, "b t h w -> b (t h w)")
        is_masked = codes == self.config.mask_id
        sub_codes = split_codes(codes.masked_fill(is_masked, 0), self.config.group_bits).unbind(dim=-1)
        groups = cast(Iterable[SubCodeEmbedding], self.embeddings)
        vectors = [group.vectors() for group in groups]

        embedded = [F.embedding(sub_code, table) for sub_code, table in zip(sub_codes, vectors, strict=True)]
        x = torch.where(is_masked[..., None], self.mask_vector, torch.stack(embedded).sum(dim=0))
        features = position_features(grid, codes.device)
        x = x + self.position(features.to(x.dtype)) + self.label(labels)[:, None]
        angles = rotary_angles(grid, self.config.head_size, codes.device)
        x = self.encoder(
            x * math.sqrt(self.config.width),
            # The library turns queries and keys under an autocast that does not know the meta device.
            rotary_pos_emb=None if codes.is_meta else (angles, 1.0),
        )
        return tuple(F.linear(x, table, group.bias) for table, group in zip(vectors, groups, strict=True))

    def card_facts(self) -> dict[str, str]:
        """What a model card tells of this transformer."""
        return {
            "parameters": f"{self.num_parameters:,}",
            "codes": f"integers of shape (batch, t, h, w), in [0, {self.config.mask_id}); "
            f"{self.config.mask_id} stands for a hidden one",
            "labels": f"integers in [0, {self.config.null_label}); {self.config.null_label} stands for none",
            "grid of codes trained on": " x ".join(map(str, self.config.grid)),
            "bits of each sub-code": ", ".join(map(str, self.config.group_bits)),
        }

    def _check(self, codes: Tensor, labels: Tensor) -> None:
        if codes.ndim != 4 or labels.shape != codes.shape[:1]:
            raise ValueError(
                f"codes must be (b, t, h, w) with one label for each grid, "
                f"got codes of shape {tuple(codes.shape)} and labels of shape {tuple(labels.shape)}"
            )
        if not self.training:
            check_integers("codes", codes, self.config.mask_id)
            check_integers("labels", labels, self.config.null_label)
