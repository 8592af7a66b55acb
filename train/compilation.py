"""Compilation of the objectives with `torch.compile` (`--compile`)."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

# Each shape of clips and each discriminator has a graph of its own. Above its default of 8, PyTorch stops compiling.
MOST_GRAPHS = 64


@contextmanager
def compilation(device: torch.device) -> Iterator[None]:
    """Allow as many graphs as training needs.

    Raises:
        ValueError: if there is no working compiler for the device.
    """
    check_compiler(device)
    with torch._dynamo.config.patch(recompile_limit=MOST_GRAPHS), warnings.catch_warnings():
        # Only the rotations of a grid, computed once in each pass, are complex numbers there.
        warnings.filterwarnings("ignore", "Torchinductor does not support code generation for complex operators")
        yield


def check_compiler(device: torch.device) -> None:
    """
    Raises:
        ValueError: if there is no working compiler for the device.
    """
    try:
        torch.compile(lambda values: values + 1)(torch.zeros(1, device=device))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"compile needs a working compiler for {device.type} (for a CPU a C++ compiler, for a GPU Triton and a C "
            f"compiler), but: {reason}"
        ) from error


def compile_objective(objective: nn.Module) -> None:
    """Compile an objective in place, with a graph for each shape of clips. The names of its weights do not change."""
    objective.compile(dynamic=False)
