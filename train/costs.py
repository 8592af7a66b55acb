"""Memory and floating point operations of a computation, counted by running it on the meta device, without numbers."""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

# What autocast on GPUs computes in half precision and in float32 (https://docs.pytorch.org/docs/stable/amp.html), of
# the functions that the models call. `einsum` and `square` are not in the lists; they call operations that are.
IN_HALF_PRECISION = {
    *(F.linear, F.conv2d, F.conv3d, F.conv_transpose2d, F.conv_transpose3d, F.scaled_dot_product_attention),
    *(torch.matmul, torch.bmm, torch.baddbmm, torch.addmm, torch.mm, torch.einsum),
    *(Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__, Tensor.bmm, Tensor.mm),
}
IN_FLOAT32 = {
    *(F.layer_norm, F.group_norm, F.softplus, F.softmax, F.log_softmax, F.cross_entropy, F.mse_loss, F.l1_loss),
    *(F.binary_cross_entropy_with_logits, torch.square, torch.pow, torch.rsqrt, torch.exp, torch.log, torch.sum),
    *(Tensor.square, Tensor.pow, Tensor.__pow__, Tensor.rsqrt, Tensor.exp, Tensor.log, Tensor.sum, Tensor.norm),
    *(Tensor.softmax, Tensor.log_softmax, Tensor.prod, Tensor.cumsum),
}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of a computation."""

    flops: int
    """Floating point operations of convolutions, matrix products and attention: two for each multiplication."""
    peak_bytes: int
    """Largest sum of the sizes of the tensors that exist at the same time, without those that existed before."""


def cost_of(compute: Callable[[], object], *, autocast: torch.dtype | None = None) -> Cost:
    """Return what `compute` costs on a GPU.

    Attention is counted as by the fused kernels, which do not store the attention weights. Workspaces of kernels and
    the fragmentation of memory are not counted.

    Args:
        compute: called once. Its tensors are on the meta device.
        autocast: data type of mixed precision. None: everything is computed in the type of its inputs.
    """
    counter = Counter()
    with counter, AsOnGpu(autocast).inside_modules():
        compute()
    return Cost(flops=counter.flops, peak_bytes=counter.peak_bytes)


class Counter(TorchDispatchMode):
    """Counts floating point operations, and the bytes of the tensors that operations allocate until they are freed.

    `FlopCounterMode`, whose formulas are used, fails if gradients are computed inside a module.

    Attributes:
        flops: floating point operations so far.
        live_bytes: bytes that are allocated now.
        peak_bytes: largest value of `live_bytes` so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.live_bytes = self.peak_bytes = 0
        self.sizes: dict[int, int] = {}  # of each storage that is allocated

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        outputs = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func._overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=outputs)
        given = {storage_of(tensor)._cdata for tensor in tensors_in((args, kwargs))}
        for tensor in tensors_in(outputs):
            storage = storage_of(tensor)
            key = storage._cdata
            if key not in given and key not in self.sizes:  # neither a view of an input nor an input changed in place
                self.sizes[key] = storage.nbytes()
                self.live_bytes += storage.nbytes()
                self.peak_bytes = max(self.peak_bytes, self.live_bytes)
                weakref.finalize(storage, self._free, key)
        return outputs

    def _free(self, key: int) -> None:
        self.live_bytes -= self.sizes.pop(key)


class AsOnGpu(TorchFunctionMode):
    """Computes with fused attention and, if it is asked for, casts like autocast on GPUs.

    The meta device has neither.
    """

    def __init__(self, autocast: torch.dtype | None) -> None:
        super().__init__()
        self.autocast = autocast
        self.is_on = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = (tuple(args), dict(kwargs or {}))
        if self.autocast is not None and func in IN_HALF_PRECISION | IN_FLOAT32:
            given = cast_all(given, self.autocast if func in IN_HALF_PRECISION else torch.float32)
        if func is F.scaled_dot_product_attention:
            func = fused_attention
        self.is_on = False
        try:
            return func(*given[0], **given[1])
        finally:
            self.is_on = True

    @contextmanager
    def inside_modules(self) -> Iterator[None]:
        """Use the mode in the forward pass of all modules.

        Gradient checkpointing computes layers again in the backward pass. That is a function which PyTorch calls with
        the mode switched off, so the layers have to switch it on.
        """
        entered: list[nn.Module] = []

        def enter(module: nn.Module, _: Any) -> None:
            if not self.is_on:
                entered.append(module)
                self.__enter__()
                self.is_on = True

        def leave(module: nn.Module, _: Any, __: Any) -> None:
            if entered and entered[-1] is module:
                entered.pop()
                self.is_on = False
                self.__exit__(None, None, None)

        hooks = register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def cast_all(values: Any, dtype: torch.dtype) -> Any:
    """Convert all tensors of float32 or half precision in a nested structure."""
    kinds = (torch.float32, torch.bfloat16, torch.float16)
    return tree_map(
        lambda value: value.to(dtype) if isinstance(value, Tensor) and value.dtype in kinds else value, values
    )


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False
) -> Tensor:
    """`F.scaled_dot_product_attention` by a kernel that does not store the attention weights. Dropout, which such
    kernels compute without memory, is left out."""
    bias = None
    if attn_mask is not None:
        bias = attn_mask if attn_mask.is_floating_point() else torch.zeros_like(attn_mask, dtype=q.dtype)
        bias = bias.expand(*q.shape[:-1], k.shape[-2])
    return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, bias, True, 0.0, is_causal)[0]


def tensors_in(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def storage_of(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()
