"""Every module of maskgit/: built on the meta device and loaded, and built under other default floating point types."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import magvit2_pytorch.maskgit as package
from magvit2_pytorch.maskgit import MaskGit, MaskGitConfig, MaskGitObjective, iterative_decode
from magvit2_pytorch.maskgit.attention import Attention, LayerNorm
from magvit2_pytorch.maskgit.context import ContextEmbedding
from magvit2_pytorch.maskgit.embeddings import SubCodeEmbedding
from magvit2_pytorch.maskgit.masking import random_mask, training_mask
from magvit2_pytorch.maskgit.objective import Chance
from magvit2_pytorch.maskgit.positions import position_features, rotary_turns
from magvit2_pytorch.maskgit.sampling import draw_noise
from magvit2_pytorch.maskgit.sub_code_heads import LaterHead

CONFIG = MaskGitConfig(
    codebook_size=2**7,
    grid=(2, 2, 3),
    num_labels=3,
    width=32,
    depth=2,
    num_heads=2,
    split=(4, 3),
    tasks=("frame_prediction",),
    num_registers=2,
    dim_context=6,
    critic=True,
)
CPU = torch.device("cpu")
CODES = torch.randint(2**7, (2, *CONFIG.grid), generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3])


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=seeded(), dtype=torch.float32).to(torch.get_default_dtype())


BUILD: dict[type[nn.Module], Callable[[], Any]] = {
    SubCodeEmbedding: lambda: SubCodeEmbedding((2,) * 4, 8),
    ContextEmbedding: lambda: ContextEmbedding(6, 8),
    Attention: lambda: Attention(32, 2, qk_norm=True, dropout=0.0),
    LayerNorm: lambda: LayerNorm(32, unit_offset=True),
    LaterHead: lambda: LaterHead(32),
    MaskGit: lambda: MaskGit(CONFIG),
    MaskGitObjective: lambda: MaskGitObjective(MaskGit(CONFIG)),
}


def outputs(module: Any) -> list[Tensor]:
    """All that a module computes, for inputs that are always the same."""
    match module:
        case SubCodeEmbedding():
            return [module.vectors()]
        case ContextEmbedding():
            return list(module(noise(2, 3, 6), torch.tensor([[True, False, False], [True, True, True]])))
        case Attention():
            return [module(noise(2, 12, 32), rotary_pos_emb=rotary_turns(CONFIG.grid, 16, CPU))[0]]
        case LaterHead():
            return [module(noise(2, 12, 32), noise(2, 12, 32))]
        case MaskGit():
            given: dict[str, Any] = {"tasks": torch.tensor([0, 1]), "context": noise(2, 3, 6)}
            return [*module(CODES, LABELS, **given), module.criticize(CODES, LABELS, **given)]
        case MaskGitObjective():
            return list(module(CODES, LABELS, seeded(), context=noise(2, 3, 6)).values())
        case _:
            return [module(noise(2, 12, 32))]


def weighty(module: nn.Module) -> nn.Module:
    """Every weight matters; in a new model some layers do nothing."""
    generator = seeded()
    for parameter in module.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float32) * 0.2)
    return module


@pytest.fixture(params=[torch.float64, torch.bfloat16])
def default_dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


def test_every_module_is_tested_here() -> None:
    modules = [
        importlib.import_module(f"{package.__name__}.{info.name}") for info in pkgutil.iter_modules(package.__path__)
    ]
    classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}

    defined = {one for one in classes if issubclass(one, nn.Module) and one.__module__.startswith(package.__name__)}
    assert defined == BUILD.keys()


@pytest.mark.parametrize("kind", BUILD)
def test_a_module_built_on_the_meta_device_is_loaded_whole(kind: type[nn.Module]) -> None:
    built = weighty(BUILD[kind]())
    with torch.device("meta"):
        module = BUILD[kind]()

    module.to_empty(device="cpu")
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data.fill_(torch.nan)  # what memory may hold
    module.load_state_dict(built.state_dict())

    assert all(torch.equal(*pair) for pair in zip(outputs(module), outputs(built), strict=True))


@pytest.mark.parametrize("kind", BUILD)
def test_a_module_computes_in_the_default_type(kind: type[nn.Module], default_dtype: torch.dtype) -> None:
    torch.set_default_dtype(torch.float32)
    expected = outputs(weighty(BUILD[kind]()))
    torch.set_default_dtype(default_dtype)
    module = weighty(BUILD[kind]())
    found = outputs(module)
    sum(values.float().sum() for values in found).backward()  # type: ignore[union-attr]

    assert all(parameter.dtype == default_dtype for parameter in module.parameters())
    if kind is not MaskGitObjective:  # half precision changes which sub-codes are the likeliest
        for values, exact in zip(found, expected, strict=True):
            error = (values.double() - exact.double()).abs().mean()
            assert error < (1e-6 if default_dtype == torch.float64 else 0.05) * exact.double().abs().mean()


def test_decoding_does_not_depend_on_the_default_type(default_dtype: torch.dtype) -> None:
    torch.set_default_dtype(torch.float32)
    model = weighty(MaskGit(CONFIG)).eval()

    def decoded() -> Tensor:
        return iterative_decode(
            lambda codes, progress: model(codes, LABELS),
            torch.full_like(CODES, CONFIG.mask_id),
            mask_id=CONFIG.mask_id,
            vocab_sizes=CONFIG.vocab_sizes,
            generators=seeded(),
            num_steps=4,
            top_p=0.9,
        )

    expected = decoded()
    torch.set_default_dtype(default_dtype)
    assert torch.equal(decoded(), expected)


def test_positions_and_draws_do_not_depend_on_the_default_type(default_dtype: torch.dtype) -> None:
    def constants() -> list[Tensor]:
        return [
            position_features.__wrapped__((5, 9, 300), CPU),  # type: ignore[attr-defined]  # built again each time
            torch.view_as_real(rotary_turns.__wrapped__((5, 9, 300), 64, CPU)),  # type: ignore[attr-defined]
            *draw_noise(seeded(), 2, (3, 12, 2)),
            random_mask(torch.tensor([0.3, 0.7], dtype=torch.float32), 50, seeded()),
            training_mask(6, 50, generator=seeded()),
            Chance(6, seeded()).uniform(),
        ]

    found = constants()
    torch.set_default_dtype(torch.float32)
    assert all(torch.equal(*pair) for pair in zip(constants(), found, strict=True))
