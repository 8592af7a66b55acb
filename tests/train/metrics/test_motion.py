import pytest
import torch

from magvit2_pytorch.train.data import DataConfig, load_data
from magvit2_pytorch.train.data.shapes import MOTIONS
from magvit2_pytorch.train.metrics.classifiers import blur
from magvit2_pytorch.train.metrics.motion import seen_motions, shapes_in


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    data = load_data(DataConfig(path="shapes"))
    return torch.stack([data.heldout.video(index) for index in range(64)]) / 2 + 0.5


LABELS = torch.arange(64) % len(MOTIONS)


def test_the_motion_of_every_clip_is_seen(clips: torch.Tensor) -> None:
    assert torch.equal(seen_motions(clips), LABELS)


def test_colours_are_of_no_concern_nor_is_a_blur(clips: torch.Tensor) -> None:
    assert torch.equal(seen_motions(1 - clips), LABELS)
    assert (seen_motions(blur(clips, 4)) == LABELS).all()


def test_backwards_every_motion_is_its_opposite(clips: torch.Tensor) -> None:
    opposites = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])
    changes = shapes_in(clips[:, :, [0, -1]]).double().mean(dim=(2, 3)).log().diff(dim=1).abs().flatten() > 0.5
    has_ended = (LABELS >= 6) & ~changes

    assert torch.equal(seen_motions(clips.flip(2))[~has_ended], opposites[LABELS][~has_ended])
    assert 0 < has_ended.sum() < 8


def test_what_has_grown_or_shrunk_to_its_end_is_told_by_its_size(clips: torch.Tensor) -> None:
    standing = clips[:, :, -1:].expand(-1, -1, 17, -1, -1)

    assert torch.equal(seen_motions(standing)[LABELS >= 6], LABELS[LABELS >= 6])


def test_without_a_shape_there_is_no_motion() -> None:
    assert seen_motions(torch.full((2, 3, 4, 8, 8), 0.3)).tolist() == [-1, -1]
