"""Config of the masked transformer."""

import itertools
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
    """Number of codes of the tokenizer: a power of two, or the product of `levels`."""
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
    levels: tuple[int, ...] | None = None
    """Levels of an FSQ tokenizer, its `fsq_levels`. None: the digits of a code are bits."""
    split: int | tuple[int, ...] = 2
    """Sub-codes of each code: their number, to divide the bits (or levels) evenly, or a tuple with the number of bits
    (or levels) of each, the highest first. 1: no factorization."""
    sequential: bool = False
    """Whether each sub-code is predicted with knowledge of the earlier sub-codes of its code (as in Open-MAGVIT2).
    Otherwise the sub-codes of a code are independent of each other."""
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
        if self.codebook_size > 2**MOST_CODE_BITS:
            raise ValueError(f"codebook_size must be at most 2**{MOST_CODE_BITS}, got {self.codebook_size}")
        if self.levels is None:
            if self.codebook_size & (self.codebook_size - 1):
                raise ValueError(f"codebook_size must be a power of two without levels, got {self.codebook_size}")
        else:
            levels = [whole_number("each entry of levels", size, 2) for size in self.levels[:MOST_CODE_BITS]]
            if len(self.levels) > MOST_CODE_BITS or math.prod(levels) != self.codebook_size:
                raise ValueError(
                    f"codebook_size must be the product of levels, got {self.codebook_size} and "
                    f"{reprlib.repr(self.levels)}"
                )
            object.__setattr__(self, "levels", tuple(levels))
        if len(self.grid) != 3:
            raise ValueError(f"grid must be three integers (t, h, w), got {reprlib.repr(self.grid)}")
        object.__setattr__(self, "grid", tuple(whole_number("each entry of grid", size, 1) for size in self.grid))
        num_digits = len(self.digits)
        kind = "bits" if self.levels is None else "levels"
        if isinstance(self.split, tuple):
            too_many = len(self.split) > num_digits
            if too_many or sum(whole_number("each entry of split", size, 1) for size in self.split) != num_digits:
                raise ValueError(
                    f"split must have a sum of {num_digits}, the {kind} of a code, got {reprlib.repr(self.split)}"
                )
        elif whole_number("split", self.split, 1) > num_digits:
            raise ValueError(f"split must be at most {num_digits}, the {kind} of a code, got {self.split}")
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
    def digits(self) -> tuple[int, ...]:
        """Number of values of each digit of a code, the highest first: bits, or the levels in reverse order."""
        return (2,) * (self.codebook_size.bit_length() - 1) if self.levels is None else self.levels[::-1]

    @property
    def group_digits(self) -> tuple[tuple[int, ...], ...]:
        """Digits of each sub-code, the highest first. 17 bits in two sub-codes are 9 + 8."""
        digits = self.digits
        if isinstance(self.split, tuple):
            numbers = list(self.split)
        else:
            number, longer = divmod(len(digits), self.split)
            numbers = [number + (group < longer) for group in range(self.split)]
        ends = list(itertools.accumulate(numbers))
        return tuple(digits[end - number : end] for number, end in zip(numbers, ends, strict=True))

    @property
    def vocab_sizes(self) -> tuple[int, ...]:
        """Number of classes of each sub-code's softmax."""
        return tuple(math.prod(digits) for digits in self.group_digits)

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
            sum((math.prod(digits) + len(digits)) * width + math.prod(digits) for digits in self.group_digits)
            + (len(self.group_digits) - 1) * self.sequential * (2 * (width + 1) * width + width)
            + vectors * width
            + (NUM_POSITION_FEATURES + 1) * width
            + self.depth * layer
            + width  # the last norm
            + (0 if context is None else 3 * context + (context + 1) * width)
            + (width + 1) * self.critic
        )
