"""What training steps ask of a device, counted by benchmarks/launches.py in a process of its own: it registers a
device with PyTorch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.utils.backend_registration

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "launches.py"


@pytest.mark.skipif(
    not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this version of PyTorch cannot simulate a device",
)
def test_training_steps_read_from_the_device_once_and_copy_only_batches_to_it() -> None:
    presets = ["tokenizer:demo", "maskgit:shapes-tasks"]
    done = subprocess.run(
        [sys.executable, BENCHMARK, "--presets", *presets],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )

    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.split()[0] in presets}
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: figures[2:] for name, figures in rows.items()} == {
        "tokenizer:demo": ["1", "0", "ok"],
        "maskgit:shapes-tasks": ["1", "1", "ok"],
    }
    assert int(rows["tokenizer:demo"][0].replace(",", "")) <= 900
    assert int(rows["maskgit:shapes-tasks"][0].replace(",", "")) <= 1500
