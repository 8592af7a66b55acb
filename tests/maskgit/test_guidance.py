import math

import pytest
import torch

from magvit2_pytorch.maskgit.guidance import GUIDANCE_SCHEDULES, guide
from magvit2_pytorch.maskgit.sub_code_heads import logits_given


def test_guidance_goes_from_the_unconditional_through_the_conditional_and_beyond() -> None:
    conditional, unconditional = ((torch.randn(2, 3, 8), torch.randn(2, 3, 4)) for _ in range(2))

    for scale, group in ((0.0, unconditional), (1.0, conditional)):
        guided = (logits_given(logits, ()) for logits in guide(conditional, unconditional, scale))
        assert all(torch.equal(a, b) for a, b in zip(guided, group, strict=True))
    for guided, cond, uncond in zip(guide(conditional, unconditional, 2.5), conditional, unconditional, strict=True):
        torch.testing.assert_close(guided, uncond + 2.5 * (cond - uncond))


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0, 7.5])
def test_the_schedules_follow_their_closed_forms(scale: float) -> None:
    expected = {
        "constant": [scale] * 4,
        "linear": [1 + (scale - 1) * share for share in (1 / 4, 1 / 2, 3 / 4, 1)],
        "cosine": [1 + (scale - 1) * math.sin(math.pi / 2 * share) ** 2 for share in (1 / 4, 1 / 2, 3 / 4, 1)],
    }

    for name, schedule in GUIDANCE_SCHEDULES.items():
        scales = [schedule(scale, progress) for progress in (1 / 4, 1 / 2, 3 / 4, 1.0)]
        assert scales == pytest.approx(expected[name], abs=1e-12)


@pytest.mark.parametrize("name", GUIDANCE_SCHEDULES)
def test_the_last_pass_has_the_full_scale_and_a_scale_of_one_stays_one(name: str) -> None:
    schedule = GUIDANCE_SCHEDULES[name]

    assert schedule(4.0, 1.0) == pytest.approx(4.0)
    assert [schedule(1.0, (step + 1) / 12) for step in range(12)] == [1.0] * 12
