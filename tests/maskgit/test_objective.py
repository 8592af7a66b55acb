import math
from typing import Any

import pytest
import torch
from torch import Tensor

from magvit2_pytorch.maskgit import MaskGit, MaskGitConfig, MaskGitObjective, iterative_decode
from magvit2_pytorch.maskgit.factorization import split_codes
from magvit2_pytorch.maskgit.objective import masked_accuracy, masked_cross_entropy


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Watched:
    """An objective that remembers what its model was shown."""

    def __init__(self, maskgit: MaskGit, **settings: Any) -> None:
        self.objective = MaskGitObjective(maskgit, **settings).train()
        self.codes: list[Tensor] = []
        self.labels: list[Tensor] = []
        maskgit.register_forward_pre_hook(self.remember)

    def remember(self, _: torch.nn.Module, arguments: tuple[Tensor, Tensor]) -> None:
        self.codes.append(arguments[0])
        self.labels.append(arguments[1])


def test_the_model_is_not_shown_what_it_has_to_predict(maskgit: MaskGit, config: MaskGitConfig) -> None:
    watched = Watched(maskgit)
    codes, labels = torch.randint(config.codebook_size, (8, *config.grid)), torch.zeros(8, dtype=torch.long)

    watched.objective(codes, labels, generator())
    is_hidden = watched.codes[0] == config.mask_id
    watched.objective(torch.where(is_hidden, codes ^ 1, codes), labels, generator())

    assert is_hidden.flatten(1).any(dim=1).all()
    assert not is_hidden.all()
    assert torch.equal(watched.codes[0], watched.codes[1])
    assert torch.equal(watched.codes[0][~is_hidden], codes[~is_hidden])


def test_the_loss_is_the_mean_surprise_at_hidden_codes() -> None:
    logits = (torch.randn(2, 5, 8), torch.randn(2, 5, 4))
    codes = torch.randint(32, (2, 5))
    is_masked = torch.tensor([[True, False, True, False, False], [False, True, True, True, False]])

    loss = masked_cross_entropy(logits, split_codes(codes, (3, 2)), is_masked)

    probabilities = torch.einsum("bnv,bnw->bnvw", logits[0].softmax(-1), logits[1].softmax(-1)).flatten(2)
    expected = -probabilities.gather(-1, codes[..., None])[..., 0].log()[is_masked].mean()
    torch.testing.assert_close(loss, expected)


def test_visible_places_do_not_count() -> None:
    logits, targets = (torch.randn(2, 6, 8), torch.randn(2, 6, 4)), split_codes(torch.randint(32, (2, 6)), (3, 2))
    is_masked = torch.rand(2, 6) < 0.5
    is_visible = ~is_masked[..., None]
    others = tuple(torch.where(is_visible, torch.randn_like(group) * 9, group) for group in logits)
    other_targets = torch.where(is_visible, 0, targets)

    assert torch.equal(
        masked_cross_entropy(logits, targets, is_masked, 0.1),
        masked_cross_entropy(others, other_targets, is_masked, 0.1),
    )
    assert torch.equal(masked_accuracy(logits, targets, is_masked), masked_accuracy(others, other_targets, is_masked))


def test_label_smoothing_spreads_a_share_of_the_target_over_the_vocabulary() -> None:
    logits, targets = (torch.randn(1, 3, 8),), torch.randint(8, (1, 3, 1))
    is_masked = torch.ones(1, 3, dtype=torch.bool)

    loss = masked_cross_entropy(logits, targets, is_masked, 0.2)

    log_probs = logits[0].log_softmax(-1)
    expected = -(0.8 * log_probs.gather(-1, targets)[..., 0] + 0.2 * log_probs.mean(-1)).mean()
    torch.testing.assert_close(loss, expected)


def test_a_code_is_right_when_all_its_sub_codes_are() -> None:
    targets = torch.tensor([[[0, 0], [0, 0], [0, 0], [0, 0]]])
    first = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    second = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]])
    is_masked = torch.tensor([[True, True, True, False]])

    torch.testing.assert_close(masked_accuracy((first, second), targets, is_masked), torch.tensor(1 / 3))


def test_an_undecided_model_is_surprised_by_every_bit(config: MaskGitConfig) -> None:
    objective = MaskGitObjective(MaskGit(config))
    for parameter in objective.parameters():
        torch.nn.init.zeros_(parameter)

    losses = objective(torch.zeros(2, *config.grid, dtype=torch.long), torch.tensor([0, 1]), generator())

    torch.testing.assert_close(losses["masked_code"], torch.tensor(config.code_bits * math.log(2)))


def test_a_step_is_a_function_of_its_generator(maskgit: MaskGit, config: MaskGitConfig) -> None:
    objective = MaskGitObjective(maskgit, label_dropout=0.5).train()
    codes, labels = torch.randint(config.codebook_size, (4, *config.grid)), torch.tensor([0, 1, 2, 0])

    torch.manual_seed(1)
    losses = objective(codes, labels, generator(3))
    torch.manual_seed(2)
    again = objective(codes, labels, generator(3))

    assert all(torch.equal(losses[name], again[name]) for name in ("masked_code", "accuracy"))
    assert not torch.equal(losses["masked_code"], objective(codes, labels, generator(4))["masked_code"])


def test_labels_are_dropped_as_often_as_asked_for_and_only_in_training(maskgit: MaskGit, config: MaskGitConfig) -> None:
    watched = Watched(maskgit, label_dropout=0.1)
    codes, labels = torch.zeros(4000, 1, 1, 1, dtype=torch.long), torch.arange(4000) % config.num_labels

    watched.objective(codes, labels, generator())
    is_dropped = watched.labels[0] == config.null_label

    assert abs(is_dropped.float().mean() - 0.1) < 4 * math.sqrt(0.1 * 0.9 / 4000)
    assert torch.equal(watched.labels[0][~is_dropped], labels[~is_dropped])

    watched.objective.eval()(codes, labels, generator())
    assert torch.equal(watched.labels[1], labels)


def test_dropped_labels_train_the_null_label_alone(maskgit: MaskGit, config: MaskGitConfig) -> None:
    objective = MaskGitObjective(maskgit, label_dropout=1.0).train()
    codes = torch.randint(config.codebook_size, (3, *config.grid))

    objective(codes, torch.tensor([0, 1, 2]), generator())["masked_code"].backward()

    assert maskgit.label.weight.grad is not None
    assert maskgit.label.weight.grad[config.null_label].abs().sum() > 0
    assert maskgit.label.weight.grad[: config.null_label].abs().sum() == 0


def test_every_weight_takes_part_in_every_step(maskgit: MaskGit, config: MaskGitConfig) -> None:
    objective = MaskGitObjective(maskgit).train()

    objective(torch.randint(config.codebook_size, (2, *config.grid)), torch.tensor([0, 1]), generator())[
        "masked_code"
    ].backward()

    assert [name for name, weight in objective.named_parameters() if weight.grad is None] == []


def test_four_grids_are_learned_by_heart() -> None:
    config = MaskGitConfig(codebook_size=2**9, grid=(2, 3, 3), num_labels=4, width=64, depth=2, num_heads=2)
    maskgit = MaskGit(config)
    objective = MaskGitObjective(maskgit, label_dropout=0.0)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    grids, labels = torch.randint(config.codebook_size, (4, *config.grid)), torch.arange(4)

    for step in range(150):
        losses = objective(grids.repeat(2, 1, 1, 1), labels.repeat(2), generator(step))
        optimizer.zero_grad()
        losses["masked_code"].backward()
        optimizer.step()
    maskgit.eval()

    decoded = iterative_decode(
        lambda codes, progress: maskgit(codes, labels),
        torch.full_like(grids, config.mask_id),
        mask_id=config.mask_id,
        group_bits=config.group_bits,
        num_steps=4,
        temperature=0.1,
        generators=generator(),
    )
    assert torch.equal(decoded, grids)


def test_what_cannot_be_trained_on_is_refused(maskgit: MaskGit, config: MaskGitConfig) -> None:
    objective = MaskGitObjective(maskgit).train()
    codes, labels = torch.randint(config.codebook_size, (2, *config.grid)), torch.tensor([0, 1])

    with pytest.raises(ValueError, match=r"codes must be in \[0, 127\], got values from 128 to 128"):
        objective(torch.full_like(codes, config.mask_id), labels)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 3\], got values from 1 to 4"):
        objective(codes, torch.tensor([1, 4]))


@pytest.mark.usefixtures("as_users_call")
def test_codes_that_are_no_integers_are_refused(maskgit: MaskGit, config: MaskGitConfig) -> None:
    with pytest.raises(ValueError, match="codes must be integers"):
        MaskGitObjective(maskgit)(torch.zeros(2, *config.grid), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_smoothing": -0.1}, r"label_smoothing must be in \[0, 1\], got -0.1"),
        ({"label_dropout": 1.5}, r"label_dropout must be in \[0, 1\], got 1.5"),
    ],
)
def test_a_share_outside_zero_and_one_is_refused(maskgit: MaskGit, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskGitObjective(maskgit, **settings)
