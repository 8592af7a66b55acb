"""Base class of pipelines and text encoders: device and floating point type of their models."""

from collections.abc import Iterable
from typing import Self

import torch
from torch import nn


class Movable:
    """Base class of objects with models on one device."""

    def models(self) -> Iterable[nn.Module]:
        """Return the models that `to` moves. `device` is the device of the last one."""
        raise NotImplementedError

    def to(
        self, device: torch.device | str | int | torch.dtype | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Move to a device, cast to a floating point type, or both, in place: `to("cuda")`, `to(torch.bfloat16)`."""
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        for model in self.models():
            model.to(device=device, dtype=dtype)
        return self

    @property
    def device(self) -> torch.device:
        """Device of the models."""
        *_, last = self.models()
        return next(last.parameters()).device
