"""From an image tokenizer to a video tokenizer that treats an image alike."""

from typing import Any

import pytest
import torch
from torch import Tensor

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.tokenizer.layer_kinds import LayerSpec

from .conftest import lively  # type: ignore[import-not-found]

DIM_COND = 5
IMAGES: tuple[LayerSpec, ...] = ("residual", ("compress_space", 12), "attend_space")
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # what the image tokenizer is, and what `inflate` is given
    "as it is": ({"layers": IMAGES}, {}),
    "new layers": (
        {"layers": IMAGES},
        {
            "layers": (
                *("compress_time", "residual", "attend_time", ("compress_space", 12), ("local_attend_time", 3)),
                *("compress_time", "attend_space", "attend_time"),
            )
        },
    ),
    "time was named": ({"layers": ("residual", ("compress_time", 12), "attend_time", "local_attend_time")}, {}),
    "patches of 2": ({"layers": ("residual",), "patch_size": (2, 2, 2)}, {"layers": ("residual", "compress_time")}),
    "overlapping patches": ({"layers": ("residual",), "patch_size": (2, 4, 2), "overlapping_patches": True}, {}),
    "patches of 4": ({"layers": ("paper_residual", "compress_space"), "patch_size": (4, 4, 4)}, {}),
    "joint compression": (
        {"layers": (("paper_residual", 12), ("compress", (1, 2, 2)), ("compress", (1, 3, 2), 16))},
        {"layers": (("paper_residual", 12), ("compress", (2, 2, 2)), ("compress", (3, 3, 2), 16), "attend_time")},
    ),
    "other decoder": (
        {
            "layers": (("compress", (1, 2, 2)), "residual"),
            "decoder_layers": ("residual", "adaptive_norm", ("compress_space", 12), "linear_attend_space"),
        },
        {
            "layers": (("compress", (2, 2, 2)), "residual", "compress_time"),
            "decoder_layers": (
                *("residual", "compress_time", "adaptive_norm", "compress_time", ("compress_space", 12)),
                *("linear_attend_space", "attend_time"),
            ),
        },
    ),
    "adaptive": (
        {"layers": ("adaptive_norm", ("compress", (1, 2, 2)), "adaptive_norm")},
        {"layers": ("adaptive_norm", ("compress", (2, 2, 2)), "compress_time", "adaptive_norm")},
    ),
    "conditioned": (
        {"layers": ("cond_residual", "compress_space", "cond_attend_space"), "dim_cond": DIM_COND},
        {"layers": ("cond_residual", "cond_attend_time", "compress_space", "cond_attend_space", "compress_time")},
    ),
    "blurred": (
        {"layers": ("compress_space", "residual"), "antialiased_downsample": True},
        {"layers": ("compress_space", "compress_time", "residual")},
    ),
    "channel norm": (
        {"layers": ("residual", "compress_space"), "norm": "channel"},
        {"layers": ("residual", "local_attend_time", "compress_space")},
    ),
    "spherical": ({"layers": ("residual",), "quantizer": "bsq"}, {"layers": ("residual", "compress_time")}),
}
every_case = pytest.mark.parametrize("name", CASES)


def image_tokenizer(name: str, **changes: Any) -> VideoTokenizer:
    options: dict[str, Any] = {
        "image_size": 12,
        "init_dim": 8,
        "codebook_size": 2**6,
        "image_only": True,
        **CASES[name][0],
        **changes,
    }
    return lively(VideoTokenizer(**options))


def condition_for(tokenizer: VideoTokenizer, batch: int = 2) -> Tensor | None:
    return None if tokenizer.config.dim_cond is None else torch.randn(batch, DIM_COND)


def a_video(num_frames: int, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, num_frames, 12, 16) * 2 - 1


def assert_alike(images: VideoTokenizer, videos: VideoTokenizer) -> None:
    """Codes are equal wherever no latent lies at the border between two, pixels of equal codes to 1e-5."""
    picture, cond = a_video(1), condition_for(images)
    latents = images.video_to_latents(picture, cond)
    torch.testing.assert_close(videos.video_to_latents(picture, cond), latents, atol=1e-5, rtol=0)
    codes = images.encode(picture, cond)
    is_clear = (latents.abs() > 1e-5).all(dim=1)
    assert is_clear.float().mean() > 0.9
    assert torch.equal(videos.encode(picture, cond)[is_clear], codes[is_clear])
    torch.testing.assert_close(videos.decode(codes, cond=cond), images.decode(codes, cond=cond), atol=1e-5, rtol=0)


@every_case
@torch.no_grad()
def test_an_inflated_tokenizer_treats_an_image_as_before(name: str) -> None:
    images = image_tokenizer(name)

    videos = images.inflate(**CASES[name][1])

    assert not videos.config.image_only
    assert images.temporal_stride == 1
    assert videos.spatial_stride == images.spatial_stride
    assert_alike(images, videos)


def test_an_image_tokenizer_that_has_been_trained_is_inflated() -> None:
    images = image_tokenizer("new layers").train()
    optimizer = torch.optim.Adam(images.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        images(a_video(1)[:, :, 0], return_loss=True)[0].backward()
        optimizer.step()

    with torch.no_grad():
        assert_alike(images, images.inflate(**CASES["new layers"][1]))


@every_case
@torch.no_grad()
def test_an_inflated_tokenizer_is_causal(name: str) -> None:
    videos = image_tokenizer(name).inflate(**CASES[name][1])
    stride, cond = videos.temporal_stride, condition_for(videos)
    video = a_video(1 + 3 * stride)
    other = video.clone()
    other[:, :, 1 + stride :] = a_video(2 * stride)

    latents, other_latents = videos.video_to_latents(video, cond), videos.video_to_latents(other, cond)
    assert torch.equal(latents[:, :, :2], other_latents[:, :, :2])
    assert not torch.equal(latents[:, :, 2:], other_latents[:, :, 2:])
    drawn, other_drawn = videos(video, cond=cond), videos(other, cond=cond)
    assert torch.equal(drawn[:, :, : 1 + stride], other_drawn[:, :, : 1 + stride])


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("time was named", "blurred")])
@torch.no_grad()
def test_at_the_start_a_latent_frame_is_that_of_the_last_frame_it_stands_for_and_draws_them_all(name: str) -> None:
    images = image_tokenizer(name)
    videos = images.inflate(**CASES[name][1])
    stride, cond = videos.temporal_stride, condition_for(videos)
    video = a_video(1 + 3 * stride)

    latents, codes = videos.video_to_latents(video, cond), videos.encode(video, cond)
    torch.testing.assert_close(latents, images.video_to_latents(video[:, :, ::stride], cond), atol=1e-5, rtol=0)
    drawn = images.decode(codes, cond=cond)[:, :, [0, *(frame for frame in (1, 2, 3) for _ in range(stride))]]
    torch.testing.assert_close(videos.decode(codes, cond=cond), drawn, atol=1e-5, rtol=0)


@every_case
def test_every_parameter_of_an_inflated_tokenizer_learns_from_video(name: str) -> None:
    videos = image_tokenizer(name).inflate(**CASES[name][1]).train()
    before = {key: value.detach().clone() for key, value in videos.named_parameters()}
    optimizer = torch.optim.Adam(videos.parameters(), lr=1e-3)
    video, cond = a_video(1 + 2 * videos.temporal_stride), condition_for(videos)
    for _ in range(2):
        optimizer.zero_grad()
        videos(video, return_loss=True, cond=cond)[0].backward()
        assert all(parameter.grad is not None for parameter in videos.parameters())
        optimizer.step()

    assert not [key for key, value in videos.named_parameters() if torch.equal(value, before[key])]


@every_case
@torch.no_grad()
def test_an_image_tokenizer_treats_a_video_frame_by_frame(name: str) -> None:
    images, video = image_tokenizer(name), a_video(5)
    cond = condition_for(images)

    latents, codes = images.video_to_latents(video, cond), images.encode(video, cond)
    drawn = images.decode(codes, cond=cond)

    assert codes.shape[1] == 5
    assert drawn.shape[2] == 5
    for frame in range(5):
        alone = images.video_to_latents(video[:, :, frame], cond)
        torch.testing.assert_close(alone[:, :, 0], latents[:, :, frame], atol=1e-5, rtol=0)
        picture = images.decode(codes[:, frame : frame + 1], cond=cond)
        torch.testing.assert_close(picture[:, :, 0], drawn[:, :, frame], atol=1e-5, rtol=0)


@torch.no_grad()
def test_inflation_leaves_the_image_tokenizer_and_takes_over_its_mode_and_type() -> None:
    images = image_tokenizer("patches of 4").double()
    before = {key: value.clone() for key, value in images.state_dict().items()}

    for training in (True, False):
        videos = images.train(training).inflate()
        assert videos.training == training
        assert videos.dtype == torch.float64
        for parameter in videos.parameters():
            parameter.add_(1)

    assert all(torch.equal(value, before[key]) for key, value in images.state_dict().items())
    assert images.config.image_only


@torch.no_grad()
def test_lists_serve_as_tuples() -> None:
    videos = image_tokenizer("joint compression").inflate(
        [["paper_residual", 12], ["compress", [2, 2, 2]], ["compress", [1, 3, 2], 16]]
    )

    assert videos.temporal_stride == 2
    assert hash(videos.config)


@pytest.mark.parametrize(
    ("name", "layers", "said"),
    [
        ("as it is", (*IMAGES, "residual"), "'residual' with widths 12 to 12 is not in"),
        ("as it is", ("residual", ("compress_space", 16), "attend_space"), "'compress_space' with widths 8 to 16"),
        ("as it is", ("residual", ("compress_time", 12), "compress_space"), "'compress_time' with widths 8 to 12"),
        ("as it is", ("residual", "attend_time"), "'compress_space' of the image tokenizer is missing"),
        ("as it is", ("attend_space", ("compress_space", 12), "residual"), "'attend_space' with widths 8 to 8"),
        ("as it is", (), "'residual' of the image tokenizer is missing"),
        ("as it is", ("residul", *IMAGES[1:]), "did you mean 'residual'"),
        ("as it is", (*IMAGES, "cond_attend_time"), "need dim_cond"),
        (
            "joint compression",
            (("paper_residual", 12), ("compress", (2, 2, 1)), ("compress", (1, 3, 2), 16)),
            "'compress' with widths 12 to 12 is not in",
        ),
    ],
)
def test_other_layers_are_refused_in_words(name: str, layers: tuple[LayerSpec, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        image_tokenizer(name).inflate(layers)


def test_a_decoder_that_does_not_undo_the_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="decoder_layers must divide"):
        image_tokenizer("other decoder").inflate((("compress", (2, 2, 2)), "residual"))


def test_a_video_tokenizer_is_not_inflated() -> None:
    with pytest.raises(ValueError, match="only an image tokenizer"):
        image_tokenizer("as it is").inflate().inflate()
