import logging

import pytest
import torch

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.tokenizer import TokenizerConfig, memory
from magvit2_pytorch.tokenizer.memory import activation_bytes


def saved_bytes(tokenizer: VideoTokenizer, video: torch.Tensor) -> int:
    """What autograd really keeps for the backward pass, each storage once."""
    kept = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in tokenizer.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()  # kept alive, so no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        tokenizer.decoder(tokenizer.encoder(video)[:, : tokenizer.config.code_bits])
    return sum(storage.nbytes() for address, storage in kept.items() if address not in own)


@pytest.mark.parametrize(
    "layers", [("residual", "compress_space", "residual"), ("residual", ("compress_time", 32), "attend_time")]
)
def test_the_estimate_is_near_what_autograd_keeps(layers) -> None:
    tokenizer = VideoTokenizer(image_size=32, init_dim=16, layers=layers, codebook_size=2**8)
    video = torch.randn(2, 3, 9, 32, 32)

    estimate = activation_bytes(tokenizer.config, tuple(video.shape), torch.float32)

    assert 0.7 < estimate / saved_bytes(tokenizer, video) < 1.4


def test_the_estimate_grows_with_the_batch() -> None:
    config = TokenizerConfig(init_dim=16, layers=("residual",), codebook_size=2**4)

    one, three = (activation_bytes(config, (batch, 3, 5, 16, 16), torch.float32) for batch in (1, 3))

    assert three == 3 * one


def test_checkpointing_turns_itself_on_where_memory_is_short_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(memory, "device_memory", lambda device: 1000)
    tokenizer = VideoTokenizer(image_size=16, init_dim=16, layers=("residual",), codebook_size=2**4)
    calls = []
    tokenizer.encoder[1].register_forward_pre_hook(lambda *_: calls.append(1))

    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            tokenizer(torch.zeros(1, 3, 5, 16, 16), return_loss=True)[0].backward()

    assert len(calls) == 4  # each of two passes computed the layer twice
    assert sum("gradient checkpointing is on" in record.message for record in caplog.records) == 1


def test_checkpointing_stays_off_where_memory_is_ample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "device_memory", lambda device: 10**12)
    tokenizer = VideoTokenizer(image_size=16, init_dim=16, layers=("residual",), codebook_size=2**4)
    calls = []
    tokenizer.encoder[1].register_forward_pre_hook(lambda *_: calls.append(1))

    tokenizer(torch.zeros(1, 3, 5, 16, 16), return_loss=True)[0].backward()

    assert len(calls) == 1


@pytest.mark.parametrize("norm", ["group", "channel"])
def test_the_estimate_is_near_what_autograd_keeps_under_autocast(norm) -> None:
    tokenizer = VideoTokenizer(
        image_size=32, init_dim=16, layers=("residual", "compress_space", "residual"), codebook_size=2**8, norm=norm
    )
    video = torch.randn(2, 3, 9, 32, 32)

    estimate = activation_bytes(tokenizer.config, tuple(video.shape), torch.float32, ("cpu", torch.bfloat16))

    with torch.autocast("cpu", torch.bfloat16):
        assert 0.7 < estimate / saved_bytes(tokenizer, video) < 1.4


def test_autocast_is_seen_when_checkpointing_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TokenizerConfig(init_dim=16, layers=("residual",), codebook_size=2**4)
    shape = torch.Size((1, 3, 5, 16, 16))
    needed = activation_bytes(config, tuple(shape), torch.float32)
    monkeypatch.setattr(memory, "device_memory", lambda device: 1.6 * needed)

    assert not memory.activations_fit(config, shape, torch.float32, torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        assert memory.activations_fit(config, shape, torch.float32, torch.device("cpu"))


def test_the_memory_of_a_cpu_is_at_most_that_of_its_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory_limit", lambda: None)
    whole = memory.device_memory.__wrapped__(torch.device("cpu"))
    monkeypatch.setattr(memory, "memory_limit", lambda: 2**20)

    assert memory.device_memory.__wrapped__(torch.device("cpu")) == 2**20 < whole
