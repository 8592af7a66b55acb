import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from magvit2_pytorch.train.metrics_file import read_records
from magvit2_pytorch.train.run_log import RunLog


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


@pytest.fixture
def log(tmp_path: Path, clock: Clock) -> RunLog:
    """Of a run that continues after step 3 and stops after step 20 of 40."""
    log = RunLog(Accelerator(cpu=True), tmp_path / "metrics.jsonl", log_every=5, num_steps=40, clips_per_step=8)
    log.begin(tqdm(range(3, 20), disable=True), 3, 20, codes_per_clip=10)
    return log


LOSSES = {"a": torch.tensor(1.5)}


def test_a_line_has_losses_and_the_speed_since_the_line_before(
    log: RunLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    clock.now += 4
    log.step(5, LOSSES, {"learning_rate": 1e-3, "gradient_norm": torch.tensor(2.0)}, group="loss")
    clock.now += 10
    log.step(10, LOSSES, {"learning_rate": 1e-3, "gradient_norm": None}, group="loss")

    first, second = read_records(log.path)
    assert {name: value for name, value in first.items() if name != "time"} == {
        "step": 5,
        "loss/a": 1.5,
        "optimizer/learning_rate": 1e-3,
        "optimizer/gradient_norm": 2.0,
        "speed/seconds_per_step": 2.0,
        "speed/clips_per_second": 4.0,
        "speed/codes_per_second": 40.0,
        "speed/data_wait_share": 0.0,
    }
    assert (second["speed/seconds_per_step"], second["speed/clips_per_second"]) == (2.0, 4.0)
    assert abs(first["time"] - time.time()) < 60
    assert caplog.messages[-1] == "step 10 of 40: a 1.500 (2 s per step, 4 clips per second, 00:20 left)"


def test_other_work_is_not_counted_as_time_of_steps_but_in_the_time_left(
    log: RunLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    clock.now += 2
    with log.paused():
        clock.now += 10

    log.step(5, LOSSES, {}, group="loss")

    assert read_records(log.path)[0]["speed/seconds_per_step"] == 1.0
    assert caplog.messages[-1].endswith("01:30 left)")  # 12 seconds for two steps, 15 steps left


def test_the_time_that_batches_are_waited_for_is_a_share(log: RunLog, clock: Clock) -> None:
    def slow_batches():
        while True:
            clock.now += 3
            yield 0

    batches = log.timed(slow_batches())
    for done in (4, 5):
        next(batches)
        clock.now += 1
        log.step(done, LOSSES, {}, group="loss")

    assert read_records(log.path)[0]["speed/data_wait_share"] == 0.75


def test_random_numbers_of_a_loader_are_drawn_before_the_first_step(log: RunLog) -> None:
    loader: DataLoader[int] = DataLoader(list(range(4)), batch_size=None)  # type: ignore[arg-type]
    batches = log.timed(loader)
    state = torch.get_rng_state()

    next(batches)

    assert torch.equal(torch.get_rng_state(), state)


def test_tensors_are_read_only_at_steps_that_are_reported(log: RunLog) -> None:
    unreadable = torch.ones((), device="meta")

    log.step(4, {"a": unreadable}, {"gradient_norm": unreadable}, group="loss")

    assert not log.path.exists()
