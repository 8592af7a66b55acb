"""Optimizer, learning rate schedule, and exponential moving average of the weights."""

# pyright: reportPrivateImportUsage=false
# The operations on lists of tensors have names with an underscore, but torch.optim uses them, too.

import copy
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar, get_args

import torch
from torch import nn

from .muon import Muon, is_hidden_matrix

Model = TypeVar("Model", bound=nn.Module)
Schedule = Literal["cosine", "wsd", "constant"]
SCHEDULES = get_args(Schedule)


@dataclass(frozen=True, kw_only=True)
class AdamWConfig:
    """AdamW and the schedule of its learning rate."""

    learning_rate: float = 1e-4
    """Peak learning rate, after the warm-up."""
    schedule: Schedule = "cosine"
    """Learning rate after the linear warm-up. cosine: falls to 0 like a cosine. wsd (warm-up, stable, decay): constant,
    then falls linearly to 0. constant. With wsd and constant, a run can be continued with a larger --num-steps."""
    decay_share: float = 0.2
    """wsd: share of the steps in which the learning rate falls."""
    warmup_steps: int = 1000
    """Steps of linear warm-up."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay rates of AdamW's averages of the gradient and of its square."""
    weight_decay: float = 0.01
    """Weight decay of matrices and convolution kernels. Norms and biases have none."""
    max_grad_norm: float = 1.0
    """Maximum norm of the gradients; larger gradients are scaled down to it."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.max_grad_norm <= 0:
            raise ValueError(
                f"learning_rate and max_grad_norm must be positive, got {self.learning_rate}, {self.max_grad_norm}"
            )
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")
        if not 0 < self.decay_share <= 1:
            raise ValueError(f"decay_share must be in (0, 1], got {self.decay_share}")
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must not be negative, got {self.warmup_steps}")

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        """Return the learning rate at a step: linear warm-up, multiplied by the schedule, which is 0 at `num_steps`
        unless it is constant."""
        factor = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.schedule == "cosine":
            factor *= 0.5 * (1 + math.cos(math.pi * step / num_steps))
        elif self.schedule == "wsd":
            factor *= min(1.0, (num_steps - step) / (self.decay_share * num_steps))
        return self.learning_rate * factor


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(AdamWConfig):
    """AdamW or Muon, the schedule of the learning rate, and the exponential moving average of the weights."""

    matrices: Literal["adamw", "muon"] = "adamw"
    """Optimizer of the weights of linear layers and convolutions. AdamW trains everything else."""
    ema_decay: float = 0.999
    """Decay of the exponential moving average of the weights. The averaged weights are evaluated and exported."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.matrices not in ("adamw", "muon"):
            raise ValueError(f"matrices must be adamw or muon, got {self.matrices!r}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")


def make_optimizers(
    model: nn.Module, config: OptimizerConfig, *, mixed_precision: str = "no"
) -> list[torch.optim.Optimizer]:
    """Return the optimizers of all parameters of `model` that require gradients: AdamW, and Muon if it is chosen.

    Raises:
        ValueError: if Muon is chosen with fp16, since accelerate's gradient scaler would unscale the gradients once for
            each optimizer.
    """
    if config.matrices == "adamw":
        return [adamw(model, config)]
    if mixed_precision == "fp16":
        raise ValueError("optimizer.matrices must be adamw with fp16, got muon; bf16 works with both")
    matrices = {
        parameter: None
        for module in model.modules()
        for parameter in module.parameters(recurse=False)
        if parameter.requires_grad and is_hidden_matrix(module, parameter)
    }
    muon = Muon(matrices, lr=config.learning_rate, weight_decay=config.weight_decay)
    return [adamw(model, config, without=matrices), muon]


def adamw(model: nn.Module, config: AdamWConfig, *, without: Collection[nn.Parameter] = ()) -> torch.optim.AdamW:
    """Return AdamW for all parameters of `model` that require gradients."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad and parameter not in without]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def update(optimizers: Iterable[torch.optim.Optimizer], *, skip: bool = False) -> None:
    """Take a step with each optimizer, unless it is skipped, and clear the gradients."""
    for optimizer in optimizers:
        if not skip:
            optimizer.step()
        optimizer.zero_grad()


class ExponentialMovingAverage(Generic[Model]):
    """A copy of a model with the exponential moving average of its weights.

    Every process keeps one. They are equal, since all processes train the same weights.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: Model, step: int) -> None:
        """Update the average with the weights after optimizer step `step`, counted from 0. The decay is smaller in the
        first steps, so that the initial weights are soon forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
