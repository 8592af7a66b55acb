import copy
import io
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import vector_quantize_pytorch.lookup_free_quantization as library
from torch import Tensor

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.tokenizer import TokenizerConfig
from magvit2_pytorch.tokenizer.entropy import codebook_entropy, sample_entropy
from magvit2_pytorch.tokenizer.quantizer import (
    FiniteScalarQuantizer,
    LookupFreeQuantizer,
    Quantizer,
    SphericalQuantizer,
    make_quantizer,
)

LEVELS = (8, 5, 3, 4)


def of_every_kind() -> list[tuple[Quantizer, int]]:
    """A quantizer of each kind and its latent channels."""
    return [(LookupFreeQuantizer(2**9), 9), (SphericalQuantizer(2**9), 9), (FiniteScalarQuantizer(LEVELS), 4)]


each_kind = pytest.mark.parametrize(("quantizer", "channels"), of_every_kind(), ids=["lfq", "bsq", "fsq"])


@pytest.mark.parametrize("code_bits", [1, 5, 18, 20])
def test_lookup_free_quantizing_takes_the_sign(code_bits: int) -> None:
    quantizer = LookupFreeQuantizer(2**code_bits).train()
    latents = torch.randn(2, code_bits, 3, 4, 4)

    quantized, codes = quantizer(latents)

    assert torch.equal(quantized, torch.where(latents > 0, 1.0, -1.0))
    assert torch.equal(quantizer.dequantize(codes, quantized.dtype), quantized)


@pytest.mark.parametrize("code_bits", [1, 5, 18])
def test_spherical_quantizing_takes_the_sign_and_keeps_the_length(code_bits: int) -> None:
    latents = torch.randn(2, code_bits, 3, 4, 4)

    quantized, codes = SphericalQuantizer(2**code_bits)(latents)

    torch.testing.assert_close(quantized, latents.sign() / math.sqrt(code_bits))
    assert torch.equal(codes, LookupFreeQuantizer(2**code_bits)(latents).codes)


@pytest.mark.parametrize("levels", [(3,), LEVELS, (8, 8, 8, 8, 8, 8, 4)])
def test_finite_scalar_quantizing_rounds_what_a_tanh_bounds(levels: tuple[int, ...]) -> None:
    quantizer = FiniteScalarQuantizer(levels)
    latents = torch.randn(2, len(levels), 3, 8, 8) * 3

    quantized, codes = quantizer(latents)

    place_values = [math.prod(levels[:channel]) for channel in range(len(levels))]  # channel 0 is the lowest digit
    for channel, (level, place_value) in enumerate(zip(levels, place_values, strict=True)):
        half = (level - 1) * (1 + 1e-3) / 2
        offset = 0.5 if level % 2 == 0 else 0.0
        rounded = ((latents[:, channel] + math.atanh(offset / half)).tanh() * half - offset).round()
        torch.testing.assert_close(quantized[:, channel], rounded / (level // 2))
        assert torch.equal(codes // place_value % level, (rounded + level // 2).long())
        assert len(rounded.unique()) == level


@each_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("training", [True, False])
def test_dequantizing_gives_exactly_what_the_decoder_saw(
    quantizer: Quantizer, channels: int, dtype: torch.dtype, training: bool
) -> None:
    quantizer = copy.deepcopy(quantizer).to(dtype).train(training)

    quantized, codes = quantizer(torch.randn(2, channels, 3, 4, 4).to(dtype))

    assert codes.dtype == torch.int64
    assert quantized.dtype == dtype
    assert torch.equal(quantizer.dequantize(codes, quantized.dtype), quantized)


@each_kind
def test_quantizing_inverts_dequantizing_over_the_whole_codebook(quantizer: Quantizer, channels: int) -> None:
    codes = torch.arange(quantizer.codebook_size).reshape(1, -1, 1, 1)

    quantized = quantizer.dequantize(codes, torch.float32)

    assert quantized.shape == (1, channels, quantizer.codebook_size, 1, 1)
    assert len(quantized.flatten(2).unique(dim=2)[0, 0]) == quantizer.codebook_size
    latents = bounded_to(quantized) if isinstance(quantizer, FiniteScalarQuantizer) else quantized
    assert torch.equal(quantizer(latents).codes, codes)


def bounded_to(quantized: Tensor) -> Tensor:
    """The latents that finite scalar quantization bounds to these levels, so that there is nothing to round."""
    levels = torch.tensor(LEVELS).reshape(-1, 1, 1, 1)
    half, offset = (levels - 1) * (1 + 1e-3) / 2, 0.5 * (levels % 2 == 0)
    return ((quantized * (levels // 2) + offset) / half).atanh() - (offset / half).atanh()


@each_kind
def test_under_autocast_the_decoder_sees_what_dequantizing_gives(quantizer: Quantizer, channels: int) -> None:
    latents = torch.randn(2, channels, 3, 4, 4).bfloat16()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        quantized, codes = quantizer(latents)

        assert torch.equal(quantizer.dequantize(codes, torch.float32), quantized.float())


def test_channel_0_is_the_highest_bit() -> None:
    latents = torch.tensor([0.3, -2.0, 0.1]).reshape(1, 3, 1, 1, 1)

    for quantizer in (LookupFreeQuantizer(2**3), SphericalQuantizer(2**3)):
        assert quantizer(latents).codes.item() == 0b101


def gradient(function: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
    latents = latents.clone().requires_grad_()
    return torch.autograd.grad(function(latents), latents)[0]


@pytest.mark.parametrize("training", [True, False])
def test_gradients_pass_straight_through_the_rounding(training: bool) -> None:
    latents, weights = torch.randn(1, 4, 1, 2, 2), torch.randn(1, 4, 1, 2, 2)
    levels = torch.tensor(LEVELS).reshape(4, 1, 1, 1)
    half, offset = (levels - 1) * (1 + 1e-3) / 2, 0.5 * (levels % 2 == 0)
    smooth: list[tuple[Quantizer, Callable[[Tensor], Tensor]]] = [
        (LookupFreeQuantizer(2**4), lambda z: z),
        (SphericalQuantizer(2**4), lambda z: z / z.norm(dim=1, keepdim=True)),
        (FiniteScalarQuantizer(LEVELS), lambda z: (z + (offset / half).atanh()).tanh() * half / (levels // 2)),
    ]

    for quantizer, unrounded in smooth:
        quantizer.train(training)
        torch.testing.assert_close(
            gradient(lambda z, q=quantizer: (q(z).quantized * weights).sum(), latents),
            gradient(lambda z, f=unrounded: (f(z) * weights).sum(), latents),
        )


def test_the_library_never_computes_its_own_penalty() -> None:
    for quantizer in (LookupFreeQuantizer(2**4), SphericalQuantizer(2**4)):
        for mode in (True, False, True):
            assert not torch.nn.Sequential(quantizer).train(mode)[0].lfq.training  # type: ignore[union-attr]


@each_kind
def test_a_quantizer_survives_copying_pickling_and_its_state(quantizer: Quantizer, channels: int) -> None:
    latents = torch.randn(1, channels, 1, 4, 4)
    expected = quantizer(latents)
    saved = io.BytesIO()
    torch.save(quantizer.state_dict(), saved)
    saved.seek(0)

    for copied in (copy.deepcopy(quantizer), pickle.loads(pickle.dumps(quantizer))):
        copied.load_state_dict(torch.load(saved, weights_only=True))
        saved.seek(0)
        assert torch.equal(copied(latents).quantized, expected.quantized)
        assert torch.equal(copied(latents).codes, expected.codes)


def test_lookup_free_losses_are_commitment_and_entropies() -> None:
    latents = torch.randn(2, 9, 3, 4, 4)
    quantizer = LookupFreeQuantizer(2**9)

    losses = quantizer.losses(latents, quantizer(latents).quantized, 2.0)

    assert list(losses) == ["commitment", "sample_entropy", "codebook_entropy"]
    assert losses["commitment"].item() == pytest.approx((latents.abs() - 1).square().mean().item())
    assert torch.equal(losses["sample_entropy"], sample_entropy(latents, 2.0))
    assert torch.equal(losses["codebook_entropy"], codebook_entropy(latents, 2.0))


@pytest.mark.parametrize("inverse_temperature", [1.0, 30.0])
def test_spherical_entropies_equal_the_librarys_in_double_precision(
    inverse_temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clamped_log = library.log
    monkeypatch.setattr(library, "log", lambda t, eps=1e-5: clamped_log(t, eps=1e-300))
    theirs = library.LFQ(
        dim=7, codebook_size=2**7, spherical=True, force_quantization_f32=False, commitment_loss_weight=1.0
    ).double()
    ours = SphericalQuantizer(2**7).double()
    latents = torch.randn(2, 7, 3, 4, 4, dtype=torch.float64)

    def library_losses(z: Tensor) -> dict[str, Tensor]:
        _, parts = theirs.train()(z, inv_temperature=inverse_temperature, return_loss_breakdown=True)
        return {
            "commitment": parts.commitment,
            "sample_entropy": parts.per_sample_entropy,
            "codebook_entropy": parts.batch_entropy,
        }

    def our_losses(z: Tensor) -> dict[str, Tensor]:
        return ours.losses(z, ours(z).quantized, inverse_temperature)

    assert our_losses(latents).keys() == library_losses(latents).keys()
    for name, expected in library_losses(latents).items():
        tolerance = 1e-6 if name == "commitment" else 1e-12  # the commitment is taken in single precision
        torch.testing.assert_close(our_losses(latents)[name].double(), expected, rtol=0, atol=tolerance)
        torch.testing.assert_close(
            gradient(lambda z, n=name: our_losses(z)[n].double(), latents),
            gradient(lambda z, n=name: library_losses(z)[n], latents),
            rtol=0,
            atol=tolerance,
        )


@pytest.mark.parametrize("quantizer", [LookupFreeQuantizer(2**9), SphericalQuantizer(2**9)], ids=["lfq", "bsq"])
def test_losses_are_the_same_under_autocast(quantizer: LookupFreeQuantizer) -> None:
    latents = torch.randn(2, 9, 3, 4, 4).bfloat16()  # what an encoder gives there
    expected = quantizer.losses(latents.float(), quantizer(latents.float()).quantized, 2.0)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert quantizer.losses(latents, quantizer(latents).quantized, 2.0) == expected


OPTIONS: list[dict[str, Any]] = [
    {"codebook_size": 2**7},
    {"codebook_size": 2**7, "quantizer": "bsq"},
    {"codebook_size": 480, "quantizer": "fsq", "fsq_levels": LEVELS},
]


def test_the_commitment_loss_of_fsq_is_the_squared_distance_to_the_nearest_level_where_levels_are_one_apart() -> None:
    quantizer = FiniteScalarQuantizer((5,))  # without a margin, the levels would be at 2 tanh(latent) = -2, ..., 2
    latents = torch.tensor([0.0, 0.05, 0.2, -0.3, 0.5, -1.5], dtype=torch.float64)

    for latent in latents:
        place = 2 * 1.001 * math.tanh(latent)
        one = latent.view(1, 1, 1, 1, 1)
        (loss,) = quantizer.losses(one, one, 1.0).values()
        assert loss.item() == pytest.approx(min((place - level) ** 2 for level in range(-2, 3)), abs=1e-9)


@pytest.mark.parametrize("levels", [(3,), (4,), (8, 5)])
def test_steps_down_the_commitment_loss_of_fsq_keep_the_codes_and_make_them_stable(levels: tuple[int, ...]) -> None:
    quantizer = FiniteScalarQuantizer(levels)
    latents = torch.randn(1, len(levels), 4, 8, 8, requires_grad=True)
    noise = 0.05 * torch.randn_like(latents)
    codes = quantizer(latents).codes
    changed = [(quantizer(latents + noise).codes != codes).float().mean()]

    for _ in range(300):
        loss = quantizer.losses(latents, latents, 1.0)["commitment"] * latents.numel()
        (gradient,) = torch.autograd.grad(loss, latents)
        latents = (latents - 0.02 * gradient).detach().requires_grad_()

    assert torch.equal(quantizer(latents).codes, codes)
    changed.append((quantizer(latents + noise).codes != codes).float().mean())
    assert changed[1] < 0.2 * changed[0]


@pytest.mark.parametrize("options", OPTIONS, ids=["lfq", "bsq", "fsq"])
def test_a_tokenizer_of_each_quantizer_decodes_its_codes_to_its_reconstruction(options: dict[str, Any]) -> None:
    tokenizer = VideoTokenizer(image_size=8, init_dim=8, layers=("residual", "compress_space"), **options).eval()
    video = torch.rand(1, 3, 2, 8, 8) * 2 - 1

    codes = tokenizer.encode(video)

    assert len(codes.unique()) > 1
    assert int(codes.max()) < tokenizer.codebook_size
    with torch.no_grad():
        assert torch.equal(tokenizer.decode(codes), tokenizer(video))


def test_a_config_names_its_quantizer_and_counts_the_latent_channels() -> None:
    configs = [TokenizerConfig(**options) for options in OPTIONS]

    kinds = [type(make_quantizer(config)) for config in configs]

    assert kinds == [LookupFreeQuantizer, SphericalQuantizer, FiniteScalarQuantizer]
    assert [config.latent_channels for config in configs] == [7, 7, 4]
    assert [config.code_bits for config in configs] == [7, 7, 9]  # 480 codes take 9 bits


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quantizer": "vq"}, "unknown quantizer 'vq'.*lfq, bsq, fsq"),
        ({"quantizer": "fsq"}, "'fsq', got None"),
        ({"fsq_levels": (8, 8)}, r"must be None with quantizer='lfq', got \(8, 8\)"),
        ({"quantizer": "fsq", "fsq_levels": (8, 5, 5, 5)}, r"codebook_size must be 1000.*got 262144"),
        (
            {"quantizer": "fsq", "fsq_levels": (2, 4), "codebook_size": 8},
            "each entry of fsq_levels must be an integer from 3 to 1048576, got 2",
        ),
        ({"quantizer": "fsq", "fsq_levels": (), "codebook_size": 2}, "fsq_levels must have 1 to 12 entries, got 0"),
        ({"quantizer": "bsq", "codebook_size": 1000}, "power of two.*1000"),
        ({"codebook_size": 2**21}, "codebook_size must be an integer from 2 to 1048576, got 2097152"),
        ({"quantizer": "fsq", "fsq_levels": (8,) * 7, "codebook_size": 2**21}, "1048576, got 2097152"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused_in_words(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TokenizerConfig(**options)


@pytest.mark.parametrize("options", OPTIONS, ids=["lfq", "bsq", "fsq"])
def test_a_tokenizer_of_each_quantizer_trains(options: dict[str, Any]) -> None:
    tokenizer = VideoTokenizer(image_size=8, init_dim=8, layers=("residual", "compress_space"), **options)
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=1e-2)
    video = torch.linspace(-1, 1, 8).expand(2, 3, 3, 8, 8)
    own = ["commitment"] if "fsq_levels" in options else ["commitment", "sample_entropy", "codebook_entropy"]
    errors = []
    for _ in range(30):
        total, losses = tokenizer(video, return_loss=True)
        assert list(losses) == ["reconstruction", *own]
        weights = vars(tokenizer.config.loss_weights)
        torch.testing.assert_close(total, torch.stack([weights[name] * loss for name, loss in losses.items()]).sum())
        optimizer.zero_grad()
        total.backward()
        assert all(parameter.grad is not None for parameter in tokenizer.parameters())
        optimizer.step()
        errors.append(losses["reconstruction"].item())
    assert errors[-1] < 0.5 * errors[0]


@pytest.mark.parametrize("options", OPTIONS, ids=["lfq", "bsq", "fsq"])
@torch.no_grad()
def test_a_tokenizer_of_each_quantizer_is_saved_and_loaded(options: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = VideoTokenizer(image_size=8, init_dim=8, layers=("residual", "compress_space"), **options).eval()
    video = torch.rand(1, 3, 2, 8, 8) * 2 - 1
    tokenizer.save_pretrained(tmp_path)

    loaded = VideoTokenizer.from_pretrained(tmp_path)

    assert loaded.config == tokenizer.config
    assert torch.equal(loaded.encode(video), tokenizer.encode(video))
    assert torch.equal(loaded(video), tokenizer(video))
