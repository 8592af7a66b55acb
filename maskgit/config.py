"""Config of the masked transformer."""

import math
import reprlib
from dataclasses import dataclass

from ..choices import whole_number
from .positions import MIN_HEAD_SIZE, NUM_POSITION_FEATURES
from .tasks import task_named

MOST_CODE_BITS = 62  # codes and the mask id are int64
LEAST = {"codebook_size": 2, "num_labels": 0, "width": 1, "depth": 1, "num_heads": 1, "num_registers": 0}


@dataclass(frozen=True, kw_only=True)
class MaskGitConfig:
    """Architecture of a `MaskGit`."""

    codebook_size: int
    """Number of codes of the tokenizer, a power of two."""
    grid: tuple[int, int, int]
    """Size (t, h, w) of the code grids of the training clips, the default for generation. The model accepts any."""
    num_labels: int = 0
    """Number of class labels, without the null label."""
    width: int = 256
    """Channels of the transformer."""
    depth: int = 4
    """Number of layers, each with attention and an MLP."""
    num_heads: int = 8
    """Number of attention heads, each with `width / num_heads` channels."""
    split: int | tuple[int, ...] = 2
    """Sub-codes of each code: their number, to divide the bits evenly, or a tuple with the number of bits of each, the
    highest first. 1: no factorization."""
    mlp_ratio: float = 4.0
    """Hidden channels of the MLPs as a multiple of `width`."""
    dropout: float = 0.0
    """Dropout probability of attention weights and hidden units."""
    tasks: tuple[str, ...] = ()
    """Names of the tasks that the model is trained on, without the null task."""
    num_registers: int = 0
    """Number of register tokens: learned vectors in the sequence that nothing is predicted from (Darcet et al. 2024,
    "Vision Transformers Need Registers")."""
    qk_norm: bool = True
    """Whether to normalize queries and keys. This bounds the attention logits and keeps training stable."""
    dim_context: int | None = None
    """Channels of the context embeddings for cross-attention; None for no cross-attention."""
    critic: bool = False
    """Whether the model has a self-critic: a head that distinguishes codes of the data from generated codes."""

    def __post_init__(self) -> None:
        for name, least in LEAST.items() if self.dim_context is None else (LEAST | {"dim_context": 1}).items():
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least))
        if self.codebook_size & (self.codebook_size - 1) or self.code_bits > MOST_CODE_BITS:
            raise ValueError(
                f"codebook_size must be a power of two from 2 to 2**{MOST_CODE_BITS}, got {self.codebook_size}; for an "
                "FSQ tokenizer, choose levels whose product is a power of two"
            )
        if len(self.grid) != 3:
            raise ValueError(f"grid must be three integers (t, h, w), got {reprlib.repr(self.grid)}")
        object.__setattr__(self, "grid", tuple(whole_number("each entry of grid", size, 1) for size in self.grid))
        if isinstance(self.split, tuple):
            too_many = len(self.split) > self.code_bits
            if too_many or sum(whole_number("each entry of split", bits, 1) for bits in self.split) != self.code_bits:
                raise ValueError(
                    f"split must have a sum of {self.code_bits}, the bits of a code, got {reprlib.repr(self.split)}"
                )
        elif whole_number("split", self.split, 1) > self.code_bits:
            raise ValueError(f"split must be at most {self.code_bits}, the bits of a code, got {self.split}")
        if self.width % self.num_heads:
            raise ValueError(f"width must be a multiple of num_heads, got {self.width} and {self.num_heads}")
        if self.head_size % 2 or self.head_size < MIN_HEAD_SIZE:
            raise ValueError(
                f"width / num_heads must be even and at least {MIN_HEAD_SIZE} for rotary positions along three axes, "
                f"got {self.width} / {self.num_heads} = {self.head_size}"
            )
        if not (math.isfinite(self.mlp_ratio) and self.mlp_ratio * self.width >= 1):
            raise ValueError(f"mlp_ratio * width must be finite and at least 1, got {self.mlp_ratio} * {self.width}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"tasks must not contain duplicates, got {reprlib.repr(self.tasks)}")
        for name in self.tasks:
            task_named(name)

    @property
    def code_bits(self) -> int:
        """Number of bits of a code."""
        return self.codebook_size.bit_length() - 1

    @property
    def group_bits(self) -> tuple[int, ...]:
        """Number of bits of each sub-code, the highest first. 17 bits in two sub-codes are 9 + 8."""
        if isinstance(self.split, tuple):
            return self.split
        bits, longer = divmod(self.code_bits, self.split)
        return tuple(bits + (group < longer) for group in range(self.split))

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        """Number of classes of each sub-code's softmax."""
        return tuple(2**bits for bits in self.group_bits)

    @property
    def mask_id(self) -> int:
        """The code that stands for a hidden code, one after the last code."""
        return self.codebook_size

    @property
    def null_label(self) -> int:
        """The label that stands for no label, one after the last label."""
        return self.num_labels

    @property
    def null_task(self) -> int:
        """The task that stands for no task, one after the last task."""
        return len(self.tasks)

    @property
    def head_size(self) -> int:
        """Channels of an attention head."""
        return self.width // self.num_heads

    @property
    def hidden_size(self) -> int:
        """Hidden channels of the MLPs."""
        return int(self.width * self.mlp_ratio)

    @property
    def num_parameters(self) -> int:
        """Number of parameters of a `MaskGit` with this config, without building one."""
        width, context = self.width, self.dim_context
        attention = width + 4 * width**2 + 2 * self.head_size * self.qk_norm
        mlp = width + (width + 1) * self.hidden_size + (self.hidden_size + 1) * width
        layer = attention * (1 if context is None else 2) + mlp
        vectors = 1 + self.num_labels + 1 + self.num_registers + (len(self.tasks) + 1 if self.tasks else 0)
        return (
            sum((size + bits) * width + size for size, bits in zip(self.vocab_sizes, self.group_bits, strict=True))
            + vectors * width
            + (NUM_POSITION_FEATURES + 1) * width
            + self.depth * layer
            + width  # the last norm
            + (0 if context is None else 3 * context + (context + 1) * width)
            + (width + 1) * self.critic
        )
