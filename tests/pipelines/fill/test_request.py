from typing import Any

import pytest
import torch
from PIL import Image

from magvit2_pytorch.pipelines.fill.request import Given, common_length, gather, label_indices

BYTES = torch.randint(256, (2, 3, 4, 5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
VIDEOS = BYTES.float() / 255


def pictures(video: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in video.permute(1, 2, 3, 0).numpy()]


def gathered(num_frames: int | None = None, **given: Any) -> Given:
    return gather(num_frames, **given, default_frames=7, default_size=(5, 6))


def test_first_and_last_frames_are_known() -> None:
    given = gathered(7, frames=VIDEOS[:, :, :3], last_frames=VIDEOS[:1, :, 3:])

    assert given.known.flatten(2).all(dim=2).tolist() == [[True] * 3 + [False] * 3 + [True]] * 2
    assert torch.equal(given.pixels[:, :, :3], VIDEOS[:, :, :3])
    assert torch.equal(given.pixels[:, :, 6:], VIDEOS[:1, :, 3:].expand(2, -1, -1, -1, -1))
    assert given.num_first == 3


def test_a_masked_video_is_known_where_its_mask_is_false() -> None:
    mask = torch.rand(5, 6) < 0.5

    given = gathered(video=VIDEOS, mask=mask)

    assert torch.equal(given.known, ~mask.expand(2, 4, 5, 6))
    assert torch.equal(given.pixels, VIDEOS * ~mask)
    assert given.num_first == 0


def test_hidden_pixels_are_removed() -> None:
    mask = torch.rand(4, 5, 6) < 0.5
    others = torch.where(mask, torch.rand(()), VIDEOS[0])

    assert torch.equal(gathered(video=others, mask=mask).pixels, gathered(video=VIDEOS[0], mask=mask).pixels)


def test_without_pixels_nothing_is_known() -> None:
    given = gathered()

    assert given.pixels.shape == (1, 3, 7, 5, 6)
    assert not given.known.any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"num_frames": 0}, "num_frames must be an integer >= 1, got 0"),
        ({"num_frames": True}, "num_frames must be an integer >= 1, got True"),
        ({"video": VIDEOS}, "video requires mask"),
        ({"mask": torch.ones(5, 6) > 0}, "mask requires video"),
        (
            {"video": VIDEOS, "mask": torch.ones(5, 6) > 0, "frames": VIDEOS},
            "cannot be combined with frames or last_frames",
        ),
        ({"video": VIDEOS, "mask": torch.ones(5, 6) > 0, "num_frames": 5}, "None or the length of video, 4, got 5"),
        (
            {"video": VIDEOS, "mask": torch.ones(6, 5) > 0},
            "mask must have 1 or 4 frames of 5 x 6 pixels, as video has, got 1 of 6 x 5",
        ),
        ({"video": VIDEOS, "mask": torch.ones(3, 5, 6) > 0}, "got 3 of 5 x 6"),
        (
            {"video": VIDEOS, "mask": torch.ones(3, 4, 5, 6) > 0},
            "video has batch size 2, but mask has batch size 3; pass 1 or 3 videos",
        ),
        ({"video": VIDEOS, "mask": torch.zeros(5, 6) > 0}, "must hide at least one pixel"),
        ({"frames": VIDEOS, "num_frames": 4}, r"greater than the number of given frames \(4 in frames\), got 4"),
        ({"frames": VIDEOS, "last_frames": VIDEOS}, r"\(4 in frames and 4 in last_frames\), got 7"),
        (
            {"frames": VIDEOS, "last_frames": VIDEOS[..., :5], "num_frames": 20},
            "same height and width, got 5 x 6 and 5 x 5",
        ),
        (
            {"frames": VIDEOS, "last_frames": VIDEOS.repeat(2, 1, 1, 1, 1), "num_frames": 20},
            "frames has batch size 2, but last_frames has batch size 4; pass 1 or 4 clips as frames",
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        gathered(**arguments)


def test_a_batch_of_one_matches_any_size() -> None:
    assert common_length(labels=1, videos=3, contexts=1) == 3
    with pytest.raises(ValueError, match="labels has batch size 2, but videos has batch size 3; pass 1 or 3 labels"):
        common_length(labels=2, videos=3)


@pytest.mark.usefixtures("as_users_call")
def test_the_message_about_an_unknown_label_is_short() -> None:
    names = [f"label_{index}" for index in range(10_000)]

    with pytest.raises(ValueError, match=r"unknown label 'label_777x': did you mean 'label_777'\?") as refused:
        label_indices("label_777x", names)
    assert len(str(refused.value)) < 500
    for label in (10_000, -1, True, 1.5, None):
        with pytest.raises(ValueError, match=f"unknown label {label}") as refused:
            label_indices([label], names)  # type: ignore[list-item]
        assert len(str(refused.value)) < 500
