"""Trainings that are killed, interrupted and damaged, and whether they end with the weights of undisturbed ones.

    python benchmarks/chaos.py                       # about half an hour; exit status 1 if a bound is missed
    python benchmarks/chaos.py --stages tokenizer    # one of the stages
    python benchmarks/chaos.py --parts kills points  # some of the parts

Each training is the command `train/tokenizer.py` or `train/maskgit.py` of a tiny model, and is compared with one that
was left alone: the files of its result must be equal, byte for byte. The parts:

- **kills**: killed (SIGKILL) at random moments after its first step, and continued each time by the same command. A
  run that ends before it is killed is compared, and another one begins;
- **points**: killed at points inside saving: while weights or optimizers are written, before and after a flush to the
  disk, before and after a rename, while an old checkpoint is removed, while the result is written;
- **processes**: a run of two processes, of which one is killed, stopped (SIGSTOP) or asked to end (SIGTERM). The rows
  tell how soon the other one ends;
- **disk**: a disk that is full at a checkpoint, and at the export (Linux, as root: needs a tmpfs);
- **damage**: checkpoints with a changed byte, a folder that is removed while the run goes on;
- **nan**: every seventh batch of stage one is NaN.
"""

import argparse
import filecmp
import os
import random
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from measured import Measured

from magvit2_pytorch.configs import config_to_dict
from magvit2_pytorch.files import write_json
from magvit2_pytorch.tokenizer import TokenizerConfig, VideoTokenizer
from magvit2_pytorch.train import run_folder
from magvit2_pytorch.train.codes import CodesConfig
from magvit2_pytorch.train.data import DataConfig, TrainingBatches
from magvit2_pytorch.train.maskgit import MaskGitRun, TransformerConfig
from magvit2_pytorch.train.optimization import OptimizerConfig
from magvit2_pytorch.train.process import INTERRUPTED
from magvit2_pytorch.train.tokenizer import TokenizerRun

ROOT = Path(__file__).parents[1]
NUM_KILLS = 20
NUM_STEPS = 40
RESULTS = {"tokenizer": "tokenizer", "maskgit": "pipeline"}
PATIENCE = 300.0  # seconds for any command
DISK = 2**20  # bytes of the small disk besides checkpoints


def equal(what: str, is_equal: bool) -> Measured:
    return Measured(f"{what}: equal (1: yes)", float(is_equal), low=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=[*PARTS], default=[*PARTS], help="default: all")
    parser.add_argument("--stages", nargs="+", choices=[*RESULTS], default=[*RESULTS], help="default: both")
    parser.add_argument("--num-kills", type=int, default=NUM_KILLS, help="of the part `kills`")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_disturbed(*arguments.child)
        return
    rows: list[Measured] = []
    with tempfile.TemporaryDirectory() as name:
        os.environ["MAGVIT2_CACHE"] = str(Path(name) / "cache")
        for stage in arguments.stages:
            training = Training(stage, Path(name), random.Random(arguments.seed), arguments.num_kills)
            for part in arguments.parts:
                for row in PARTS[part](training):
                    print(row.line(), flush=True)
                    rows.append(row)
    if not all(row.is_met for row in rows):
        sys.exit(1)


class Ended(NamedTuple):
    status: int
    output: str


class Training:
    """The command of one stage, with an undisturbed run to compare with."""

    def __init__(self, stage: str, folder: Path, random_numbers: random.Random, num_kills: int) -> None:
        self.stage = stage
        self.folder = folder / stage
        self.random = random_numbers
        self.num_kills = num_kills
        self.number = 0
        tokenizer = folder / "tokenizer" / "undisturbed"
        data = DataConfig(path="shapes", resolution=16, num_frames=5, drawn_clips=64)
        shared: dict[str, Any] = {"num_steps": NUM_STEPS, "save_every": 2, "evaluate_every": 15, "progress": False}
        optimizer = OptimizerConfig(learning_rate=1e-3, warmup_steps=5, ema_decay=0.9, matrices="muon")
        if stage == "tokenizer":
            model = TokenizerConfig(
                init_dim=16, layers=("residual", "compress_space"), codebook_size=2**6, patch_size=(2, 4, 4)
            )
            run = TokenizerRun(**shared, batch_size=2, data=data, model=model, optimizer=optimizer)
        else:
            model = TransformerConfig(width=32, depth=1, num_heads=2, dropout=0.1)
            codes = CodesConfig(passes=1)
            run = MaskGitRun(
                **shared, batch_size=4, data=data, codes=codes, tokenizer=tokenizer, model=model, optimizer=optimizer
            )
        self.config = folder / f"{stage}.json"
        write_json(self.config, config_to_dict(run))
        if stage == "maskgit" and not tokenizer.exists():
            Training("tokenizer", folder, random_numbers, 0)
        self.undisturbed = self.folder / "undisturbed"
        started = time.monotonic()
        self.finish(self.undisturbed)
        self.seconds = time.monotonic() - started
        begun = self.start(self.folder / "timed")
        wait_for_line(begun, ", steps ")
        started = time.monotonic()
        ended(begun)
        self.seconds_of_steps = time.monotonic() - started

    def command(self, output_dir: Path, *options: str) -> list[str]:
        script = ROOT / "train" / f"{self.stage}.py"
        return [str(script), "--config", str(self.config), "--output-dir", str(output_dir), *options]

    def start(self, output_dir: Path, *options: str, disturbance: str = "", **environment: str) -> "Process":
        """Start the command, or resume it. A disturbance is an argument of `run_disturbed`."""
        command = self.command(output_dir, *options)
        if disturbance:
            command = [__file__, "--child", disturbance, *command]
        return subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )

    def finish(self, output_dir: Path, *options: str, disturbance: str = "") -> Ended:
        """Run the command to its end, without kills."""
        result = ended(self.start(output_dir, *options, disturbance=disturbance))
        if result.status:
            raise RuntimeError(f"{self.stage} ended with status {result.status}:\n{result.output}")
        return result

    def new_folder(self) -> Path:
        self.number += 1
        return self.folder / f"run{self.number}"

    def is_equal(self, output_dir: Path, to: Path | None = None) -> bool:
        """Return whether a result is that of the undisturbed run."""
        theirs, ours = ((of or self.undisturbed) / RESULTS[self.stage] for of in (to, output_dir))
        names = sorted(path.relative_to(theirs) for path in theirs.rglob("*") if path.is_file())
        return bool(names) and all(filecmp.cmp(theirs / name, ours / name, shallow=False) for name in names)


Process = subprocess.Popen[str]


def ended(process: Process) -> Ended:
    """Wait for the end of a process."""
    output, _ = process.communicate(timeout=PATIENCE)
    return Ended(process.returncode, output)


def wait_for_line(process: Process, text: str) -> str | None:
    """Read the output of a process up to a line with a text; None if the process ended before."""
    assert process.stdout is not None
    return next((line for line in process.stdout if text in line), None)


def drained(process: Process) -> None:
    """Let a process write without being read."""
    threading.Thread(target=lambda: process.stdout and process.stdout.read(), daemon=True).start()


def kills(training: Training) -> Iterator[Measured]:
    num_kills, num_runs, all_equal = 0, 0, True
    output_dir = training.new_folder()
    while num_kills < training.num_kills:
        process = training.start(output_dir)
        begun = wait_for_line(process, ", steps ")
        drained(process)
        share = 1.0 if begun is None else 1 - steps_done(begun) / NUM_STEPS
        try:
            status = process.wait(training.random.uniform(0, max(0.2, share * training.seconds_of_steps)))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            num_kills += 1
            continue
        if status:
            raise RuntimeError(f"a run that was not killed ended with status {status}")
        all_equal &= training.is_equal(output_dir)
        num_runs += 1
        output_dir = training.new_folder()
    training.finish(output_dir)
    all_equal &= training.is_equal(output_dir)
    yield Measured(
        f"{training.stage}: kills at random moments, each followed by a resume", num_kills, low=training.num_kills
    )
    yield equal(f"{training.stage}: {num_runs + 1} results after these kills", all_equal)


def steps_done(line: str) -> int:
    """Return N of a line with "steps N to M"."""
    return int(line.partition("steps ")[2].split()[0])


def points(training: Training) -> Iterator[Measured]:
    num_kills = 0
    output_dir = training.new_folder()
    for name in POINTS:
        calls = 1 if name.startswith("export") else training.random.randint(1, 4)
        result = ended(training.start(output_dir, disturbance=f"{name}:{calls}"))
        if result.status == -signal.SIGKILL:
            num_kills += 1
        elif result.status:
            raise RuntimeError(f"{name}: {result.output}")
        else:
            print(f"{training.stage}: the run ended before call {calls} of the point {name}", file=sys.stderr)
            output_dir = training.new_folder()
    training.finish(output_dir)
    yield Measured(
        f"{training.stage}: kills at points inside saving, each followed by a resume", num_kills, low=len(POINTS)
    )
    yield equal(f"{training.stage}: result after these kills", training.is_equal(output_dir))


class Pair:
    """Two processes of a run, started without a launcher, which would end both when one ends."""

    def __init__(self, training: Training, output_dir: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"ACCELERATE_USE_CPU": "true", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": str(port)}
        self.processes = [
            training.start(
                output_dir, *options, **shared, MASTER_ADDR="127.0.0.1", RANK=str(rank), LOCAL_RANK=str(rank)
            )
            for rank in range(2)
        ]

    def ended(self) -> list[Ended]:
        return [ended(process) for process in self.processes]

    def disturb(self, number: signal.Signals, after: float) -> tuple[float, Ended]:
        """Send a signal to the second process during the training. Return the seconds until the first one ended, and
        how."""
        first, second = self.processes
        wait_for_line(first, ", steps ")
        time.sleep(after)
        second.send_signal(number)
        started = time.monotonic()
        how = ended(first)
        seconds = time.monotonic() - started
        if number is not signal.SIGTERM:
            second.kill()
        ended(second)
        return seconds, how


def processes(training: Training) -> Iterator[Measured]:
    undisturbed = training.new_folder()
    Pair(training, undisturbed).ended()
    output_dir = training.new_folder()
    after = training.random.uniform(0.1, 1.0)
    seconds, _ = Pair(training, output_dir).disturb(signal.SIGKILL, after)
    yield Measured(f"{training.stage}: seconds until a process ends after the other one was killed", seconds, high=60)
    seconds, how = Pair(training, output_dir).disturb(signal.SIGTERM, after)
    yield Measured(f"{training.stage}: seconds until a process ends after SIGTERM at the other one", seconds, high=30)
    yield Measured(f"{training.stage}: its exit status", how.status, low=INTERRUPTED, high=INTERRUPTED)
    seconds, _ = Pair(training, output_dir, "--timeout", "0.3").disturb(signal.SIGSTOP, after)
    yield Measured(
        f"{training.stage}: seconds until a process gives up one that is stopped (--timeout 0.3)", seconds, high=60
    )
    Pair(training, output_dir).ended()
    is_equal = training.is_equal(output_dir, to=undisturbed)
    yield equal(f"{training.stage}: result of two processes after these disturbances", is_equal)


def disk(training: Training) -> Iterator[Measured]:
    newest = run_folder.latest_checkpoint(training.undisturbed)
    assert newest is not None
    size = sum(path.stat().st_size for path in newest.iterdir())
    place = training.new_folder()
    with small_disk(place, 2 * size + DISK) as resize:
        if resize is None:
            print(f"{training.stage}: no small disk can be mounted here, so full disks are not tried", file=sys.stderr)
            return
        output_dir = place / "run"
        result = ended(training.start(output_dir))
        yield named(training, "checkpoint", result, str(output_dir))
        resize(20 * size + 20 * DISK)
        training.finish(output_dir)
        yield equal(
            f"{training.stage}: result after a disk that was full at a checkpoint", training.is_equal(output_dir)
        )
        shutil.rmtree(output_dir / RESULTS[training.stage])
        filler = place / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        result = ended(training.start(output_dir))
        yield named(training, "export", result, str(output_dir))
        filler.unlink()
        training.finish(output_dir)
        yield equal(f"{training.stage}: result after a disk that was full at the export", training.is_equal(output_dir))


def named(training: Training, when: str, result: Ended, folder: str) -> Measured:
    """Return whether a run has ended with a message that names its folder, and without a traceback."""
    last = result.output.rstrip().rpartition("\n")[2]
    is_named = result.status == 1 and last.startswith("error: ") and folder in last
    if not is_named or "Traceback" in result.output:
        print(result.output, file=sys.stderr)
    is_plain = is_named and "Traceback" not in result.output
    return Measured(
        f"{training.stage}: disk full at the {when}: named with its folder (1: yes)", float(is_plain), low=1
    )


@contextmanager
def small_disk(place: Path, num_bytes: int) -> Iterator[Callable[[int], None] | None]:
    """Mount a file system in memory, and yield a function that changes its size; None where this is not possible."""
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True) and None
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def damage(training: Training) -> Iterator[Measured]:
    output_dir = training.new_folder()
    num_named = 0
    for step in (8, 18, 28):
        training.finish(output_dir, "--stop-after", str(step))
        newest = run_folder.latest_checkpoint(output_dir)
        assert newest is not None
        path = training.random.choice(sorted(newest.iterdir()))
        content = bytearray(path.read_bytes())
        content[training.random.randrange(len(content))] ^= 1 << training.random.randrange(8)
        path.write_bytes(content)
        result = training.finish(output_dir, "--stop-after", str(step + 4))
        num_named += f"{newest} is damaged" in result.output
    training.finish(output_dir)
    yield Measured(f"{training.stage}: checkpoints with a changed bit that are named", num_named, low=3)
    yield equal(f"{training.stage}: result after these changes", training.is_equal(output_dir))

    output_dir = training.new_folder()
    process = training.start(output_dir)
    wait_for_line(process, ", steps ")
    drained(process)
    time.sleep(training.random.uniform(0.2, 0.8) * training.seconds_of_steps)
    shutil.rmtree(output_dir, ignore_errors=True)
    process.wait(PATIENCE)
    training.finish(output_dir)
    yield equal(f"{training.stage}: result after its folder was removed", training.is_equal(output_dir))


def nan(training: Training) -> Iterator[Measured]:
    if training.stage != "tokenizer":
        return
    undisturbed, output_dir = training.new_folder(), training.new_folder()
    training.finish(undisturbed, disturbance="nan:7")
    for step in (10, 20):
        training.finish(output_dir, "--stop-after", str(step), disturbance="nan:7")
    result = training.finish(output_dir, disturbance="nan:7")
    skipped = result.output.count("is skipped")
    expected = sum(number % 7 == 6 for number in range(20, NUM_STEPS))
    yield Measured(
        "tokenizer: steps with a NaN batch that are skipped, of the last 20", skipped, low=expected, high=expected
    )
    yield equal("tokenizer: result with NaN batches after two stops", training.is_equal(output_dir, to=undisturbed))


PARTS: dict[str, Callable[[Training], Iterator[Measured]]] = {
    part.__name__: part for part in (kills, points, processes, disk, damage, nan)
}


def run_disturbed(disturbance: str, script: str, *arguments: str) -> None:
    """Run a training script in this process, with a bug planted. `POINT:N` kills the process at the N-th call."""
    name, _, number = disturbance.partition(":")
    if name == "nan":
        plant_nan(int(number))
    else:
        POINTS[name](int(number))
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(owner: Any, name: str, *, after: bool = False, half_written: int | None = None) -> Callable[[int], None]:
    """Return what plants a kill at the N-th call of a function.

    Args:
        after: kill after the function has done its work.
        half_written: number of the argument that is a path. Kill when half of its file is written.
    """

    def plant(number: int) -> None:
        original, calls = getattr(owner, name), 0

        def killing(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls < number:
                return original(*arguments, **options)
            if after or half_written is not None:
                original(*arguments, **options)
            if half_written is not None:
                path = Path(arguments[half_written])
                os.truncate(path, path.stat().st_size // 2)
            die()

        setattr(owner, name, killing)

    return plant


def kill_in_removal(number: int) -> None:
    """Kill when the first file of an old checkpoint has been removed."""
    original, calls = shutil.rmtree, 0

    def killing(path: Path, *arguments: Any, **options: Any) -> None:
        nonlocal calls
        calls += (Path(path) / run_folder.DIGESTS_NAME).is_file()  # a checkpoint that is complete
        if calls >= number:
            next(Path(path).iterdir()).unlink()
            die()
        original(path, *arguments, **options)

    shutil.rmtree = killing  # type: ignore[assignment]


POINTS: dict[str, Callable[[int], None]] = {
    "averaged weights half written": kill_at(safetensors.torch, "save_model", half_written=1),
    "optimizer half written": kill_at(torch, "save", half_written=1),
    "before a flush of a file": kill_at(os, "fsync"),
    "after a flush of a file": kill_at(os, "fsync", after=True),
    "before the rename of a checkpoint": kill_at(Path, "rename"),
    "after the rename of a checkpoint": kill_at(Path, "rename", after=True),
    "after the flush of the folder": kill_at(run_folder, "flush_folder", after=True),
    "before old checkpoints are removed": kill_at(run_folder, "is_intact"),
    "in the removal of a checkpoint": kill_in_removal,
    "before the rename of a file": kill_at(Path, "replace"),
    "after the rename of a file": kill_at(Path, "replace", after=True),
    "export of the result": kill_at(VideoTokenizer, "save_pretrained"),
}


def plant_nan(every: int) -> None:
    """Make every n-th batch NaN."""
    batch = TrainingBatches.batch

    def poisoned(self: TrainingBatches, index: int) -> dict[str, torch.Tensor]:
        clean = batch(self, index)
        return clean | {"video": clean["video"] * float("nan")} if index % every == every - 1 else clean

    TrainingBatches.batch = poisoned  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
