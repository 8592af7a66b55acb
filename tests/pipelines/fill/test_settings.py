import pytest
import torch

from magvit2_pytorch import VideoGenerationPipeline
from magvit2_pytorch.pipelines.fill.prediction import Conditions
from magvit2_pytorch.pipelines.fill.settings import CHOICE_TEMPERATURES, critic_order


def test_the_critic_gets_the_conditions_of_the_transformer(versatile: VideoGenerationPipeline) -> None:
    codes, context = torch.randint(128, (2, 3, 4, 4)), torch.randn(2, 5, 6)
    padding = torch.rand(2, 5) < 0.3
    conditions = Conditions(torch.tensor([1, 2]), torch.tensor([0, 3]), context, padding)

    with torch.no_grad():
        judged = critic_order(1.0, versatile.maskgit, conditions).criticize(codes)
        expected = versatile.maskgit.criticize(
            codes, conditions.labels, tasks=conditions.tasks, context=context, context_padding=padding
        )
        untold = versatile.maskgit.criticize(codes, conditions.labels)

    assert torch.equal(judged, expected)
    assert not torch.equal(judged, untold)


@pytest.mark.parametrize("order", ["confidence", "critic"])
def test_each_order_has_a_default_choice_temperature(versatile: VideoGenerationPipeline, order: str) -> None:
    def drawn(choice_temperature: float | None = None) -> torch.Tensor:
        return versatile.generate(
            labels=[0] * 4, num_steps=4, order=order, choice_temperature=choice_temperature, seed=0, progress=False
        ).codes

    own, others = CHOICE_TEMPERATURES[order], sum(CHOICE_TEMPERATURES.values()) - CHOICE_TEMPERATURES[order]

    assert torch.equal(drawn(), drawn(own))
    assert not torch.equal(drawn(), drawn(others))
