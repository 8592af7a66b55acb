import pytest
import torch
from torch import nn
from torch.profiler import profile

from magvit2_pytorch.train.optimization import ExponentialMovingAverage, OptimizerConfig, adamw


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    config = OptimizerConfig(learning_rate=2.0, warmup_steps=10)
    rates = [config.learning_rate_at(step, 100) for step in range(101)]

    assert rates[0] == pytest.approx(2 / 11)
    assert max(rates) == pytest.approx(2.0, rel=0.05)
    assert rates.index(max(rates)) == 10
    assert rates[55] == pytest.approx(2 * 0.5 * (1 + -0.15643), rel=1e-3)  # cos(0.55 pi)
    assert rates[100] == pytest.approx(0)


def test_the_average_follows_its_closed_form() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = ExponentialMovingAverage(model, decay=0.5)

    expected = 0.0
    for step, value in enumerate((1.0, 3.0, 5.0, 7.0)):
        nn.init.constant_(model.weight, value)
        average.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value

    assert average.model.weight.item() == pytest.approx(expected)
    assert not average.model.weight.requires_grad


def test_only_matrices_decay() -> None:
    model = nn.Sequential(nn.Conv3d(2, 2, 1), nn.GroupNorm(1, 2))
    optimizer = adamw(model, OptimizerConfig(weight_decay=0.3))

    decay_of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay_of == {id(p): 0.3 if p.ndim > 1 else 0.0 for p in model.parameters()}


@pytest.mark.parametrize("options", [{"learning_rate": 0.0}, {"ema_decay": 1.0}, {"warmup_steps": -1}])
def test_wrong_settings_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        OptimizerConfig(**options)  # type: ignore[arg-type]


def test_moving_the_average_does_not_touch_the_model() -> None:
    model = nn.Linear(2, 2)
    before = model.weight.clone()

    ExponentialMovingAverage(model, 0.9).update(model, 0)

    assert torch.equal(model.weight, before)
    assert model.weight.requires_grad


def test_all_weights_are_averaged_by_one_operation() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    average = ExponentialMovingAverage(model, decay=0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)

    with profile() as steps:
        average.update(model, step=100)

    expected = {name: value - 0.5 for name, value in model.state_dict().items()}
    torch.testing.assert_close(dict(average.model.state_dict()), expected)
    assert sum(step.name == "aten::_foreach_lerp_" for step in steps.events() or ()) == 1
