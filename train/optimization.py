"""The optimizer, its learning rate, and the moving average of the weights."""

import copy
import math
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class AdamWConfig:
    """AdamW with warm-up and cosine decay."""

    learning_rate: float = 1e-4
    """At its highest, after the warm-up."""
    warmup_steps: int = 1000
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    """Of matrices and kernels; norms and biases have none."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.max_grad_norm <= 0:
            raise ValueError(
                f"learning_rate and max_grad_norm must be positive, got {self.learning_rate}, {self.max_grad_norm}"
            )
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must not be negative, got {self.warmup_steps}")

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        """Linear warm-up, then half a cosine down to zero at `num_steps`. A function of the step: nothing to resume."""
        warmup = min(1.0, (step + 1) / (self.warmup_steps + 1))
        return self.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * step / num_steps))


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(AdamWConfig):
    """AdamW with warm-up and cosine decay, and the moving average of the weights."""

    ema_decay: float = 0.999
    """Of the moving average of the weights, which is what is evaluated and exported."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")


def adamw(model: nn.Module, config: AdamWConfig) -> torch.optim.AdamW:
    """The optimizer of all parameters of `model` that are trained."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


class ExponentialMovingAverage(Generic[Model]):
    """A copy of a model whose weights follow the trained ones slowly.

    It is kept on every process: all hold the same weights, so all averages are the same.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: Model, step: int) -> None:
        """Take in the weights after optimizer step `step`, from 0. Early ones weigh more, or the start would linger."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, trained in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(trained, 1 - decay)
