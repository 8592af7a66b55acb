import torch

from magvit2_pytorch.tokenizer.rotary import rotate


def test_attention_sees_only_how_far_apart_places_are() -> None:
    queries, keys = torch.randn(2, 1, 1, 32, dtype=torch.float64).expand(2, 1, 12, 32)
    scores = rotate(queries, (3, 4)) @ rotate(keys, (3, 4)).mT

    grid = scores[0].reshape(3, 4, 3, 4)

    torch.testing.assert_close(grid[0, 0, 1, 2], grid[1, 1, 2, 3])  # one row down, two columns right
    assert not torch.isclose(grid[0, 0, 1, 2], grid[0, 0, 2, 1])


def test_turning_keeps_lengths() -> None:
    x = torch.randn(2, 5, 18)

    torch.testing.assert_close(rotate(x, (5,)).norm(dim=-1), x.norm(dim=-1))


def test_channels_that_are_left_over_stay() -> None:
    x = torch.randn(2, 6, 11)

    assert torch.equal(rotate(x, (2, 3))[..., 8:], x[..., 8:])
    assert not torch.equal(rotate(x, (2, 3))[..., 1:, :8], x[..., 1:, :8])


def test_the_gradient_of_turning_is_right_and_has_one_itself() -> None:
    x = torch.randn(2, 6, 11, dtype=torch.float64).transpose(0, 1).requires_grad_()

    def turned(x: torch.Tensor) -> torch.Tensor:
        return rotate(x.transpose(0, 1), (2, 3), start=1)

    assert torch.autograd.gradcheck(turned, x)
    assert torch.autograd.gradgradcheck(turned, x)


def test_turning_can_be_differentiated_as_a_function() -> None:
    x = torch.randn(3, 6, 8)

    gradient = torch.func.grad(lambda x: rotate(x, (2, 3)).square().sum())(x)

    torch.testing.assert_close(gradient, 2 * x)  # turning keeps lengths
