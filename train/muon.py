"""Muon: an optimizer whose updates are orthogonal matrices (Jordan et al. 2024, kellerjordan.github.io/posts/muon)."""

# pyright: reportPrivateImportUsage=false
# The operations on lists of tensors have names with an underscore, but torch.optim uses them, too.

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the polynomial, chosen by Jordan et al. for fast convergence
ITERATIONS = 5
EPSILON = 1e-7
RMS_OF_ADAMW = 0.2
LEAST_SIDE = 16


def is_hidden_matrix(module: nn.Module, parameter: nn.Parameter) -> bool:
    """Return whether Muon should train a parameter of a module: the weight of a linear layer or convolution with at
    least 16 rows and columns. Smaller ones are inputs and outputs of a model, such as its latents."""
    is_weight = isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d) and parameter is module.weight
    return is_weight and min(parameter.shape[0], parameter[0].numel()) >= LEAST_SIDE


class Muon(torch.optim.Optimizer):
    """Muon for matrices and convolution kernels.

    A kernel is a matrix with one row per output channel. The update has all singular values near 1, so that rare
    directions are learned as fast as frequent ones. It is scaled by 0.2 sqrt(max(rows, columns)), to the size of an
    update of AdamW, so the same learning rate fits both (Liu et al. 2025, "Muon is Scalable for LLM Training", eq. 4).
    `torch.optim.Muon` takes matrices only.
    """

    def __init__(
        self, parameters: Iterable[Tensor], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update all parameters with a gradient.

        Raises:
            ValueError: if a closure is given.
        """
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            # Equal shapes are orthogonalized together, which is faster than one by one.
            of_shape = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    of_shape[parameter.shape].append(parameter)
            for parameters in of_shape.values():
                directions = torch.stack([one.flatten(1) for one in self._directions(parameters, group["momentum"])])
                scale = RMS_OF_ADAMW * max(directions.shape[1:]) ** 0.5
                updates = [one.view_as(p) for one, p in zip(orthogonalized(directions), parameters, strict=True)]
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, updates, alpha=-group["lr"] * scale)

    def _directions(self, parameters: list[Tensor], momentum: float) -> Sequence[Tensor]:
        """Return the gradients with Nesterov momentum."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                zeros = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
                self.state[parameter]["momentum"] = zeros
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        return torch._foreach_lerp(gradients, momenta, momentum)


def orthogonalized(matrices: Float[Tensor, "n r c"]) -> Float[Tensor, "n r c"]:
    """Return U V^T of the singular value decomposition U S V^T of each matrix, approximately, by a Newton-Schulz
    iteration: singular values are between 0.6 and 1.2, unless they are tiny compared with the largest.

    A step multiplies X by a polynomial of X X^T. The polynomials are multiplied first, and X is multiplied once at the
    end, which takes a third of the time if there are many more columns than rows. This needs the precision of float32.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if is_tall else matrices).float()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + EPSILON)
    a, b, c = COEFFICIENTS
    gram = x @ x.mT
    constant = a * torch.eye(x.shape[1], device=x.device)
    product = polynomial = constant + torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    for _ in range(ITERATIONS - 1):
        gram = polynomial @ gram @ polynomial
        polynomial = constant + torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        product = polynomial @ product
    x = product @ x
    return (x.mT if is_tall else x).to(matrices.dtype)
