import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from magvit2_pytorch.tokenizer.efficientnet import EfficientNetLite0
from magvit2_pytorch.train.metrics.frechet import fd_lite0, frechet_distance, lite0_features, real_floor


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return EfficientNetLite0.from_package()


@pytest.fixture
def videos() -> Tensor:
    coarse = torch.rand(4, 3, 2, 6, 6)
    return F.interpolate(coarse, size=(2, 48, 32), mode="trilinear", align_corners=False)


def sample(mean: Tensor, covariance: Tensor, num_vectors: int = 50) -> Tensor:
    """Vectors whose mean and covariance are exactly these."""
    noise = torch.randn(num_vectors, len(mean), dtype=torch.float64)
    noise -= noise.mean(dim=0)
    whitened = noise @ torch.linalg.inv(torch.linalg.cholesky(noise.T @ noise / (num_vectors - 1))).T
    return mean.double() + whitened @ torch.linalg.cholesky(covariance.double()).T


def root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ (values.clamp(min=0).sqrt()[:, None] * vectors.T)


def random_covariance(size: int) -> Tensor:
    factor = torch.randn(size, size, dtype=torch.float64)
    return factor @ factor.T / size + 0.1 * torch.eye(size)


def test_between_gaussians_of_one_dimension_it_is_that_of_means_and_deviations() -> None:
    first = sample(torch.tensor([1.0]), torch.tensor([[4.0]]))
    second = sample(torch.tensor([-2.0]), torch.tensor([[25.0]]))

    assert frechet_distance(first, second) == pytest.approx((1 + 2) ** 2 + (2 - 5) ** 2)


def test_between_gaussians_with_common_axes_the_axes_add_up() -> None:
    axes = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    deviations = torch.tensor([[1.0, 2.0, 3.0, 0.5], [2.0, 2.0, 1.0, 0.1]], dtype=torch.float64)
    first, second = (sample(torch.zeros(4), axes @ torch.diag(d**2) @ axes.T) for d in deviations)

    expected = (deviations[0] - deviations[1]).square().sum().item()

    assert frechet_distance(first, second) == pytest.approx(expected)


def test_between_any_gaussians_it_is_the_formula_with_a_root_of_matrices() -> None:
    means, covariances = torch.randn(2, 6), [random_covariance(6) for _ in range(2)]
    first, second = (sample(mean, covariance) for mean, covariance in zip(means, covariances, strict=True))

    half = root(covariances[0])
    cross = root(half @ covariances[1] @ half).trace()
    expected = (means[0] - means[1]).square().sum() + covariances[0].trace() + covariances[1].trace() - 2 * cross

    assert frechet_distance(first, second) == pytest.approx(expected.item())
    assert frechet_distance(second, first) == pytest.approx(expected.item())


def test_fewer_vectors_than_features_need_no_help() -> None:
    first, second = torch.randn(8, 40, dtype=torch.float64), 1 + 2 * torch.randn(5, 40, dtype=torch.float64)

    half = root(first.T.cov())
    cross = root(half @ second.T.cov() @ half).trace()
    expected = (first.mean(0) - second.mean(0)).square().sum() + first.var(0).sum() + second.var(0).sum() - 2 * cross

    assert frechet_distance(first, second) == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("num_vectors", [5, 100])
def test_a_set_is_at_distance_zero_from_itself_and_a_shift_from_its_length(num_vectors: int) -> None:
    vectors = torch.randn(num_vectors, 20)

    assert frechet_distance(vectors, vectors) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(vectors, vectors.flip(0) + 3) == pytest.approx(20 * 9, rel=1e-5)


def test_small_sets_of_one_kind_are_further_apart_than_large_ones() -> None:
    small, large = (frechet_distance(torch.randn(n, 30), torch.randn(n, 30)) for n in (20, 2000))

    assert small > 10 * large > 0


def test_single_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two vectors, got 1 and 4"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(4, 3))


def test_more_damage_is_further_away_and_none_is_at_zero(network: EfficientNetLite0, videos: Tensor) -> None:
    noise = torch.randn(videos.shape)

    distances = [fd_lite0(videos, (videos + amount * noise).clamp(0, 1), network) for amount in (0, 0.02, 0.2)]

    assert distances[0] == pytest.approx(0, abs=1e-3)
    assert distances[2] > 1.1 * distances[1] > 1


def test_features_are_those_of_frames_one_by_one_in_order(network: EfficientNetLite0, videos: Tensor) -> None:
    features = lite0_features(videos, network)

    alone = lite0_features(videos[2:3, :, 1:], network)
    torch.testing.assert_close(features[2 * 2 + 1], alone[0], rtol=1e-4, atol=1e-4)
    square = F.interpolate(videos[2, :, 1:].transpose(0, 1), size=(128, 128), mode="bilinear", antialias=True)
    torch.testing.assert_close(alone, network.pooled_features(square * 2 - 1), rtol=1e-4, atol=1e-4)


def test_grey_videos_are_judged_as_rgb(network: EfficientNetLite0, videos: Tensor) -> None:
    grey = videos[:1, :1]

    assert torch.equal(lite0_features(grey, network), lite0_features(grey.expand(-1, 3, -1, -1, -1), network))
    with pytest.raises(ValueError, match="1, 3 or 4 channels, got 2"):
        lite0_features(videos[:, :2], network)


def test_the_floor_is_that_of_two_halves_of_whole_videos(network: EfficientNetLite0, videos: Tensor) -> None:
    splits = [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    possible = [fd_lite0(videos[list(one)], videos[list(other)], network) for one, other in splits]

    floors = [real_floor(videos, network, seed=seed) for seed in (0, 0, 1, 2, 3, 4)]

    assert floors[0] == floors[1]
    assert len({round(floor, 3) for floor in floors}) > 1
    assert all(any(floor == pytest.approx(one, rel=1e-3) for one in possible) for floor in floors)
    with pytest.raises(ValueError, match="at least two videos, got 1"):
        real_floor(videos[:1], network)
