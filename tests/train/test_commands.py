"""Each command as a user starts it, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from magvit2_pytorch import VideoGenerationPipeline
from magvit2_pytorch.configs import config_to_dict
from magvit2_pytorch.files import read_json, write_json
from magvit2_pytorch.pipelines.media.video_files import read_video
from magvit2_pytorch.train import maskgit, tokenizer
from magvit2_pytorch.train.codes import CodesConfig
from magvit2_pytorch.train.maskgit import MaskGitRun
from magvit2_pytorch.train.tokenizer import TokenizerRun

ROOT = Path(__file__).parents[2]
SMALL = (
    *("--num-steps", "2", "--batch-size", "2", "--data.resolution", "16", "--data.num-frames", "5", "--no-progress"),
    *("--evaluate-every", "2"),
)
SMALL_TOKENIZER = (
    *("--model.init-dim", "16", "--model.layers", "residual,compress_space"),
    *("--model.fsq-levels", "8", "8", "--model.codebook-size", "64"),
)
SMALL_TRANSFORMER = ("--model.width", "32", "--model.depth", "1", "--model.num-heads", "2")


def run(*command: str | Path, cwd: Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=check,
        timeout=250,
    )


def launched(*arguments: str | Path) -> Sequence[str | Path]:
    return [Path(sys.executable).with_name("accelerate"), "launch", *arguments]


def test_both_stages_and_the_pipeline_as_commands(tmp_path: Path, videos: Path) -> None:
    data = ("--data.path", str(videos))
    magvit2 = Path(sys.executable).with_name("magvit2")
    as_module = ("-m", "magvit2_pytorch.cli", "train", "maskgit")
    first = run(*launched(ROOT / "train" / "tokenizer.py", *SMALL, *SMALL_TOKENIZER, *data), cwd=tmp_path)
    second = run(*launched(*as_module, *SMALL, *SMALL_TRANSFORMER, *data), cwd=tmp_path)

    assert "the tokenizer is in outputs/tokenizer/tokenizer" in first.stderr
    assert "the pipeline is in outputs/maskgit/pipeline" in second.stderr
    folder = tmp_path / "outputs" / "maskgit" / "pipeline"
    assert VideoGenerationPipeline.from_pretrained(folder).labels == ("left", "right")

    generated = run(
        *(magvit2, "generate", folder, "--labels", "right", "0", "--seed", "1", "--output", "made/sample.mp4"),
        cwd=tmp_path,
    )
    reconstructed = run(
        *(magvit2, "reconstruct", videos / "left" / "bar.gif", "--model", folder, "--output", "both.gif"), cwd=tmp_path
    )

    assert "made/sample.mp4: 5 frames, right, left" in generated.stdout
    assert read_video(tmp_path / "made" / "sample.mp4").shape[1] == 5
    assert "both.gif: 30 frames, PSNR" in reconstructed.stdout
    assert read_video(tmp_path / "both.gif").shape[1] == 30


def test_two_processes_of_both_stages_are_killed_and_go_on(
    tmp_path: Path, tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun
) -> None:
    """Compared with one process that was left alone."""
    halves = {"num_steps": 10, "save_every": 2, "evaluate_every": 1, "log_every": 1}
    dropout = replace(maskgit_run.model, dropout=0.0)  # each process draws its own
    runs = {
        "tokenizer": replace(tokenizer_run, **halves),
        "maskgit": replace(maskgit_run, **halves, model=dropout, codes=CodesConfig(passes=1)),
    }
    tokenizer.train(replace(runs["tokenizer"], output_dir=tmp_path / "whole-tokenizer"))
    for stage, training in runs.items():
        write_json(tmp_path / f"{stage}.json", config_to_dict(training))
        launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
        command = (*launcher, ROOT / "train" / f"{stage}.py", "--config", tmp_path / f"{stage}.json")
        environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert any("step 5 of 10:" in line for line in process.stderr)
            workers = psutil.Process(process.pid).children()
            next(worker for worker in workers if worker.environ().get("RANK") == "1").kill()
            assert "SIGKILL" in process.stderr.read()
        assert not list((tmp_path / stage).glob("*/model.safetensors"))

        again = run(*command, cwd=tmp_path, check=False, ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1")

        assert "continuing after step" in again.stderr
    maskgit.train(replace(runs["maskgit"], output_dir=tmp_path / "whole-maskgit"))
    for name in ("tokenizer/tokenizer", "maskgit/pipeline/maskgit"):
        ours, whole = (load_file(tmp_path / path / "model.safetensors") for path in (name, f"whole-{name}"))
        for key, weight in whole.items():
            torch.testing.assert_close(ours[key], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("generate", "nowhere"), "magvit2: there is no folder nowhere"),
        (("generate", "nowhere", "--output", "x.avi"), "magvit2: x.avi must end in one of .mp4"),
        (("reconstruct", "x.mp4", "--model", "nowhere"), "magvit2: there is no folder nowhere"),
    ],
)
def test_a_mistake_ends_with_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    result = run(sys.executable, "-m", "magvit2_pytorch.cli", *arguments, cwd=tmp_path, check=False)

    assert result.returncode == 1
    assert result.stderr.startswith(said)
    assert "Traceback" not in result.stderr


def test_several_processes_train_with_the_installed_command(tmp_path: Path) -> None:
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "magvit2_pytorch.cli")
    arguments = ("train", "tokenizer", *SMALL, *SMALL_TOKENIZER, "--data.path", "shapes")

    # Judged by its result: PyTorch's gloo can abort a process after all is done.
    run(sys.executable, *launch, *arguments, cwd=tmp_path, check=False, ACCELERATE_USE_CPU="true")

    assert read_json(tmp_path / "outputs" / "tokenizer" / "inputs.json")["num_processes"] == 2
    assert (tmp_path / "outputs" / "tokenizer" / "tokenizer" / "model.safetensors").is_file()


@pytest.mark.parametrize("script", ["tokenizer.py", "maskgit.py"])
def test_another_package_of_the_same_name_is_named(tmp_path: Path, script: str) -> None:
    other = tmp_path / "magvit2_pytorch"
    other.mkdir()
    (other / "__init__.py").write_text("from torchvision import models")

    result = run(sys.executable, ROOT / "train" / script, cwd=tmp_path, check=False, PYTHONPATH=str(tmp_path))

    assert result.returncode == 1
    assert f"{other} is another package of the same name" in result.stderr
    assert "pip uninstall magvit2-pytorch" in result.stderr


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    check = "from check_installation import check_installation; check_installation()"

    result = run(sys.executable, "-S", "-c", check, cwd=ROOT / "train", check=False)

    assert "magvit2_pytorch is not installed" in result.stderr


def test_a_missing_folder_of_videos_ends_with_one_line(tmp_path: Path) -> None:
    result = run(*launched(ROOT / "train" / "tokenizer.py", "--data.path", "missing"), cwd=tmp_path, check=False)

    assert "error: " in result.stderr
    assert "missing" in result.stderr
    assert not (tmp_path / "outputs").exists()


def test_a_finished_demo_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")

    result = run(sys.executable, "-m", "magvit2_pytorch.cli", "demo", "--output-dir", ".", cwd=tmp_path, check=False)

    assert result.returncode == 1
    assert "magvit2: . already holds a finished demo" in result.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("videos", "cache")] == ["metrics.json"]
