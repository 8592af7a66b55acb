"""Compiled objectives. They run in processes without the type checks of the test run, which the compiler does not see
through. The compiler's backend is `aot_eager`: it compiles forward and backward pass to graphs and runs these with
PyTorch's own kernels, so no C++ compiler is needed and a graph takes seconds instead of a minute."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import safetensors.torch
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import Tensor, nn

from magvit2_pytorch.maskgit import MaskGit, MaskGitConfig, MaskGitObjective
from magvit2_pytorch.maskgit.losses import MaskGitLossWeights
from magvit2_pytorch.maskgit.losses import weighted_sum as sum_of_maskgit
from magvit2_pytorch.tokenizer import DiscriminatorConfig, DiscriminatorObjective, TokenizerObjective, VideoTokenizer
from magvit2_pytorch.tokenizer.losses import weighted_sum
from magvit2_pytorch.tokenizer.perceptual import PerceptualNetwork
from magvit2_pytorch.train import compilation, tokenizer
from magvit2_pytorch.train.compilation import check_compiler
from magvit2_pytorch.train.session import RunConfig, create_accelerator
from magvit2_pytorch.train.tokenizer import PRESETS, TokenizerRun

Gradients = dict[str, Tensor]
NAMES = ("eager", "compiled")
ONE_GRAPH = {"fullgraph": True, "dynamic": False, "backend": "aot_eager"}  # a break in the graph is an error


def in_new_process(check: Callable[[int], None]) -> None:
    torch.multiprocessing.spawn(check)  # type: ignore[attr-defined]


def gradients(total: Tensor, *modules: nn.Module) -> Gradients:
    """Gradients of all parameters, which are then cleared."""
    total.backward()
    found = {}
    for number, module in enumerate(modules):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            found[f"{number}.{name}"] = parameter.grad
            parameter.grad = None
    return found


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], atol=1e-5, rtol=1e-3, msg=lambda text, name=name: name + text)


def same_without_recompiling(step: Callable[[int], dict[str, Tensor]], compile: Callable[[], None]) -> None:
    """Check that compiling changes no result, and that later steps use the graphs of the first ones."""
    expected = [step(number) for number in range(6)]
    compile()
    for number in range(3):
        assert_close(step(number), expected[number])
    with torch.compiler.set_stance("fail_on_recompile"):
        for number in range(3, 6):
            assert_close(step(number), expected[number])


def check_tokenizer(_: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = replace(PRESETS["demo"].model, image_size=32, init_dim=16, gradient_checkpointing=True)
    objective = TokenizerObjective(VideoTokenizer.from_config(config))
    videos = torch.rand(6, 2, 3, 9, 32, 32) * 2 - 1

    def step(number: int) -> dict[str, Tensor]:
        losses = objective(videos[number], phase=number).losses
        return losses | gradients(weighted_sum(losses, config.loss_weights), objective)

    names = [*objective.state_dict()]
    same_without_recompiling(step, lambda: objective.compile(**ONE_GRAPH))
    assert [*objective.state_dict()] == names
    assert [*copy.deepcopy(objective.tokenizer).state_dict()] == [*objective.tokenizer.state_dict()]


def test_the_tokenizer_of_the_demo_compiles_without_a_break() -> None:
    in_new_process(check_tokenizer)


class Distance(nn.Module):
    """A small perceptual distance, whose graph is small, too."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3)

    def forward(self, frames: Tensor, targets: Tensor) -> Tensor:
        return (self.features(frames) - self.features(targets)).square().mean()


def check_adversary(_: int) -> None:
    """Entropies whose sharpness changes, a discriminator with a frame stride, R1, and the adaptive weight."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = replace(
        *(PRESETS["magvit2"].model,),
        image_size=16,
        init_dim=8,
        codebook_size=2**6,
        gradient_checkpointing=False,
        layers=(("compress", (2, 2, 2)),),
        decoder_layers=("adaptive_norm", ("compress", (2, 2, 2))),
    )
    objective = TokenizerObjective(
        VideoTokenizer.from_config(config), PerceptualNetwork(Distance()), perceptual_stride=2, adaptive_weight=True
    )
    adversary = DiscriminatorObjective([DiscriminatorConfig(width=4, frame_stride=2, sees="details", patch_size=2)])
    start = copy.deepcopy(adversary.state_dict())
    videos = torch.rand(6, 2, 3, 4, 16, 16) * 2 - 1

    def step(number: int) -> dict[str, Tensor]:
        if number == 0:
            adversary.load_state_dict(start)
        losses, fake, factor = objective(videos[number], adversary, inverse_temperature=1 + 0.1 * number, phase=number)
        total = weighted_sum(losses, config.loss_weights, adversarial_factors=[factor])
        assert all(parameter.grad is None for parameter in adversary.parameters())
        found = losses | {"factor": factor} | gradients(total, objective)
        judged = adversary(videos[number], fake, with_r1=number % 2 == 0, phase=number)
        return found | judged | gradients(torch.stack([*judged.values()]).sum(), adversary)

    def compile() -> None:
        torch._dynamo.config.recompile_limit = compilation.MOST_GRAPHS
        objective.compile(**ONE_GRAPH)
        adversary.compile(**ONE_GRAPH)

    same_without_recompiling(step, compile)

    of_the_paper = DiscriminatorObjective([DiscriminatorConfig(width=4)])
    expected = of_the_paper(*videos[:2])
    of_the_paper.compile(fullgraph=True, backend="eager")
    torch.testing.assert_close(of_the_paper(*videos[:2])["discriminator_0"], expected["discriminator_0"])


@pytest.mark.slow
def test_the_adversary_and_the_perceptual_network_compile_without_a_break() -> None:
    in_new_process(check_adversary)


def check_maskgit(_: int, critic: bool) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = MaskGitConfig(
        codebook_size=2**8,
        grid=(3, 2, 2),
        num_labels=3,
        width=32,
        depth=2,
        num_heads=2,
        critic=critic,
        sequential=not critic,
        tasks=("frame_prediction",) if critic else (),
        dim_context=5 if critic else None,
    )
    objective = MaskGitObjective(MaskGit(config))
    codes, labels = torch.randint(2**8, (6, 4, *config.grid)), torch.randint(3, (6, 4))
    weights = MaskGitLossWeights()

    def step(number: int) -> dict[str, Tensor]:
        given: dict[str, Any] = {}
        if critic:
            torch.manual_seed(number)
            given = {"tasks": torch.tensor([0, 1, 0, 1]), "context": torch.randn(4, 2, 5)}
            given["condition_codes"] = codes[number].where(torch.rand(codes[number].shape) < 0.5, config.mask_id)
        losses = objective(codes[number], labels[number], torch.Generator().manual_seed(number), **given)
        return losses | gradients(sum_of_maskgit(losses, weights), objective)

    names = [*objective.state_dict()]
    same_without_recompiling(step, lambda: objective.compile(**ONE_GRAPH))
    assert [*objective.state_dict()] == names


@pytest.mark.parametrize("critic", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_transformer_compiles_without_a_break(critic: bool) -> None:
    torch.multiprocessing.spawn(check_maskgit, args=(critic,))  # type: ignore[attr-defined]


def check_run(_: int, run: TokenizerRun) -> None:
    torch.set_num_threads(1)
    torch.compile = partial(torch.compile, backend="aot_eager")  # type: ignore[assignment]
    eager, compiled = (replace(run, output_dir=run.output_dir / name, compile=name == "compiled") for name in NAMES)

    def start_again() -> None:
        for state in (AcceleratorState, GradientState, PartialState):
            state._reset_state()

    tokenizer.train(eager)
    start_again()
    assert tokenizer.train(replace(compiled, stop_after=3)) is None
    start_again()
    with pytest.raises(ValueError, match=r'dynamo_backend was "--compile" and is now .*--allow-changed-precision'):
        tokenizer.train(replace(compiled, compile=False))
    start_again()
    tokenizer.train(compiled)

    for file in ("tokenizer/model.safetensors", "checkpoints/step-00000006/model.safetensors"):
        expected, found = (safetensors.torch.load_file(run.output_dir / name / file) for name in NAMES)
        assert_close(found, expected)


def test_a_compiled_run_is_resumed_and_gives_the_same_weights(tokenizer_run: TokenizerRun) -> None:
    torch.multiprocessing.spawn(check_run, args=(tokenizer_run,))  # type: ignore[attr-defined]


def test_a_missing_compiler_is_named_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> Callable[[Tensor], Tensor]:
        def call(_: Tensor) -> Tensor:
            raise RuntimeError("No working C++ compiler found\nand more")

        return call

    monkeypatch.setattr(torch, "compile", broken)

    with pytest.raises(ValueError, match=r"compiler for cpu \(.*\), but: No working C\+\+ compiler found$"):
        check_compiler(torch.device("cpu"))


def test_models_are_not_compiled_twice(tokenizer_run: TokenizerRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    run: RunConfig = replace(tokenizer_run, compile=True)

    with pytest.raises(ValueError, match="unset ACCELERATE_DYNAMO_BACKEND"):
        create_accelerator(run)
