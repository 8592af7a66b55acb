"""Both stages as functions; `test_commands.py` starts them as commands."""

import errno
import json
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import safetensors.torch
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from PIL import Image
from torch import Tensor

from magvit2_pytorch import VideoGenerationPipeline, VideoTokenizer
from magvit2_pytorch.configs import config_to_dict
from magvit2_pytorch.files import read_json, write_json
from magvit2_pytorch.pipelines.media.video_files import write_frames
from magvit2_pytorch.tokenizer import DiscriminatorConfig
from magvit2_pytorch.train import codes, maskgit, tokenizer
from magvit2_pytorch.train.adversarial import AdversarialConfig, Adversary
from magvit2_pytorch.train.annealing import AnnealingConfig
from magvit2_pytorch.train.bad_steps import BadSteps
from magvit2_pytorch.train.codes import CodesConfig
from magvit2_pytorch.train.data import Clips, TrainingBatches
from magvit2_pytorch.train.maskgit import MaskGitRun
from magvit2_pytorch.train.metrics.reconstruction import ReconstructionScores
from magvit2_pytorch.train.metrics_file import read_records
from magvit2_pytorch.train.optimization import AdamWConfig, ExponentialMovingAverage
from magvit2_pytorch.train.process import SignalInterruption
from magvit2_pytorch.train.run_folder import RunFolder
from magvit2_pytorch.train.session import Interruption, create_accelerator
from magvit2_pytorch.train.task_mix import WeightedTask
from magvit2_pytorch.train.tokenizer import TokenizerRun


@pytest.fixture
def maskgit_run(maskgit_run: MaskGitRun) -> MaskGitRun:
    """With few rows of codes, for speed."""
    return replace(maskgit_run, codes=CodesConfig(passes=2))


def weights_in(folder: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def assert_equal_weights(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def finished(result: Path | None) -> Path:
    assert result is not None
    return result


def losses_of(run: TokenizerRun | MaskGitRun) -> list[dict[str, Any]]:
    """The losses and scores that a run has logged, without times."""
    return [
        {name: value for name, value in record.items() if not name.startswith(("speed/", "time"))}
        for record in read_records(run.output_dir / "metrics.jsonl")
    ]


def after_step(step: int, action: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Do something in the loop, after an optimizer step."""
    update = ExponentialMovingAverage.update

    def acting(self: ExponentialMovingAverage, model: torch.nn.Module, number: int) -> None:
        update(self, model, number)
        if number + 1 == step:
            action()

    monkeypatch.setattr(ExponentialMovingAverage, "update", acting)


def with_adversary(run: TokenizerRun, **settings: Any) -> TokenizerRun:
    """The same run against two small discriminators."""
    discriminators = (DiscriminatorConfig(width=4), DiscriminatorConfig(width=4, frame_stride=2, weight=0.5))
    return replace(run, adversarial=AdversarialConfig(discriminators=discriminators, r1_every=2, **settings))


@pytest.mark.parametrize(
    ("gradient_accumulation", "start_step", "image_ratio"), [(1, None, 0.0), (2, None, 0.0), (2, 2, 0.5), (1, 4, 0.0)]
)
def test_a_stopped_tokenizer_run_goes_on_bit_for_bit(
    tokenizer_run: TokenizerRun, gradient_accumulation: int, start_step: int | None, image_ratio: float
) -> None:
    data = replace(tokenizer_run.data, image_ratio=image_ratio)
    whole = replace(tokenizer_run, data=data, gradient_accumulation=gradient_accumulation)
    models = ["model.safetensors"]
    if start_step is not None:  # of an adversary that starts before, while or after the run is stopped
        whole = with_adversary(whole, start_step=start_step, adaptive_weight=True)
        whole = replace(whole, annealing=AnnealingConfig(entropy_factor=3.0, inverse_temperature=0.5, num_steps=4))
        models.append("model_1.safetensors")
    halved = replace(whole, output_dir=whole.output_dir.with_name("halved"))

    tokenizer.train(whole)
    for _ in range(2):  # a queue starts the same command again: it stays stopped
        assert tokenizer.train(replace(halved, stop_after=3)) is None
        assert [path.name for path in (halved.output_dir / "checkpoints").iterdir()] == ["step-00000003"]
    assert not (halved.output_dir / "tokenizer").exists()
    tokenizer.train(halved)

    assert_equal_weights(weights_in(whole.output_dir / "tokenizer"), weights_in(halved.output_dir / "tokenizer"))
    for model in models:
        ours, theirs = (
            safetensors.torch.load_file(folder / "checkpoints" / "step-00000006" / model)
            for folder in (whole.output_dir, halved.output_dir)
        )
        assert_equal_weights(ours, theirs)
    assert read_json(whole.output_dir / "metrics.json") == read_json(halved.output_dir / "metrics.json")


def test_pictures_alone_train_both_stages(tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun, tmp_path: Path) -> None:
    for name, level in (("dark/0.png", 20), ("dark/1.png", 60), ("light/2.jpg", 200), ("light/3.jpg", 240)):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 20), (level, 128, 255 - level)).save(tmp_path / "pictures" / name)
    pictures = replace(tokenizer_run.data, path=str(tmp_path / "pictures"), num_frames=1)

    tokenizer.train(replace(tokenizer_run, data=pictures))
    folder = finished(maskgit.train(replace(maskgit_run, data=pictures)))

    assert (tokenizer_run.output_dir / "pictures" / "reconstruction-00000006.png").is_file()
    pipeline = VideoGenerationPipeline.from_pretrained(folder)
    assert pipeline.generate(labels="light", progress=False).videos.shape == (1, 3, 1, 16, 16)


def test_a_transformer_is_not_trained_on_two_sizes_of_codes(maskgit_run: MaskGitRun) -> None:
    with pytest.raises(ValueError, match=r"data\.image_ratio must be 0 for the transformer, .* got 0\.25"):
        replace(maskgit_run, data=replace(maskgit_run.data, image_ratio=0.25))


def test_a_transformer_is_not_trained_on_magnified_clips(maskgit_run: MaskGitRun) -> None:
    with pytest.raises(ValueError, match=r"data\.zoom must be 1 for the transformer, .* got 2\.0"):
        replace(maskgit_run, data=replace(maskgit_run.data, zoom=2.0))


def test_the_adversary_plays_from_its_start_and_is_not_exported(tokenizer_run: TokenizerRun) -> None:
    def trained(name: str, run: TokenizerRun, stop_after: int) -> dict[str, Tensor]:
        run = replace(run, output_dir=run.output_dir.with_name(name), stop_after=stop_after)
        assert tokenizer.train(run) is None
        return weights_in(run.output_dir / "checkpoints" / f"step-{stop_after:08d}")

    late = with_adversary(tokenizer_run, start_step=3)

    assert_equal_weights(trained("without", tokenizer_run, 3), trained("before", late, 3))
    after = trained("after", late, 4)
    without = trained("without-4", tokenizer_run, 4)
    assert any(not torch.equal(weight, after[name]) for name, weight in without.items() if "encoder" in name)
    weights = finished(tokenizer.train(replace(late, output_dir=late.output_dir.with_name("after"))))
    own = VideoTokenizer.from_config(tokenizer_run.model).state_dict()
    assert weights_in(weights).keys() == own.keys()


def test_every_loss_of_the_adversary_is_logged(tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[dict[str, float]] = []
    monkeypatch.setattr(Accelerator, "log", lambda self, values, **_: logged.append(values))

    tokenizer.train(with_adversary(tokenizer_run, start_step=2, adaptive_weight=True))

    losses = [set(values) for values in logged if "loss/reconstruction" in values]
    sides = ("adversarial", "discriminator", "lecam", "r1")
    added = {f"loss/{side}_{index}" for side in sides for index in range(2)} | {"loss/adaptive_weight"}
    added |= {"optimizer/discriminator_learning_rate", "optimizer/discriminator_gradient_norm"}
    assert losses[1] - losses[0] == losses[2] - losses[0] == added


@pytest.mark.parametrize(
    ("adversary", "said"),
    [
        ({}, "reconstruction is nan, commitment is nan"),
        ({"optimizer": AdamWConfig(learning_rate=1e30, warmup_steps=0), "start_step": 1}, "adversarial_0 is nan"),
    ],
)
def test_training_stops_after_too_many_bad_steps_in_a_row(
    tokenizer_run: TokenizerRun, adversary: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    optimizer = replace(tokenizer_run.optimizer, learning_rate=1e-3 if adversary else 1e30, warmup_steps=0)
    run = replace(tokenizer_run, optimizer=optimizer, num_steps=9, max_bad_steps=3)

    with pytest.raises(
        ValueError, match=r"of 3 steps in a row were NaN or infinite.*troubleshooting.*or repeat the command"
    ):
        tokenizer.train(with_adversary(run, **adversary) if adversary else run)

    assert said in caplog.text
    latest = max((run.output_dir / "checkpoints").iterdir())
    assert all(weight.isfinite().all() for weight in weights_in(latest).values())


def poisoned(batch: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return batch | {name: torch.full(batch[name].shape, math.nan)}


@pytest.mark.parametrize("gradient_accumulation", [1, 2])
@pytest.mark.parametrize("has_adversary", [False, True])
def test_a_bad_step_is_skipped_and_a_resumed_run_is_the_same(
    tokenizer_run: TokenizerRun,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    gradient_accumulation: int,
    has_adversary: bool,
) -> None:
    original = TrainingBatches.batch

    def batch(self: TrainingBatches, index: int) -> dict[str, Tensor]:
        is_bad = index // gradient_accumulation == 2 and index % gradient_accumulation == 0
        return poisoned(original(self, index), "video") if is_bad else original(self, index)

    monkeypatch.setattr(TrainingBatches, "batch", batch)
    whole = replace(tokenizer_run, gradient_accumulation=gradient_accumulation)
    whole = with_adversary(whole) if has_adversary else whole
    halved = replace(whole, output_dir=whole.output_dir.with_name("halved"))

    weights = weights_in(finished(tokenizer.train(whole)))
    assert "step 3 is skipped: " in caplog.text
    assert "(batch 2 of seed 0, bad step 1 in a row)" in caplog.text
    assert tokenizer.train(replace(halved, stop_after=3)) is None
    again = weights_in(finished(tokenizer.train(halved)))

    assert all(weight.isfinite().all() for weight in weights.values())
    assert_equal_weights(weights, again)
    for checkpoint in (whole.output_dir / "checkpoints").glob("step-*/*.safetensors"):
        assert all(value.isfinite().all() for value in safetensors.torch.load_file(checkpoint).values())


def test_a_bad_step_changes_nothing(tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """An infinite gradient under a finite loss."""
    run = replace(tokenizer_run, num_steps=20, save_every=1, optimizer=replace(tokenizer_run.optimizer, warmup_steps=0))
    clip, num_calls = Accelerator.clip_grad_norm_, 0

    def clip_with_infinity(self: Accelerator, parameters, *arguments, **settings):
        nonlocal num_calls
        parameters = list(parameters)
        if num_calls == 2:
            parameters[0].grad[0] = math.inf
        num_calls += 1
        return clip(self, parameters, *arguments, **settings)

    monkeypatch.setattr(Accelerator, "clip_grad_norm_", clip_with_infinity)

    assert tokenizer.train(replace(run, stop_after=3)) is None

    second, third = sorted((run.output_dir / "checkpoints").iterdir())
    assert_equal_weights(weights_in(second), weights_in(third))


def test_a_context_that_is_not_finite_skips_its_steps(
    tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun, videos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer.train(tokenizer_run)
    for name, value in (("left", math.nan), ("right", 1.0)):
        context = {"context": torch.full((1, 4), value)}
        safetensors.torch.save_file(context, videos / name / "bar.context.safetensors")

    folder = finished(maskgit.train(replace(maskgit_run, batch_size=1, num_steps=12)))

    assert 0 < caplog.text.count("is skipped: ") < 12
    assert all(weight.isfinite().all() for weight in weights_in(folder / "maskgit").values())


def test_weights_that_are_not_finite_are_not_saved(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = ExponentialMovingAverage.update

    def spoil(self: ExponentialMovingAverage, model: torch.nn.Module, number: int) -> None:
        update(self, model, number)
        if number + 1 == 3:
            with torch.no_grad():
                next(self.model.parameters())[0] = math.nan

    monkeypatch.setattr(ExponentialMovingAverage, "update", spoil)

    with pytest.raises(ValueError, match="the weights are NaN or infinite after step 3, so they are not saved"):
        tokenizer.train(replace(tokenizer_run, save_every=1))

    names = sorted(path.name for path in (tokenizer_run.output_dir / "checkpoints").iterdir())
    assert names == ["step-00000001", "step-00000002"]


def test_a_bad_step_of_a_discriminator_leaves_its_state(caplog: pytest.LogCaptureFixture) -> None:
    config = AdversarialConfig(discriminators=(DiscriminatorConfig(width=4),))
    adversary = Adversary(Accelerator(cpu=True), config, channels=3, num_steps=10)
    video = torch.full((1, 3, 5, 16, 16), math.nan)
    before = {name: value.clone() for name, value in adversary.objective.state_dict().items()}

    learned = adversary.learn(video, torch.zeros_like(video), step=7)
    adversary.update(skip=BadSteps(10, 0).are_bad(learned, step=7)[0])

    assert "step 8 is skipped: discriminator_0 is nan, lecam_0 is nan" in caplog.text
    assert_equal_weights(adversary.objective.state_dict(), before)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "optimizer.bin"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(
    tokenizer_run: TokenizerRun, damage: Callable[[Path], object], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = weights_in(finished(tokenizer.train(tokenizer_run)))
    halved = replace(tokenizer_run, output_dir=tokenizer_run.output_dir.with_name("halved"), save_every=2)
    assert tokenizer.train(replace(halved, stop_after=4)) is None
    damage(halved.output_dir / "checkpoints" / "step-00000004" / name)

    again = weights_in(finished(tokenizer.train(halved)))

    assert "step-00000004 is damaged, so the checkpoint before it is used" in caplog.text
    assert_equal_weights(whole, again)


def test_a_run_without_an_intact_checkpoint_is_refused(tokenizer_run: TokenizerRun) -> None:
    assert tokenizer.train(replace(tokenizer_run, stop_after=4)) is None
    flip(tokenizer_run.output_dir / "checkpoints" / "step-00000004" / "model.safetensors")

    with pytest.raises(ValueError, match=r"no checkpoint in .* is intact; choose another --output-dir"):
        tokenizer.train(tokenizer_run)


def test_a_full_disk_is_named_with_what_is_intact(tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch) -> None:
    save, num_calls = safetensors.torch.save_model, 0

    def save_on_a_full_disk(model: torch.nn.Module, path: str, **settings: Any) -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(model, path, **settings)

    monkeypatch.setattr(safetensors.torch, "save_model", save_on_a_full_disk)
    with pytest.raises(
        OSError, match=r"after step 4 cannot be saved in .*checkpoints.* No space .*step-00000002 is intact"
    ):
        tokenizer.train(replace(tokenizer_run, save_every=2))

    assert [path.name for path in (tokenizer_run.output_dir / "checkpoints").iterdir()] == ["step-00000002"]
    assert finished(tokenizer.train(replace(tokenizer_run, save_every=2)))


def test_what_a_killed_run_has_left_unfinished_is_swept(tokenizer_run: TokenizerRun) -> None:
    tokenizer_run.output_dir.mkdir()
    (tokenizer_run.output_dir / ".unfinished-x.json").touch()
    assert tokenizer.train(replace(tokenizer_run, stop_after=4)) is None
    checkpoints = tokenizer_run.output_dir / "checkpoints"
    (checkpoints / ".step-00000005").mkdir()
    (checkpoints / "step-old").mkdir()
    (checkpoints / "notes.txt").touch()

    finished(tokenizer.train(tokenizer_run))

    assert not list(tokenizer_run.output_dir.rglob(".unfinished-*"))
    names = sorted(path.name for path in checkpoints.iterdir())
    assert names == ["notes.txt", "step-00000004", "step-00000006", "step-old"]


def test_reconstructions_worse_than_the_mean_colour_are_named(
    tokenizer_run: TokenizerRun, caplog: pytest.LogCaptureFixture
) -> None:
    said = "are no better than each clip's mean colour"
    blank = replace(tokenizer_run, optimizer=replace(tokenizer_run.optimizer, learning_rate=1e-9))
    tokenizer.train(blank)
    assert said in caplog.text

    caplog.clear()
    good = replace(
        tokenizer_run,
        output_dir=tokenizer_run.output_dir.with_name("good"),
        num_steps=80,
        evaluate_every=100,
        optimizer=replace(tokenizer_run.optimizer, learning_rate=1e-2),
    )
    tokenizer.train(good)
    assert said not in caplog.text


def test_weights_to_start_from_are_taken_and_must_fit(tokenizer_run: TokenizerRun) -> None:
    weights = finished(tokenizer.train(tokenizer_run))
    again = replace(tokenizer_run, output_dir=tokenizer_run.output_dir.with_name("again"), init_from=str(weights))

    started = tokenizer.new_tokenizer(again)

    assert_equal_weights(dict(started.state_dict()), weights_in(weights))
    with pytest.raises(ValueError, match=r"another architecture: its init_dim is 16, but model\.init_dim is 32"):
        tokenizer.new_tokenizer(replace(again, model=replace(again.model, init_dim=32)))


@pytest.mark.parametrize("decoder_layers", [None, ("residual", "residual", "compress_space")])
def test_with_a_frozen_encoder_only_the_decoder_learns(
    tokenizer_run: TokenizerRun, decoder_layers: tuple[str, ...] | None
) -> None:
    weights = finished(tokenizer.train(tokenizer_run))
    before = VideoTokenizer.from_pretrained(weights)
    run = replace(
        tokenizer_run,
        output_dir=tokenizer_run.output_dir.with_name("decoder"),
        init_from=str(weights),
        freeze_encoder=True,
        model=replace(tokenizer_run.model, decoder_layers=decoder_layers),
    )

    after = VideoTokenizer.from_pretrained(finished(tokenizer.train(run)))
    again = replace(run, output_dir=run.output_dir.with_name("again"), init_from=str(run.output_dir / "tokenizer"))
    third = VideoTokenizer.from_pretrained(finished(tokenizer.train(again)))

    video = torch.rand(2, 3, 5, 16, 16) * 2 - 1
    for tuned in (after, third):
        assert_equal_weights(before.encoder.state_dict(), tuned.encoder.state_dict())
        assert torch.equal(before.encode(video), tuned.encode(video))
        assert tuned.fingerprint() == before.fingerprint()
        assert not torch.equal(before.decode(before.encode(video)), tuned.decode(before.encode(video)))
    with torch.no_grad():
        next(after.encoder.parameters()).view(-1)[0] += 0.1
    assert after.fingerprint() != before.fingerprint()


def test_a_frozen_encoder_must_come_from_a_tokenizer_with_the_same_one(tokenizer_run: TokenizerRun) -> None:
    with pytest.raises(ValueError, match="freeze_encoder requires init_from"):
        replace(tokenizer_run, freeze_encoder=True)
    weights = finished(tokenizer.train(tokenizer_run))
    run = replace(tokenizer_run, init_from=str(weights), freeze_encoder=True)
    wider = replace(run.model, init_dim=32, decoder_layers=("residual", "residual", "compress_space"))
    with pytest.raises(ValueError, match=r"another architecture: its init_dim is 16, but model\.init_dim is 32"):
        tokenizer.new_tokenizer(replace(run, model=wider))


def test_several_sources_are_evaluated_one_by_one(tokenizer_run: TokenizerRun) -> None:
    assert isinstance(tokenizer_run.data.path, str)
    data = replace(tokenizer_run.data, path=(tokenizer_run.data.path, "leaves"), weights=(3.0, 1.0))

    finished(tokenizer.train(replace(tokenizer_run, data=data)))

    scores = read_json(tokenizer_run.output_dir / "metrics.json")
    assert scores.keys() == {
        f"{source}/{name}"
        for source in ("videos", "leaves")
        for name in ("psnr", "codes_used", "codebook_perplexity", "psnr_raw_weights")
    }
    assert scores["videos/psnr"] != scores["leaves/psnr"]
    names = {path.name for path in (tokenizer_run.output_dir / "pictures").iterdir()}
    assert names >= {"reconstruction-videos-00000006.png", "reconstruction-leaves-00000006.png"}


def test_evaluations_measure_as_many_clips_as_asked(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, original = [], tokenizer.evaluate_tokenizer

    def counted(model: VideoTokenizer, clips: Clips) -> ReconstructionScores:
        numbers.append(len(clips))
        return original(model, clips)

    monkeypatch.setattr(tokenizer, "evaluate_tokenizer", counted)
    run = replace(tokenizer_run, data=replace(tokenizer_run.data, heldout_fraction=0.45))

    tokenizer.train(replace(run, evaluation_clips=3, stop_after=4))
    tokenizer.train(replace(run, evaluation_clips=5))

    assert numbers == [3, 3, 5, 5]  # averaged and raw weights
    with pytest.raises(ValueError, match="evaluation_clips must be at least 1, got 0"):
        replace(run, evaluation_clips=0)


def test_a_run_goes_on_with_a_data_set_that_was_moved(
    tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun, videos: Path
) -> None:
    finished(tokenizer.train(tokenizer_run))
    whole = finished(maskgit.train(maskgit_run))
    assert maskgit.train(replace(maskgit_run, output_dir=videos.parent / "halved", stop_after=3)) is None

    moved = replace(maskgit_run.data, path=str(videos.rename(videos.with_name("moved"))))
    run = replace(maskgit_run, output_dir=videos.parent / "halved", data=moved)

    assert_equal_weights(weights_in(finished(maskgit.train(run)) / "maskgit"), weights_in(whole / "maskgit"))


def test_files_that_are_not_used_are_listed_in_the_folder_of_the_run(tokenizer_run: TokenizerRun, videos: Path) -> None:
    (videos / "left/broken.mp4").write_bytes(b"broken")

    tokenizer.train(replace(tokenizer_run, stop_after=1))

    listed = (tokenizer_run.output_dir / "skipped.csv").read_text().splitlines()
    assert listed[0] == "source,file,reason"
    assert listed[1].startswith(f"{videos},left/broken.mp4,Invalid data")


def test_a_transformer_takes_one_source(maskgit_run: MaskGitRun) -> None:
    with pytest.raises(ValueError, match="must name one source for the transformer, got clips leaves"):
        replace(maskgit_run, data=replace(maskgit_run.data, path=("clips", "leaves")))


def test_an_image_tokenizer_is_inflated_to_start_a_video_tokenizer(tokenizer_run: TokenizerRun) -> None:
    images = replace(
        tokenizer_run,
        data=replace(tokenizer_run.data, num_frames=1),
        model=replace(tokenizer_run.model, image_only=True),
    )
    weights = finished(tokenizer.train(images))
    layers = ("residual", "attend_time", "compress_space", "compress_time")
    run = replace(
        tokenizer_run,
        output_dir=tokenizer_run.output_dir.with_name("video"),
        model=replace(tokenizer_run.model, layers=layers),
        init_from=str(weights),
    )

    started = tokenizer.new_tokenizer(run)

    image = torch.rand(4, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(started(image), VideoTokenizer.from_pretrained(weights)(image), atol=1e-5)
    assert finished(tokenizer.train(run)).is_dir()
    with pytest.raises(ValueError, match=r"image_only is False, but model\.image_only is True"):
        tokenizer.new_tokenizer(replace(images, init_from=str(run.output_dir / "tokenizer")))


def test_a_conditioned_model_is_refused(tokenizer_run: TokenizerRun) -> None:
    with pytest.raises(ValueError, match="trains without a condition"):
        replace(tokenizer_run, model=replace(tokenizer_run.model, layers=("cond_residual",), dim_cond=4))


MIX = (
    WeightedTask(name="class_generation"),
    WeightedTask(name="dynamic_inpainting", weight=2.0),
    WeightedTask(name="class_frame_prediction"),
)


@pytest.mark.parametrize(
    ("mix", "chosen"), [((), CodesConfig(passes=2)), (MIX, CodesConfig(passes=2)), (MIX, CodesConfig(online=True))]
)
def test_a_stopped_transformer_run_goes_on_bit_for_bit(
    tokenizer_run: TokenizerRun,
    maskgit_run: MaskGitRun,
    videos: Path,
    mix: tuple[WeightedTask, ...],
    chosen: CodesConfig,
) -> None:
    tokenizer.train(tokenizer_run)
    if mix:
        safetensors.torch.save_file({"context": torch.randn(3, 4)}, videos / "left" / "bar.context.safetensors")
    maskgit_run = replace(maskgit_run, tasks=mix, model=replace(maskgit_run.model, critic=bool(mix)), codes=chosen)
    halved = replace(maskgit_run, output_dir=maskgit_run.output_dir.with_name("halved"))

    maskgit.train(maskgit_run)
    assert maskgit.train(replace(halved, stop_after=3)) is None
    maskgit.train(halved)

    for part in ("pipeline/maskgit", "pipeline/tokenizer", "checkpoints/step-00000006"):
        assert_equal_weights(weights_in(maskgit_run.output_dir / part), weights_in(halved.output_dir / part))
    config = VideoGenerationPipeline.from_pretrained(halved.output_dir / "pipeline").maskgit.config
    assert (config.tasks, config.dim_context) == (tuple(task.name for task in mix), 4 if mix else None)
    pictures = {path.name for path in (halved.output_dir / "pictures").iterdir()}
    assert pictures == {"samples-00000004.gif", *(["tasks-00000004.gif"] if mix else [])}


@pytest.mark.parametrize("mix", [(), MIX])
def test_clips_encoded_when_they_are_used_train_the_same_transformer_as_the_table(
    tokenizer_run: TokenizerRun,
    maskgit_run: MaskGitRun,
    mix: tuple[WeightedTask, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    tokenizer.train(tokenizer_run)
    table = replace(maskgit_run, tasks=mix, label_balance=0.5, gradient_accumulation=2)
    online = replace(
        table, output_dir=table.output_dir.with_name("online"), codes=replace(table.codes, online=True), num_workers=1
    )

    weights = weights_in(finished(maskgit.train(online)) / "maskgit")
    assert not table.data.codes_dir.exists()
    same = weights_in(finished(maskgit.train(table)) / "maskgit")
    assert table.data.codes_dir.exists()

    assert_equal_weights(weights, same)
    assert [record["step"] for record in losses_of(online)] == [2, 4, 4, 6, 6]
    assert losses_of(online) == losses_of(table)
    first, second = re.findall(r"\d+ rows of \S+ codes an epoch", caplog.text)
    assert first == second


def test_a_run_does_not_go_on_with_another_number_of_passes(
    tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun
) -> None:
    tokenizer.train(tokenizer_run)
    assert maskgit.train(replace(maskgit_run, stop_after=2)) is None

    with pytest.raises(ValueError, match=r"codes\.passes was 2 and is now 3"):
        maskgit.train(replace(maskgit_run, codes=CodesConfig(passes=3)))
    with pytest.raises(ValueError, match=r"codes\.online was false and is now true"):
        maskgit.train(replace(maskgit_run, codes=CodesConfig(passes=2, online=True)))


def test_the_result_is_a_pipeline_that_generates(tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun) -> None:
    tokenizer.train(tokenizer_run)
    folder = finished(maskgit.train(maskgit_run))

    pipeline = VideoGenerationPipeline.from_pretrained(folder)

    assert pipeline.generate(labels="left", progress=False).videos.shape == (1, 3, 5, 16, 16)
    pictures = {path.name for path in (maskgit_run.output_dir / "pictures").iterdir()}
    assert pictures == {"samples-00000004.gif"}
    assert (tokenizer_run.output_dir / "pictures" / "reconstruction-00000004.png").is_file()
    assert list((tokenizer_run.output_dir / "tensorboard").rglob("events*"))
    assert read_json(tokenizer_run.output_dir / "config.json") == config_to_dict(tokenizer_run)


def test_training_leaves_the_frozen_tokenizer_as_it_was(tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun) -> None:
    weights = finished(tokenizer.train(tokenizer_run))
    folder = finished(maskgit.train(maskgit_run))

    assert_equal_weights(weights_in(weights), weights_in(folder / "tokenizer"))


def test_what_is_exported_is_the_average_not_the_last_weights(tokenizer_run: TokenizerRun) -> None:
    exported = weights_in(finished(tokenizer.train(tokenizer_run)))
    checkpoint = tokenizer_run.output_dir / "checkpoints" / "step-00000006"
    average = safetensors.torch.load_file(checkpoint / "ema.safetensors")
    last = {name.removeprefix("tokenizer."): value for name, value in weights_in(checkpoint).items()}

    assert_equal_weights(exported, average)
    name = "encoder.0.1.weight"
    assert not torch.equal(exported[name], last[name])


def test_a_used_folder_is_refused_and_left_alone(tokenizer_run: TokenizerRun) -> None:
    assert tokenizer.train(replace(tokenizer_run, stop_after=2)) is None
    before = {path: path.stat().st_mtime_ns for path in tokenizer_run.output_dir.rglob("*")}

    with pytest.raises(ValueError, match=r"already holds a run \(2 steps saved\), and --restart-in needs a new folder"):
        tokenizer.train(replace(tokenizer_run, restart_in=tokenizer_run.output_dir))
    with pytest.raises(ValueError, match=r"init_dim was 16 and is now 32; seed was 0 and is now 1\. .* --restart-in"):
        tokenizer.train(replace(tokenizer_run, seed=1, model=replace(tokenizer_run.model, init_dim=32)))

    assert {path: path.stat().st_mtime_ns for path in tokenizer_run.output_dir.rglob("*")} == before


def test_a_refused_start_leaves_the_folder_to_the_next_one(tokenizer_run: TokenizerRun) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        tokenizer.train(replace(tokenizer_run, init_from="nowhere/at/all"))
    assert (tokenizer_run.output_dir / "config.json").is_file()  # the run was begun

    write_json(tokenizer_run.output_dir / "inputs.json", {"data": "other", "num_processes": 2})

    tokenizer.train(replace(tokenizer_run, batch_size=1))

    assert len(list((tokenizer_run.output_dir / "tensorboard").glob("events*"))) == 1  # one run, one curve
    assert json.loads((tokenizer_run.output_dir / "config.json").read_text())["batch_size"] == 1


@pytest.mark.parametrize("names", [["config.json"], ["inputs.json"], ["config.json", "inputs.json"], ["tensorboard"]])
def test_a_folder_with_files_of_another_program_is_refused(tokenizer_run: TokenizerRun, names: list[str]) -> None:
    tokenizer_run.output_dir.mkdir()
    for name in names:
        (tokenizer_run.output_dir / name).write_text("{}")

    with pytest.raises(ValueError, match=r"is not empty and holds no run|holds a run with other settings"):
        tokenizer.train(tokenizer_run)

    assert {path.name: path.read_text() for path in tokenizer_run.output_dir.iterdir()} == dict.fromkeys(names, "{}")


def test_a_run_that_ended_while_another_prepared_is_left_alone(tokenizer_run: TokenizerRun) -> None:
    late = RunFolder(tokenizer_run.output_dir, replace(tokenizer_run, seed=1))
    assert tokenizer.train(replace(tokenizer_run, stop_after=2)) is None

    with pytest.raises(ValueError, match="holds a run with other settings"):
        late.claim({"data": "", "num_processes": 1})

    assert json.loads((tokenizer_run.output_dir / "config.json").read_text())["seed"] == 0
    tokenizer.train(tokenizer_run)  # nobody holds the lock


def test_losses_are_logged_in_lines_where_no_bar_is_shown(
    tokenizer_run: TokenizerRun, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    tokenizer.train(replace(tokenizer_run, progress=False, log_every=2))

    lines = [message for message in caplog.messages if ": reconstruction " in message]
    form = r"step (\d) of 6: reconstruction \d\.\d{3}, .* \(\S+ s per step, \S+ clips per second, (00:\d\d) left\)"
    matches = [re.fullmatch(form, line) for line in lines]
    assert [match and match[1] for match in matches] == ["2", "4", "6"]
    assert lines[-1].endswith("00:00 left)")


def test_a_run_does_not_go_on_from_other_data(tokenizer_run: TokenizerRun, videos: Path) -> None:
    assert tokenizer.train(replace(tokenizer_run, stop_after=2)) is None
    (videos / "left" / "bar.gif").replace(videos / "right" / "other.gif")

    with pytest.raises(ValueError, match="cannot be continued with other inputs: data was"):
        tokenizer.train(tokenizer_run)


def test_a_transformer_does_not_go_on_with_another_tokenizer(
    tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun
) -> None:
    tokenizer.train(tokenizer_run)
    assert maskgit.train(replace(maskgit_run, stop_after=2)) is None
    shutil.rmtree(tokenizer_run.output_dir)
    tokenizer.train(replace(tokenizer_run, seed=1))

    with pytest.raises(ValueError, match="cannot be continued with other inputs: codes was"):
        maskgit.train(maskgit_run)


def test_a_transformer_does_not_go_on_with_other_embeddings(
    tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun, videos: Path
) -> None:
    tokenizer.train(tokenizer_run)
    assert maskgit.train(replace(maskgit_run, stop_after=2)) is None
    safetensors.torch.save_file({"context": torch.randn(3, 4)}, videos / "left" / "bar.context.safetensors")

    with pytest.raises(ValueError, match="cannot be continued with other inputs: contexts was null"):
        maskgit.train(maskgit_run)


def test_two_starts_do_not_share_a_folder(tokenizer_run: TokenizerRun) -> None:
    tokenizer_run.output_dir.mkdir()
    first, second = (RunFolder(tokenizer_run.output_dir, tokenizer_run) for _ in range(2))
    first.claim({})

    with pytest.raises(ValueError, match="another process is training in"):
        second.claim({})


def test_a_folder_that_holds_no_run_is_refused(tokenizer_run: TokenizerRun) -> None:
    write_json(tokenizer_run.output_dir / "diary.json", {})

    with pytest.raises(ValueError, match="not empty and holds no run"):
        tokenizer.train(tokenizer_run)


def test_a_half_written_checkpoint_is_passed_over(tokenizer_run: TokenizerRun) -> None:
    assert tokenizer.train(replace(tokenizer_run, stop_after=2)) is None
    (tokenizer_run.output_dir / "checkpoints" / ".step-00000003").mkdir()

    tokenizer.train(tokenizer_run)

    names = sorted(path.name for path in (tokenizer_run.output_dir / "checkpoints").glob("step-*"))
    assert names == ["step-00000004", "step-00000006"]


def test_an_interruption_leaves_a_checkpoint(tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch) -> None:
    after_step(3, lambda: os.kill(os.getpid(), signal.SIGTERM), monkeypatch)  # as a job queue does
    interruption = SignalInterruption()

    result = tokenizer.train(tokenizer_run, interruption)

    assert (result, interruption.asked) == (None, True)
    assert (tokenizer_run.output_dir / "checkpoints" / "step-00000003" / "ema.safetensors").is_file()


def test_a_run_in_a_thread_is_stopped_from_another_and_resumed(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    interruption = Interruption()
    after_step(2, lambda: setattr(interruption, "asked", True), monkeypatch)

    with ThreadPoolExecutor(max_workers=1) as pool:
        assert pool.submit(tokenizer.train, tokenizer_run, interruption).result() is None
        assert pool.submit(tokenizer.train, tokenizer_run).result() == tokenizer_run.output_dir / "tokenizer"


def test_training_leaves_the_settings_of_the_process_alone(
    tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settings() -> list[object]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        loggers = [(logging.getLogger(name).level, logging.getLogger(name).handlers[:]) for name in ("", "datasets")]
        return [*handlers, *loggers, torch.get_num_threads(), datasets.are_progress_bars_disabled()]

    seen: list[object] = []
    before = settings()
    after_step(1, lambda: seen.append(settings()), monkeypatch)

    tokenizer.train(tokenizer_run)
    maskgit.train(maskgit_run)

    assert [*seen, settings()] == [before] * 3


def test_a_run_that_failed_can_be_resumed_in_the_same_process(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ValueError("an error in the loop")

    with monkeypatch.context() as patch:
        after_step(5, fail, patch)
        with pytest.raises(ValueError, match="an error in the loop") as kept:  # with the frames, as a notebook keeps it
            tokenizer.train(tokenizer_run)

    assert tokenizer.train(tokenizer_run) is not None
    assert kept.value.__traceback__ is not None


def test_the_environment_does_not_change_the_number_of_batches_in_a_step(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = weights_in(finished(tokenizer.train(tokenizer_run)))
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")

    weights = tokenizer.train(replace(tokenizer_run, output_dir=tokenizer_run.output_dir.with_name("other")))

    assert_equal_weights(weights_in(finished(weights)), expected)


def test_a_run_does_not_go_on_in_another_precision(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    tokenizer.train(replace(tokenizer_run, stop_after=2))
    for state in (AcceleratorState, GradientState, PartialState):  # as a new process has it
        state._reset_state()
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")

    with pytest.raises(ValueError, match=r'arithmetic\.mixed_precision was "bf16" and is now "no"'):
        tokenizer.train(tokenizer_run)


def test_a_run_of_an_older_version_can_be_resumed(tokenizer_run: TokenizerRun) -> None:
    tokenizer.train(replace(tokenizer_run, stop_after=2))
    for name, newer in (("inputs.json", "arithmetic"), ("config.json", "gradient_accumulation")):
        content = read_json(tokenizer_run.output_dir / name)
        del content[newer]
        write_json(tokenizer_run.output_dir / name, content)

    assert tokenizer.train(tokenizer_run) is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [("ACCELERATE_USE_FSDP", "true"), ("ACCELERATE_USE_DEEPSPEED", "true"), ("ACCELERATE_MIXED_PRECISION", "fp8")],
)
def test_an_environment_that_training_does_not_support_is_refused(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ValueError, match=f"{name}={value} is not supported"):
        tokenizer.train(tokenizer_run)


def test_fp16_on_a_cpu_is_refused(tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")

    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        tokenizer.train(tokenizer_run)


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_losses_whose_gradients_are_not_scaled_are_refused_in_fp16(tokenizer_run: TokenizerRun, precision: str) -> None:
    tokenizer.check_precision(tokenizer_run, precision)

    for run in (with_adversary(tokenizer_run), replace(tokenizer_run, perceptual="efficientnet-lite0")):
        refused = pytest.raises(ValueError, match="--mixed_precision bf16") if precision == "fp16" else nullcontext()
        with refused:
            tokenizer.check_precision(run, precision)


def test_the_cache_can_have_a_name_that_is_not_utf_8_but_the_output_cannot(
    tokenizer_run: TokenizerRun, tmp_path: Path
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")

    tokenizer.train(replace(tokenizer_run, data=replace(tokenizer_run.data, cache_dir=str(folder))))

    assert read_json(tokenizer_run.output_dir / "config.json")["data"]["cache_dir"] == str(folder)
    with pytest.raises(ValueError, match=r"output_dir must be valid UTF-8, .* got .*caf\\udce9"):
        replace(tokenizer_run, output_dir=folder)


def test_codes_are_encoded_once(
    tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer.train(tokenizer_run)
    maskgit.train(maskgit_run)

    def refuse(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(codes.Encoder, "rows", refuse)
    maskgit.train(replace(maskgit_run, output_dir=maskgit_run.output_dir.with_name("second")))


def test_a_run_oversamples_rare_labels_as_asked(
    tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun, videos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = np.full((9, 16, 16, 3), 80, np.uint8)
    frames[:, :8] += np.arange(0, 90, 10).astype(np.uint8)[:, None, None, None]
    write_frames(videos / "rare" / "brighter.gif", frames, fps=10)
    tokenizer.train(tokenizer_run)
    caplog.set_level("INFO")

    for balance in (0.0, 1.0):
        run = maskgit_run.output_dir.with_name(f"balance{balance}")
        maskgit.train(replace(maskgit_run, output_dir=run, label_balance=balance))

    plain, balanced = (int(number) for number in re.findall(r"(\d+) rows of \d+x", caplog.text))
    # Two passes of 6, 1 and 4 windows
    assert (plain, balanced) == (2 * (6 + 1 + 4), 2 * (6 + 6 * 1 + 2 * 4))
    with pytest.raises(ValueError, match=r"label_balance must be in \[0, 1\], got 1\.5"):
        replace(maskgit_run, label_balance=1.5)


@pytest.mark.parametrize("online", [False, True])
def test_clips_too_short_for_a_task_are_refused(
    tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun, online: bool
) -> None:
    maskgit_run = replace(maskgit_run, codes=CodesConfig(passes=2, online=online))
    data = replace(tokenizer_run.data, num_frames=1)
    tokenizer.train(replace(tokenizer_run, data=data))

    with pytest.raises(ValueError, match=r"frame_prediction needs at least 2 frame\(s\)"):
        maskgit.train(replace(maskgit_run, data=data, tasks=MIX))
    assert not maskgit_run.output_dir.exists()


def test_a_missing_tokenizer_is_named(maskgit_run: MaskGitRun) -> None:
    with pytest.raises(FileNotFoundError, match=r"no trained tokenizer in .*tokenizer: run train/tokenizer\.py"):
        maskgit.train(maskgit_run)
    assert not maskgit_run.output_dir.exists()


def test_a_tokenizer_of_another_size_is_refused(tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun) -> None:
    tokenizer.train(tokenizer_run)

    with pytest.raises(ValueError, match=r"\(16, 16\) pixels, but --data.resolution is 32"):
        maskgit.train(replace(maskgit_run, data=replace(maskgit_run.data, resolution=32)))


def failing_after(step: int, run: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until an error in the loop, in the step after one."""

    def fail() -> None:
        raise ValueError("an error in the loop")

    with monkeypatch.context() as patch:
        after_step(step + 1, fail, patch)
        with pytest.raises(ValueError, match="an error in the loop"):
            run()


def test_the_metrics_of_a_run_that_was_killed_are_those_of_one_run(
    tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage, run in ((tokenizer, tokenizer_run), (maskgit, maskgit_run)):
        whole = replace(run, log_every=1)
        killed = replace(whole, output_dir=run.output_dir.with_name("killed"))
        stage.train(whole)

        failing_after(3, lambda run=killed, stage=stage: stage.train(run), monkeypatch)  # before the first checkpoint
        failing_after(5, lambda run=killed, stage=stage: stage.train(run), monkeypatch)  # the checkpoint is of step 4
        assert losses_of(killed)[-1]["step"] == 5
        with (killed.output_dir / "metrics.jsonl").open("a") as file:
            file.write('{"step": 5, "loss')
        for _ in range(2):  # the second time, all is done already
            stage.train(killed)

            assert [record["step"] for record in losses_of(killed)] == [1, 2, 3, 4, 4, 5, 6, 6]
            assert losses_of(killed) == losses_of(whole)
        assert read_json(killed.output_dir / "metrics.json") == read_json(whole.output_dir / "metrics.json")
        shutil.rmtree(killed.output_dir)


def test_metrics_of_a_run_without_a_checkpoint_do_not_keep_the_next_one_out(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_after(2, lambda: tokenizer.train(tokenizer_run), monkeypatch)
    assert [record["step"] for record in losses_of(tokenizer_run)] == [2]

    tokenizer.train(replace(tokenizer_run, seed=1))

    assert [record["step"] for record in losses_of(tokenizer_run)] == [2, 4, 4, 6, 6]


def test_evaluations_change_nothing_in_the_training(tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun) -> None:
    layers = ("residual", "attend_space", "compress_space", "attend_time")
    first = with_adversary(replace(tokenizer_run, model=replace(tokenizer_run.model, layers=layers)))
    second = replace(maskgit_run, tasks=MIX)

    for stage, run in ((tokenizer, first), (maskgit, second)):
        often = replace(run, evaluate_every=1, output_dir=run.output_dir.with_name(f"often-{run.output_dir.name}"))
        stage.train(replace(run, evaluate_every=100))
        stage.train(often)

        ours, theirs = (weights_in(each.output_dir / "checkpoints" / "step-00000006") for each in (run, often))
        assert_equal_weights(ours, theirs)
        assert [record["step"] for record in losses_of(often) if "heldout/" in str(record)] == [1, 2, 3, 4, 5, 6]


def test_an_evaluation_leaves_the_mode_of_every_module() -> None:
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Sequential(torch.nn.Dropout()))
    model[1].eval()

    with tokenizer.evaluating(model):
        assert not any(module.training for module in model.modules())

    assert [module.training for module in model.modules()] == [True, True, False, False]


def test_raw_and_averaged_weights_are_both_scored(tokenizer_run: TokenizerRun) -> None:
    finished(tokenizer.train(replace(tokenizer_run, optimizer=replace(tokenizer_run.optimizer, ema_decay=0.0))))
    *_, same = losses_of(tokenizer_run)
    assert same["heldout/psnr_raw_weights"] == same["heldout/psnr"]
    assert len(same["heldout/bit_balance"]) == 6

    other = replace(tokenizer_run, output_dir=tokenizer_run.output_dir.with_name("averaged"))
    finished(tokenizer.train(other))
    *_, differs = losses_of(other)
    assert differs["heldout/psnr_raw_weights"] != differs["heldout/psnr"]


def test_overfitting_of_a_transformer_is_named(
    tokenizer_run: TokenizerRun,
    maskgit_run: MaskGitRun,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokenizer.train(tokenizer_run)
    losses = iter((3.0, 3.1, 3.2, 3.3, 3.0))
    monkeypatch.setattr(maskgit, "joined", lambda parts: {"masked_code": next(losses)})
    optimizer = replace(maskgit_run.optimizer, learning_rate=1e-2)

    finished(maskgit.train(replace(maskgit_run, num_steps=50, log_every=1, evaluate_every=10, optimizer=optimizer)))

    (message,) = (message for message in caplog.messages if "the transformer overfits" in message)
    assert message.startswith(
        "step 40: the held-out loss (masked_code) has risen in 3 evaluations in a row, from 3.000"
    )


TWO_PROCESSES = """
import os
import pathlib
import signal
import sys
from magvit2_pytorch.pretrained import config_from_dict, read_json
from magvit2_pytorch.train import codes, maskgit, tokenizer
from magvit2_pytorch.train.optimization import ExponentialMovingAverage
from magvit2_pytorch.train.process import SignalInterruption

update = ExponentialMovingAverage.update


def signalled(self, model, number):
    update(self, model, number)
    if number + 1 == int(os.environ.get("SIGNAL_AFTER", "0")) and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGTERM)


ExponentialMovingAverage.update = signalled
stage, run = {"tokenizer": (tokenizer, tokenizer.TokenizerRun), "maskgit": (maskgit, maskgit.MaskGitRun)}[sys.argv[2]]
interruption = SignalInterruption()
stage.train(config_from_dict(run, read_json(sys.argv[1])), interruption)
pathlib.Path(__file__).with_name("asked-" + os.environ["RANK"]).write_text(str(interruption.asked))
"""


def test_a_signal_to_any_process_stops_all_with_a_checkpoint(
    tokenizer_run: TokenizerRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGNAL_AFTER", "3")

    train_in_two_processes(tokenizer_run, "tokenizer", tmp_path)

    assert [path.name for path in (tokenizer_run.output_dir / "checkpoints").iterdir()] == ["step-00000003"]
    assert [(tmp_path / f"asked-{rank}").read_text() for rank in range(2)] == ["True", "True"]  # for the exit status


def train_in_two_processes(run: TokenizerRun | MaskGitRun, stage: str, folder: Path) -> None:
    write_json(folder / "run.json", config_to_dict(run))
    (folder / "run.py").write_text(TWO_PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    # Judged by its result: PyTorch's gloo can abort a process after all is done.
    subprocess.run([*launch, folder / "run.py", folder / "run.json", stage], env=environment, check=False, timeout=200)


def test_two_processes_train_as_one_with_the_joined_batch(tokenizer_run: TokenizerRun, tmp_path: Path) -> None:
    tokenizer_run = replace(tokenizer_run, data=replace(tokenizer_run.data, image_ratio=0.4))
    halves = replace(tokenizer_run, output_dir=tmp_path / "two", gradient_accumulation=2)

    tokenizer.train(replace(tokenizer_run, gradient_accumulation=2))
    train_in_two_processes(halves, "tokenizer", tmp_path)

    one, two = (weights_in(folder / "tokenizer") for folder in (tokenizer_run.output_dir, halves.output_dir))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=1e-5)
    scores = [read_json(folder / "metrics.json") for folder in (tokenizer_run.output_dir, halves.output_dir)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-3)


def test_two_processes_train_the_tasks_as_one_with_the_joined_batch(
    tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun, tmp_path: Path
) -> None:
    tokenizer.train(tokenizer_run)
    whole = replace(maskgit_run, tasks=MIX, model=replace(maskgit_run.model, critic=True, dropout=0.0))
    halves = replace(whole, output_dir=tmp_path / "two")

    maskgit.train(whole)
    train_in_two_processes(halves, "maskgit", tmp_path)

    one, two = (weights_in(folder / "pipeline" / "maskgit") for folder in (whole.output_dir, halves.output_dir))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=1e-5)
    scores = [read_json(folder / "metrics.json") for folder in (whole.output_dir, halves.output_dir)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-3)
    assert scores[0].keys() == {"masked_code", "refined_code", "accuracy"}


def test_processes_do_not_send_each_other_the_buffers_of_a_model(tokenizer_run: TokenizerRun) -> None:
    handler = create_accelerator(tokenizer_run).ddp_handler

    assert handler is not None
    assert not handler.broadcast_buffers


@pytest.mark.parametrize("gradient_accumulation", [1, 4])
def test_a_run_goes_on_with_another_number_of_processes(
    tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun, tmp_path: Path, gradient_accumulation: int
) -> None:
    """One process, then two, then one."""
    changes = {"num_steps": 10, "log_every": 1, "evaluate_every": 10, "gradient_accumulation": gradient_accumulation}
    adversarial = with_adversary(replace(tokenizer_run, **changes))
    adversarial = replace(adversarial, adversarial=replace(adversarial.adversarial, r1_every=1))
    dropout = replace(maskgit_run.model, dropout=0.0, critic=True)  # each process draws its own dropout
    transformer = replace(maskgit_run, **changes, model=dropout, tasks=MIX)
    for stage, run in (("tokenizer", adversarial), ("maskgit", transformer)):
        whole = replace(run, output_dir=tmp_path / f"whole-{stage}")
        train = {"tokenizer": tokenizer.train, "maskgit": maskgit.train}[stage]
        train(whole)  # type: ignore[arg-type]

        train(replace(run, stop_after=3))  # type: ignore[arg-type]
        train_in_two_processes(replace(run, stop_after=7), stage, tmp_path)
        train(run)  # type: ignore[arg-type]

        losses, of_whole = (
            [{name: loss for name, loss in step.items() if name.startswith(("loss/", "train/"))} for step in steps]
            for steps in (losses_of(run), losses_of(whole))
        )
        assert losses[:10] == [pytest.approx(step, rel=1e-5, abs=1e-5) for step in of_whole[:10]]
        assert losses[5]  # of step 6, in two processes


def test_processes_that_do_not_know_of_each_other_are_refused(
    tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(Accelerator, "num_processes", property(lambda self: 1))

    with pytest.raises(ValueError, match="ACCELERATE_USE_CPU"):
        tokenizer.train(tokenizer_run)
