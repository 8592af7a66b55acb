import os

import pytest

from magvit2_pytorch.train import cores
from magvit2_pytorch.train.cores import available_cores


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (2.9, 2), (0.5, 1), (64.0, 8)])
def test_a_quota_limits_the_number_of_cores(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(cores, "cores_of_process", lambda: 8)
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)

    assert available_cores() == expected


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not bind processes to cores")
def test_only_cores_that_the_process_may_run_on_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "cpu_quota", lambda: None)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
