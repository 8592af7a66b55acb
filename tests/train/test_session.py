import pytest
import torch

from magvit2_pytorch.train.session import all_cores


def test_a_process_uses_the_threads_of_all_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    own = torch.get_num_threads()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")

    with all_cores():
        assert torch.get_num_threads() == 3 * own

    assert torch.get_num_threads() == own
