import pytest
import torch

from magvit2_pytorch.maskgit.factorization import split_codes
from magvit2_pytorch.maskgit.losses import (
    MaskGitLossWeights,
    are_right,
    criticisms,
    cross_entropies,
    masked_means,
    weighted_sum,
)


def test_a_codes_cross_entropy_is_its_surprise() -> None:
    logits = (torch.randn(2, 5, 8), torch.randn(2, 5, 4))
    codes = torch.randint(32, (2, 5))

    surprise = cross_entropies(logits, split_codes(codes, (8, 4)))

    probabilities = torch.einsum("bnv,bnw->bnvw", logits[0].softmax(-1), logits[1].softmax(-1)).flatten(2)
    torch.testing.assert_close(surprise, -probabilities.gather(-1, codes[..., None])[..., 0].log())


def test_label_smoothing_spreads_a_share_of_the_target_over_the_vocabulary() -> None:
    logits, targets = (torch.randn(1, 3, 8),), torch.randint(8, (1, 3, 1))

    losses = cross_entropies(logits, targets, 0.2)

    log_probs = logits[0].log_softmax(-1)
    torch.testing.assert_close(losses, -(0.8 * log_probs.gather(-1, targets)[..., 0] + 0.2 * log_probs.mean(-1)))


def test_a_code_is_right_when_all_its_sub_codes_are() -> None:
    targets = torch.tensor([[[0, 0], [0, 0], [0, 0]]])
    first = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
    second = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])

    assert are_right((first, second), targets).tolist() == [[True, False, False]]


def test_an_undecided_critic_pays_a_bit_and_a_right_one_little() -> None:
    is_real = torch.tensor([[True, False]])

    torch.testing.assert_close(criticisms(torch.zeros(1, 2), is_real=is_real), torch.full((1, 2), 2.0).log())
    assert (criticisms(torch.tensor([[9.0, -9.0]]), is_real=is_real) < 1e-3).all()
    assert (criticisms(torch.tensor([[-9.0, 9.0]]), is_real=is_real) > 8).all()


def test_each_loss_is_the_mean_over_its_own_places() -> None:
    values = torch.randn(3, 7)
    places = {"a": torch.rand(3, 7) < 0.5, "b": torch.rand(3, 7) < 0.3}
    others = torch.where(places["a"], values, torch.inf)

    means = masked_means({"a": values, "b": -values}, places)

    torch.testing.assert_close(means["a"], values[places["a"]].mean())
    torch.testing.assert_close(means["b"], -values[places["b"]].mean())
    assert torch.equal(masked_means({"a": others}, places)["a"], means["a"])


def test_without_a_place_a_loss_is_zero_and_its_gradient_too() -> None:
    values = torch.randn(2, 3, requires_grad=True)

    loss = masked_means({"a": values}, {"a": torch.zeros(2, 3, dtype=torch.bool)})["a"]
    loss.backward()

    assert loss == 0
    assert values.grad is not None
    assert (values.grad == 0).all()


def test_the_sum_weighs_every_loss_by_its_name_and_no_measure() -> None:
    weights = MaskGitLossWeights(masked_code=2.0, refined_code=3.0, reconstructed_code=5.0, critic=7.0)
    losses = {name: torch.rand(()) for name in ("critic", "reconstructed_code", "masked_code", "refined_code")}
    expected = (
        7 * losses["critic"] + 5 * losses["reconstructed_code"] + 2 * losses["masked_code"] + 3 * losses["refined_code"]
    )

    torch.testing.assert_close(weighted_sum(losses | {"accuracy": torch.tensor(99.0)}, weights), expected)
    without = {name: loss for name, loss in losses.items() if name != "critic"}
    torch.testing.assert_close(weighted_sum(without, weights), expected - 7 * losses["critic"])


def test_losses_that_do_not_match_the_weights_are_refused() -> None:
    losses = dict.fromkeys(("masked_code", "refined_code", "reconstructed_code"), torch.zeros(()))

    for name in losses:
        with pytest.raises(ValueError, match="losses and weights must have the same names"):
            weighted_sum({other: loss for other, loss in losses.items() if other != name}, MaskGitLossWeights())
    with pytest.raises(ValueError, match="losses and weights must have the same names"):
        weighted_sum(losses | {"other": torch.zeros(())}, MaskGitLossWeights())
