import pytest
import torch

from magvit2_pytorch.train import session


def test_all_cores_are_used_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(session, "available_cores", lambda: before + 2)

    with session.all_cores():
        assert torch.get_num_threads() == before + 2

    assert torch.get_num_threads() == before
