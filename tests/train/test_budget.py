"""What a run needs, and whether presets are of the size that is said of them."""

import ast
import inspect
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from magvit2_pytorch.maskgit import MaskGitConfig
from magvit2_pytorch.maskgit import presets as maskgit_presets
from magvit2_pytorch.tokenizer import DiscriminatorConfig, TokenizerConfig
from magvit2_pytorch.tokenizer import presets as tokenizer_presets
from magvit2_pytorch.train import maskgit, tokenizer
from magvit2_pytorch.train.adversarial import AdversarialConfig
from magvit2_pytorch.train.budget import Budget, maskgit_budget, tokenizer_budget
from magvit2_pytorch.train.dry_run import clips_per_step
from magvit2_pytorch.train.maskgit import MaskGitRun
from magvit2_pytorch.train.optimization import OptimizerConfig
from magvit2_pytorch.train.run_folder import latest_checkpoint
from magvit2_pytorch.train.tokenizer import TokenizerRun

GIB = 2**30
SHARE_OF_GPU = 0.85  # the rest is for workspaces of kernels, fragmentation and the CUDA context
GPUS = {"base": 24, "magvit2-small": 40, "magvit2": 80}  # GiB; docs/training.md names them
FRAMES = 17


def descriptions(module: ModuleType) -> dict[str, str]:
    """The text below each assignment of a module, by the assigned name."""
    statements = ast.parse(inspect.getsource(module)).body
    return {
        target.id: ast.literal_eval(text.value)
        for assignment, text in pairwise(statements)
        if isinstance(assignment, ast.Assign) and isinstance(text, ast.Expr)
        for target in assignment.targets
        if isinstance(target, ast.Name)
    }


def description_of(module: ModuleType, preset: object) -> str:
    (name,) = {name for name, value in vars(module).items() if value is preset}
    return descriptions(module)[name]


def said(pattern: str, text: str) -> float:
    match = re.search(pattern, text)
    assert match
    return float(match[1])


def is_said(value: float, pattern: str, text: str) -> bool:
    """Whether a value is the number in a text, which has at least two digits or is a rounded one."""
    return value == pytest.approx(said(pattern, text), rel=0.06)


@pytest.fixture(scope="module")
def tokenizer_budgets() -> dict[str, Budget]:
    return {name: budget_of(config) for name, config in tokenizer_presets.PRESETS.items()}


def budget_of(config: TokenizerConfig) -> Budget:
    return tokenizer_budget(
        config,
        (1, config.channels, FRAMES, *config.height_width),
        optimizer=OptimizerConfig(),
        adversarial=AdversarialConfig(),
        perceptual=None,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", tokenizer_presets.PRESETS)
def test_a_tokenizer_is_of_the_size_that_its_description_says(name: str, tokenizer_budgets: dict[str, Budget]) -> None:
    config, budget = tokenizer_presets.PRESETS[name], tokenizer_budgets[name]
    text = description_of(tokenizer_presets, config).replace("\n", " ")
    parts = budget.parameters["encoder"], budget.parameters["decoder"]
    size, grid = re.search(r"17 x (\d+ x \d+) pixels are encoded as (\d+ x \d+ x \d+) codes", text).groups()  # type: ignore[union-attr]

    millions = [float(number) for number in re.findall(r"(\d[\d.]*) M", text)]

    assert millions in ([round(sum(parts) / 1e6, 2)], [round(part / 1e6, 2) for part in parts])
    assert size == " x ".join(map(str, config.height_width))
    assert grid == " x ".join(map(str, config.code_shape(FRAMES, *config.height_width)))
    assert is_said(budget.activation_bytes["float32", False] / GIB, r"Memory for each clip: ([\d.]+) GiB", text)
    if "averaged weights" in text:
        assert is_said(budget.fixed_bytes / GIB, r"averaged weights take ([\d.]+) GiB", text)


@pytest.mark.parametrize("name", maskgit_presets.PRESETS)
def test_a_transformer_is_of_the_size_that_its_description_says(name: str) -> None:
    config = maskgit_presets.PRESETS[name]
    text = description_of(maskgit_presets, config).replace("\n", " ")
    budget = maskgit_budget(config, 1, optimizer=OptimizerConfig(), tokenizer=tokenizer_presets.TINY)
    large = replace(config, codebook_size=2**18)

    assert round(large.num_parameters / 1e6, 2) == said(r"([\d.]+) M parameters", text)
    assert is_said(budget.activation_bytes["float32", False] / GIB, r"Memory per clip: ([\d.]+) GiB", text)
    if "averaged weights" in text:
        fixed = budget.fixed_bytes - 4 * budget.parameters["tokenizer (frozen)"]
        assert is_said(fixed / GIB, r"averaged weights take ([\d.]+) GiB", text)


@pytest.mark.slow
@pytest.mark.parametrize("name", tokenizer_presets.PRESETS)
def test_the_page_of_the_tokenizer_says_the_same(name: str, tokenizer_budgets: dict[str, Budget]) -> None:
    config, budget = tokenizer_presets.PRESETS[name], tokenizer_budgets[name]
    page = (Path(__file__).parents[2] / "docs" / "tokenizer.md").read_text()
    row = re.search(rf"^\| `{name}` \|(.*)$", page, re.MULTILINE)
    assert row
    cells = [cell.strip() for cell in row[1].split("|")]
    grid = " x ".join(map(str, config.code_shape(FRAMES, *config.height_width)))

    assert cells[0] == " + ".join(f"{budget.parameters[part] / 1e6:.2f} M" for part in ("encoder", "decoder"))
    assert cells[1] == " x ".join(map(str, config.height_width))
    assert cells[2] == f"{grid}, {config.code_bits} bits"
    assert is_said(budget.activation_bytes["float32", False] / GIB, r"^([\d.]+) GiB$", cells[3])


@pytest.mark.slow
@pytest.mark.parametrize("name", GPUS)
def test_a_preset_of_a_run_fits_the_gpu_that_it_names(name: str) -> None:
    first, second = tokenizer.PRESETS[name], maskgit.PRESETS[name]
    shape = (first.batch_size, 3, FRAMES, 128, 128)
    settings = {"optimizer": first.optimizer, "adversarial": first.adversarial, "perceptual": first.perceptual}

    of_tokenizer = tokenizer_budget(first.model, shape, **settings)
    of_transformer = transformer_budget(second, first.model)

    gpu = SHARE_OF_GPU * GPUS[name] * GIB
    assert of_tokenizer.total_bytes("bf16") < gpu
    assert of_tokenizer.total_bytes("float32", checkpointing=True) < gpu
    assert max(map(of_transformer.total_bytes, ("bf16", "float32"))) < gpu


def transformer_budget(run: MaskGitRun, of_tokenizer: TokenizerConfig) -> Budget:
    config = MaskGitConfig(
        codebook_size=of_tokenizer.codebook_size,
        levels=of_tokenizer.fsq_levels,
        grid=of_tokenizer.code_shape(run.data.num_frames, run.data.resolution, run.data.resolution),
        **vars(run.model),
    )
    return maskgit_budget(config, run.batch_size, optimizer=run.optimizer, tokenizer=of_tokenizer)


@pytest.mark.parametrize("name", GPUS)
def test_both_stages_of_a_preset_belong_together(name: str) -> None:
    first, second = tokenizer.PRESETS[name], maskgit.PRESETS[name]

    assert first.model == replace(tokenizer_presets.PRESETS[name], image_size=128)
    assert second.model == maskgit.TransformerConfig.of(maskgit_presets.PRESETS[name])
    assert second.tokenizer == first.output_dir
    assert maskgit.planned_tokenizer(second.tokenizer) == first.model
    assert (first.data, first.model.code_shape(17, 128, 128)) == (second.data, (5, 16, 16))
    assert clips_per_step(first, 1) == clips_per_step(second, 1)


def test_magvit2_has_the_batch_of_the_paper_on_1_to_64_gpus() -> None:
    for presets in (tokenizer.PRESETS, maskgit.PRESETS):
        run = presets["magvit2"]
        for processes in (1, 2, 4, 8, 16, 32, 64):
            batches = run.gradient_accumulation // processes
            divided = replace(run, batch_size=run.batch_size * processes, gradient_accumulation=batches)
            assert clips_per_step(divided, processes) == 256


def test_the_budget_of_a_checkpoint_is_the_size_of_a_real_one(tokenizer_run: TokenizerRun) -> None:
    adversarial = AdversarialConfig(discriminators=(DiscriminatorConfig(width=4),))
    run = replace(tokenizer_run, num_steps=1, adversarial=adversarial)
    tokenizer.train(run)
    checkpoint = latest_checkpoint(run.output_dir)
    assert checkpoint
    size = sum(path.stat().st_size for path in checkpoint.iterdir() if path.suffix in (".safetensors", ".bin"))

    budget = tokenizer_budget(
        run.model, (2, 3, 5, 16, 16), optimizer=run.optimizer, adversarial=adversarial, perceptual=None
    )

    assert budget.checkpoint_bytes == pytest.approx(size, rel=0.25)  # headers count in files as small as these
    exported = run.output_dir / "tokenizer" / "model.safetensors"
    assert budget.result_bytes == pytest.approx(exported.stat().st_size, rel=0.25)


def test_muon_has_half_the_state_of_adamw_and_needs_operations() -> None:
    config = tokenizer_presets.TINY
    adamw, muon = (
        tokenizer_budget(
            config,
            (1, 3, 5, 64, 64),
            optimizer=OptimizerConfig(matrices=matrices),
            adversarial=AdversarialConfig(),
            perceptual=None,
        )
        for matrices in ("adamw", "muon")
    )

    assert adamw.optimizer_bytes == pytest.approx(2 * adamw.weight_bytes, rel=0.01)
    assert 0.5 < muon.optimizer_bytes / adamw.optimizer_bytes < 0.6
    assert adamw.update_flops == 0 < muon.update_flops


def test_a_frozen_encoder_has_no_gradients() -> None:
    config = tokenizer_presets.TINY

    budget = tokenizer_budget(
        config,
        (1, 3, 5, 64, 64),
        optimizer=OptimizerConfig(),
        adversarial=AdversarialConfig(),
        perceptual=None,
        freeze_encoder=True,
    )

    assert budget.gradient_bytes == 4 * budget.parameters["decoder"]
    assert budget.average_bytes > 4 * budget.parameters["decoder"]


@pytest.mark.parametrize("is_trained", [False, True])
def test_a_dry_run_prints_and_writes_nothing(
    is_trained: bool, tokenizer_run: TokenizerRun, maskgit_run: MaskGitRun, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tokenizer_run.output_dir.parent
    if is_trained:
        tokenizer.train(replace(tokenizer_run, num_steps=1))
    else:
        maskgit_run = replace(maskgit_run, tokenizer=tokenizer.PRESETS["demo"].output_dir)
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))

    assert tokenizer.train(replace(tokenizer_run, dry_run=True)) is None
    assert maskgit.train(replace(maskgit_run, dry_run=True)) is None

    printed = capsys.readouterr().out
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before
    for text in (
        f"Dry run of {tokenizer_run.output_dir}",
        "2 videos and 0 images",
        "activations, with gradient checkpointing",
        "at 40% of 312 TFLOP/s",
        "tokenizer (frozen)",
    ):
        assert text in printed


def test_a_run_resumes_after_a_dry_run(tokenizer_run: TokenizerRun) -> None:
    tokenizer.train(replace(tokenizer_run, stop_after=2))
    tokenizer.train(replace(tokenizer_run, dry_run=True))

    result = tokenizer.train(replace(tokenizer_run, peak_tflops=100.0))

    assert result is not None
    assert json.loads((tokenizer_run.output_dir / "config.json").read_text())["dry_run"] is False


def test_the_time_is_that_of_the_operations(capsys: pytest.CaptureFixture[str], tokenizer_run: TokenizerRun) -> None:
    run = replace(tokenizer_run, num_steps=1000, batch_size=2, gradient_accumulation=2, peak_tflops=1e-3)

    print(tokenizer.dry_run(run))

    printed = capsys.readouterr().out
    one, two = (
        re.search(rf"^ *{name} +(\d+) +([\d.e-]+) +([\d.,e-]+)$", printed, re.MULTILINE)
        for name in ("1 process", "2 processes")
    )
    assert one
    assert two
    hours = [float(row[3].replace(",", "")) for row in (one, two)]
    assert (one[1], two[1]) == ("2", "1")
    assert hours[0] == pytest.approx(1000 * float(one[2]) * 1e12 / (0.4 * 1e9) / 3600, rel=0.01)
    assert hours[1] >= hours[0] / 2  # the processes share the batches, but not the work of the optimizer
