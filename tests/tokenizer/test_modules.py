"""Every module: built on the meta device and loaded, and under other default data types."""

import inspect
import math
import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import magvit2_pytorch.tokenizer as package
from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.tokenizer import DiscriminatorConfig, DiscriminatorObjective, TokenizerObjective
from magvit2_pytorch.tokenizer.attention import Attention
from magvit2_pytorch.tokenizer.autoencoder import Autoencoder
from magvit2_pytorch.tokenizer.discriminator import FrameDiscriminator
from magvit2_pytorch.tokenizer.efficientnet import EfficientNetLite0
from magvit2_pytorch.tokenizer.layer_kinds import LayerSpec
from magvit2_pytorch.tokenizer.perceptual import FeatureDistance, LpipsDistance, PerceptualNetwork

EVERY_MODULE: tuple[LayerSpec, ...] = (
    ("paper_residual", 12),
    "attend_space",
    "linear_attend_space",
    "local_attend_space",
    "attend_time",
    "local_attend_time",
    "cond_residual",
    "adaptive_norm",
    ("compress", (2, 1, 1)),
)
BASES = {Attention, Autoencoder, FrameDiscriminator}
OF_THE_RUN = {
    TokenizerObjective,
    PerceptualNetwork,
    LpipsDistance,
}  # wrappers without weights or constants of their own

Outputs = dict[str, Tensor]


def a_tokenizer(**options: Any) -> VideoTokenizer:
    settings: dict[str, Any] = {"image_size": 8, "init_dim": 8, "dim_cond": 5, "codebook_size": 2**6}
    return VideoTokenizer(**settings | options)


def wave(*shape: int) -> Tensor:
    return torch.linspace(-3, 3, math.prod(shape), dtype=torch.float32).mul(7).sin().view(shape)


def outputs_of_tokenizer(tokenizer: VideoTokenizer, dtype: torch.dtype) -> Outputs:
    video, cond = wave(1, 3, 3, 8, 8).to(dtype), wave(1, 5).to(dtype)
    output = tokenizer.autoencode(video, cond)
    codes = torch.arange(32).view(1, 2, 4, 4)
    return {
        "latents": output.latents,
        "decoded": tokenizer.decode(codes, cond=cond),
        "quantized": tokenizer.codes_to_quantized(codes),
        "codes": tokenizer.quantizer(tokenizer.codes_to_quantized(codes)).codes.to(dtype),
        **tokenizer.losses(video, output._replace(quantized=output.latents)),
    }


def outputs_of_discriminators(objective: DiscriminatorObjective, dtype: torch.dtype) -> Outputs:
    return objective(wave(1, 3, 3, 8, 8).to(dtype), wave(1, 3, 3, 8, 8).to(dtype) / 2)


def outputs_of_distance(distance: FeatureDistance, dtype: torch.dtype) -> Outputs:
    frames = wave(1, 3, 32, 32).to(dtype)
    return {"distance": distance(frames, -frames), "logits": distance.network(frames)}


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[Any, torch.dtype], Outputs]]] = {
    "lfq": (lambda: a_tokenizer(layers=EVERY_MODULE, norm="channel", patch_size=(1, 2, 2)), outputs_of_tokenizer),
    "bsq": (
        lambda: a_tokenizer(
            layers=("cond_residual", ("compress", (2, 2, 2))), quantizer="bsq", antialiased_downsample=True
        ),
        outputs_of_tokenizer,
    ),
    "fsq": (
        lambda: a_tokenizer(
            layers=("cond_attend_space", "adaptive_norm"),
            patch_size=(1, 2, 2),
            overlapping_patches=True,
            quantizer="fsq",
            fsq_levels=(4, 4, 4),
        ),
        outputs_of_tokenizer,
    ),
    "discriminators": (
        lambda: DiscriminatorObjective(
            [DiscriminatorConfig(width=4), DiscriminatorConfig(width=4, sees="details", patch_size=2)]
        ),
        outputs_of_discriminators,
    ),
    "distance": (lambda: FeatureDistance(EfficientNetLite0()), outputs_of_distance),
}


def lively(module: nn.Module) -> nn.Module:
    """The same module with parameters that all matter."""
    with torch.no_grad():
        for index, parameter in enumerate(module.parameters()):
            parameter.add_((wave(*parameter.shape) * (index + 1)).sin() * 0.05)
    return module.eval()


def all_tensors(module: nn.Module) -> Iterator[Tensor]:
    return chain(module.parameters(), module.buffers())


def test_the_cases_have_every_module_of_the_package() -> None:
    modules = [import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)]
    classes = {
        kind
        for module in modules
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, nn.Module) and kind.__module__ == module.__name__
    }

    tested = {type(part) for make, _ in CASES.values() for part in make().modules()}

    assert classes - BASES - OF_THE_RUN <= tested


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_a_module_built_on_the_meta_device_and_loaded_is_the_same(case: str) -> None:
    make, outputs = CASES[case]
    module = lively(make())
    saved = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with torch.device("meta"):
        materialized, assigned = make().eval(), make().eval()

    materialized.to_empty(device="cpu")
    for tensor in all_tensors(materialized):
        tensor.fill_(77)  # memory that is not initialized may hold the right values by chance
    materialized.load_state_dict(saved)
    assigned.load_state_dict(saved, assign=True)

    assert not any(tensor.is_meta for tensor in all_tensors(assigned))
    expected = outputs(module, torch.float32)
    for other in (materialized, assigned):
        for name, value in outputs(other, torch.float32).items():
            assert torch.equal(value, expected[name]), name


@pytest.fixture(params=[torch.float64, torch.bfloat16], ids=["float64", "bfloat16"])
def default_dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_a_module_works_under_another_default_type(case: str, default_dtype: torch.dtype) -> None:
    make, outputs = CASES[case]
    module = lively(make())
    results = outputs(module, default_dtype)
    torch.set_default_dtype(torch.float32)
    single = make().eval()
    single.load_state_dict(module.state_dict())

    assert {parameter.dtype for parameter in module.parameters()} == {default_dtype}
    tolerance = 1e-4 if default_dtype == torch.float64 else 0.1
    for name, expected in outputs(single, torch.float32).items():
        value = results[name].float()
        assert (value - expected).abs().mean() <= tolerance * (expected.abs().mean() + 0.1), name


@torch.no_grad()
def test_a_module_keeps_its_type_under_another_default_type(default_dtype: torch.dtype) -> None:
    torch.set_default_dtype(torch.float32)
    modules = {case: lively(make()) for case, (make, _) in CASES.items()}
    expected = {case: CASES[case][1](module, torch.float32) for case, module in modules.items()}
    torch.set_default_dtype(default_dtype)

    for case, module in modules.items():
        for name, value in CASES[case][1](module, torch.float32).items():
            assert value.dtype == torch.float32, (case, name)
            torch.testing.assert_close(value, expected[case][name], atol=1e-6, rtol=1e-5, msg=f"{case} {name}")
