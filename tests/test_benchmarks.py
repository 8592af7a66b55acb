"""Benchmarks that need hardware which tests do not have: their programs run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_without_a_gpu_the_benchmark_says_so() -> None:
    result = run()

    assert result.returncode == 2
    assert "PyTorch finds no GPU on this machine" in result.stderr
    assert result.stdout == ""


@pytest.mark.slow
def test_small_models_are_measured_without_a_gpu() -> None:
    """With graphs that PyTorch's own kernels run, since the compiler takes minutes, and without bf16, in which
    convolutions are slow on a CPU."""
    models = ("tokenizer-tiny", "maskgit-tiny")
    small = ("--precisions", "float32", "--most", "1", "--steps", "1", "--backend", "eager")
    result = run("--device", "cpu", "--models", *models, *small)

    assert result.returncode == 0, result.stderr
    rows = [line.strip("| ").split(" | ") for line in result.stdout.splitlines() if "-tiny | " in line]
    assert [row[:3] for row in rows] == [[model, "float32", mode] for model in models for mode in ("eager", "compiled")]
    for row in rows:
        batch, milliseconds, clips = (float(figure) for figure in row[3:6])
        assert batch == 1
        assert clips == pytest.approx(1000 / milliseconds, rel=0.1)
