"""`docs/scaling.md`: the config files of accelerate, the script for Slurm, and the commands."""

import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command_parser

from magvit2_pytorch.files import read_json
from magvit2_pytorch.train import maskgit, tokenizer
from magvit2_pytorch.train.command_line import parse_run

from .test_docs import DOCS, blocks, page

PAGE = page("scaling.md")
CONFIGS = sorted((DOCS / "accelerate").glob("*.yaml"))
SLURM = DOCS / "accelerate" / "slurm.sh"
PRESETS = {"tokenizer.py": tokenizer.PRESETS, "maskgit.py": maskgit.PRESETS}
SMALL = (
    *("--num-steps", "2", "--batch-size", "2", "--data.path", "shapes", "--data.resolution", "16"),
    *("--data.num-frames", "5", "--model.init-dim", "16", "--model.layers", "residual,compress_space"),
    *("--model.fsq-levels", "8", "8", "--model.codebook-size", "64"),
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_one_that_accelerate_reads(path: Path) -> None:
    config = load_config_from_file(str(path))  # refuses unknown keys

    assert isinstance(config, ClusterConfig)
    assert config.mixed_precision == "bf16"
    assert config.num_processes == {"one_gpu": 1, "eight_gpus": 8, "nodes": 8 * 8}[path.stem]
    assert (config.distributed_type.value == "MULTI_GPU") == (config.num_processes > 1)
    assert f"(accelerate/{path.name})" in PAGE


def test_every_command_shown_is_one_that_accelerate_and_training_take() -> None:
    lines = list(filter(None, "\n".join(blocks(PAGE, "sh")).replace("\\\n", " ").splitlines()))

    for line in lines:
        program, command, *words = shlex.split(line)
        assert (program, command) == ("accelerate", "launch")
        launch = launch_command_parser().parse_args(words)
        assert launch.config_file is None or (DOCS.parent / launch.config_file).is_file()
        arguments = launch.training_script_args
        parse_run(PRESETS[Path(launch.training_script).name], description="", arguments=arguments)
    assert len(lines) >= len(CONFIGS)


def test_the_script_for_slurm_is_a_shell_script() -> None:
    subprocess.run(["bash", "-n", SLURM], check=True)

    assert "(accelerate/slurm.sh)" in PAGE


def start(folder: Path, *arguments: str, srun: str, **programs: str) -> "subprocess.Popen[str]":
    """Start the script with stand-ins for the programs of Slurm, as a job of one node with two tasks."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    stand_ins = {"srun": srun, "scontrol": 'case $1 in show) echo localhost;; *) echo "$@" >> asked;; esac', **programs}
    for name, content in stand_ins.items():
        (bin_folder / name).write_text(f"#!/bin/bash\n{content}\n")
        (bin_folder / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str((port - 20000) % 10000),
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_CPUS_PER_TASK": "1",
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(["bash", SLURM, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


def test_the_tasks_of_a_job_train_together(tmp_path: Path) -> None:
    two_tasks = 'shift 3; for id in 0 1; do SLURM_PROCID=$id SLURM_LOCALID=$id "$@" & done; wait'

    with start(tmp_path, "tokenizer", "demo", *SMALL, srun=two_tasks) as job:
        job.communicate(timeout=200)

    inputs = read_json(tmp_path / "outputs" / "tokenizer" / "inputs.json")
    assert inputs["num_processes"] == 2
    assert inputs["arithmetic"]["mixed_precision"] == "bf16"
    assert (tmp_path / "outputs" / "tokenizer" / "tokenizer" / "model.safetensors").is_file()
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(("status", "is_requeued"), [(1, True), (0, False)])
def test_a_job_that_is_stopped_before_its_end_is_put_back_into_the_queue(
    tmp_path: Path, status: int, is_requeued: bool
) -> None:
    """A training that is asked to stop ends with status 0 only if it was done."""
    asked = f'echo saved "$@"; exit {status}'
    training = f"mkfifo gate; exec 3<> gate; trap '{asked}' TERM; echo started; read -u 3"  # waits for a signal

    with start(tmp_path, "maskgit", "base", srun='shift 3; exec "$@"', magvit2=training) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "started\n"
        job.send_signal(signal.SIGTERM)
        said, _ = job.communicate(timeout=60)

    assert said == "saved train maskgit base --no-progress\n"
    assert job.returncode == status
    assert (tmp_path / "asked").exists() == is_requeued


def test_a_job_that_fails_is_not_put_back_into_the_queue(tmp_path: Path) -> None:
    with start(tmp_path, "maskgit", "base", srun='shift 3; exec "$@"', magvit2="exit 1") as job:
        job.communicate(timeout=60)

    assert job.returncode == 1
    assert not (tmp_path / "asked").exists()
