import pytest
import torch

from magvit2_pytorch.tokenizer.quantizer import LookupFreeQuantizer


@pytest.mark.parametrize("code_bits", [1, 5, 18])
def test_dequantizing_inverts_quantizing_exactly(code_bits: int) -> None:
    quantizer = LookupFreeQuantizer(2**code_bits).train()
    latents = torch.randn(2, code_bits, 3, 4, 4)

    quantized, codes = quantizer(latents)

    assert torch.equal(quantized, torch.where(latents > 0, 1.0, -1.0))
    assert torch.equal(quantizer.dequantize(codes), quantized)


def test_channel_0_is_the_highest_bit() -> None:
    quantizer = LookupFreeQuantizer(2**3)
    latents = torch.tensor([0.3, -2.0, 0.1]).reshape(1, 3, 1, 1, 1)

    assert quantizer(latents).codes.item() == 0b101


def test_gradients_pass_straight_through_in_training_and_evaluation() -> None:
    for quantizer in (LookupFreeQuantizer(2**4).train(), LookupFreeQuantizer(2**4).eval()):
        latents = torch.randn(1, 4, 1, 2, 2, requires_grad=True)
        weights = torch.randn(1, 4, 1, 2, 2)

        (quantizer(latents).quantized * weights).sum().backward()

        assert torch.equal(latents.grad, weights)  # type: ignore[arg-type]


def test_the_library_never_computes_its_own_penalty() -> None:
    quantizer = LookupFreeQuantizer(2**4)
    for mode in (True, False, True):
        assert not torch.nn.Sequential(quantizer).train(mode)[0].lfq.training  # type: ignore[union-attr]
