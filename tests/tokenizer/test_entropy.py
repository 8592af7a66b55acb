import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.multiprocessing
import vector_quantize_pytorch.lookup_free_quantization as library
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from magvit2_pytorch.tokenizer import entropy
from magvit2_pytorch.tokenizer.entropy import codebook_entropy, sample_entropy


def brute_force(latents: Tensor, inverse_temperature: float) -> tuple[Tensor, Tensor]:
    """Both entropies from the table of latents x codes."""
    corners = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=latents.shape[1])), dtype=latents.dtype)
    places = latents.movedim(1, -1).flatten(0, -2)
    assignment = (2 * inverse_temperature * places @ corners.T).softmax(dim=-1)
    mean = assignment.mean(dim=0)
    return torch.special.entr(assignment).sum(dim=-1).mean(), torch.special.entr(mean).sum()


def value_and_gradient(function: Callable[[Tensor], Tensor], latents: Tensor) -> tuple[Tensor, Tensor]:
    latents = latents.clone().requires_grad_()
    value = function(latents)
    return value.detach(), torch.autograd.grad(value, latents)[0]


@pytest.mark.parametrize("inverse_temperature", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("code_bits", [1, 2, 3, 7])
def test_entropies_equal_brute_force_over_the_codebook(code_bits: int, inverse_temperature: float) -> None:
    latents = torch.randn(2, code_bits, 3, 2, 2, dtype=torch.float64)

    for number, ours in enumerate((sample_entropy, codebook_entropy)):
        value, gradient = value_and_gradient(lambda z, f=ours: f(z, inverse_temperature), latents)
        expected, expected_gradient = value_and_gradient(
            lambda z, n=number: brute_force(z, inverse_temperature)[n], latents
        )

        torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("code_bits", "num_latents"), [(10, 700), (14, 60)])
@pytest.mark.parametrize("inverse_temperature", [1.0, 100.0])
def test_entropies_equal_the_library_in_double_precision(
    code_bits: int, num_latents: int, inverse_temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clamped_log = library.log
    monkeypatch.setattr(library, "log", lambda t, eps=1e-5: clamped_log(t, eps=1e-300))
    quantizer = library.LFQ(dim=code_bits, codebook_size=2**code_bits, force_quantization_f32=False).double().train()
    latents = torch.randn(1, code_bits, num_latents, 1, 1, dtype=torch.float64) * 0.3

    def of_library(name: str) -> Callable[[Tensor], Tensor]:
        return lambda z: getattr(
            quantizer(z, inv_temperature=inverse_temperature, return_loss_breakdown=True).loss_breakdown
            if hasattr(quantizer(z), "loss_breakdown")
            else quantizer(z, inv_temperature=inverse_temperature, return_loss_breakdown=True)[1],
            name,
        )

    for ours, name in ((sample_entropy, "per_sample_entropy"), (codebook_entropy, "batch_entropy")):
        value, gradient = value_and_gradient(lambda z, f=ours: f(z, inverse_temperature), latents)
        expected, expected_gradient = value_and_gradient(of_library(name), latents)

        torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-10)


def test_a_device_takes_as_many_latents_at_a_time_as_fit_into_the_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entropy, "WORKSPACE_BYTES", 2**20)

    for code_bits, words in ((18, 2**9), (9, 2**5), (1, 2)):
        logits = torch.empty(1, code_bits, device="meta", dtype=torch.float32)
        assert entropy.chunk_size(logits, num_tables=4) == 2**20 // (4 * words * 4)
    assert entropy.chunk_size(torch.empty(1, 62, device="meta"), num_tables=4) == 1


def test_latents_are_taken_in_chunks_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    latents = torch.randn(2, 9, 5, 8, 8, dtype=torch.float64)
    whole = value_and_gradient(lambda z: codebook_entropy(z, 1.0), latents)

    monkeypatch.setattr(entropy, "LATENTS_AT_A_TIME", 7)
    chunked = value_and_gradient(lambda z: codebook_entropy(z, 1.0), latents)

    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-13)


def test_an_undecided_codebook_of_any_size_has_the_entropy_of_all_its_bits() -> None:
    for code_bits in (17, 18, 20):  # a clamp at 1e-5 would stop at 11.5 nats
        latents = torch.zeros(1, code_bits, 1, 2, 2)

        torch.testing.assert_close(codebook_entropy(latents, 1.0), torch.tensor(code_bits * math.log(2)))
        torch.testing.assert_close(sample_entropy(latents, 1.0), torch.tensor(code_bits * math.log(2)))


def test_single_precision_keeps_the_gradient_of_a_large_codebook() -> None:
    latents = torch.randn(1, 18, 4, 8, 8, dtype=torch.float64) * 0.05
    _, exact = value_and_gradient(lambda z: codebook_entropy(z, 1.0), latents)

    _, single = value_and_gradient(lambda z: codebook_entropy(z, 1.0), latents.float())

    assert (single.double() - exact).norm() / exact.norm() < 1e-4


def test_certain_latents_have_no_entropy_and_finite_gradients() -> None:
    latents = torch.full((1, 12, 1, 1, 3), 50.0)

    for function in (sample_entropy, codebook_entropy):
        value, gradient = value_and_gradient(lambda z, f=function: f(z, 100.0), latents)

        assert value == 0
        assert gradient.isfinite().all()


def test_autocast_does_not_reach_the_entropies() -> None:
    latents = torch.randn(1, 10, 1, 4, 4)
    expected = codebook_entropy(latents, 1.0), sample_entropy(latents, 1.0)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (codebook_entropy(latents, 1.0), sample_entropy(latents, 1.0)) == expected


def entropy_on_one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    joined = torch.load(f"{folder}/latents.pt", weights_only=True)
    latents = joined.chunk(2)[rank].clone().requires_grad_()
    value = codebook_entropy(latents, 1.0)
    value.backward()
    torch.save((value.detach(), latents.grad), f"{folder}/result{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_codebook_entropy_of_the_joined_batch(tmp_path) -> None:
    joined = torch.randn(4, 6, 1, 3, 3, dtype=torch.float64)
    torch.save(joined, tmp_path / "latents.pt")
    value, gradient = value_and_gradient(lambda z: codebook_entropy(z, 1.0), joined)

    torch.multiprocessing.spawn(entropy_on_one_of_two, args=(str(tmp_path),), nprocs=2)  # type: ignore[attr-defined]

    results = [torch.load(tmp_path / f"result{rank}.pt", weights_only=True) for rank in range(2)]
    for theirs, _ in results:
        torch.testing.assert_close(theirs, value)
    # Data-parallel training averages the gradients of the processes, hence the 2.
    torch.testing.assert_close(torch.cat([gradient for _, gradient in results]) / 2, gradient)


class LargestTensor(TorchDispatchMode):
    """Notes how large the largest tensor is that an operation gives, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.size = max(self.size, result.numel() * result.element_size())
        return result


def test_the_penalty_of_16_clips_at_2_to_the_18_codes_builds_no_table() -> None:
    latents = torch.randn(16, 18, 5, 16, 16, requires_grad=True)

    with LargestTensor() as largest:
        (sample_entropy(latents, 1.0) - codebook_entropy(latents, 1.0)).backward()

    assert largest.size <= 2 * latents.numel() * latents.element_size()  # 3 MB; a table of latents x codes has 21 GB
