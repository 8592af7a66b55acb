import torch

from magvit2_pytorch.maskgit.positions import NUM_POSITION_FEATURES, position_features, rotary_angles

CPU = torch.device("cpu")


def test_a_place_has_the_same_features_in_a_grid_of_any_size() -> None:
    small = position_features((2, 3, 4), CPU).reshape(2, 3, 4, NUM_POSITION_FEATURES)
    large = position_features((5, 6, 7), CPU).reshape(5, 6, 7, NUM_POSITION_FEATURES)

    assert torch.equal(small, large[:2, :3, :4])


def test_every_place_has_features_of_its_own() -> None:
    features = position_features((5, 16, 16), CPU)

    assert torch.cdist(features, features).fill_diagonal_(1).min() > 0.1


def test_the_turn_between_two_places_depends_on_their_distance_alone() -> None:
    angles = rotary_angles((4, 5, 6), 32, CPU).reshape(4, 5, 6, 32)

    from_the_corner = angles[1, 2, 3] - angles[0, 0, 0]

    torch.testing.assert_close(angles[3, 4, 5] - angles[2, 2, 2], from_the_corner)
    torch.testing.assert_close(angles[2, 3, 4] - angles[1, 1, 1], from_the_corner)


def test_the_pairs_of_every_head_see_all_three_axes() -> None:
    for head_size in (6, 8, 20, 32, 64):
        angles = rotary_angles((2, 2, 2), head_size, CPU).reshape(2, 2, 2, head_size)

        assert torch.equal(angles[..., 0::2], angles[..., 1::2])
        assert angles[1, 0, 0].any()
        assert angles[0, 1, 0].any()
        assert angles[0, 0, 1].any()
