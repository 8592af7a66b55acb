"""A video that comes in pieces: the codes and the pixels of the whole, with a state that does not grow."""

import inspect
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.tokenizer import memory_format

from .conftest import lively  # type: ignore[import-not-found]

DIM_COND = 5
MODELS: dict[str, dict[str, Any]] = {
    "blurred": {
        "layers": ("compress_space", "compress_time", ("compress", (2, 2, 2), 12)),
        "antialiased_downsample": True,
    },
    "patches of 4": {"layers": ("residual", "compress_time", "residual"), "patch_size": (4, 4, 4)},
    "overlapping patches": {"layers": ("residual",), "patch_size": (4, 4, 4), "overlapping_patches": True},
    "patches of 2": {"layers": ("paper_residual", ("compress", (2, 1, 1)), "residual"), "patch_size": (2, 2, 2)},
    "channel norm": {
        "layers": ("residual", "compress_time", ("paper_residual", 12), ("compress", (2, 2, 2))),
        "norm": "channel",
    },
    "joint": {"layers": (("compress", (3, 2, 2), 12), ("consecutive_residual", 2), ("compress", (2, 1, 1)))},
    "full attention": {"layers": ("attend_time", "compress_time", "attend_time", "compress_time", "attend_space")},
    "local attention": {
        "layers": (("local_attend_time", 3), "compress_time", ("local_attend_time", 5), ("local_attend_time", 1)),
    },
    "space attention": {
        "layers": ("linear_attend_space", ("local_attend_space", 3), "compress_time", "compress_time", "attend_space")
    },
    "adaptive": {"layers": ("adaptive_norm", "compress_time", "adaptive_norm", "compress_time", "adaptive_norm")},
    "conditioned": {
        "layers": (
            "cond_residual",
            "compress_time",
            "cond_attend_time",
            ("cond_local_attend_time", 2),
            "adaptive_norm",
        ),
        "dim_cond": DIM_COND,
    },
    "other decoder": {
        "layers": ("residual", "compress_time", "compress_time"),
        "decoder_layers": ("attend_time", ("compress", (2, 1, 1)), "adaptive_norm", ("compress", (2, 1, 1), 12)),
    },
    "images": {"layers": ("residual", "compress_space", "compress_time"), "image_only": True, "patch_size": (2, 2, 2)},
    "spherical": {"layers": ("compress_time", "residual"), "quantizer": "bsq"},
}
CHUNKINGS = ((1, 4), (17, 16), (5, 12, 8))  # the last size again and again
every_model = pytest.mark.parametrize("name", MODELS)
every_state = pytest.mark.parametrize(
    "name", ["blurred", "full attention", "local attention", "adaptive", "conditioned"]
)


def tokenizer_of(name: str) -> VideoTokenizer:
    return lively(VideoTokenizer(image_size=8, init_dim=8, codebook_size=2**6, **MODELS[name]))


def has_full_attention(name: str) -> bool:
    config = tokenizer_of(name).config
    return any(
        "attend_time" in spec for spec in (*config.layers, *(config.decoder_layers or ())) if "local" not in spec
    )


def condition_for(tokenizer: VideoTokenizer) -> Tensor | None:
    return None if tokenizer.config.dim_cond is None else torch.randn(1, DIM_COND)


def a_video(num_frames: int, height: int = 7, width: int = 10) -> Tensor:
    return torch.rand(1, 3, num_frames, height, width) * 2 - 1


def in_pieces(whole: Tensor, sizes: tuple[int, ...], dim: int) -> list[Tensor]:
    """Pieces of these sizes, the last size again and again; the last piece may be smaller."""
    left, pieces = whole.shape[dim], []
    while left > 0:
        size = min(left, sizes[min(len(pieces), len(sizes) - 1)])
        pieces.append(size)
        left -= size
    return list(whole.split(pieces, dim=dim))


def at_random(whole: Tensor, dim: int, choice: random.Random) -> list[Tensor]:
    return in_pieces(whole, tuple(choice.randint(1, 9) for _ in range(whole.shape[dim])), dim)


def assert_same_codes(streamed: Tensor, codes: Tensor, latents: Tensor) -> None:
    """Equal wherever no latent lies at the border between two codes."""
    is_clear = (latents.abs() > 1e-5).all(dim=1)
    assert is_clear.float().mean() > 0.9
    assert streamed.shape == codes.shape
    assert torch.equal(streamed[is_clear], codes[is_clear])


@every_model
@torch.no_grad()
def test_the_codes_of_a_stream_are_those_of_the_whole(name: str) -> None:
    tokenizer, choice = tokenizer_of(name), random.Random(name)
    cond = condition_for(tokenizer)
    for num_frames in (33, 12, 6, 1):
        video = a_video(num_frames)
        codes, latents = tokenizer.encode(video, cond), tokenizer.video_to_latents(video, cond)
        chunkings = [in_pieces(video, sizes, dim=2) for sizes in CHUNKINGS] if num_frames == 33 else []
        one_by_one = [video.split(1, dim=2)] if num_frames == 12 else []
        for chunks in (*chunkings, *one_by_one, at_random(video, 2, choice)):
            streamed = torch.cat(list(tokenizer.encode_stream(iter(chunks), cond)), dim=1)
            assert_same_codes(streamed, codes, latents)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", ["full attention", "local attention", "other decoder"])
@torch.no_grad()
def test_a_stream_is_the_whole_in_either_memory_format(
    monkeypatch: pytest.MonkeyPatch, name: str, channels_last: bool
) -> None:
    monkeypatch.setattr(memory_format, "HAS_AVX512", channels_last)
    tokenizer, video = tokenizer_of(name), a_video(17)
    codes = tokenizer.encode(video)

    latents = tokenizer.video_to_latents(video)
    assert_same_codes(torch.cat(list(tokenizer.encode_stream(video.split(5, dim=2))), dim=1), codes, latents)
    pixels = torch.cat(list(tokenizer.decode_stream(codes.split(2, dim=1))), dim=2)
    torch.testing.assert_close(pixels, tokenizer.decode(codes), rtol=1e-5, atol=1e-5)


@every_model
@torch.no_grad()
def test_the_pixels_of_a_stream_are_those_of_the_whole(name: str) -> None:
    tokenizer = tokenizer_of(name)
    grid = tokenizer.code_shape(33, 7, 10)
    codes = torch.randint(tokenizer.codebook_size, (1, *grid))
    cond = condition_for(tokenizer)
    strides = (tokenizer.temporal_stride, *tokenizer.spatial_stride)
    smallest = [1 + size - stride for size, stride in zip(tokenizer.config.clip_shape(*grid), strides, strict=True)]

    chunkings = [in_pieces(codes, sizes, dim=1) for sizes in CHUNKINGS]
    for sizes in ((None, None, None), smallest):
        whole = tokenizer.decode(codes, *sizes, cond=cond)
        for chunks in (*chunkings, at_random(codes, 1, random.Random(name))):
            streamed = torch.cat(list(tokenizer.decode_stream(iter(chunks), *sizes, cond=cond)), dim=2)
            torch.testing.assert_close(streamed, whole, atol=1e-5, rtol=0)


@every_state
@torch.no_grad()
def test_two_streams_and_a_whole_video_do_not_meet(name: str) -> None:
    tokenizer = tokenizer_of(name)
    videos, conditions = [a_video(9), a_video(9)], [condition_for(tokenizer), condition_for(tokenizer)]
    before = {key: value.clone() for key, value in tokenizer.state_dict().items()}
    given = list(zip(videos, conditions, strict=True))
    codes = [tokenizer.encode(video, cond) for video, cond in given]
    drawn = [tokenizer.decode(each, cond=cond) for each, cond in zip(codes, conditions, strict=True)]

    encoding = [tokenizer.encode_stream(video.split(2, dim=2), cond) for video, cond in given]
    decoding = [
        tokenizer.decode_stream(each.split(1, dim=1), cond=cond) for each, cond in zip(codes, conditions, strict=True)
    ]
    pieces_of_codes, pieces = in_turns(encoding), in_turns(decoding)
    again = tokenizer.encode(*given[0])

    for index, (video, cond) in enumerate(given):
        streamed = torch.cat(pieces_of_codes[index], dim=1)
        assert_same_codes(streamed, codes[index], tokenizer.video_to_latents(video, cond))
        torch.testing.assert_close(torch.cat(pieces[index], dim=2), drawn[index], atol=1e-5, rtol=0)
    assert torch.equal(again, codes[0])
    assert all(torch.equal(value, before[key]) for key, value in tokenizer.state_dict().items())


def in_turns(streams: list[Iterator[Tensor]]) -> list[list[Tensor]]:
    """What streams give when each is asked for one piece after another."""
    pieces: list[list[Tensor]] = [[] for _ in streams]
    open_ones = set(range(len(streams)))
    while open_ones:
        for index in sorted(open_ones):
            piece = next(streams[index], None)
            if piece is None:
                open_ones.remove(index)
            else:
                pieces[index].append(piece)
    return pieces


def test_a_stream_takes_no_piece_before_it_needs_it() -> None:
    tokenizer = tokenizer_of("adaptive")  # a stride of 4
    taken: list[int] = []

    def noted(pieces: list[Tensor]) -> Iterator[Tensor]:
        for piece in pieces:
            taken.append(piece.shape[-3])
            yield piece

    stream = tokenizer.encode_stream(noted(list(a_video(13).split([1, 3, 3, 6], dim=2))))
    assert taken == []
    assert (next(stream).shape[1], taken) == (1, [1])
    assert (next(stream).shape[1], taken) == (1, [1, 3, 3])
    assert (next(stream).shape[1], taken) == (2, [1, 3, 3, 6])
    assert list(stream) == []

    taken.clear()
    frames = tokenizer.decode_stream(noted(list(torch.zeros(1, 4, 7, 10, dtype=torch.long).split([1, 2, 1], dim=1))))
    assert taken == []
    assert (next(frames).shape[2], taken) == (1, [1])
    assert (next(frames).shape[2], taken) == (8, [1, 2])
    assert (next(frames).shape[2], taken) == (4, [1, 2, 1])


def kept_tensors(stream: Iterator[Tensor]) -> list[Tensor]:
    """What the layers have kept, and frames that wait for others."""
    inside = inspect.getgeneratorlocals(stream)  # type: ignore[arg-type]
    kept = [(each,) if isinstance(each, Tensor) else each for each in inside["past"].values() if each is not None]
    return [*(tensor for tensors in kept for tensor in tensors), *([inside["waiting"]] if "waiting" in inside else [])]


def bytes_after(stream: Iterator[Tensor], *numbers: int) -> list[int]:
    """What a stream holds on to after so many pieces: of a view it is all that lies behind it."""
    held = []
    for number in range(1, max(numbers) + 1):
        next(stream)
        if number in numbers:
            storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in kept_tensors(stream)}
            held.append(sum(tensor.untyped_storage().nbytes() for tensor in storages.values()))
    return held


@pytest.mark.parametrize("name", [name for name in MODELS if not has_full_attention(name)])
def test_what_is_kept_grows_neither_with_the_length_nor_with_the_pieces(name: str) -> None:
    tokenizer = tokenizer_of(name)
    stride, cond = tokenizer.temporal_stride, condition_for(tokenizer)
    video = a_video(1 + 12 * stride)
    codes = torch.zeros(1, *tokenizer.code_shape(1 + 12 * stride, 7, 10), dtype=torch.long)

    encoding = [
        *bytes_after(tokenizer.encode_stream(video.split([1] + [stride] * 12, dim=2), cond), 6, 12),
        *bytes_after(tokenizer.encode_stream(video.split([1 + 11 * stride, stride], dim=2), cond), 1, 2),
    ]
    decoding = [
        *bytes_after(tokenizer.decode_stream(codes.split(1, dim=1), cond=cond), 6, 12),
        *bytes_after(tokenizer.decode_stream(codes.split([12, 1], dim=1), cond=cond), 1, 2),
    ]

    assert len(set(encoding)) == 1
    assert len(set(decoding)) == 1


def test_full_attention_over_time_keeps_its_keys_and_values_and_no_more() -> None:
    tokenizer = lively(VideoTokenizer(image_size=8, init_dim=8, layers=("attend_time",), codebook_size=2**6))
    bytes_of_a_frame = 2 * 8 * 7 * 10 * 4  # keys and values of 8 channels at each place, in float32
    codes = torch.zeros(1, 32, 7, 10, dtype=torch.long)

    for first in (1, 12):
        pieces = [first] + [1] * 20
        decoding = tokenizer.decode_stream(codes[:, : sum(pieces)].split(pieces, dim=1))
        encoding = tokenizer.encode_stream(a_video(sum(pieces)).split(pieces, dim=2))
        for stream in (encoding, decoding):
            held = bytes_after(stream, 1, 5, 20)
            assert [later - held[0] for later in held[1:]] == [4 * bytes_of_a_frame, 19 * bytes_of_a_frame]


@every_state
def test_a_stream_keeps_no_gradients(name: str) -> None:
    tokenizer = tokenizer_of(name).train()
    cond = condition_for(tokenizer)
    if cond is not None:
        cond.requires_grad_()
    video = a_video(9).requires_grad_()

    codes = list(without_gradients(tokenizer.encode_stream(video.split([1, 8], dim=2), cond)))
    for piece in without_gradients(tokenizer.decode_stream(codes, cond=cond)):
        assert not piece.requires_grad
    assert torch.is_grad_enabled()


def without_gradients(stream: Iterator[Tensor]) -> Iterator[Tensor]:
    for piece in stream:
        assert torch.is_grad_enabled()
        assert not any(tensor.requires_grad for tensor in kept_tensors(stream))
        yield piece


@every_state
@torch.no_grad()
def test_pieces_may_all_lie_in_one_buffer(name: str) -> None:
    tokenizer, video = tokenizer_of(name), a_video(10)
    cond = condition_for(tokenizer)
    codes = tokenizer.encode(video, cond)

    def overwritten(whole: Tensor, dim: int) -> Iterator[Tensor]:
        buffer = torch.empty_like(whole.narrow(dim, 0, 1))
        for piece in whole.split(1, dim=dim):
            yield buffer.copy_(piece)

    streamed = torch.cat(list(tokenizer.encode_stream(overwritten(video, 2), cond)), dim=1)
    drawn = torch.cat(list(tokenizer.decode_stream(overwritten(codes, 1), cond=cond)), dim=2)

    assert_same_codes(streamed, codes, tokenizer.video_to_latents(video, cond))
    torch.testing.assert_close(drawn, tokenizer.decode(codes, cond=cond), atol=1e-5, rtol=0)


def test_nothing_in_gives_nothing_out() -> None:
    tokenizer = tokenizer_of("blurred")

    assert list(tokenizer.encode_stream([])) == []
    assert list(tokenizer.decode_stream([])) == []


@torch.no_grad()
def test_a_stream_of_a_batch_is_cut_to_its_sizes() -> None:
    tokenizer = tokenizer_of("blurred")  # strides of 4
    video = torch.cat([a_video(10), a_video(10)])
    codes = list(tokenizer.encode_stream(video.split(4, dim=2)))

    pieces = list(tokenizer.decode_stream(codes, 10, 7, 9))

    assert torch.cat(pieces, dim=2).shape == (2, 3, 10, 7, 9)
    assert all(piece.shape[2] for piece in pieces)


WRONG_VIDEOS: list[tuple[list[tuple[int, ...]], float, str]] = [
    ([(1, 3, 1, 8, 8), (1, 3, 4, 6, 8)], 0.0, r"\(1, 3, 8, 8\) in the first piece, got \(1, 3, 6, 8\)"),
    ([(1, 3, 1, 8, 8), (2, 3, 4, 8, 8)], 0.0, r"\(1, 3, 8, 8\) in the first piece, got \(2, 3, 8, 8\)"),
    ([(1, 3, 1, 8, 8), (1, 4, 4, 8, 8)], 0.0, r"\(batch, 3, frames, height, width\).*\(1, 4, 4, 8, 8\)"),
    ([(1, 3, 1, 8, 8), (1, 3, 0, 8, 8)], 0.0, r"\(batch, 3, frames, height, width\).*\(1, 3, 0, 8, 8\)"),
    ([(1, 3, 1, 8, 8), (1, 3, 4, 8, 8)], 255.0, "127.5.*to 255"),
    ([(1, 3, 1, 8, 8), (1, 3, 4, 8, 8)], float("nan"), "finite.*nan"),
]


@pytest.mark.parametrize(("shapes", "last", "said"), WRONG_VIDEOS)
def test_a_piece_that_does_not_fit_is_refused_in_words(shapes: list[tuple[int, ...]], last: float, said: str) -> None:
    pieces = [torch.zeros(shape) for shape in shapes]
    pieces[-1][..., -1:] = last
    stream = tokenizer_of("blurred").encode_stream(iter(pieces))

    next(stream)
    with pytest.raises(ValueError, match=said):
        next(stream)


@pytest.mark.parametrize(
    ("shapes", "last", "sizes", "said"),
    [
        ([(1, 1, 2, 2), (1, 1, 3, 2)], 0, (), r"\(1, 2, 2\) in the first piece, got \(1, 3, 2\)"),
        ([(1, 1, 2, 2), (2, 1, 2, 2)], 0, (), r"\(1, 2, 2\) in the first piece, got \(2, 2, 2\)"),
        ([(1, 1, 2, 2), (1, 0, 2, 2)], 0, (), "must not be empty"),
        ([(1, 1, 2, 2), (1, 1, 2, 2)], 64, (), r"\[0, 64\), got 0 to 64"),
        ([(1, 1, 2, 2), (1, 1, 2, 2)], -1, (), r"\[0, 64\), got -1 to 0"),
        ([(1, 1, 2, 2), (1, 1, 2, 2)], 0, (6,), "stand for 5 frames, but num_frames is 6"),
        ([(1, 1, 2, 2), (1, 1, 2, 2)], 0, (1,), "stand for at least 5 frames, but num_frames is 1"),
        ([(1, 1, 2, 2)], 0, (0,), "at least one frame"),
        ([(1, 1, 2, 2)], 0, (-3,), "at least one frame"),
        ([], 0, (6,), "stand for 0 frames, but num_frames is 6"),
        ([(1, 1, 2, 2)], 0, (None, 12), r"a clip of \(1, 12, 8\)"),
        ([(1, 1, 2, 2)], 0, (None, 8, 4), r"a clip of \(1, 8, 4\)"),
    ],
)
def test_codes_that_do_not_fit_are_refused_in_words(
    shapes: list[tuple[int, ...]], last: int, sizes: tuple[int | None, ...], said: str
) -> None:
    pieces = [torch.zeros(shape, dtype=torch.long) for shape in shapes]
    if pieces:
        pieces[-1][..., -1:] = last

    with pytest.raises(ValueError, match=said):
        list(tokenizer_of("blurred").decode_stream(iter(pieces), *sizes))


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize("cond", [None, torch.zeros(1, DIM_COND + 1), torch.zeros(2, DIM_COND)])
def test_a_stream_asks_for_its_condition(cond: Tensor | None) -> None:
    tokenizer = tokenizer_of("conditioned")
    streams: list[Callable[[], Iterator[Tensor]]] = [
        lambda: tokenizer.encode_stream([a_video(1)], cond),
        lambda: tokenizer.decode_stream([torch.zeros(1, 1, 8, 8, dtype=torch.long)], cond=cond),
    ]
    for stream in streams:
        with pytest.raises(ValueError, match=r"cond must be floating point of shape \(1, 5\)"):
            next(stream())
