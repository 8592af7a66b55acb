"""Every layer kind alone and beside another, with and without a condition, in the whole and in a stream."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.tokenizer import attention
from magvit2_pytorch.tokenizer.context import WHOLE
from magvit2_pytorch.tokenizer.convolution import Blur
from magvit2_pytorch.tokenizer.layer_kinds import LAYER_KINDS, LayerSpec
from magvit2_pytorch.tokenizer.norms import AdaptiveNorm, repeat_to
from magvit2_pytorch.tokenizer.rotary import rotate

from .conftest import lively  # type: ignore[import-not-found]

DIM_COND = 5
SPECS: dict[str, LayerSpec] = {
    **{name: name for name in LAYER_KINDS},
    "consecutive_residual": ("consecutive_residual", 2),
    "cond_consecutive_residual": ("cond_consecutive_residual", 2),
    "paper_residual": ("paper_residual", 12),
    "cond_paper_residual": ("cond_paper_residual", 12),
    "local_attend_space": ("local_attend_space", 3),
    "local_attend_time": ("local_attend_time", 3),
    "compress_space": ("compress_space", 12),
    "compress_time": ("compress_time", 12),
    "compress": ("compress", (2, 2, 2), 12),
}
PLACES = {
    "alone": lambda spec: (spec,),
    "after residual": lambda spec: ("residual", spec),
    "before residual": lambda spec: (spec, "residual"),
}
every_kind = pytest.mark.parametrize("name", LAYER_KINDS)
everywhere = pytest.mark.parametrize("place", PLACES)


def tokenizer_with(name: str, place: str, **options: object) -> VideoTokenizer:
    return VideoTokenizer(
        image_size=(8, 12),
        init_dim=8,
        layers=PLACES[place](SPECS[name]),
        codebook_size=2**6,
        dim_cond=DIM_COND if name.startswith("cond_") else None,
        gradient_checkpointing=False,
        **options,  # type: ignore[arg-type]
    )


def condition_for(tokenizer: VideoTokenizer, batch: int) -> Tensor | None:
    return None if tokenizer.config.dim_cond is None else torch.randn(batch, DIM_COND)


def a_video(num_frames: int, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, num_frames, 8, 12) * 2 - 1


@everywhere
@every_kind
def test_gradients_reach_every_parameter(name: str, place: str) -> None:
    for num_frames in (1, 5, 9, 17):
        tokenizer = tokenizer_with(name, place)
        optimizer = torch.optim.Adam(tokenizer.parameters(), lr=1e-3)
        before = {key: value.clone() for key, value in tokenizer.named_parameters()}
        cond = condition_for(tokenizer, 2)
        for _ in range(2 if num_frames == 17 else 1):
            optimizer.zero_grad()
            total, _ = tokenizer(a_video(num_frames, batch=2), return_loss=True, cond=cond)
            total.backward()
            without = [key for key, value in tokenizer.named_parameters() if value.grad is None]
            assert not without
            optimizer.step()
        if num_frames == 17:
            unchanged = [key for key, value in tokenizer.named_parameters() if torch.equal(value, before[key])]
            assert not unchanged


@everywhere
@every_kind
@torch.no_grad()
def test_nothing_depends_on_what_comes_later(name: str, place: str) -> None:
    tokenizer = lively(tokenizer_with(name, place))
    cond = condition_for(tokenizer, 1)
    video = a_video(17)
    other = video.clone()
    other[:, :, 9:] = a_video(8)

    latents, other_latents = (tokenizer.video_to_latents(each, cond) for each in (video, other))
    first = 1 + 8 // tokenizer.temporal_stride
    assert torch.equal(latents[:, :, :first], other_latents[:, :, :first])
    assert not torch.equal(latents[:, :, first:], other_latents[:, :, first:])

    codes = torch.randint(tokenizer.codebook_size, tuple(tokenizer.code_shape(17, 8, 12)))[None]
    other_codes = codes.clone()
    other_codes[:, first:] = tokenizer.codebook_size - 1 - codes[:, first:]
    drawn, other_drawn = (tokenizer.decode(each, cond=cond) for each in (codes, other_codes))
    assert torch.equal(drawn[:, :, :9], other_drawn[:, :, :9])
    assert not torch.equal(drawn[:, :, 9:], other_drawn[:, :, 9:])

    image = tokenizer.video_to_latents(video[:, :, 0], cond)
    torch.testing.assert_close(image, latents[:, :, :1], atol=1e-5, rtol=0)


@everywhere
@every_kind
@torch.no_grad()
def test_a_stream_equals_the_whole(name: str, place: str) -> None:
    tokenizer = lively(tokenizer_with(name, place))
    cond = condition_for(tokenizer, 1)
    for num_frames in (1, 5, 9, 17):
        video = a_video(num_frames)
        latents, codes = tokenizer.video_to_latents(video, cond), tokenizer.encode(video, cond)
        whole = tokenizer.decode(codes, num_frames, cond=cond)

        streamed = torch.cat(list(tokenizer.encode_stream(video.split([1] + [4] * (num_frames // 4), dim=2), cond)), 1)
        drawn = torch.cat(list(tokenizer.decode_stream(codes.split(2, dim=1), num_frames, cond=cond)), dim=2)

        is_clear = (latents.abs() > 1e-5).all(dim=1)
        assert torch.equal(streamed[is_clear], codes[is_clear])
        torch.testing.assert_close(drawn, whole, atol=1e-5, rtol=0)


@every_kind
@torch.no_grad()
def test_the_condition_matters_where_there_is_one(name: str) -> None:
    tokenizer = lively(tokenizer_with(name, "alone"))
    video = a_video(5)
    if name.startswith("cond_"):
        one, other = (tokenizer.video_to_latents(video, torch.randn(1, DIM_COND)) for _ in range(2))
        assert not torch.allclose(one, other)
        codes = tokenizer.encode(video, torch.zeros(1, DIM_COND))
        one, other = (tokenizer.decode(codes, cond=torch.randn(1, DIM_COND)) for _ in range(2))
        assert not torch.allclose(one, other)
        with pytest.raises(ValueError, match=r"cond must be floating point of shape \(1, 5\), got NoneType"):
            tokenizer.encode(video)
    else:
        with pytest.raises(ValueError, match="no layer of this tokenizer is conditioned"):
            tokenizer.encode(video, torch.zeros(1, DIM_COND))


@torch.no_grad()
def test_adaptive_norm_takes_scale_and_shift_from_the_latents_place_by_place() -> None:
    tokenizer = lively(tokenizer_with("adaptive_norm", "alone", norm="channel", patch_size=(1, 2, 2)))
    codes = torch.randint(tokenizer.codebook_size, (1, 3, 4, 6))
    adaptive = tokenizer.decoder[1]
    assert isinstance(adaptive, AdaptiveNorm)
    quantized = tokenizer.codes_to_quantized(codes)
    hidden = tokenizer.decoder[0](quantized)
    scale, shift = (
        torch.einsum("dk,bkthw->bdthw", layer.weight[..., 0, 0, 0], quantized)
        + layer.get_parameter("bias")[:, None, None, None]
        for layer in (adaptive.to_scale, adaptive.to_shift)
    )
    normed = hidden / (hidden.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()

    expected = tokenizer.decoder[-1](normed * (1 + scale) + shift)

    torch.testing.assert_close(tokenizer.decode(codes), expected)


@pytest.mark.parametrize("factors", [(2,), (2, 2), (3,), (2, 2, 2)])
@torch.no_grad()
def test_adaptive_norm_gives_each_frame_the_latent_frame_that_stands_for_it(factors: tuple[int, ...]) -> None:
    layers: tuple[LayerSpec, ...] = ("adaptive_norm", *(("compress", (factor, 1, 1)) for factor in factors))
    tokenizer = lively(VideoTokenizer(image_size=4, init_dim=8, layers=layers, codebook_size=2**6))
    codes = torch.randint(tokenizer.codebook_size, (1, 5, 4, 4))
    whole = tokenizer.decode(codes)

    for t in (1, 2, 3, 4):
        torch.testing.assert_close(
            tokenizer.decode(codes[:, :t]), whole[:, :, : 1 + (t - 1) * tokenizer.temporal_stride]
        )

    adaptive = next(layer for layer in tokenizer.decoder if isinstance(layer, AdaptiveNorm))
    scales = adaptive.to_scale(tokenizer.codes_to_quantized(codes))
    stride = tokenizer.temporal_stride
    for t in (1, 2, 3):
        fine = torch.empty(1, 8, 1 + (t - 1) * stride, 8, 12)
        of_frame = [0, *(later for later in range(1, t) for _ in range(stride))]
        expected = scales[:, :, of_frame].repeat_interleave(2, dim=3).repeat_interleave(3, dim=4)
        assert torch.equal(repeat_to(scales[:, :, :t], fine, begins=True), expected)
        fine = torch.empty(1, 8, t * stride, 8, 12)
        expected = scales[:, :, :t].repeat_interleave(stride, dim=2).repeat_interleave(2, dim=3)
        assert torch.equal(repeat_to(scales[:, :, :t], fine, begins=False), expected.repeat_interleave(3, dim=4))


@torch.no_grad()
def test_local_attention_over_time_is_full_attention_within_its_window() -> None:
    local, full = (lively(tokenizer_with(name, "alone")) for name in ("local_attend_time", "attend_time"))
    full.load_state_dict(local.state_dict())
    video = a_video(9)
    other = video.clone()
    other[:, :, :4] = a_video(4)

    stem = [model.encoder[0] for model in (local, full)]
    hidden, other_hidden = stem[0](video), stem[0](other)  # kernels of three frames: alike from frame 6 on
    attended = local.encoder[1](hidden)
    torch.testing.assert_close(attended[:, :, :3], full.encoder[1](hidden)[:, :, :3])
    torch.testing.assert_close(attended[:, :, 8:], full.encoder[1](hidden[:, :, 6:])[:, :, 2:])
    assert torch.equal(attended[:, :, 8], local.encoder[1](other_hidden)[:, :, 8])
    assert not torch.equal(attended[:, :, 7], local.encoder[1](other_hidden)[:, :, 7])


@torch.no_grad()
def test_local_attention_over_space_sees_its_neighbourhood_and_no_more() -> None:
    tokenizer = lively(tokenizer_with("local_attend_space", "alone", norm="channel", patch_size=(1, 1, 1)))
    attention = tokenizer.encoder[1]
    hidden = torch.randn(1, 8, 1, 9, 11)
    for row, column in ((4, 5), (0, 0), (8, 10), (3, 4)):
        other = hidden.clone()
        other[..., row, column] += 1
        changed = (attention(other) - attention(hidden)).abs().amax(dim=(0, 1, 2)) > 1e-7
        rows, columns = torch.meshgrid(torch.arange(9), torch.arange(11), indexing="ij")
        assert torch.equal(changed, ((rows - row).abs() <= 1) & ((columns - column).abs() <= 1))


@torch.no_grad()
def test_local_attention_over_space_equals_full_attention_with_a_mask() -> None:
    tokenizer = lively(tokenizer_with("local_attend_space", "alone"))
    attention = tokenizer.encoder[1]
    grid = (6, 7)
    queries, keys, values = torch.randn(3, 2, 1, 42, 8)
    rows, columns = (
        axis.flatten() for axis in torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    )
    near = ((rows[:, None] - rows).abs() <= 1) & ((columns[:, None] - columns).abs() <= 1)

    expected = torch.nn.functional.scaled_dot_product_attention(
        rotate(queries, grid), rotate(keys, grid), values, attn_mask=near
    )
    torch.testing.assert_close(attention.attend(queries, keys, values, grid, WHOLE), expected)  # type: ignore[operator]


@torch.no_grad()
def test_linear_attention_equals_its_definition() -> None:
    tokenizer = tokenizer_with("linear_attend_space", "alone")
    queries, keys, values = torch.randn(3, 1, 1, 6, 4)

    expected = torch.zeros(6, 4)
    for place in range(6):
        for other in range(6):
            share = (queries[0, 0, place].softmax(0) * keys[0, 0].softmax(0)[other]).sum()
            expected[place] += share * values[0, 0, other]
    attended = tokenizer.encoder[1].attend(queries, keys, values, (2, 3), WHOLE)  # type: ignore[operator]
    torch.testing.assert_close(attended[0, 0], expected)


@torch.no_grad()
def test_blurring_leaves_a_constant_and_removes_the_finest_pattern() -> None:
    blur = Blur((2, 2, 2))
    constant = torch.full((1, 2, 5, 6, 8), 0.7)
    torch.testing.assert_close(blur(constant), constant)
    stripes = torch.tensor([1.0, -1.0]).repeat(4).expand(1, 2, 5, 6, 8)
    assert blur(stripes)[..., 1:-1].abs().max() < 1e-6
    impulse = torch.zeros(1, 1, 7, 1, 1)
    impulse[:, :, 3] = 1
    assert blur(impulse).flatten().tolist() == [0, 0, 0, 0.25, 0.5, 0.25, 0]


@torch.no_grad()
def test_antialiasing_streams_and_stays_causal() -> None:
    layers: tuple[LayerSpec, ...] = ("compress_space", "compress_time", ("compress", (2, 2, 2), 12))
    tokenizer = lively(
        VideoTokenizer(image_size=16, init_dim=8, layers=layers, codebook_size=2**6, antialiased_downsample=True)
    )
    video = torch.rand(1, 3, 17, 16, 16) * 2 - 1

    codes = tokenizer.encode(video)

    assert torch.equal(tokenizer.encode(video[:, :, :9]), codes[:, :3])
    assert torch.equal(torch.cat(list(tokenizer.encode_stream(video.split(3, dim=2))), dim=1), codes)


@pytest.mark.parametrize("kind", ["attend_space", "local_attend_space", "attend_time", "local_attend_time"])
def test_more_sequences_than_a_kernel_takes_are_attended_to_in_parts(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = lively(VideoTokenizer(image_size=16, init_dim=16, layers=(SPECS[kind],), codebook_size=2**4))
    video = torch.randn(2, 3, 5, 8, 8)
    whole = tokenizer.autoencode(video).reconstruction
    calls = []
    original = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: calls.append(len(a[0])) or original(*a, **k))
    monkeypatch.setattr(attention, "MOST_SEQUENCES", 7)

    torch.testing.assert_close(tokenizer.autoencode(video).reconstruction, whole)

    assert max(calls) == 7
