"""Counting of memory and operations on the meta device."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.maskgit import MaskGit, MaskGitConfig, MaskGitObjective
from magvit2_pytorch.train.budget import prepare_gradients
from magvit2_pytorch.train.costs import Cost, cost_of

META = torch.device("meta")
LAYERS = {
    "group norms": {"layers": ("residual", ("compress_space", 32), "residual")},
    "channel norms": {"layers": ("residual", ("compress_space", 32), "residual"), "norm": "channel"},
    "the paper's blocks": {"layers": ("paper_residual", ("compress", (2, 2, 2), 32), "paper_residual")},
}


def saved_bytes(module: nn.Module, compute: Callable[[], object]) -> int:
    """What autograd keeps for the backward pass of a real computation, each storage once."""
    kept = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()  # kept alive, so no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute()
    return sum(storage.nbytes() for address, storage in kept.items() if address not in own)


def pass_of(tokenizer: VideoTokenizer, device: torch.device, batch: int = 2) -> Callable[[], Any]:
    video = torch.zeros(batch, 3, 9, 32, 32, device=device)
    return lambda: tokenizer(video, return_loss=True)[0]


def new_tokenizer(device: torch.device, **settings: Any) -> VideoTokenizer:
    with device:
        return VideoTokenizer(
            **{"image_size": 32, "init_dim": 16, "codebook_size": 2**8, "gradient_checkpointing": False} | settings
        )


def cost_on_meta(autocast: torch.dtype | None = None, batch: int = 2, **settings: Any) -> Cost:
    tokenizer = new_tokenizer(META, **settings)
    prepare_gradients([tokenizer])
    compute = pass_of(tokenizer, META, batch)
    return cost_of(lambda: compute().backward(), autocast=autocast)


@pytest.mark.parametrize("name", LAYERS)
def test_memory_is_that_of_the_saved_tensors_of_a_real_pass_and_a_little_more(name: str) -> None:
    cpu = torch.device("cpu")
    tokenizer = new_tokenizer(cpu, **LAYERS[name])

    saved = saved_bytes(tokenizer, pass_of(tokenizer, cpu))

    assert 1 < cost_on_meta(**LAYERS[name]).peak_bytes / saved < 1.25


def test_memory_of_the_transformer_is_that_of_the_saved_tensors_of_a_real_pass_and_a_little_more() -> None:
    config = MaskGitConfig(codebook_size=2**8, grid=(3, 4, 4), num_labels=2, width=64, depth=3, num_heads=4)
    objectives = {}
    for device in (torch.device("cpu"), META):
        with device:
            objectives[device.type] = MaskGitObjective(MaskGit(config))

    def losses(device: str) -> Tensor:
        codes = torch.zeros(4, 3, 4, 4, dtype=torch.long, device=device)
        losses = objectives[device](codes, torch.zeros(4, dtype=torch.long, device=device))
        return torch.stack([losses[name] for name in ("masked_code", "reconstructed_code")]).sum()

    saved = saved_bytes(objectives["cpu"], lambda: losses("cpu"))
    prepare_gradients([objectives["meta"]])
    peak = cost_of(lambda: losses("meta").backward()).peak_bytes

    assert 1 < peak / saved < 1.25


def test_memory_and_operations_grow_with_the_batch() -> None:
    one, three = (cost_on_meta(batch=batch, **LAYERS["group norms"]) for batch in (1, 3))

    assert three.peak_bytes == pytest.approx(3 * one.peak_bytes, rel=0.05)
    assert three.flops == pytest.approx(3 * one.flops, rel=0.01)


def test_gradient_checkpointing_trades_memory_for_operations() -> None:
    layers = ("residual",) * 8

    plain, frugal = (cost_on_meta(layers=layers, gradient_checkpointing=choice) for choice in (False, True))

    assert frugal.peak_bytes < 0.5 * plain.peak_bytes
    assert 1.2 < frugal.flops / plain.flops < 4 / 3  # a second forward pass, a third of the operations


def test_gradient_checkpointing_also_works_in_mixed_precision() -> None:
    layers = ("residual",) * 8

    plain, frugal = (cost_on_meta(torch.bfloat16, layers=layers, gradient_checkpointing=one) for one in (False, True))

    assert frugal.peak_bytes < 0.5 * plain.peak_bytes


def test_operations_of_a_linear_layer_are_those_counted_by_hand() -> None:
    with META:
        layer = nn.Linear(6, 10)
    rows = torch.empty(7, 6, device=META, requires_grad=True)

    cost = cost_of(lambda: layer(rows).sum().backward())

    assert cost.flops == 3 * 2 * 7 * 6 * 10  # output, gradient of the input, gradient of the weight


def test_operations_of_a_convolution_are_those_counted_by_hand() -> None:
    with META:
        layer = nn.Conv3d(3, 5, (3, 3, 2), padding=(1, 1, 0))
    video = torch.empty(2, 3, 4, 6, 8, device=META)

    cost = cost_of(lambda: layer(video).sum().backward())

    positions = 4 * 6 * (8 - 1)
    assert cost.flops == 2 * 2 * 2 * positions * 5 * 3 * (3 * 3 * 2)  # output and gradient of the weight


def test_operations_are_those_of_the_counter_of_torch_for_a_real_pass() -> None:
    cpu = torch.device("cpu")
    compute = pass_of(new_tokenizer(cpu, **LAYERS["the paper's blocks"]), cpu)

    with FlopCounterMode(display=False) as counter:
        compute().backward()

    assert cost_on_meta(**LAYERS["the paper's blocks"]).flops == counter.get_total_flops()


@pytest.mark.parametrize("has_mask", [False, True])
def test_attention_does_not_store_its_weights(has_mask: bool) -> None:
    num_positions, channels = 512, 8
    q, k, v = (torch.empty(1, 1, num_positions, channels, device=META, requires_grad=True) for _ in range(3))
    mask = torch.ones(1, 1, 1, num_positions, dtype=torch.bool, device=META) if has_mask else None

    class Attend(nn.Module):
        def forward(self) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=0.1)

    cost = cost_of(lambda: Attend()().sum().backward())

    assert cost.peak_bytes < 4 * num_positions**2
    assert cost.flops == 7 * 2 * num_positions**2 * channels  # two products forward; five backward, with recomputation


def test_mixed_precision_casts_as_autocast_on_gpus_does() -> None:
    class Layers(nn.Module):
        def forward(self, video: Tensor) -> tuple[Tensor, ...]:
            convolved = F.conv3d(video, torch.empty(4, 4, 1, 1, 1, device=META))
            return convolved, F.silu(convolved), F.group_norm(convolved, 2), video + convolved

    seen: list[torch.dtype] = []
    video = torch.empty(1, 4, 2, 2, 2, device=META)

    cost_of(lambda: seen.extend(output.dtype for output in Layers()(video)), autocast=torch.bfloat16)

    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
