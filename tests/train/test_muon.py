import copy

import pytest
import torch
from torch import nn

from magvit2_pytorch.train.muon import Muon, orthogonalized
from magvit2_pytorch.train.optimization import OptimizerConfig, make_optimizers


@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 40, 16), (1, 24, 24)])
def test_the_update_has_the_singular_vectors_of_the_gradient_and_values_near_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape)
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)

    in_their_basis = u.mT @ orthogonalized(matrices) @ vt.mT

    values = in_their_basis.diagonal(dim1=1, dim2=2)
    assert 0.6 < values.min() <= values.max() < 1.25
    assert (in_their_basis - torch.diag_embed(values)).abs().max() < 0.05


def test_a_matrix_of_zeros_gives_no_update() -> None:
    assert torch.equal(orthogonalized(torch.zeros(1, 16, 16)), torch.zeros(1, 16, 16))


def a_kernel(seed: int = 0) -> nn.Parameter:
    return nn.Parameter(torch.randn(16, 16, 1, 3, 3, generator=torch.Generator().manual_seed(seed)))


def test_a_kernel_is_a_matrix_with_one_row_for_each_output_channel() -> None:
    """Whatever other kernels are orthogonalized with it."""
    kernel, other = a_kernel(0), a_kernel(1)
    flat = nn.Parameter(kernel.detach().flatten(1).clone())
    optimizers = Muon([kernel, other], lr=0.1, weight_decay=0.3), Muon([flat], lr=0.1, weight_decay=0.3)

    for step in range(3):
        gradient = a_kernel(2 + step).detach()
        kernel.grad, other.grad, flat.grad = gradient, -2 * gradient, gradient.flatten(1)
        for optimizer in optimizers:
            optimizer.step()

    torch.testing.assert_close(kernel.flatten(1), flat, rtol=1e-4, atol=1e-5)


def test_updates_have_the_size_of_those_of_adamw_whatever_the_gradient() -> None:
    for factor in (1e-3, 1.0, 1e3):
        kernel = nn.Parameter(torch.zeros(16, 144))
        optimizer = Muon([kernel], lr=0.01)
        kernel.grad = factor * torch.randn(16, 144)
        optimizer.step()
        assert kernel.detach().square().mean().sqrt() == pytest.approx(0.2 * 0.01, rel=0.25)


def test_the_momentum_is_nesterovs() -> None:
    kernel = nn.Parameter(torch.zeros(16, 16))
    optimizer = Muon([kernel], lr=1.0, momentum=0.9)
    first, second = torch.randn(2, 16, 16)
    before = kernel.detach()
    for gradient in (first, second):
        before = kernel.detach().clone()
        kernel.grad = gradient.clone()
        optimizer.step()

    average = 0.9 * (0.1 * first) + 0.1 * second
    expected = orthogonalized((0.1 * second + 0.9 * average)[None])[0]
    torch.testing.assert_close(before - kernel.detach(), 0.8 * expected, rtol=1e-2, atol=1e-2)


def test_weights_decay_by_the_learning_rate_times_the_weight_decay() -> None:
    kernel = nn.Parameter(torch.ones(16, 16))
    kernel.grad = torch.zeros(16, 16)
    Muon([kernel], lr=0.1, weight_decay=0.5).step()

    torch.testing.assert_close(kernel.detach(), torch.full((16, 16), 0.95))


def test_every_parameter_has_one_optimizer_and_only_large_matrices_have_muon() -> None:
    embedding, small, frozen = (
        nn.Embedding(20, 16),
        nn.Linear(16, 4),
        nn.Linear(16, 16, bias=False).requires_grad_(False),
    )
    large = nn.Linear(16, 32)
    model = nn.Sequential(embedding, large, small, frozen, nn.LayerNorm(16))

    of_adamw, of_muon = (
        [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for optimizer in make_optimizers(model, OptimizerConfig(matrices="muon"))
    )

    assert [id(parameter) for parameter in of_muon] == [id(large.weight)]
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert {id(parameter) for parameter in of_adamw} == trained - {id(large.weight)}
    (alone,) = make_optimizers(model, OptimizerConfig())
    assert sum(len(group["params"]) for group in alone.param_groups) == len(trained)


def test_the_state_can_be_saved_and_loaded() -> None:
    kernel = a_kernel()
    straight = Muon([kernel], lr=0.1)
    kernel.grad = a_kernel(1).detach()
    straight.step()
    resumed_kernel = nn.Parameter(kernel.detach().clone())
    resumed = Muon([resumed_kernel], lr=0.1)
    resumed.load_state_dict(copy.deepcopy(straight.state_dict()))

    for parameter, optimizer in ((kernel, straight), (resumed_kernel, resumed)):
        parameter.grad = a_kernel(2).detach()
        optimizer.step()

    assert torch.equal(kernel, resumed_kernel)


@pytest.mark.usefixtures("as_users_call")
def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="matrices must be adamw or muon, got 'sgd'"):
        OptimizerConfig(matrices="sgd")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="matrices must be adamw with fp16, got muon"):
        make_optimizers(nn.Linear(16, 16), OptimizerConfig(matrices="muon"), mixed_precision="fp16")
    with pytest.raises(ValueError, match="takes no closure"):
        Muon([a_kernel()], lr=0.1).step(lambda: None)


def test_weights_of_equal_shape_are_updated_together_as_one_by_one() -> None:
    together, alone = ([nn.Parameter(a_kernel(seed).detach().clone()) for seed in range(3)] for _ in range(2))
    optimizers = [Muon(together, lr=0.1, weight_decay=0.3), *(Muon([one], lr=0.1, weight_decay=0.3) for one in alone)]

    for step in range(3):
        for index, kernels in enumerate(zip(together, alone, strict=True)):
            for kernel in kernels:
                kernel.grad = a_kernel(10 * step + index).detach()
        for optimizer in optimizers:
            optimizer.step()

    torch.testing.assert_close(list(together), list(alone))
