"""Where the channels lie in memory changes what a step costs and not what comes out."""

import pytest
import torch
from torch import Tensor

from magvit2_pytorch.tokenizer import VideoTokenizer, memory_format
from magvit2_pytorch.tokenizer.convolution import CausalConv3d
from magvit2_pytorch.tokenizer.layer_kinds import LAYER_KINDS, Parts, resolve_layers
from magvit2_pytorch.tokenizer.memory_format import CHANNELS_LAST, is_channels_last
from magvit2_pytorch.tokenizer.norms import FrameGroupNorm

from .conftest import lively  # type: ignore[import-not-found]
from .test_efficiency import WITH_ARGUMENTS, a_tokenizer, a_video, condition_for


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
        seen = formats_seen(tokenizer)
        results.append(reconstruction_and_gradients(tokenizer, video, cond))
        assert (sum(seen) > len(seen) / 2) == channels_last

    (first, first_gradients), (second, second_gradients) = results
    assert first_gradients
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first_gradients, second_gradients)


def formats_seen(tokenizer: VideoTokenizer) -> list[bool]:
    """Whether the channels were last in what each causal convolution is given from now on."""
    seen: list[bool] = []
    for module in tokenizer.modules():
        if isinstance(module, CausalConv3d):
            module.register_forward_pre_hook(lambda _, inputs: seen.append(is_channels_last(inputs[0])))
    return seen


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("patch_size", [(1, 1, 1), (1, 2, 2)])
def test_what_comes_out_lies_in_memory_as_what_came_in(
    monkeypatch: pytest.MonkeyPatch, channels_last: bool, channels: int, patch_size: tuple[int, int, int]
) -> None:
    monkeypatch.setattr(memory_format, "HAS_AVX512", channels_last)
    layers = ("residual", "attend_space", "compress_space", "attend_time", "compress_time")
    tokenizer = a_tokenizer(layers, init_dim=16, channels=channels, patch_size=patch_size)
    video = a_video(9, channels=channels, batch=2)
    latents = tokenizer.video_to_latents(video)

    assert latents.is_contiguous()
    assert tokenizer.decoder(latents).is_contiguous()
    assert is_channels_last(tokenizer.decoder(latents.contiguous(memory_format=CHANNELS_LAST))) == (channels > 1)
    if channels > 1:
        assert is_channels_last(tokenizer.encoder(video.contiguous(memory_format=CHANNELS_LAST)))


@pytest.mark.parametrize(
    ("name", "half"),
    [("residual", "encode"), ("compress_space", "encode"), ("compress_space", "decode"), ("compress_time", "encode")],
)
def test_convolutions_over_space_or_time_leave_channels_last(name: str, half: str) -> None:
    parts = Parts(3, False, 6, FrameGroupNorm, FrameGroupNorm)
    (layer,) = resolve_layers(16, [name])
    block = lively(getattr(layer.kind, half)(layer, parts))

    assert is_channels_last(block(torch.randn(2, 16, 5, 8, 8).contiguous(memory_format=CHANNELS_LAST)))


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2)])
@pytest.mark.parametrize("kernel_size", [(1, 1, 1), (1, 3, 3), (3, 1, 1), (3, 3, 3)])
def test_any_convolution_is_the_same_in_both_formats(
    kernel_size: tuple[int, int, int], stride: tuple[int, int, int]
) -> None:
    convolution = CausalConv3d(4, 5, kernel_size, stride).double()
    video = torch.randn(2, 4, 3, 6, 6, dtype=torch.float64)

    expected = convolution(video)

    torch.testing.assert_close(convolution(video.contiguous(memory_format=CHANNELS_LAST)), expected)
