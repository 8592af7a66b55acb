import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from magvit2_pytorch import devices
from magvit2_pytorch.devices import built_once, chosen_device

CPU = torch.device("cpu")


def test_a_cuda_build_on_a_machine_without_a_gpu_chooses_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)

    assert chosen_device(None) == torch.device("cpu")


@built_once
def numbers(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, device=device) + 1.0


def test_a_constant_is_built_once_for_each_choice_of_arguments() -> None:
    assert numbers(3, CPU) is numbers(3, CPU)
    assert numbers(3, CPU).tolist() == [1, 2, 3]
    assert numbers(4, CPU).tolist() == [1, 2, 3, 4]


def test_a_constant_built_in_inference_mode_can_be_used_in_training() -> None:
    with torch.inference_mode():
        numbers(5, CPU)
    weight = torch.ones(5, requires_grad=True)

    (weight * numbers(5, CPU)).sum().backward()

    assert weight.grad is not None
    assert weight.grad.tolist() == [1, 2, 3, 4, 5]


def test_a_constant_without_values_is_not_kept() -> None:
    with FakeTensorMode():
        numbers(6, CPU)
    numbers(6, torch.device("meta"))

    assert numbers(6, CPU).tolist() == [1, 2, 3, 4, 5, 6]


def test_few_constants_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "MOST_KEPT", 2)
    first = numbers(7, CPU)

    for count in (8, 9):
        numbers(count, CPU)

    assert numbers(7, CPU) is not first
