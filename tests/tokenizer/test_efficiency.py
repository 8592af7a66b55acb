"""Checkpointing, compiling, mixed precision and fast attention: they change what it costs and not what comes out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.tokenizer.entropy import codebook_entropy, sample_entropy
from magvit2_pytorch.tokenizer.layer_kinds import LAYER_KINDS, LayerSpec

from .conftest import lively  # type: ignore[import-not-found]

DIM_COND = 5
WITH_ARGUMENTS: dict[str, LayerSpec] = {
    "consecutive_residual": ("consecutive_residual", 2),
    "cond_consecutive_residual": ("cond_consecutive_residual", 2),
    "paper_residual": ("paper_residual", 12),
    "local_attend_space": ("local_attend_space", 3),
    "local_attend_time": ("local_attend_time", 2),
    "compress": ("compress", (2, 2, 2)),
}
EVERY_KIND = tuple(WITH_ARGUMENTS.get(name, name) for name in LAYER_KINDS)


def a_tokenizer(layers: tuple[LayerSpec, ...], **options: Any) -> VideoTokenizer:
    is_conditioned = any("cond_" in (layer if isinstance(layer, str) else layer[0]) for layer in layers)
    given: dict[str, Any] = {"image_size": 16, "init_dim": 8, "codebook_size": 2**6} | options
    return lively(VideoTokenizer(layers=layers, dim_cond=DIM_COND if is_conditioned else None, **given))


def condition_for(tokenizer: VideoTokenizer, batch: int = 1) -> Tensor | None:
    return None if tokenizer.config.dim_cond is None else torch.randn(batch, DIM_COND)


def a_video(num_frames: int = 5, channels: int = 3, batch: int = 1) -> Tensor:
    return torch.rand(batch, channels, num_frames, 16, 16) * 2 - 1


def test_checkpointing_changes_no_gradient_of_any_layer_kind_and_keeps_less() -> None:
    without = a_tokenizer(EVERY_KIND, gradient_checkpointing=False).train()
    with_it = VideoTokenizer(**{**vars(without.config), "gradient_checkpointing": True})
    with_it.load_state_dict(without.state_dict())
    video, cond = a_video(9), condition_for(without)
    totals, kept = [], []

    for tokenizer in (without, with_it):
        num_kept = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal num_kept
            num_kept += 0 if isinstance(tensor, torch.nn.Parameter) else tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            total, _ = tokenizer(video, return_loss=True, cond=cond)
        total.backward()
        totals.append(total)
        kept.append(num_kept)

    torch.testing.assert_close(totals[0], totals[1], atol=1e-6, rtol=1e-6)
    for (name, ours), theirs in zip(without.named_parameters(), with_it.parameters(), strict=True):
        assert ours.grad is not None
        torch.testing.assert_close(theirs.grad, ours.grad, atol=1e-6, rtol=1e-6, msg=name)
    assert kept[1] < kept[0] / 4


COMPILED: dict[str, dict[str, Any]] = {
    "tiny": {"layers": ("residual", "compress_space"), "patch_size": (4, 4, 4)},
    "seed": {"layers": ("residual", ("compress_space", 12), "attend_space", ("compress_time", 16), "attend_time")},
    "paper": {"layers": (("paper_residual", 12), "adaptive_norm", ("compress", (2, 2, 2)))},
    "local": {"layers": (("local_attend_space", 3), ("local_attend_time", 2))},
    "linear": {"layers": ("linear_attend_space",), "norm": "channel"},
    "conditioned": {"layers": ("cond_attend_space",)},
    "blurred": {"layers": (("compress", (2, 2, 2)),), "antialiased_downsample": True},
    "spherical": {"layers": (), "quantizer": "bsq"},
    "finite scalar": {"layers": (), "quantizer": "fsq", "fsq_levels": (4, 4, 4)},
}


@torch.no_grad()
def compile_into_one_graph(_: int, *names: str) -> None:
    torch.set_num_threads(1)
    for name in names:
        tokenizer = a_tokenizer(**COMPILED[name])
        video, cond = a_video(6), condition_for(tokenizer)
        codes = tokenizer.encode(video, cond)
        encode, decode = (
            torch.compile(call, fullgraph=True, backend="eager")  # a break in the graph is an error
            for call in (tokenizer.encode, tokenizer.decode)
        )
        assert torch.equal(encode(video, cond=cond), codes), name
        expected = tokenizer.decode(codes, cond=cond)
        torch.testing.assert_close(decode(codes, cond=cond), expected, atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize(
    "names",
    [
        ("tiny",),
        pytest.param(("seed", "paper", "linear"), marks=pytest.mark.slow),
        pytest.param(("local", "conditioned", "blurred", "spherical", "finite scalar"), marks=pytest.mark.slow),
    ],
)
def test_encode_and_decode_compile_into_one_graph(names: tuple[str, ...]) -> None:
    """In a process without the type checks of the test run, which the compiler does not see through."""
    torch.multiprocessing.spawn(compile_into_one_graph, args=names)  # type: ignore[attr-defined]


class Encode(torch.nn.Module):
    def __init__(self, tokenizer: VideoTokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, video: Tensor, cond: Tensor) -> Tensor:
        return self.tokenizer.encode(video, cond)


class Decode(torch.nn.Module):
    def __init__(self, tokenizer: VideoTokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def forward(self, codes: Tensor, cond: Tensor) -> Tensor:
        return self.tokenizer.decode(codes, cond=cond)


@torch.no_grad()
@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize("norm", ["group", "channel"])
def test_encode_and_decode_are_exported_for_any_batch_size(norm: str) -> None:
    layers = ("cond_residual", "compress_space", "adaptive_norm", "attend_time")
    tokenizer = a_tokenizer(layers, norm=norm)
    batch = torch.export.Dim("batch", min=1, max=64)
    codes = torch.randint(tokenizer.codebook_size, (2, 3, 4, 4))

    for module, given in ((Encode(tokenizer), a_video(3, batch=2)[..., :8, :8]), (Decode(tokenizer), codes)):
        example = (given, condition_for(tokenizer, 2))
        exported = torch.export.export(module, example, dynamic_shapes=({0: batch}, {0: batch}), strict=False).module()
        for size in (1, 2, 5):
            inputs = given[:1].repeat(size, 1, 1, 1, *[1] * (given.ndim - 4)), condition_for(tokenizer, size)
            torch.testing.assert_close(exported(*inputs), module(*inputs), atol=1e-5, rtol=1e-5)


class Types(TorchDispatchMode):
    """Notes the floating point types that operations give."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[torch.dtype, set[str]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                self.seen.setdefault(tensor.dtype, set()).add(str(function))
        return output


@pytest.mark.parametrize("quantizer", ["lfq", "bsq"])
def test_the_losses_are_float32_under_autocast(quantizer: str) -> None:
    tokenizer = a_tokenizer(EVERY_KIND, quantizer=quantizer, codebook_size=2**10).train()
    video, cond = a_video(5, batch=2), condition_for(tokenizer, 2)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = tokenizer.autoencode(video, cond)
        losses = tokenizer.losses(video, output)
    assert output.latents.dtype == torch.bfloat16
    exact = tokenizer.losses(video, output._replace(latents=output.latents.float()))

    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert losses == exact
    torch.stack(list(losses.values())).sum().backward()
    for parameter in tokenizer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("entropy", [sample_entropy, codebook_entropy])
def test_nothing_of_the_entropies_is_in_bfloat16(entropy: Callable[[Tensor, float], Tensor]) -> None:
    latents = torch.randn(2, 10, 3, 4, 4).bfloat16().float().requires_grad_()
    (expected,) = torch.autograd.grad(entropy(latents, 1.0), latents)

    with torch.autocast("cpu", dtype=torch.bfloat16), Types() as types:
        (gradient,) = torch.autograd.grad(entropy(latents, 1.0), latents)

    assert set(types.seen) == {torch.float32}
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "kind", ["attend_space", "attend_time", ("local_attend_space", 3), ("local_attend_time", 3), "cond_attend_time"]
)
def test_attention_runs_in_a_fast_kernel(kind: LayerSpec, precision: torch.dtype) -> None:
    # without the estimate of memory, which runs on the meta device
    tokenizer = a_tokenizer((kind,), gradient_checkpointing=False).train()
    video, cond = a_video(7), condition_for(tokenizer)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            total, _ = tokenizer(video, return_loss=True, cond=cond)
        total.backward()
        with torch.no_grad():
            codes = tokenizer.encode(video, cond)
            list(tokenizer.encode_stream(video.split(3, dim=2), cond))
            list(tokenizer.decode_stream(codes.split(3, dim=1), cond=cond))

    names = {event.key for event in profiler.key_averages()}
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in names
    assert "aten::_scaled_dot_product_flash_attention_for_cpu_backward" in names
    assert not [name for name in names if "attention_math" in name]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_videos_of_one_to_four_channels_are_trained_saved_and_loaded(channels: int, tmp_path: Path) -> None:
    tokenizer = a_tokenizer(("residual", "compress_space"), channels=channels, patch_size=(2, 2, 2)).train()
    video = a_video(4, channels)
    total, _ = tokenizer(video, return_loss=True)
    total.backward()
    tokenizer.eval().save_pretrained(tmp_path)

    loaded = VideoTokenizer.from_pretrained(tmp_path)

    with torch.no_grad():
        output = loaded.autoencode(video)
        assert output.reconstruction.shape == video.shape
        assert torch.equal(output.reconstruction, tokenizer(video))
        assert torch.equal(output.codes, tokenizer.encode(video))
        assert loaded.decode(output.codes, 4).shape == video.shape
    for wrong in {1, 2, 3, 4} - {channels}:
        with pytest.raises(ValueError, match=rf"\(batch, {channels}, frames, height, width\)"):
            loaded.encode(a_video(4, wrong))
