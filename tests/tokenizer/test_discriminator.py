from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import profile

from magvit2_pytorch.tokenizer import DetailDiscriminator, DiscriminatorConfig, VideoDiscriminator
from magvit2_pytorch.tokenizer.discriminator import DETAIL_GAIN, Sight, blur_pool, details, new_discriminator


def blurred_by_hand(video: Tensor) -> Tensor:
    """The taps 1, 3, 3, 1 along each axis as a convolution of stride 2, over what of them lies inside."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=video.dtype)
    kernel = torch.einsum("t,h,w->thw", taps, taps, taps)[None, None]

    def total(x: Tensor) -> Tensor:
        odd = [size % 2 for size in x.shape[2:]]
        x = F.pad(x.flatten(0, 1)[:, None], (1, 1 + odd[2], 1, 1 + odd[1], 1, 1 + odd[0]))
        return F.conv3d(x, kernel, stride=2).view(*video.shape[:2], *(-(-size // 2) for size in video.shape[2:]))

    return total(video) / total(torch.ones_like(video))


@pytest.mark.parametrize("sizes", [(4, 8, 6), (5, 7, 3), (1, 4, 1), (2, 1, 2)])
def test_blur_pool_is_a_binomial_convolution_of_stride_2(sizes: tuple[int, int, int]) -> None:
    video = torch.randn(2, 3, *sizes, dtype=torch.float64)

    torch.testing.assert_close(blur_pool(video), blurred_by_hand(video))


@pytest.mark.parametrize("see", [blur_pool, details])
def test_the_matrices_of_a_blur_are_built_once_and_kept_on_the_device(see: Callable[[Tensor], Tensor]) -> None:
    video = torch.randn(1, 2, 5, 12, 10)
    see(video)

    with profile() as steps:
        see(video)

    assert not {step.name for step in steps.events() or ()} & {"aten::arange", "aten::eye", "aten::where"}


def test_a_size_of_1_is_not_pooled() -> None:
    video = torch.randn(1, 2, 1, 1, 1)

    assert torch.equal(blur_pool(video), video)


@pytest.mark.parametrize("sizes", [(17, 32, 48), (1, 16, 16), (2, 5, 9), (1, 1, 1)])
@pytest.mark.parametrize("patch_size", [1, 2])
@pytest.mark.parametrize("sees", ["pixels", "details"])
def test_clips_of_any_size_are_judged_and_train_every_parameter(
    sizes: tuple[int, int, int], patch_size: int, sees: Sight
) -> None:
    config = DiscriminatorConfig(width=4, frame_stride=2, patch_size=patch_size, sees=sees)
    discriminator = new_discriminator(config)

    discriminator(torch.randn(2, 3, *sizes)).sum().backward()

    assert all(parameter.grad is not None for parameter in discriminator.parameters())


def test_the_paper_network_has_its_widths() -> None:
    with torch.device("meta"):
        discriminator = VideoDiscriminator(DiscriminatorConfig())

    widths = [module.out_channels for module in discriminator.modules() if isinstance(module, torch.nn.Conv3d)]
    assert widths == [128, *(128, 256), *(256, 512), *(512, 512) * 3, 512]


@pytest.mark.parametrize("sees", ["pixels", "details"])
def test_a_clip_is_judged_alike_in_any_batch(sees: Sight) -> None:
    discriminator = new_discriminator(DiscriminatorConfig(width=4, sees=sees)).double()
    videos = torch.randn(3, 3, 5, 16, 16, dtype=torch.float64)

    alone = torch.cat([discriminator(video[None]) for video in videos])

    torch.testing.assert_close(discriminator(videos), alone)


@pytest.mark.parametrize(("stride", "phase"), [(1, 0), (2, 0), (2, 1), (4, 2), (4, 7), (8, 7)])
@pytest.mark.parametrize("sees", ["pixels", "details"])
def test_a_stride_sees_just_its_frames(stride: int, phase: int, sees: Sight) -> None:
    discriminator = new_discriminator(DiscriminatorConfig(width=4, frame_stride=stride, sees=sees))
    video = torch.randn(1, 3, 6, 8, 8)
    before = discriminator(video, phase)
    first = phase % min(stride, 6)

    for frame in range(6):
        other = video.clone()
        other[:, :, frame] += torch.randn(3, 8, 8)
        is_seen = frame in range(first, 6, stride)
        assert torch.equal(discriminator(other, phase), before) != is_seen

    assert not torch.equal(discriminator(video), discriminator(video.flip(2)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 0}, "width"),
        ({"frame_stride": 0}, "frame_stride"),
        ({"weight": 0.0}, "weight must be positive"),
        ({"sees": "detail"}, "sees must be one of pixels, details, got 'detail'"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_a_discriminator_that_cannot_be_is_refused(options: dict[str, float | str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DiscriminatorConfig(**options)  # type: ignore[arg-type]


def test_details_are_what_two_blurs_differ_by() -> None:
    video = torch.randn(1, 2, 3, 9, 6, dtype=torch.float64)

    def frame_by_frame(kernel: Tensor, video: Tensor) -> Tensor:
        frames = F.pad(video.flatten(0, 2)[:, None], (1, 1, 1, 1), mode="replicate")
        return F.conv2d(frames, kernel[None, None]).view_as(video)

    halved = torch.cat([blurred_by_hand(frame) for frame in video.split(1, dim=2)], dim=2)
    taps = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    expected = DETAIL_GAIN * (halved - frame_by_frame(taps[:, None] * taps, halved))
    torch.testing.assert_close(details(video), expected)


def test_flat_frames_have_no_details() -> None:
    video = torch.randn(2, 3, 4, 1, 1, dtype=torch.float64).expand(-1, -1, -1, 11, 8)

    torch.testing.assert_close(details(video), torch.zeros(2, 3, 4, 6, 4, dtype=torch.float64), atol=1e-5, rtol=0)


def test_each_place_is_judged_by_what_lies_around_it() -> None:
    discriminator = DetailDiscriminator(DiscriminatorConfig(width=4, sees="details"))
    video = torch.randn(1, 3, 1, 128, 128)
    other = video.clone()
    other[..., :8, :8] = torch.randn(8, 8)

    changed = (discriminator(other) != discriminator(video)).view(16, 16)

    assert changed[0, 0]
    assert not changed[8:].any()
    assert not changed[:, 8:].any()
