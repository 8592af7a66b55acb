"""What a run's folder keeps, and how a run in it is continued."""

import errno
import os
import shutil
import signal
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors import SafetensorError

from magvit2_pytorch.files import read_json
from magvit2_pytorch.tokenizer import DiscriminatorConfig
from magvit2_pytorch.train import maskgit, room, run_folder, tokenizer
from magvit2_pytorch.train.adversarial import AdversarialConfig
from magvit2_pytorch.train.maskgit import MaskGitRun
from magvit2_pytorch.train.optimization import AdamWConfig, ExponentialMovingAverage
from magvit2_pytorch.train.process import SignalInterruption
from magvit2_pytorch.train.run_folder import RunFolder
from magvit2_pytorch.train.session import RunConfig
from magvit2_pytorch.train.tokenizer import TokenizerRun


def after_step(step: int, action: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something when the weights of a step have been averaged, which is before its evaluation and checkpoint."""
    update = ExponentialMovingAverage.update

    def updated(self: ExponentialMovingAverage[Any], model: Any, number: int) -> None:
        update(self, model, number)
        if number + 1 == step:
            action()

    monkeypatch.setattr(ExponentialMovingAverage, "update", updated)


def new_process() -> None:
    """Forget accelerate's state, which lasts for a process."""
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def checkpoints(run: RunConfig) -> list[str]:
    return sorted(path.name for path in (run.output_dir / "checkpoints").glob("step-*"))


def result_of(run: TokenizerRun) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run.output_dir / "tokenizer" / "model.safetensors")


def extensible(run: TokenizerRun, schedule: Any = "constant") -> TokenizerRun:
    return replace(run, optimizer=replace(run.optimizer, schedule=schedule))


def test_a_restart_begins_in_a_new_folder(tokenizer_run: TokenizerRun) -> None:
    assert tokenizer.train(replace(tokenizer_run, stop_after=2)) is None
    again = replace(tokenizer_run, restart_in=tokenizer_run.output_dir.with_name("again"))

    assert tokenizer.train(again) == tokenizer_run.output_dir.with_name("again") / "tokenizer"

    assert checkpoints(tokenizer_run) == ["step-00000002"]  # the first run is left as it was


def test_a_finished_run_is_exported_again(tokenizer_run: TokenizerRun) -> None:
    tokenizer.train(tokenizer_run)
    before = result_of(tokenizer_run)
    shutil.rmtree(tokenizer_run.output_dir / "tokenizer")  # as if the process was killed before the export

    tokenizer.train(tokenizer_run)

    assert all(torch.equal(weight, before[name]) for name, weight in result_of(tokenizer_run).items())


def test_more_steps_under_a_constant_rate_are_the_same_run(tokenizer_run: TokenizerRun) -> None:
    long = extensible(replace(tokenizer_run, num_steps=8))
    short = replace(long, num_steps=4, output_dir=long.output_dir.with_name("extended"))

    tokenizer.train(long)
    tokenizer.train(short)
    tokenizer.train(replace(short, num_steps=8))

    assert all(torch.equal(weight, result_of(long)[name]) for name, weight in result_of(short).items())


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_steps_that_would_change_earlier_ones_are_refused(tokenizer_run: TokenizerRun, schedule: str) -> None:
    run = extensible(tokenizer_run, schedule)
    tokenizer.train(replace(run, stop_after=2))

    with pytest.raises(ValueError, match=r"num_steps was 6 and is now"):
        tokenizer.train(replace(run, num_steps=8 if schedule == "cosine" else 5))


def test_every_schedule_of_a_run_decides_whether_it_may_be_extended(
    tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun
) -> None:
    run = extensible(tokenizer_run, "wsd")
    discriminators = AdversarialConfig(discriminators=(DiscriminatorConfig(),))
    stable = replace(discriminators, optimizer=AdamWConfig(schedule="wsd"))

    assert not tokenizer_run.may_be_extended
    assert run.may_be_extended
    assert not replace(run, adversarial=discriminators).may_be_extended
    assert replace(run, adversarial=stable).may_be_extended
    assert not maskgit_run.may_be_extended
    assert replace(maskgit_run, optimizer=run.optimizer).may_be_extended


def test_a_batch_may_be_divided_in_another_way(tokenizer_run: TokenizerRun) -> None:
    # The entropies of LFQ are those of each batch.
    model = replace(tokenizer_run.model, quantizer="fsq", codebook_size=64, fsq_levels=(4, 4, 4))
    run = replace(tokenizer_run, batch_size=4, model=model)
    whole = replace(run, output_dir=run.output_dir.with_name("whole"))
    tokenizer.train(whole)
    tokenizer.train(replace(run, stop_after=3))

    tokenizer.train(replace(run, batch_size=2, gradient_accumulation=2))

    scores, of_whole = (read_json(folder / "metrics.json") for folder in (run.output_dir, whole.output_dir))
    assert scores["psnr"] == pytest.approx(of_whole["psnr"], abs=1e-3)
    assert scores["psnr"] != of_whole["psnr"]  # rounding errors differ, so the division did change


def test_another_number_of_clips_in_a_step_is_another_run(tokenizer_run: TokenizerRun) -> None:
    tokenizer.train(replace(tokenizer_run, stop_after=2))

    with pytest.raises(ValueError, match=r"other inputs: clips_per_step was 2 and is now 4"):
        tokenizer.train(replace(tokenizer_run, gradient_accumulation=2))


def test_processes_share_the_batch_evenly(tokenizer_run: TokenizerRun) -> None:
    run = replace(tokenizer_run, batch_size=6)

    assert [run.clips_per_process(number) for number in (1, 2, 3)] == [6, 3, 2]
    assert replace(run, batch_size_per_process=5).clips_per_process(4) == 5
    with pytest.raises(ValueError, match=r"batch_size must be a multiple of the number of processes, 4, got 6"):
        run.clips_per_process(4)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
def test_workers_may_change(tokenizer_run: TokenizerRun) -> None:
    whole = replace(tokenizer_run, output_dir=tokenizer_run.output_dir.with_name("whole"))
    tokenizer.train(whole)
    tokenizer.train(replace(tokenizer_run, stop_after=3))

    tokenizer.train(replace(tokenizer_run, num_workers=2))

    assert all(torch.equal(weight, result_of(whole)[name]) for name, weight in result_of(tokenizer_run).items())


def test_a_change_of_precision_must_be_accepted(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer.train(replace(tokenizer_run, stop_after=2))
    new_process()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")

    with pytest.raises(ValueError, match=r'mixed_precision was "no" and is now "bf16".*--allow-changed-precision'):
        tokenizer.train(tokenizer_run)
    assert tokenizer.train(replace(tokenizer_run, allow_changed_precision=True)) is not None

    assert 'computed in another way: arithmetic.mixed_precision was "no" and is now "bf16"' in caplog.text
    assert read_json(tokenizer_run.output_dir / "inputs.json")["arithmetic"]["mixed_precision"] == "bf16"


def test_the_precision_of_stage_two_may_change_with_that_of_its_codes(
    tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer.train(tokenizer_run)
    maskgit.train(replace(maskgit_run, stop_after=2))
    new_process()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")

    assert maskgit.train(replace(maskgit_run, allow_changed_precision=True)) is not None


def test_a_checkpoint_without_a_gradient_scaler_is_loaded_by_a_run_that_has_one(tokenizer_run: TokenizerRun) -> None:
    model = torch.nn.Linear(2, 2)
    accelerator = Accelerator(cpu=True)
    accelerator.prepare(model)
    folder = RunFolder(tokenizer_run.output_dir, tokenizer_run)
    folder.save(accelerator, model, step=3)

    accelerator.scaler = scaler = torch.amp.GradScaler("cpu")

    assert folder.load(accelerator, model) == 3
    assert accelerator.scaler is scaler


def test_as_many_checkpoints_are_kept_as_asked(tokenizer_run: TokenizerRun) -> None:
    tokenizer.train(replace(tokenizer_run, save_every=1, keep_last=3))

    assert checkpoints(tokenizer_run) == ["step-00000004", "step-00000005", "step-00000006"]


def scored(monkeypatch: pytest.MonkeyPatch, scores: dict[int, float]) -> None:
    """Give the evaluations after some steps a score."""
    evaluate = tokenizer.evaluate

    def evaluated(session: Any, averaged: Any, trained: Any, heldout: Any, step: int) -> dict[str, float]:
        return evaluate(session, averaged, trained, heldout, step) | ({"psnr": scores[step]} if step in scores else {})

    monkeypatch.setattr(tokenizer, "evaluate", evaluated)


def test_the_best_checkpoint_is_kept_across_interruptions(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = replace(tokenizer_run, num_steps=8, save_every=2, evaluate_every=1, keep_last=1, keep_best=True)
    scored(monkeypatch, {1: 10.0, 2: 9.0, 3: 12.0, 4: 11.0, 5: 11.5, 6: 3.0, 7: 12.0})

    tokenizer.train(replace(run, stop_after=5))
    assert checkpoints(run) == ["step-00000003", "step-00000005"]
    tokenizer.train(run)

    assert checkpoints(run) == ["step-00000003", "step-00000008"]
    assert read_json(run.output_dir / "checkpoints" / "best.json") == {"step": 3, "score": 12.0}


def test_the_evaluation_at_the_end_can_be_the_best(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {4: 9.0, 6: 12.0})

    tokenizer.train(replace(tokenizer_run, keep_best=True))

    assert read_json(tokenizer_run.output_dir / "checkpoints" / "best.json") == {"step": 6, "score": 12.0}


def test_without_keep_best_no_checkpoint_is_saved_for_its_score(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {1: 10.0})

    tokenizer.train(replace(tokenizer_run, evaluate_every=1, save_every=6))

    assert checkpoints(tokenizer_run) == ["step-00000006"]


def test_an_error_is_kept_with_its_traceback(tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ValueError("an error in the loop")

    after_step(2, fail, monkeypatch)
    with pytest.raises(ValueError, match="an error in the loop") as caught:
        tokenizer.train(tokenizer_run)

    log = tokenizer_run.output_dir / "error.log"
    assert caught.value.__notes__ == [f"The traceback is in {log}."]
    assert "process 0\nTraceback (most recent call last)" in log.read_text()
    assert log.read_text().rstrip().endswith("ValueError: an error in the loop")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), SafetensorError("No space left")])
def test_a_full_disk_at_the_export_is_named_with_the_folder(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    save = safetensors.torch.save_model

    def save_on_a_full_disk(model: torch.nn.Module, path: str, **settings: Any) -> None:
        if "checkpoints" not in path:
            raise error
        save(model, path, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_model", save_on_a_full_disk)
        with pytest.raises(OSError, match="No space left") as caught:
            tokenizer.train(tokenizer_run)
    said = " ".join([str(caught.value), *caught.value.__notes__])
    assert f"The run is in {tokenizer_run.output_dir}; the same command continues it." in said
    assert not (tokenizer_run.output_dir / "tokenizer" / "model.safetensors").exists()

    assert tokenizer.train(tokenizer_run) is not None


def test_a_full_disk_at_the_start_is_named_with_the_folder(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer.train(replace(tokenizer_run, stop_after=2))

    def write(path: Path, content: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_json", write)
        with pytest.raises(OSError, match=f"{tokenizer_run.output_dir} cannot be written: .* No space left"):
            tokenizer.train(tokenizer_run)

    assert tokenizer.train(tokenizer_run) is not None


def test_a_refused_start_writes_no_log(tokenizer_run: TokenizerRun) -> None:
    tokenizer.train(replace(tokenizer_run, stop_after=2))

    with pytest.raises(ValueError, match="other settings"):
        tokenizer.train(replace(tokenizer_run, seed=1))

    assert not (tokenizer_run.output_dir / "error.log").exists()


def test_a_checkpoint_without_room_is_not_begun(tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")  # as `shutil.disk_usage`
    run = replace(tokenizer_run, save_every=2)
    free = [2**40, 2**19]  # bytes, at the first and at the second checkpoint
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: usage(2**40, 0, free.pop(0)))

    with pytest.raises(
        OSError, match=r"after step 4 cannot be saved .* it needs \d+ MiB, but .*step-00000002 is intact\n"
    ):
        tokenizer.train(run)

    assert [path.name for path in (run.output_dir / "checkpoints").iterdir()] == ["step-00000002"]


def test_the_room_for_a_checkpoint_is_its_size(tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch) -> None:
    needed: list[int] = []
    count = room.checkpoint_bytes

    def counted(*models: Any) -> int:
        needed.append(count(*models))
        return needed[-1]

    monkeypatch.setattr(room, "checkpoint_bytes", counted)
    discriminators = AdversarialConfig(discriminators=(DiscriminatorConfig(width=8),))
    tokenizer.train(replace(tokenizer_run, num_steps=2, adversarial=discriminators))

    folder = tokenizer_run.output_dir / "checkpoints" / "step-00000002"
    written = sum(path.stat().st_size for path in folder.iterdir())
    assert needed[-1] - room.SPARE <= written <= needed[-1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard, which goes on
def test_a_folder_that_is_removed_is_made_again(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = replace(tokenizer_run, output_dir=tokenizer_run.output_dir.with_name("whole"))
    tokenizer.train(whole)
    with monkeypatch.context() as patch:
        after_step(3, lambda: shutil.rmtree(tokenizer_run.output_dir), patch)
        tokenizer.train(replace(tokenizer_run, save_every=2, stop_after=4))
    assert "was removed while the run was going on" in caplog.text

    tokenizer.train(tokenizer_run)

    assert all(torch.equal(weight, result_of(whole)[name]) for name, weight in result_of(tokenizer_run).items())


def test_an_interruption_ends_an_evaluation_at_once(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = replace(tokenizer_run, evaluate_every=2, save_every=6)
    with monkeypatch.context() as patch:

        def interrupted(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("the evaluation went on")

        patch.setattr(tokenizer, "evaluate_tokenizer", interrupted)
        assert tokenizer.train(run, SignalInterruption()) is None
    assert checkpoints(run) == ["step-00000002"]

    assert tokenizer.train(run) is not None


def test_an_interruption_ends_the_drawing_of_samples_at_once(
    tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer.train(tokenizer_run)

    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the drawing went on")

    monkeypatch.setattr(maskgit, "sample", interrupted)

    assert maskgit.train(maskgit_run, SignalInterruption()) is None
    assert checkpoints(maskgit_run) == ["step-00000004"]


def test_a_final_evaluation_is_done_although_an_interruption_was_asked_for(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    interruption = SignalInterruption()
    after_step(6, lambda: os.kill(os.getpid(), signal.SIGTERM), monkeypatch)

    assert tokenizer.train(tokenizer_run, interruption) is not None

    assert read_json(tokenizer_run.output_dir / "metrics.json").keys() >= {"psnr", "codes_used"}
