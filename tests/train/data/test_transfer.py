from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor

from magvit2_pytorch.train.data import DataConfig, TrainingBatches, load_data, transfer
from magvit2_pytorch.train.data.transfer import batches_on, default_workers, pixels_on
from magvit2_pytorch.train.data.video_data import to_video

CPU = torch.device("cpu")


@pytest.fixture
def batches() -> TrainingBatches:
    data = load_data(DataConfig(path="shapes", resolution=16, num_frames=5, drawn_clips=16), progress=False)
    return TrainingBatches(data, batch_size=3, seed=0, start=2)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
def test_batches_are_the_same_with_any_number_of_workers(batches: TrainingBatches) -> None:
    expected = [batches.batch(index) for index in range(2, 7)]

    for num_workers in (None, 0, 2):
        received = list(islice(batches_on(CPU, batches, num_workers=num_workers), 5))

        assert [batch.keys() for batch in received] == [batch.keys() for batch in expected]
        for ours, theirs in zip(received, expected, strict=True):
            assert torch.equal(ours["video"], to_video(theirs["video"].numpy()))
            assert torch.equal(ours["label"], theirs["label"])


def test_taking_batches_draws_no_random_numbers(batches: TrainingBatches) -> None:
    stream = batches_on(CPU, batches)
    state = torch.get_rng_state()

    next(stream)

    assert torch.equal(torch.get_rng_state(), state)


def test_pixels_are_bytes_until_they_are_on_the_device(batches: TrainingBatches) -> None:
    prepared, received = batches.batch(2), next(batches_on(CPU, batches))

    assert prepared["video"].dtype == torch.uint8
    assert received["video"].dtype == torch.float32
    assert -1 <= received["video"].min() < received["video"].max() <= 1


def test_every_byte_has_the_same_value_on_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    every_byte = torch.arange(256, dtype=torch.uint8)
    copied = []

    def to(self: Tensor, device: torch.device, non_blocking: bool = False) -> Tensor:
        copied.append((self.dtype, non_blocking))
        return self

    monkeypatch.setattr(Tensor, "to", to)  # no other device is at hand, but its path is

    values = pixels_on(torch.device("cuda"), every_byte)

    assert torch.equal(values, to_video(every_byte.numpy()))
    assert torch.equal(values, pixels_on(CPU, every_byte))
    np.testing.assert_allclose(values, np.arange(256) / 127.5 - 1, atol=1e-7)
    assert (torch.uint8, True) in copied


def test_workers_are_for_devices_that_leave_cores_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, processes, expected in ((16, 1, 4), (16, 8, 2), (3, 1, 3), (2, 4, 1)):
        monkeypatch.setattr(transfer, "available_cores", lambda cores=cores: cores)
        monkeypatch.setattr(transfer, "processes_here", lambda processes=processes: processes)

        assert default_workers(torch.device("cuda")) == expected
        assert default_workers(CPU) == 0


@pytest.mark.parametrize(("device", "is_pinned"), [("cuda", True), ("mps", False), ("cpu", False)])
def test_memory_is_pinned_for_cuda(
    device: str, is_pinned: bool, batches: TrainingBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def loader(_: object, **settings: object) -> Iterator[dict[str, Tensor]]:
        asked.update(settings)
        return iter(())

    monkeypatch.setattr(transfer, "DataLoader", loader)

    assert list(batches_on(torch.device(device), batches, num_workers=3)) == []
    assert asked == {"batch_size": None, "num_workers": 3, "pin_memory": is_pinned}
