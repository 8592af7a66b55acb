"""The output folder of a run: config, checkpoints and lock."""

import hashlib
import json
import logging
import os
import re
import shutil
import traceback
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from accelerate import Accelerator
from accelerate.utils import SCALER_NAME, broadcast_object_list
from filelock import FileLock, Timeout
from torch import nn

from ..configs import config_from_dict, config_to_dict
from ..files import read_json, write_json
from ..messages import printable
from .data.report import SKIPPED_NAME
from .metrics_file import METRICS_NAME
from .room import check_room

Run = TypeVar("Run")

logger = logging.getLogger(__name__)

CONFIG_NAME = "config.json"
INPUTS_NAME = "inputs.json"
LOCK_NAME = ".lock"
CHECKPOINTS_NAME = "checkpoints"
BEST_NAME = "best.json"  # in the folder of checkpoints: step and score of the best one
LOGS_NAME = "tensorboard"
ERRORS_NAME = "error.log"
CHECKPOINT = re.compile(r"step-\d+")
DIGESTS_NAME = "digests.json"  # in a checkpoint
UNFINISHED = (".unfinished-", ".step-")  # beginnings of our own temporary names
# Files of a run without a checkpoint.
NAMES_AT_START = {CONFIG_NAME, INPUTS_NAME, LOCK_NAME, LOGS_NAME, METRICS_NAME, SKIPPED_NAME, ERRORS_NAME, ".aim"}
# Inputs of every run. Older versions recorded only the first.
NUM_PROCESSES = "num_processes"
CLIPS_PER_STEP = "clips_per_step"  # of all processes and batches of a step
ARITHMETIC = "arithmetic"  # precision, compiler and kind of device
# Settings and inputs that may differ between a run and its continuation: they do not change what is computed. The
# inputs have a digest of the data, so its place may change, and the clips per step, so their division may change.
MAY_CHANGE = {
    NUM_PROCESSES,
    *("batch_size", "batch_size_per_process", "gradient_accumulation"),
    *("num_workers", "timeout", "max_bad_steps", "progress"),
    "compile",  # recorded as a part of the arithmetic
    *("log_every", "trackers", "evaluate_every", "evaluation_clips"),
    *("save_every", "keep_last", "keep_best", "stop_after"),
    *("output_dir", "restart_in", "allow_changed_precision"),
    *(f"data.{name}" for name in ("path", "heldout", "root", "column", "label_column", "split", "subset", "cache_dir")),
    *("dry_run", "peak_tflops"),
}


class RunFolder:
    """The output folder of a run.

    `config.json` is the config of the run, `inputs.json` holds digests of everything else that the run depends on, and
    `checkpoints/step-N/` is the state after N optimizer steps. Checkpoints are only for resuming. Do not
    load them from an untrusted source: PyTorch reads parts of them with pickle.

    The run is any config with the fields of `session.RunConfig`.
    """

    def __init__(self, folder: Path, run: Any) -> None:
        """Check that the run can use the folder. Nothing is written yet.

        Raises:
            ValueError: if the folder holds another run, any run although `run.restart_in` asks for a new one, or files
                that are not of a run. A run without a checkpoint can be replaced.
        """
        self.folder = folder
        self.checkpoints = folder / CHECKPOINTS_NAME
        self.run = run
        self.config = config_to_dict(run)
        self.inputs: dict[str, Any] | None = None
        self.lock = FileLock(folder / LOCK_NAME)
        self.check()

    def check(self) -> None:
        """Check that the run can use the folder. Raises the errors of `__init__`."""
        if self.is_unused():
            return
        path = self.folder / CONFIG_NAME
        if not (path.is_file() and (self.folder / INPUTS_NAME).is_file()):
            raise ValueError(f"{self.folder} is not empty and holds no run; choose another --output-dir")
        if self.run.restart_in is not None:
            raise ValueError(
                f"{self.folder} already holds a run ({self.progress()}), and --restart-in needs a new folder; "
                f"--output-dir {self.folder} continues this run"
            )
        before = read_config(path, type(self.run))
        allowed = {"num_steps"} if self.run.may_be_extended and self.run.num_steps > before.num_steps else set()
        if changed := differences(config_to_dict(before), self.config, allowed):
            raise ValueError(
                f"{self.folder} holds a run with other settings, so it cannot be continued: {'; '.join(changed)}. "
                "Start a new run with --restart-in NEW_FOLDER"
            )

    def claim(self, inputs: dict[str, Any]) -> None:
        """Lock the folder and write the config and the inputs. Called on the main process.

        Args:
            inputs: what the run depends on besides its config. A run can be resumed only with the same inputs.

        Raises:
            ValueError: if another process trains in the folder, or the run in it had other inputs.
            OSError: if it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock.acquire(timeout=0)
            self.check()  # again: another process may have used the folder since
            self.begin(inputs)
        except Timeout as error:
            raise ValueError(f"another process is training in {self.folder}") from error
        except ValueError:
            self.release()
            raise
        except OSError as error:
            self.release()
            raise OSError(f"{self.folder} cannot be written: {error}. What it holds is left as it was") from error

    def begin(self, inputs: dict[str, Any]) -> None:
        """Write the config and the inputs, with the lock held."""
        path = self.folder / INPUTS_NAME
        sweep(self.folder)
        sweep(self.checkpoints)
        if self.is_unused():
            shutil.rmtree(self.folder / LOGS_NAME, ignore_errors=True)  # TensorBoard would join the curves of two runs
        elif path.is_file():
            self.check_inputs(read_json(path), inputs)
        self.inputs = inputs
        self.write_run()

    def write_run(self) -> None:
        """Write the config and the inputs."""
        write_json(self.folder / INPUTS_NAME, self.inputs)
        write_json(self.folder / CONFIG_NAME, self.config)

    def check_inputs(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        """
        Raises:
            ValueError: if a run with the inputs `before` cannot be continued with those of `now`.
        """
        before = {CLIPS_PER_STEP: now.get(CLIPS_PER_STEP)} | before
        before[ARITHMETIC] = now.get(ARITHMETIC, {}) | before.get(ARITHMETIC, {})
        if changed := differences(before, now, {name for name in flat(now) if name.startswith(f"{ARITHMETIC}.")}):
            raise ValueError(f"the run in {self.folder} cannot be continued with other inputs: {'; '.join(changed)}")
        if changed := differences(before, now):
            if not self.run.allow_changed_precision:
                raise ValueError(
                    f"the run in {self.folder} was computed in another way: {'; '.join(changed)}. Continue it as "
                    "before, or accept the change with --allow-changed-precision"
                )
            logger.warning("from now on, the run is computed in another way: %s", "; ".join(changed))

    def is_unused(self) -> bool:
        """Whether the folder is empty, or holds only the files of a run without a checkpoint."""
        if not self.folder.exists():
            return True
        if not self.folder.is_dir():
            return False
        names = {path.name for path in self.folder.iterdir() if not path.name.startswith(UNFINISHED)}
        if names <= {LOCK_NAME}:
            return True
        # Files of other programs can have these names, so the content of the inputs decides.
        return INPUTS_NAME in names <= NAMES_AT_START and NUM_PROCESSES in read_json(self.folder / INPUTS_NAME)

    def release(self) -> None:
        """Release the lock."""
        self.lock.release()

    def progress(self) -> str:
        """Return how many steps of the run are saved, as text."""
        latest = self.latest()
        return f"{step_of(latest)} steps saved" if latest else "nothing saved yet"

    def latest(self) -> Path | None:
        """Return the newest checkpoint."""
        return latest_checkpoint(self.folder)

    def save(self, accelerator: Accelerator, ema: nn.Module, step: int) -> None:
        """Save the state after `step` steps, and delete old checkpoints when the new one has been read back.

        Called on all processes. The checkpoint appears when it is complete and on the disk.

        Raises:
            ValueError: if a weight is NaN or infinite. Nothing is saved then.
            OSError: if it cannot be written. Older checkpoints are kept.
        """
        final = self.checkpoints / f"step-{step:08d}"
        if final.exists():
            return
        check_weights([*accelerator._models, ema], step)
        aside = self.checkpoints / f".{final.name}"
        if accelerator.is_main_process:
            if self.inputs is not None and not (self.folder / CONFIG_NAME).is_file():
                logger.warning("%s was removed while the run was going on; it is made again", self.folder)
                self.checkpoints.mkdir(parents=True, exist_ok=True)
                self.write_run()
            shutil.rmtree(aside, ignore_errors=True)
        accelerator.wait_for_everyone()
        try:
            check_room(self.checkpoints, accelerator, ema)
            accelerator.save_state(str(aside))
            if accelerator.is_main_process:
                safetensors.torch.save_model(ema, str(aside / "ema.safetensors"))
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                write_digests(aside)
                aside.rename(final)
                flush_folder(self.checkpoints)
        except (OSError, RuntimeError, safetensors.SafetensorError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            latest = self.latest()
            intact = f"{latest} is intact" if latest else "there is no checkpoint yet"
            raise OSError(
                f"the checkpoint after step {step} cannot be saved in {self.checkpoints}: {error}; {intact}"
            ) from error
        if accelerator.is_main_process and is_intact(final):
            best = self.best()
            for old in checkpoints_in(self.folder)[: -self.run.keep_last]:
                if best is None or step_of(old) != best[0]:
                    shutil.rmtree(old)
        accelerator.wait_for_everyone()

    def best(self) -> tuple[int, float] | None:
        """Return step and score of the best checkpoint, if the run keeps it. A higher score is better."""
        path = self.checkpoints / BEST_NAME
        if not (self.run.keep_best and path.is_file()):
            return None
        best = read_json(path)
        return int(best["step"]), float(best["score"])

    def mark_best(self, step: int, score: float) -> None:
        """Remember the checkpoint after `step` steps as the best one, so that it is kept."""
        write_json(self.checkpoints / BEST_NAME, {"step": step, "score": score})

    def log_error(self, error: BaseException, rank: int) -> Path | None:
        """Append the traceback of an error in process `rank` to `error.log`, and return its path; None if it cannot be
        written."""
        path = self.folder / ERRORS_NAME
        time = datetime.now().astimezone().isoformat(timespec="seconds")
        lines = traceback.format_exception(error)
        with suppress(OSError), path.open("a", encoding="utf-8") as file:
            file.write(f"{time}, process {rank}\n{''.join(lines)}\n")
            return path
        return None

    def load(self, accelerator: Accelerator, ema: nn.Module) -> int:
        """Load the newest checkpoint that is intact, if there is one, and return its number of optimizer steps, or 0.

        Called on all processes; the main process chooses for all.

        Raises:
            ValueError: if there are checkpoints, but none is intact.
        """
        chosen, error = None, None
        if accelerator.is_main_process:
            try:
                chosen = self.newest_intact()
            except ValueError as none_is_intact:
                error = str(none_is_intact)
        chosen, error = broadcast_object_list([chosen, error])
        if error is not None:
            raise ValueError(error)
        if chosen is None:
            return 0
        scaler = accelerator.scaler
        if not (chosen / SCALER_NAME).is_file():  # the run was not in fp16 before
            accelerator.scaler = None
        accelerator.load_state(str(chosen))
        accelerator.scaler = scaler
        safetensors.torch.load_model(ema, str(chosen / "ema.safetensors"))
        logger.info("continuing after step %d, from %s", step_of(chosen), chosen)
        return step_of(chosen)

    def newest_intact(self) -> Path | None:
        """Return the newest checkpoint whose files are what was written. Damaged ones are named and passed over."""
        found = checkpoints_in(self.folder)
        for checkpoint in reversed(found):
            if is_intact(checkpoint):
                return checkpoint
            logger.warning("%s is damaged, so the checkpoint before it is used", checkpoint)
        if found:
            raise ValueError(
                f"no checkpoint in {self.checkpoints} is intact; choose another --output-dir to start again"
            )
        return None


def read_config(path: Path, run_class: type[Run]) -> Run:
    """Return the run of a `config.json`. Settings that are missing in older versions get their defaults.

    Raises:
        ValueError: if it is not a config of `run_class`.
    """
    settings = read_json(path)
    settings.pop("resume", None)  # of older versions, which did not resume by themselves
    return config_from_dict(run_class, settings, where=str(path))


def sweep(folder: Path) -> None:
    """Delete what a process that was killed has left unfinished in a folder."""
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(UNFINISHED):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def check_weights(models: Sequence[nn.Module], step: int) -> None:
    """
    Raises:
        ValueError: if a weight is NaN or infinite.
    """
    weights = [parameter.detach() for model in models for parameter in model.parameters()]
    if not all(torch.stack([weight.isfinite().all() for weight in weights]).tolist()):
        raise ValueError(
            f"the weights are NaN or infinite after step {step}, so they are not saved; the checkpoints of earlier "
            "steps are kept. See docs/troubleshooting.md for what to change"
        )


def write_digests(folder: Path) -> None:
    """Flush the files of a checkpoint to the disk, and write their digests."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    write_json(folder / DIGESTS_NAME, digests)
    flush_folder(folder)


def is_intact(checkpoint: Path) -> bool:
    """Return whether the files of a checkpoint are what was written. Older versions wrote no digests."""
    try:
        digests = read_json(checkpoint / DIGESTS_NAME)
        for name, digest in digests.items():
            with (checkpoint / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    return False
    except FileNotFoundError as error:
        return Path(str(error.filename)).name == DIGESTS_NAME and (checkpoint / "ema.safetensors").is_file()
    except (OSError, ValueError):
        return False
    return True


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system can do this."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def run_facts(folder: Path) -> dict[str, str]:
    """Return what `magvit2 info` prints about the training run in a folder; nothing if there is none."""
    if not ((folder / CONFIG_NAME).is_file() and (folder / INPUTS_NAME).is_file()):
        return {}
    config, latest = read_json(folder / CONFIG_NAME), latest_checkpoint(folder)
    models = [name for name in ("tokenizer", "maskgit", "pipeline") if (folder / name).is_dir()]
    return {
        "training run": printable(folder),
        "steps saved": f"{step_of(latest) if latest else 0} of {config.get('num_steps')}",
        "models": ", ".join(models) or "none yet",
    } | {name: json.dumps(value) for name, value in flat(config).items() if name != "num_steps"}


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of a run."""
    return checkpoints_in(folder)[-1] if checkpoints_in(folder) else None


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, in order. Other names in its folder are ignored."""
    found = [path for path in (folder / CHECKPOINTS_NAME).glob("step-*") if CHECKPOINT.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the settings of a nested config under their names on the command line.

    >>> flat({"seed": 0, "model": {"width": 8}})
    {'seed': 0, 'model.width': 8}
    """
    settings: dict[str, Any] = {}
    for name, value in config.items():
        settings |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return settings


def differences(before: Mapping[str, Any], now: Mapping[str, Any], allowed: Collection[str] = ()) -> list[str]:
    """Describe the settings in which two configs differ, except for those that may change.

    Args:
        allowed: names of further settings that may change.
    """
    was, is_now = flat(before), flat(now)
    return [
        f"{name} was {json.dumps(was.get(name))} and is now {json.dumps(is_now.get(name))}"
        for name in sorted({*was, *is_now} - MAY_CHANGE - set(allowed))
        if was.get(name) != is_now.get(name)
    ]
