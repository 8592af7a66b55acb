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
    split: int | tuple[int, ...] = 2
    """Into how many sub-codes of nearly equal bits a code is split, or the bits of each, the highest first; 1 predicts
    a code whole."""
    mlp_ratio: float = 4.0
    """Width of the perceptrons' hidden layer, in widths of the transformer."""
    dropout: float = 0.0
    """Probability of dropping an attention weight or a hidden unit in training."""
    tasks: tuple[str, ...] = ()
    """Names of the tasks trained on; one more task, the null task, stands for none."""
    num_registers: int = 0
    """Learned vectors that attention reads and writes beside the places of the grid, room for what is true of a whole
    clip; nothing is predicted from them. Large models are known to want them."""
    qk_norm: bool = True
    """Whether queries and keys are normalized, which bounds how sure attention can be and keeps training stable."""
    dim_context: int | None = None
    """Channels of the embeddings, a text's for example, that every layer attends to; None for a model without."""
    critic: bool = False
    """Whether there is a head that tells codes of the data from the model's own (self-critic)."""

    def __post_init__(self) -> None:
        if self.codebook_size < 2 or self.codebook_size & (self.codebook_size - 1):
            raise ValueError(
                f"codebook_size must be a power of two of at least 2, got {self.codebook_size}: codes are split by "
                "their bits (of an FSQ tokenizer, choose levels whose product is a power of two)"
            )
        if len(self.grid) != 3 or any(size < 1 for size in self.grid):
            raise ValueError(f"grid must be three positive integers (t, h, w), got {self.grid!r}")
        if self.num_labels < 0:
            raise ValueError(f"num_labels must not be negative, got {self.num_labels}")
        if self.depth < 1:
            raise ValueError(f"depth must be positive, got {self.depth}")
        if isinstance(self.split, int):
            if not 1 <= self.split <= self.code_bits:
                raise ValueError(f"split must be from 1 to the {self.code_bits} bits of a code, got {self.split}")
        elif min(self.split, default=0) < 1 or sum(self.split) != self.code_bits:
            raise ValueError(f"split must share out the {self.code_bits} bits of a code, got {self.split}")
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
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks must have names of their own, got {self.tasks}")
        if self.num_registers < 0:
            raise ValueError(f"num_registers must not be negative, got {self.num_registers}")
        if self.dim_context is not None and self.dim_context < 1:
            raise ValueError(f"dim_context must be positive, or None for a model without, got {self.dim_context}")

    @property
    def code_bits(self) -> int:
        """Bits of a code."""
        return self.codebook_size.bit_length() - 1

    @property
    def group_bits(self) -> tuple[int, ...]:
        """Bits of each sub-code, the highest first; where a number was given that does not divide, 17 = 9 + 8."""
        if isinstance(self.split, tuple):
            return self.split
        bits, longer = divmod(self.code_bits, self.split)
        return tuple(bits + (group < longer) for group in range(self.split))

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
    def null_task(self) -> int:
        """The extra task that stands for "no task"."""
        return len(self.tasks)

    @property
    def head_size(self) -> int:
        """Channels of an attention head."""
        return self.width // self.num_heads
