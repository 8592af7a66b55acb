"""Where the channels lie in memory changes what a step costs and not what comes out."""

import pytest
import torch
from torch import Tensor

from magvit2_pytorch.tokenizer import VideoTokenizer, memory_format
from magvit2_pytorch.tokenizer.layer_kinds import LAYER_KINDS, Parts, resolve_layers
from magvit2_pytorch.tokenizer.memory_format import CHANNELS_LAST, is_channels_last
from magvit2_pytorch.tokenizer.norms import FrameGroupNorm

from .conftest import lively  # type: ignore[import-not-found]
from .test_efficiency import (  # type: ignore[import-not-found]
    WITH_ARGUMENTS,
    a_tokenizer,
    a_video,
    condition_for,
)


def reconstruction_and_gradients(
    tokenizer: VideoTokenizer, video: Tensor, cond: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    tokenizer.zero_grad(set_to_none=True)
    reconstruction = tokenizer.autoencode(video, cond).reconstruction
    reconstruction.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in tokenizer.named_parameters() if parameter.grad is not None}
    return reconstruction, gradients


@pytest.mark.parametrize("name", LAYER_KINDS)
def test_every_layer_kind_is_the_same_in_both_formats(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    tokenizer = a_tokenizer(("residual", WITH_ARGUMENTS.get(name, name), "residual"), init_dim=16).double().train()
    video, cond = a_video(9, batch=2).double(), condition_for(tokenizer, 2)
    cond = None if cond is None else cond.double()

    results = []
    for channels_last in (False, True):
        monkeypatch.setattr(memory_format, "HAS_AVX512", channels_last)
        results.append(reconstruction_and_gradients(tokenizer, video, cond))

    (first, first_gradients), (second, second_gradients) = results
    assert first.is_contiguous()
    assert second.is_contiguous()
    torch.testing.assert_close(first, second)
    assert first_gradients
    torch.testing.assert_close(first_gradients, second_gradients)


@pytest.mark.parametrize("half", ["encode", "decode"])
@pytest.mark.parametrize("name", ["residual", "compress_space", "compress_time"])
def test_convolutions_over_space_or_time_leave_channels_last(name: str, half: str) -> None:
    parts = Parts(3, False, 6, FrameGroupNorm, FrameGroupNorm)
    (layer,) = resolve_layers(16, [WITH_ARGUMENTS.get(name, name)])
    block = lively(getattr(layer.kind, half)(layer, parts))
    width = layer.width_before if half == "encode" else layer.width_after

    assert is_channels_last(block(torch.randn(1, width, 5, 8, 8).contiguous(memory_format=CHANNELS_LAST)))
