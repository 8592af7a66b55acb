"""Decoding options of `generate`."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from ...choices import chosen, whole_number
from ...maskgit import MaskGit
from ...maskgit.guidance import GUIDANCE_SCHEDULES
from ...maskgit.masking import SCHEDULES, MaskSchedule
from ...maskgit.orders import ConfidenceOrder, CriticOrder, HaltonOrder, Order, RandomOrder
from .prediction import Conditions

CHOICE_TEMPERATURES = {"confidence": 8.0, "critic": 1.0}  # defaults; the logits of a critic have a smaller range


@dataclass(frozen=True, kw_only=True)
class DecodingSettings:
    """Decoding options. They are described in `VideoGenerationPipeline.generate`."""

    num_steps: int
    guidance_scale: float
    guidance_schedule: str
    temperature: float
    top_k: int | None
    top_p: float | None
    order: str
    choice_temperature: float | None
    schedule: str

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: if a number is out of range, or a name is unknown.
        """
        chosen(GUIDANCE_SCHEDULES, self.guidance_schedule, "guidance_schedule")
        chosen(SCHEDULES, self.schedule, "schedule")
        chosen(ORDERS, self.order, "order")
        whole_number("num_steps", self.num_steps, 1)
        for name in ("guidance_scale", "choice_temperature"):
            value = getattr(self, name)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be finite and at least 0, got {value}")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature must be positive and finite, got {self.temperature}")
        if self.top_k is not None:
            whole_number("top_k", self.top_k, 1)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")

    def guidance_at(self, progress: float) -> float:
        """Return the guidance scale of a pass."""
        return GUIDANCE_SCHEDULES[self.guidance_schedule](self.guidance_scale, progress)

    @property
    def mask_schedule(self) -> MaskSchedule:
        """The mask schedule named by `schedule`."""
        return SCHEDULES[self.schedule]

    def make_order(self, maskgit: MaskGit, conditions: Conditions) -> Order:
        """Return the order named by `order`, for a transformer and its conditions."""
        default = CHOICE_TEMPERATURES.get(self.order, 0.0)
        choice_temperature = default if self.choice_temperature is None else self.choice_temperature
        return ORDERS[self.order](choice_temperature, maskgit, conditions)


def critic_order(choice_temperature: float, maskgit: MaskGit, conditions: Conditions) -> CriticOrder:
    """Return the order by the critic of the transformer, under the same conditions."""
    labels, tasks, context, padding = conditions

    def criticize(codes: Int[Tensor, "b t h w"]) -> Float[Tensor, "b n"]:
        return maskgit.criticize(codes, labels, tasks=tasks, context=context, context_padding=padding)

    return CriticOrder(criticize, choice_temperature)


ORDERS: dict[str, Callable[[float, MaskGit, Conditions], Order]] = {
    "confidence": lambda choice_temperature, *_: ConfidenceOrder(choice_temperature),
    "random": lambda *_: RandomOrder(),
    "halton": lambda *_: HaltonOrder(),
    "critic": critic_order,
}
