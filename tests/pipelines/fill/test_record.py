import torch

from magvit2_pytorch.pipelines.fill.record import PassRecorder

HIDDEN = 9


def test_a_code_is_settled_by_the_pass_that_last_changed_it() -> None:
    recorder = PassRecorder(torch.full((1, 2, 1, 2), HIDDEN))
    recorder.record(0, torch.tensor([[[[1, HIDDEN]]]]), 0)
    recorder.record(0, torch.tensor([[[[1, 4]]]]), 1)
    recorder.record(0, torch.tensor([[[[1, HIDDEN]]]]), 2)  # taken back
    recorder.record(0, torch.tensor([[[[1, 4]]]]), 3)
    grid = recorder.record(1, torch.tensor([[[[HIDDEN, 5]]]]), 4)

    assert grid.tolist() == [[[[1, 4]], [[HIDDEN, 5]]]]
    assert recorder.settled_after.tolist() == [[[[0, 3]], [[0, 4]]]]


def test_returned_codes_do_not_change_later() -> None:
    recorder = PassRecorder(torch.full((1, 1, 1, 2), HIDDEN))
    first = recorder.record(0, torch.tensor([[[[1, HIDDEN]]]]), 1)
    recorder.record(0, torch.tensor([[[[1, 2]]]]), 2)

    assert first.tolist() == [[[[1, HIDDEN]]]]
