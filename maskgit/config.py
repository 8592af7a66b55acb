"""What a masked transformer is made of."""

import math
from dataclasses import dataclass

from .positions import MIN_HEAD_SIZE


@dataclass(frozen=True, kw_only=True)
class MaskGitConfig:
    """Everything that determines a `MaskGit`, apart from its weights."""

    codebook_size: int
    """Number of the tokenizer's codes, a power of two."""
    grid: tuple[int, int, int]
    """Latent frames, rows and columns of codes trained on: a default for generation, no limit of the model."""
    num_labels: int = 0
    """Classes of video; one more label, the null label, stands for none."""
    width: int = 256
    """Channels of the transformer."""
    depth: int = 4
    """Layers of the transformer, each attention and a multilayer perceptron."""
    num_heads: int = 8
    """Attention heads, of `width / num_heads` channels each."""
    num_groups: int = 2
    """Sub-codes that a code is predicted in; 1 predicts it whole."""
    mlp_ratio: float = 4.0
    """Width of the perceptrons' hidden layer, in widths of the transformer."""
    dropout: float = 0.0
    """Probability of dropping an attention weight or a hidden unit in training."""

    def __post_init__(self) -> None:
        if self.codebook_size < 2 or self.codebook_size & (self.codebook_size - 1):
            raise ValueError(f"codebook_size must be a power of two of at least 2, got {self.codebook_size}")
        if len(self.grid) != 3 or any(size < 1 for size in self.grid):
            raise ValueError(f"grid must be three positive integers (t, h, w), got {self.grid!r}")
        if self.num_labels < 0:
            raise ValueError(f"num_labels must not be negative, got {self.num_labels}")
        if self.depth < 1:
            raise ValueError(f"depth must be positive, got {self.depth}")
        if not 1 <= self.num_groups <= self.code_bits:
            raise ValueError(f"num_groups must be from 1 to the {self.code_bits} bits of a code, got {self.num_groups}")
        if self.num_heads < 1 or self.width % self.num_heads:
            raise ValueError(f"num_heads must divide the width {self.width}, got {self.num_heads}")
        if self.head_size % 2 or self.head_size < MIN_HEAD_SIZE:
            raise ValueError(
                f"width / num_heads must be even and at least {MIN_HEAD_SIZE}, for rotary positions along three axes; "
                f"got {self.width} / {self.num_heads} = {self.head_size}"
            )
        if not (math.isfinite(self.mlp_ratio) and self.mlp_ratio * self.width >= 1):
            raise ValueError(f"mlp_ratio must leave at least one hidden unit, got {self.mlp_ratio}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")

    @property
    def code_bits(self) -> int:
        """Bits of a code."""
        return self.codebook_size.bit_length() - 1

    @property
    def group_bits(self) -> tuple[int, ...]:
        """Bits of each sub-code; the first ones have one more where the bits do not divide (17 = 9 + 8)."""
        bits, longer = divmod(self.code_bits, self.num_groups)
        return tuple(bits + (group < longer) for group in range(self.num_groups))

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        """Classes of each sub-code's softmax."""
        return tuple(2**bits for bits in self.group_bits)

    @property
    def mask_id(self) -> int:
        """The extra code that stands for "hidden"."""
        return self.codebook_size

    @property
    def null_label(self) -> int:
        """The extra label that stands for "no label"."""
        return self.num_labels

    @property
    def head_size(self) -> int:
        """Channels of an attention head."""
        return self.width // self.num_heads
