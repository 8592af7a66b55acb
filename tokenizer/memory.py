"""Estimate of the memory of a training step's activations, to decide on gradient checkpointing."""

from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ..cgroups import memory_limit
from .config import TokenizerArchitecture
from .context import Context
from .encoder_decoder import Decoder, Encoder

SHARE_OF_MEMORY = 0.5  # for activations; the rest is for weights, gradients, the optimizer and workspaces


def activations_fit(config: TokenizerArchitecture, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether the activations of a training step fit into half of the memory of `device`."""
    kind = device.type
    is_autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    autocast = (kind, torch.get_autocast_dtype(kind)) if is_autocast else None
    return activation_bytes(config, tuple(shape), dtype, autocast) <= SHARE_OF_MEMORY * device_memory(device)


@lru_cache(maxsize=64)
def activation_bytes(
    config: TokenizerArchitecture,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    autocast: tuple[str, torch.dtype] | None = None,
) -> int:
    """Return the bytes that are saved for the backward pass for aligned videos of `shape`, accurate to about 20 %.

    This is the size of the outputs of all elementary layers, found by a forward pass without values.

    Args:
        dtype: of the weights.
        autocast: kind of device and type of autocast, if it is enabled. Which layers it applies to depends on the
            device: norms are computed in float32 on a GPU.
    """
    total = 0

    def count(_: nn.Module, __: Any, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * output.element_size()

    # Autocast ignores the meta device, but not tensors without values on another device.
    kind, reduced = autocast or ("meta", dtype)
    with_autocast = torch.autocast(kind, reduced) if autocast else nullcontext()
    with FakeTensorMode() if autocast else nullcontext(), torch.device(kind), with_autocast, torch.no_grad():
        encoder, decoder = Encoder(config), Decoder(config)
        if autocast is None:  # which converts weights itself
            encoder, decoder = encoder.to(dtype), decoder.to(dtype)
        for module in (*encoder.modules(), *decoder.modules()):
            if next(module.children(), None) is None:
                module.register_forward_hook(count)
        condition = None if config.dim_cond is None else torch.empty(shape[0], config.dim_cond, dtype=dtype)
        context = Context(condition=condition)
        decoder(encoder(torch.empty(shape, dtype=dtype), context), context)
    return total


@lru_cache
def device_memory(device: torch.device) -> int:
    """Return the total memory of `device` in bytes: for a CPU, that of the machine or of its container."""
    if device.type not in ("cpu", "meta"):
        module = torch.get_device_module(device)
        if hasattr(module, "mem_get_info"):
            return module.mem_get_info(device)[1]
    limit, total = memory_limit(), psutil.virtual_memory().total
    return total if limit is None else min(total, limit)
