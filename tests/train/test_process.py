import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch

from magvit2_pytorch.train.process import SignalInterruption, available_cores, launcher_of, run_command, set_up
from magvit2_pytorch.train.session import Interruption, RunConfig


@pytest.fixture(autouse=True)
def _same_process_afterwards() -> Iterator[None]:
    threads, level = torch.get_num_threads(), logging.getLogger().level
    yield
    torch.set_num_threads(threads)
    logging.getLogger().setLevel(level)


@pytest.fixture
def presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, RunConfig]:
    monkeypatch.setattr(sys, "argv", ["train.py", "demo", "--seed", "3"])
    return {"demo": RunConfig(output_dir=tmp_path, num_steps=5, batch_size=1)}


def finish(run: RunConfig, interruption: Interruption) -> Path | None:
    return run.output_dir


def stop(run: RunConfig, interruption: Interruption) -> Path | None:
    """As with `--stop-after`."""
    return None


def interrupt(run: RunConfig, interruption: Interruption) -> Path | None:
    interruption.asked = True
    return None


def interrupt_too_late(run: RunConfig, interruption: Interruption) -> Path | None:
    interruption.asked = True
    return run.output_dir


def refuse(run: RunConfig, interruption: Interruption) -> Path | None:
    raise ValueError(f"seed {run.seed} is refused")


def test_a_command_that_is_done_or_stopped_as_planned_ends_with_status_0(presets: dict[str, RunConfig]) -> None:
    for train in (finish, stop, interrupt_too_late):
        run_command(train, presets, description="A test.")  # does not raise SystemExit


@pytest.mark.parametrize(("train", "status"), [(interrupt, 75), (refuse, "error: seed 3 is refused")])
def test_a_command_that_was_interrupted_or_refused_does_not_end_with_status_0(
    presets: dict[str, RunConfig], train: object, status: object
) -> None:
    with pytest.raises(SystemExit) as end:
        run_command(train, presets, description="A test.")  # type: ignore[arg-type]

    assert end.value.code == status  # a text is printed, and the status is 1


def test_the_processes_of_a_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    set_up()
    assert torch.get_num_threads() == available_cores()

    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(available_cores()))
    monkeypatch.setenv("RANK", "1")
    set_up()

    assert torch.get_num_threads() == 1
    assert logging.getLogger().level == logging.ERROR  # the main process says it already


def parent_of(*command: str | Path) -> psutil.Process | None:
    """What `launcher_of` says of a child of a command; the command prints the process id of its child."""
    with subprocess.Popen([*command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        return launcher_of(psutil.Process(int(process.stdout.readline())))


CHILD = "import os; print(os.getpid(), flush=True); input()"
START = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"


@pytest.mark.parametrize("name", ["accelerate", "torchrun"])
def test_a_launcher_is_known_by_its_command_line(tmp_path: Path, name: str) -> None:
    script = tmp_path / name
    script.write_text(START)

    launcher = parent_of(sys.executable, "-u", script, "launch", "train/tokenizer.py")

    assert launcher is not None


@pytest.mark.parametrize("name", ["accelerate.sh", "train.py"])
def test_another_parent_is_no_launcher_whatever_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # `accelerate launch` exports it, and so may a shell
    script = tmp_path / name
    script.write_text(START)

    assert parent_of(sys.executable, script, "launch") is None
    assert SignalInterruption().launcher is None


def test_a_run_stops_when_its_launcher_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    interruption = SignalInterruption()
    interruption.launcher = psutil.Process().ppid()
    assert not interruption.is_asked()

    interruption.launcher = -1  # the parent is now another process

    assert interruption.is_asked()
