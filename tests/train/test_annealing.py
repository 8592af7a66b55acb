import pytest

from magvit2_pytorch.tokenizer import TokenizerLossWeights
from magvit2_pytorch.train.annealing import AnnealingConfig

FINAL = TokenizerLossWeights(sample_entropy=0.2, codebook_entropy=-0.4)


def test_by_default_nothing_is_annealed() -> None:
    for step in (0, 7, 5000):
        assert AnnealingConfig().loss_weights_at(step, FINAL) == FINAL
        assert AnnealingConfig().inverse_temperature_at(step, 2.0) == 2.0


def test_the_entropies_weights_fall_in_a_line() -> None:
    annealing = AnnealingConfig(entropy_factor=3.0, num_steps=100)

    weights = {step: annealing.loss_weights_at(step, FINAL) for step in (0, 50, 100, 999)}

    assert [w.sample_entropy for w in weights.values()] == pytest.approx([0.6, 0.4, 0.2, 0.2])
    assert [w.codebook_entropy for w in weights.values()] == pytest.approx([-1.2, -0.8, -0.4, -0.4])
    assert {w.reconstruction for w in weights.values()} == {FINAL.reconstruction}
    assert weights[100] == FINAL


def test_the_sharpness_changes_by_the_same_factor_at_each_step() -> None:
    annealing = AnnealingConfig(inverse_temperature=0.5, num_steps=100)

    assert [annealing.inverse_temperature_at(step, 8.0) for step in (0, 50, 100, 999)] == pytest.approx([0.5, 2, 8, 8])


@pytest.mark.parametrize(
    ("options", "said"),
    [({"entropy_factor": -1.0}, "entropy_factor"), ({"inverse_temperature": 0.0}, "positive"), ({"num_steps": 0}, "1")],
)
def test_what_cannot_be_annealed_is_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AnnealingConfig(**options)  # type: ignore[arg-type]
