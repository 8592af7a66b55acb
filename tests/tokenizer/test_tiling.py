"""Large frames in tiles: what the whole frame gives where layers see a bounded neighbourhood, else blended."""

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from magvit2_pytorch import VideoTokenizer

from .conftest import lively  # type: ignore[import-not-found]

MODELS: dict[str, dict[str, Any]] = {
    "no layers": {"layers": ()},
    "residual": {"layers": ("residual", "compress_space", ("consecutive_residual", 2))},
    "paper": {"layers": (("paper_residual", 12), ("compress", (1, 2, 2)), "paper_residual")},
    "joint": {"layers": (("compress", (2, 3, 3), 12), "residual")},
    "local attention": {"layers": (("local_attend_space", 3), "compress_space", ("local_attend_space", 4))},
    "blurred": {"layers": ("compress_space", ("compress", (2, 2, 2))), "antialiased_downsample": True},
    "patches": {"layers": ("residual", "compress_space"), "patch_size": (2, 4, 4)},
    "overlapping patches": {"layers": ("residual",), "patch_size": (2, 4, 2), "overlapping_patches": True},
    "patches alone": {"layers": ("residual",), "patch_size": (1, 4, 4)},
    "oblong": {"layers": ("residual", ("compress", (1, 2, 1))), "patch_size": (1, 1, 3)},
    "over time": {"layers": ("attend_time", "compress_space", "compress_time", ("local_attend_time", 2))},
    "conditioned": {"layers": ("cond_residual", "adaptive_norm", "compress_space", "adaptive_norm"), "dim_cond": 5},
    "other decoder": {
        "layers": (("compress", (1, 2, 2)), "residual"),
        "decoder_layers": ("residual", "compress_space", ("paper_residual", 12)),
    },
    "larger encoder": {"layers": ("residual",) * 3, "decoder_layers": ("residual",), "patch_size": (1, 4, 2)},
    "larger, blurring encoder": {
        "layers": ("residual", "compress_space", "residual", "compress_space"),
        "decoder_layers": ("compress_space", "compress_space"),
        "antialiased_downsample": True,
    },
    "images": {"layers": ("residual", ("compress", (2, 2, 2))), "image_only": True, "patch_size": (2, 1, 1)},
}
every_model = pytest.mark.parametrize("name", MODELS)


def tokenizer_of(name: str) -> VideoTokenizer:
    return lively(VideoTokenizer(image_size=16, init_dim=8, codebook_size=2**6, norm="channel", **MODELS[name]))


def condition_for(tokenizer: VideoTokenizer) -> Tensor | None:
    return None if tokenizer.config.dim_cond is None else torch.randn(1, 5)


def overlap_of(tokenizer: VideoTokenizer) -> int:
    overlap = tokenizer.exact_overlap
    assert overlap is not None
    return overlap


def a_video(*sizes: int) -> Tensor:
    return torch.rand(1, 3, *sizes) * 2 - 1


@every_model
@torch.no_grad()
def test_tiles_that_overlap_enough_give_the_codes_and_pixels_of_the_whole(name: str) -> None:
    tokenizer = tokenizer_of(name)
    cond = condition_for(tokenizer)
    overlap, stride = overlap_of(tokenizer), max(tokenizer.spatial_stride)
    height, width = 3 * overlap + 2 * stride + 1, 4 * overlap + 5 * stride + 2
    video = a_video(3, height, width)
    codes, latents = tokenizer.encode(video, cond), tokenizer.video_to_latents(video, cond)
    whole = tokenizer.decode(codes, 3 if tokenizer.temporal_stride < 3 else None, height, width, cond=cond)
    is_clear = (latents.abs() > 1e-5).all(dim=1)

    smallest = max(2 * overlap, stride)
    for tile_size, given in ((smallest + 2 * stride, None), (smallest + 3 * stride + 1, overlap)):
        tiled = tokenizer.encode_tiled(video, tile_size=tile_size, overlap=given, cond=cond)
        drawn = tokenizer.decode_tiled(
            codes, whole.shape[2], height, width, tile_size=tile_size, overlap=given, cond=cond
        )
        assert torch.equal(tiled[is_clear], codes[is_clear])
        torch.testing.assert_close(drawn, whole, atol=1e-5, rtol=0)


@every_model
def test_the_exact_overlap_is_what_the_receptive_fields_take_and_no_more(name: str) -> None:
    tokenizer = tokenizer_of(name).double()
    cond = condition_for(tokenizer)
    strides = tokenizer.spatial_stride
    side = 2 * (overlap_of(tokenizer) // min(strides)) + 5  # codes; the one in the middle is far from the border
    middle = side // 2
    video = a_video(1, side * strides[0], side * strides[1]).double().requires_grad_()
    latents = tokenizer.video_to_latents(video, cond)
    of_pixels = torch.autograd.grad(latents[0, :, 0, middle, middle].sum(), video)[0].abs().amax(dim=(0, 1, 2))
    quantized = tokenizer.codes_to_quantized(torch.randint(64, (1, 1, side, side))).requires_grad_()
    context = tokenizer._context(cond, 1)
    drawn = tokenizer.decoder(quantized, context)
    own_rows, own_columns = (slice(middle * stride, (middle + 1) * stride) for stride in strides)
    of_codes = torch.autograd.grad(drawn[..., own_rows, own_columns].sum(), quantized)[0].abs().amax(dim=(0, 1, 2))

    needed = 0
    for axis, stride in enumerate(strides):
        pixels = of_pixels.amax(dim=1 - axis).nonzero().flatten()
        codes = of_codes.amax(dim=1 - axis).nonzero().flatten()
        before, behind = middle * stride - int(pixels[0]), int(pixels[-1]) + 1 - (middle + 1) * stride
        of_the_encoder = -(-max(before, behind, 0) // stride)
        of_the_decoder = max(middle - int(codes[0]), int(codes[-1]) - middle)
        needed = max(needed, 2 * stride * max(of_the_encoder, of_the_decoder))
    assert tokenizer.exact_overlap == needed


@every_model
@torch.no_grad()
def test_a_smaller_overlap_changes_pixels(name: str) -> None:
    tokenizer = tokenizer_of(name)
    cond = condition_for(tokenizer)
    overlap, (rows, columns) = overlap_of(tokenizer), tokenizer.spatial_stride
    codes = torch.randint(64, (1, 1, 3 * overlap // rows + 2, 3 * overlap // columns + 2))

    tiled = tokenizer.decode_tiled(codes, tile_size=2 * overlap, overlap=overlap // 4, cond=cond)

    assert (tiled - tokenizer.decode(codes, cond=cond)).abs().max() > 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {"layers": ("residual",), "norm": "group"},
        {"layers": (), "norm": "group"},
        {"layers": ("compress_space", "attend_space"), "norm": "channel"},
        {"layers": ("linear_attend_space",), "norm": "channel"},
        {"layers": ("cond_attend_space",), "norm": "channel", "dim_cond": 5},
        {"layers": ("residual",), "decoder_layers": ("attend_space",), "norm": "channel"},
        {"layers": ("attend_space",), "decoder_layers": ("residual",), "norm": "channel"},
    ],
)
def test_no_overlap_is_exact_where_layers_see_the_whole_frame(options: dict[str, Any]) -> None:
    assert VideoTokenizer(image_size=16, init_dim=8, codebook_size=2**6, **options).exact_overlap is None


def labelling(tokenizer: VideoTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each pixel of a code the number of that code, and each code the number of its pixels."""
    rows, columns = tokenizer.spatial_stride

    def draw(codes: Tensor, **_: Any) -> Tensor:
        pixels = codes.repeat_interleave(rows, dim=2).repeat_interleave(columns, dim=3)
        return pixels[:, None].expand(-1, 3, -1, -1, -1).to(tokenizer.dtype)

    def read(video: Tensor, _: Tensor | None) -> Tensor:
        blocks = video[:, 0].unfold(2, rows, rows).unfold(3, columns, columns)
        assert torch.equal(blocks.amin(dim=(-1, -2)), blocks.amax(dim=(-1, -2)))
        return (blocks[..., 0, 0] * 2**20).round().long()

    monkeypatch.setattr(tokenizer, "decode", draw)
    monkeypatch.setattr(tokenizer, "encode", read)


@pytest.mark.parametrize(("name", "norm"), [("no layers", "group"), ("joint", "channel"), ("oblong", "channel")])
@torch.no_grad()
def test_tiles_of_any_size_cover_each_place_once(name: str, norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**MODELS[name], "norm": norm}
    tokenizer = VideoTokenizer(image_size=16, init_dim=8, codebook_size=2**20, **options)
    labelling(tokenizer, monkeypatch)
    choice, num_refused = random.Random(0), 0
    for _ in range(40):
        height, width = choice.randint(1, 5), choice.randint(1, 60)
        tile_size = choice.randint(8, 100)
        overlap = choice.choice([None, 0, *(choice.randint(1, tile_size) for _ in range(3))])
        codes = torch.randint(2**20, (1, 1, height, width))
        whole = tokenizer.decode(codes)
        try:
            drawn = tokenizer.decode_tiled(codes, tile_size=tile_size, overlap=overlap)
        except ValueError:
            num_refused += 1
            continue
        torch.testing.assert_close(drawn, whole, rtol=1e-5, atol=0)
        tiled = tokenizer.encode_tiled(whole / 2**20, tile_size=tile_size, overlap=overlap)
        assert torch.equal(tiled, codes)
    assert num_refused < 30


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@torch.no_grad()
def test_shares_are_exact_in_every_type_of_weights(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, overlap in (("residual", 0), ("residual", 32), ("patches", None)):
        tokenizer = tokenizer_of(name).to(dtype)
        labelling(tokenizer, monkeypatch)
        codes = torch.ones(1, 1, 3, 5000 // tokenizer.spatial_stride[1], dtype=torch.long)

        drawn = tokenizer.decode_tiled(codes, tile_size=200, overlap=overlap)

        assert drawn.dtype == dtype
        torch.testing.assert_close(drawn, torch.ones_like(drawn), atol=1e-2, rtol=0)


@torch.no_grad()
def test_tiles_are_blended_where_none_is_exact() -> None:
    layers = ("residual", "compress_space", "attend_space", "compress_space")
    tokenizer = lively(VideoTokenizer(image_size=16, init_dim=8, codebook_size=2**6, layers=layers))  # strides of 4
    video = a_video(3, 41, 90)

    codes = tokenizer.encode_tiled(video, tile_size=32, overlap=8)
    drawn = tokenizer.decode_tiled(codes, 3, 41, 90, tile_size=32, overlap=8)

    assert codes.shape[1:] == tokenizer.code_shape(3, 41, 90)
    assert torch.equal(codes[..., :6, :6], tokenizer.encode(video[..., :28, :28])[..., :6, :6])
    assert torch.equal(codes[..., :6, 6:12], tokenizer.encode(video[..., :28, 20:52])[..., :6, 1:7])
    assert drawn.shape == video.shape
    assert drawn.isfinite().all()
    left, right = tokenizer.decode(codes[..., :7, :7]), tokenizer.decode(codes[..., :7, 5:13])
    torch.testing.assert_close(drawn[..., :20, :20], left[..., :20, :20])
    torch.testing.assert_close(drawn[..., :20, 28:44], right[..., :20, 8:24])
    shares = (torch.arange(8) + 0.5) / 8
    blended = left[..., :20, 20:28] * (1 - shares) + right[..., :20, :8] * shares
    torch.testing.assert_close(drawn[..., :20, 20:28], blended)


@torch.no_grad()
def test_without_an_overlap_given_it_is_the_exact_one_where_half_a_tile_holds_it() -> None:
    tokenizer = tokenizer_of("residual")
    overlap = overlap_of(tokenizer)
    codes = torch.randint(64, (1, 1, 40, 40))

    for tile_size, expected in ((2 * overlap, overlap), (2 * overlap - 4, (2 * overlap - 4) // 4)):
        tiled = tokenizer.decode_tiled(codes, tile_size=tile_size)
        assert torch.equal(tiled, tokenizer.decode_tiled(codes, tile_size=tile_size, overlap=expected))


@torch.no_grad()
def test_one_tile_is_the_whole() -> None:
    layers = ("residual", "attend_space", "compress_space")
    tokenizer = lively(VideoTokenizer(image_size=16, init_dim=8, codebook_size=2**6, layers=layers))
    video = a_video(2, 13, 17)
    codes = tokenizer.encode(video)

    assert torch.equal(tokenizer.encode_tiled(video), codes)
    assert torch.equal(tokenizer.encode_tiled(video[:, :, 0]), codes[:, :1])
    assert torch.equal(tokenizer.decode_tiled(codes, 2, 13, 17), tokenizer.decode(codes, 2, 13, 17))


def test_no_layer_sees_more_than_a_tile() -> None:
    tokenizer = tokenizer_of("residual")
    sizes: list[tuple[int, int]] = []
    for half in (tokenizer.encoder, tokenizer.decoder):
        half.register_forward_pre_hook(lambda _, given: sizes.append(tuple(given[0].shape[3:])))

    codes = tokenizer.encode_tiled(a_video(1, 90, 130), tile_size=48, overlap=8)
    tokenizer.decode_tiled(codes, tile_size=48, overlap=8)

    half_way = len(sizes) // 2
    assert max(max(size) for size in sizes[:half_way]) == 48
    assert max(max(size) for size in sizes[half_way:]) == 24  # codes of two pixels


@pytest.mark.parametrize(
    ("tile_size", "overlap", "said"),
    [
        (16, 16, "at least 32 for an overlap of 16 pixels and a stride of 2, got 16"),
        (16, 12, "at least 24 for an overlap of 12 pixels and a stride of 2, got 16"),
        (0, 0, "at least 2 .*got 0"),
        (-4, None, "at least 2 .*got -4"),
        (1, 0, "at least 2 .*got 1"),
        (16, -2, "overlap must be at least 0, got -2"),
    ],
)
def test_tiles_that_cannot_be_are_refused_in_words(tile_size: int, overlap: int | None, said: str) -> None:
    tokenizer = tokenizer_of("residual")
    codes = torch.zeros(1, 1, 2, 8, dtype=torch.long)
    calls: list[Callable[[int], Tensor]] = [
        lambda size: tokenizer.encode_tiled(a_video(1, 4, 16), tile_size=size, overlap=overlap),
        lambda size: tokenizer.decode_tiled(codes, tile_size=size, overlap=overlap),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=said) as refusal:
            call(tile_size)
        if overlap is not None and overlap >= 0:
            needed = re.search(r"at least (\d+)", str(refusal.value))
            assert needed is not None
            call(int(needed[1]))


@pytest.mark.usefixtures("as_users_call")
def test_what_the_whole_refuses_tiles_refuse() -> None:
    tokenizer = tokenizer_of("residual")
    video, codes = a_video(1, 40, 40), torch.zeros(1, 1, 20, 20, dtype=torch.long)
    loud, wrong = video.clone(), codes.clone()
    loud[..., -1, -1], wrong[..., -1, -1] = 255.0, 64
    refusals: list[tuple[Callable[[], Tensor], str]] = [
        (lambda: tokenizer.encode_tiled(loud, tile_size=16, overlap=4), "127.5.*255"),
        (lambda: tokenizer.encode_tiled(video[:, :2], tile_size=16), r"\(batch, 3, frames, height, width\)"),
        (lambda: tokenizer.encode_tiled(video.byte(), tile_size=16), "floating point"),
        (lambda: tokenizer.encode_tiled(video, cond=torch.zeros(1, 5)), "no layer of this tokenizer is conditioned"),
        (lambda: tokenizer.decode_tiled(wrong, tile_size=16, overlap=4), r"\[0, 64\), got 0 to 64"),
        (lambda: tokenizer.decode_tiled(codes, 1, 50, 40, tile_size=16), r"a clip of \(1, 50, 40\)"),
        (lambda: tokenizer.decode_tiled(codes, 2, 40, 40, tile_size=16), r"a clip of \(2, 40, 40\)"),
    ]
    for call, said in refusals:
        with pytest.raises(ValueError, match=said):
            call()
