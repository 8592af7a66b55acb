import pytest
import torch

from magvit2_pytorch.devices import chosen_device


def test_a_cuda_build_on_a_machine_without_a_gpu_chooses_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)

    assert chosen_device(None) == torch.device("cpu")
