import math

import pytest
import torch
from torch import Tensor, nn

from magvit2_pytorch.tokenizer import DiscriminatorConfig, DiscriminatorObjective
from magvit2_pytorch.tokenizer.adversarial import (
    ADVERSARIAL_LOSSES,
    AdversarialLoss,
    adaptive_adversarial_weight,
    lecam_penalty,
    r1_penalty,
)

SMALL = DiscriminatorConfig(width=4)


def clips(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 5, 8, 8)


class LinearDiscriminator(nn.Module):
    """Stands in for a network: its gradient by the pixels is its weight, everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 5, 8, 8))

    def forward(self, video: Tensor, phase: int = 0) -> Tensor:
        return torch.einsum("bcthw,cthw->b", video, self.weight)


def with_linear(*, lecam_decay: float = 0.9) -> DiscriminatorObjective:
    objective = DiscriminatorObjective([SMALL, SMALL], lecam_decay=lecam_decay)
    objective.discriminators = nn.ModuleList([LinearDiscriminator(), LinearDiscriminator()])
    return objective


@pytest.mark.parametrize(("loss", "generator", "discriminator"), [("non_saturating", 1.0, 2.0), ("hinge", 0.0, 2.0)])
def test_an_undecided_discriminator_costs_what_it_must(
    loss: AdversarialLoss, generator: float, discriminator: float
) -> None:
    sides, undecided = ADVERSARIAL_LOSSES[loss], torch.zeros(3)
    unit = math.log(2) if loss == "non_saturating" else 1.0

    torch.testing.assert_close(sides.generator(undecided), torch.tensor(generator * unit))
    torch.testing.assert_close(sides.discriminator(undecided, undecided), torch.tensor(discriminator * unit))


def test_the_losses_match_their_definitions() -> None:
    real, fake = torch.randn(2, 7, dtype=torch.float64) * 2
    logistic, hinge = ADVERSARIAL_LOSSES["non_saturating"], ADVERSARIAL_LOSSES["hinge"]

    torch.testing.assert_close(logistic.generator(fake), -fake.sigmoid().log().mean())
    torch.testing.assert_close(
        logistic.discriminator(real, fake), -real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean()
    )
    torch.testing.assert_close(hinge.generator(fake), -fake.mean())
    torch.testing.assert_close(
        hinge.discriminator(real, fake), (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()
    )


def test_r1_of_a_linear_discriminator_is_the_square_of_its_weight() -> None:
    objective = with_linear()

    losses = objective(clips(), clips(), with_r1=True)

    for index, discriminator in enumerate(objective.discriminators):
        assert isinstance(discriminator, LinearDiscriminator)
        torch.testing.assert_close(losses[f"r1_{index}"], discriminator.weight.square().sum())


def test_r1_averages_over_clips_and_trains_the_discriminator() -> None:
    video = clips(3).requires_grad_()
    scale = torch.tensor(2.0, requires_grad=True)

    penalty = r1_penalty(scale * video.square().sum(dim=(1, 2, 3, 4)), video)
    penalty.backward()

    expected = (2 * 2.0 * video).square().sum() / 3
    torch.testing.assert_close(penalty, expected)
    torch.testing.assert_close(scale.grad, expected.detach())  # quadratic in the scale: 2 / scale times itself


def test_r1_of_several_logits_is_that_of_their_mean() -> None:
    video = clips(3).requires_grad_()
    weights = torch.randn(4, 3, 5, 8, 8)

    penalty = r1_penalty(torch.einsum("bcthw,pcthw->bp", video, weights), video)

    torch.testing.assert_close(penalty, weights.mean(dim=0).square().sum())


def test_lecam_holds_back_what_lies_beyond_the_other_sides_average() -> None:
    penalty = lecam_penalty(
        torch.tensor([3.0, -2.0]),
        torch.tensor([-1.0, 5.0]),
        real_average=torch.tensor(2.0),
        fake_average=torch.tensor(-1.0),
    )

    # Real: 4 beyond -1, and one on the wrong side of it. Fake: 3 beyond 2, and one on the wrong side of it.
    assert penalty == (4**2 + 0) / 2 + (3**2 + 0) / 2


def test_lecam_averages_are_those_of_the_logits_so_far() -> None:
    decay = 0.9
    objective = with_linear(lecam_decay=decay)
    means: list[Tensor] = []
    real = fake = clips()
    losses = {}
    for _ in range(3):
        real, fake = clips(), clips()
        means.append(torch.stack([objective.discriminators[1](video).detach().mean() for video in (real, fake)]))
        losses = objective(real, fake)

    ages = torch.arange(2, -1, -1)
    real_average, fake_average = (torch.stack(means) * decay ** ages[:, None]).sum(dim=0) / (decay**ages).sum()
    logits = [objective.discriminators[1](video) for video in (real, fake)]
    expected = lecam_penalty(*logits, real_average=real_average, fake_average=fake_average)
    assert expected > 0
    torch.testing.assert_close(losses["lecam_1"], expected)


def test_one_pass_over_both_equals_two_passes() -> None:
    real, fake = clips(), clips()
    objective = DiscriminatorObjective([SMALL])

    together, apart = objective(real, fake), objective(real, fake, with_r1=True)

    torch.testing.assert_close(together["discriminator_0"], apart["discriminator_0"])
    assert apart.keys() - together.keys() == {"r1_0"}


@pytest.mark.parametrize("with_r1", [False, True])
def test_every_parameter_is_used_at_every_step(with_r1: bool) -> None:
    objective = DiscriminatorObjective([SMALL, DiscriminatorConfig(width=4, frame_stride=2, sees="details")])
    fake = clips().requires_grad_()

    torch.stack(list(objective(clips(), fake, with_r1=with_r1).values())).sum().backward()

    assert all(parameter.grad is not None for parameter in objective.parameters())
    assert fake.grad is None


def test_training_the_discriminator_alone_tells_both_apart() -> None:
    objective = DiscriminatorObjective([SMALL])
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2, betas=(0.0, 0.99))
    real, fake = clips(4), clips(4) * 0.5
    losses = []
    for _ in range(30):
        loss = objective(real, fake)["discriminator_0"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert losses[-1] < 0.7 * losses[0]


def test_the_adaptive_weight_is_the_ratio_of_two_norms() -> None:
    pixels, adversarial = torch.randn(2, 3, 4)

    weight = adaptive_adversarial_weight(pixels, adversarial)

    torch.testing.assert_close(weight, pixels.norm() / adversarial.norm())
    assert adaptive_adversarial_weight(pixels, torch.zeros(3, 4)) == 1e4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"configs": []}, "at least one discriminator"),
        ({"configs": [SMALL], "loss": "wasserstein"}, "non_saturating, hinge, got 'wasserstein'"),
        ({"configs": [SMALL], "lecam_decay": 1.0}, r"lecam_decay must be in \[0, 1\)"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_an_adversary_that_cannot_be_is_refused(arguments: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DiscriminatorObjective(**arguments)
