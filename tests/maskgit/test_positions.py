import torch

from magvit2_pytorch.maskgit.positions import NUM_POSITION_FEATURES, position_features, rotary_turns

CPU = torch.device("cpu")


def test_a_place_has_the_same_features_in_a_grid_of_any_size() -> None:
    small = position_features((2, 3, 4), CPU).reshape(2, 3, 4, NUM_POSITION_FEATURES)
    large = position_features((5, 6, 7), CPU).reshape(5, 6, 7, NUM_POSITION_FEATURES)

    assert torch.equal(small, large[:2, :3, :4])


def test_every_place_has_features_of_its_own() -> None:
    features = position_features((5, 16, 16), CPU)

    assert torch.cdist(features, features).fill_diagonal_(1).min() > 0.1


def test_the_turn_between_two_places_depends_on_their_distance_alone() -> None:
    turns = rotary_turns((4, 5, 6), 32, CPU).reshape(4, 5, 6, 16)

    from_the_corner = turns[1, 2, 3] / turns[0, 0, 0]

    torch.testing.assert_close(turns[3, 4, 5] / turns[2, 2, 2], from_the_corner)
    torch.testing.assert_close(turns[2, 3, 4] / turns[1, 1, 1], from_the_corner)
    torch.testing.assert_close(turns.abs(), torch.ones(4, 5, 6, 16))


def test_the_pairs_of_every_head_see_all_three_axes() -> None:
    for head_size in (6, 8, 20, 32, 64):
        turns = rotary_turns((2, 2, 2), head_size, CPU).reshape(2, 2, 2, head_size // 2)

        assert (turns[0, 0, 0] == 1).all()
        assert (turns[1, 0, 0] != 1).any()
        assert (turns[0, 1, 0] != 1).any()
        assert (turns[0, 0, 1] != 1).any()
