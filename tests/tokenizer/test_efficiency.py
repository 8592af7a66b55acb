"""What training and serving cost: nothing computed in a dear way, and nothing changed by computing it cheaply."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.tokenizer import TokenizerObjective
from magvit2_pytorch.tokenizer.config import TokenizerConfig
from magvit2_pytorch.tokenizer.entropy import codebook_entropy, sample_entropy
from magvit2_pytorch.tokenizer.layer_kinds import LayerSpec

from .conftest import lively  # type: ignore[import-not-found]

ROOT = Path(__file__).parents[2]
DIM_COND = 4
ALL_LAYERS: tuple[LayerSpec, ...] = (
    *("residual", "adaptive_norm", "cond_paper_residual", ("compress", (1, 2, 2), 16), ("consecutive_residual", 2)),
    *("attend_space", "cond_linear_attend_space", ("local_attend_space", 3), "compress_time", "compress_space"),
    *("cond_attend_time", ("local_attend_time", 2)),
)


class Operations(TorchDispatchMode):
    """What was called, and how large the largest tensor was that came out, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.names.add(func.name())
        if isinstance(result, Tensor):
            self.largest = max(self.largest, result.numel() * result.element_size())
        return result


def of_all_layers(**options: Any) -> VideoTokenizer:
    config = TokenizerConfig(
        image_size=16, init_dim=8, layers=ALL_LAYERS, codebook_size=2**6, dim_cond=DIM_COND, **options
    )
    torch.manual_seed(0)
    return lively(VideoTokenizer.from_config(config))


def a_batch() -> tuple[Tensor, Tensor]:
    return torch.rand(2, 3, 5, 16, 16) * 2 - 1, torch.randn(2, DIM_COND)


def test_gradients_with_checkpointing_are_those_without() -> None:
    video, cond = a_batch()
    gradients = []
    for checkpointing in (False, True):
        tokenizer = of_all_layers(gradient_checkpointing=checkpointing)
        total, _ = tokenizer(video, return_loss=True, cond=cond)
        total.backward()
        gradients.append({name: parameter.grad for name, parameter in tokenizer.named_parameters()})

    plain, checkpointed = gradients
    for name, gradient in plain.items():
        assert gradient is not None, name
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-6, atol=1e-6, msg=name)


def test_checkpointing_keeps_fewer_activations() -> None:
    video, cond = a_batch()
    kept = []
    for checkpointing in (False, True):
        sizes: list[int] = []

        def keep(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        tokenizer = of_all_layers(gradient_checkpointing=checkpointing)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            tokenizer(video, cond=cond)
        kept.append(sum(sizes))

    assert kept[1] < 0.5 * kept[0]


COMPILED = """
import torch
from magvit2_pytorch import VideoTokenizer

layers = {layers!r}
for options in ({{}}, {{"patch_size": (2, 2, 2), "norm": "channel", "antialiased_downsample": True}}):
    tokenizer = VideoTokenizer(
        image_size=16, init_dim=8, layers=layers, codebook_size=2**6, dim_cond={dim_cond}, **options
    ).eval()
    video, cond = torch.rand(2, 3, 5, 16, 16) * 2 - 1, torch.randn(2, {dim_cond})
    with torch.no_grad():
        latents = tokenizer.video_to_latents(video, cond)
        encode = torch.compile(tokenizer.encode, fullgraph=True, backend="eager")
        decode = torch.compile(tokenizer.decode, fullgraph=True, backend="eager")
        codes = tokenizer.encode(video, cond)
        sure = (latents.abs() > 1e-5).all(dim=1)
        assert sure.any() and torch.equal(encode(video, cond)[sure], codes[sure])
        torch.testing.assert_close(decode(codes, cond=cond), tokenizer.decode(codes, cond=cond), rtol=1e-5, atol=1e-5)
"""


@pytest.mark.slow
def test_encode_and_decode_compile_without_a_graph_break(tmp_path: Path) -> None:
    """`fullgraph` makes an error of a break."""
    script = tmp_path / "compiled.py"
    script.write_text(COMPILED.format(layers=ALL_LAYERS, dim_cond=DIM_COND))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    # As users run it: torch.compile cannot see through the type checks of the test run.
    result = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, env=environment, capture_output=True, text=True
    )

    assert result.returncode == 0, result.stderr


def test_under_autocast_every_loss_is_computed_in_float32() -> None:
    video, cond = a_batch()
    tokenizer = of_all_layers(inverse_temperature=3.0)
    objective = TokenizerObjective(tokenizer)
    caught: list[Tensor] = []
    tokenizer.encoder.register_forward_hook(lambda *arguments: caught.append(arguments[-1]))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = objective(video, cond=cond).losses
        torch.stack(list(losses.values())).sum().backward()

    (latents,) = caught
    assert latents.dtype == torch.bfloat16
    entropies: dict[str, Callable[[Tensor, float], Tensor]] = {
        "sample_entropy": sample_entropy,
        "codebook_entropy": codebook_entropy,
    }
    for name, entropy in entropies.items():
        torch.testing.assert_close(losses[name], entropy(latents.detach().float(), 3.0), rtol=1e-6, atol=0)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(parameter.grad.isfinite().all() for parameter in tokenizer.parameters() if parameter.grad is not None)


def test_the_penalty_at_2_to_the_18_never_builds_a_large_table() -> None:
    latents = torch.randn(16, 18, 5, 16, 16, requires_grad=True)  # 16 clips of the paper's size

    with Operations() as operations:
        (sample_entropy(latents, 1.0) - codebook_entropy(latents, 1.0)).backward()

    assert operations.largest <= 2 * latents.numel() * latents.element_size()  # a table would have 21 GB


@pytest.mark.parametrize("with_gradients", [False, True])
def test_attention_never_takes_the_path_that_builds_all_scores(with_gradients: bool) -> None:
    video, cond = a_batch()
    tokenizer = of_all_layers(gradient_checkpointing=False)  # the estimate of memory goes through meta tensors

    with torch.set_grad_enabled(with_gradients), Operations() as operations:
        tokenizer.autoencode(video, cond)

    assert any("flash_attention" in name for name in operations.names)
    assert "aten::_safe_softmax" not in operations.names  # what that path is made of; the linear kind has a plain one
