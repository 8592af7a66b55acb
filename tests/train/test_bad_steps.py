import math

import pytest
import torch
from torch.profiler import profile

from magvit2_pytorch.train.bad_steps import BadSteps, Update, nan_unless_finite

GOOD, BAD = {"loss": torch.tensor(1.0)}, {"loss": torch.tensor(math.nan), "other": torch.tensor(1.0)}


def test_steps_in_a_row_are_counted_and_a_good_one_begins_again() -> None:
    steps = BadSteps(2, seed=7)

    for norm, expected in ((math.nan, 1), (1.0, 0), (math.inf, 1), (math.inf, 2)):
        assert not steps.are_too_many
        assert steps.is_bad(torch.tensor(norm), GOOD, step=3) == (not math.isfinite(norm))
        steps.end_step()
        assert steps.num_in_row == expected
    assert steps.are_too_many


def test_two_updates_of_a_step_count_once() -> None:
    steps = BadSteps(10, seed=0)

    assert steps.is_bad(math.nan, BAD, step=0)
    assert not steps.is_bad(1.0, GOOD, step=0)
    steps.end_step()

    assert steps.num_in_row == 1


def test_after_an_update_that_is_skipped_all_of_the_step_are(caplog: pytest.LogCaptureFixture) -> None:
    good, bad = Update(torch.tensor(2.0), GOOD), Update(torch.tensor(math.nan), BAD)

    assert BadSteps(10, seed=0).are_bad(good, good, step=0) == [False, False]
    assert BadSteps(10, seed=0).are_bad(good, bad, step=0) == [False, True]
    caplog.clear()
    assert BadSteps(10, seed=0).are_bad(bad, bad, step=0) == [True, True]
    assert len(caplog.messages) == 1


def test_norms_of_a_step_are_read_together() -> None:
    updates = [Update(torch.tensor(2.0), GOOD), Update(torch.tensor(3.0), GOOD)]

    with profile() as steps:
        BadSteps(10, seed=0).are_bad(*updates, step=0)

    names = [step.name for step in steps.events() or ()]
    assert names.count("aten::stack") == 1
    assert "aten::item" not in names


def test_a_scaler_skips_steps_itself_and_only_losses_count() -> None:
    steps = BadSteps(10, seed=0, has_scaler=True)

    assert not steps.is_bad(math.inf, GOOD, step=0)
    steps.end_step()
    assert steps.num_in_row == 0
    assert not steps.is_bad(math.nan, BAD, step=1)
    steps.end_step()
    assert steps.num_in_row == 1


def test_the_message_names_the_loss_the_batch_and_the_seed(caplog: pytest.LogCaptureFixture) -> None:
    BadSteps(10, seed=7).is_bad(math.nan, BAD, step=41)
    BadSteps(10, seed=7).is_bad(math.inf, GOOD, step=41)

    assert caplog.messages == [
        "step 42 is skipped: loss is nan (batch 41 of seed 7, bad step 1 in a row)",
        "step 42 is skipped: the norm of the gradients is inf (batch 41 of seed 7, bad step 1 in a row)",
    ]


def test_a_loss_that_is_not_finite_makes_all_gradients_nan() -> None:
    weight = torch.ones(3, requires_grad=True)

    (weight.sum() * nan_unless_finite(GOOD)).backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.ones(3))

    weight.grad = None
    (weight.sum() * nan_unless_finite({"loss": torch.tensor(math.inf)})).backward()
    assert weight.grad is not None
    assert weight.grad.isnan().all()
