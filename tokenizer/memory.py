"""Will a training step fit? An estimate of a step's activations beside the memory of the device."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from .config import TokenizerArchitecture
from .context import Context
from .encoder_decoder import Decoder, Encoder

SHARE_OF_MEMORY = 0.5  # the rest is for weights, gradients, optimizer, the convolutions' work space and others


def activations_fit(config: TokenizerArchitecture, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a training step's activations take no more than half of the memory of `device`."""
    return activation_bytes(config, tuple(shape), dtype) <= SHARE_OF_MEMORY * device_memory(device)


@lru_cache(maxsize=64)
def activation_bytes(config: TokenizerArchitecture, shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Bytes that the backward pass keeps for a batch of aligned videos of `shape`, to some 20 %.

    It is what the elementary layers put out, counted by a run on the meta device, where nothing is computed.
    """
    total = 0

    def count(_: nn.Module, __: Any, output: Tensor) -> None:
        nonlocal total
        total += output.numel() * output.element_size()

    with torch.device("meta"), torch.no_grad():
        encoder, decoder = Encoder(config).to(dtype), Decoder(config).to(dtype)
        for module in (*encoder.modules(), *decoder.modules()):
            if next(module.children(), None) is None:
                module.register_forward_hook(count)
        condition = None if config.dim_cond is None else torch.empty(shape[0], config.dim_cond, dtype=dtype)
        context = Context(condition=condition)
        decoder(encoder(torch.empty(shape, dtype=dtype), context), context)
    return total


def device_memory(device: torch.device) -> int:
    """Total memory in bytes of `device`; of the machine (or its container) where the device has none of its own."""
    if device.type not in ("cpu", "meta"):
        module = torch.get_device_module(device)
        if hasattr(module, "mem_get_info"):
            return module.mem_get_info(device)[1]
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    total = psutil.virtual_memory().total
    return min(total, int(allowed)) if allowed.isdigit() else total
