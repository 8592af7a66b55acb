from pathlib import Path

import imageio.v3 as imageio
import pytest
import torch

from magvit2_pytorch.pipelines.animation import GAP, GREY, MAX_FRAMES, filling_in
from magvit2_pytorch.pipelines.fill.record import DecodingRecord
from magvit2_pytorch.pipelines.output import GenerationOutput


def test_cells_are_grey_until_their_code_is_settled() -> None:
    videos = torch.rand(2, 3, 5, 3, 4)
    settled_after = torch.tensor([0, 1, 2, 3]).view(1, 1, 2, 2).expand(2, 3, 2, 2)
    record = DecodingRecord(settled_after, torch.zeros(2, 5, 3, 4) > 0, (2, 2, 2), 0)

    strips = filling_in(videos, record)

    assert strips.shape == (2, 3, 4, 3, 3 * 4 + 2 * GAP)
    for number, frame in enumerate((0, 2, 4)):
        left = number * (4 + GAP)
        shown = strips[..., left : left + 4]
        for done in range(4):
            expected = videos[:, :, frame].clone()
            for cell, (rows, columns) in enumerate(
                [
                    (slice(0, 2), slice(0, 2)),
                    (slice(0, 2), slice(2, 4)),
                    (slice(2, 3), slice(0, 2)),
                    (slice(2, 3), slice(2, 4)),
                ]
            ):
                if cell > done:
                    expected[:, :, rows, columns] = GREY
            assert torch.equal(shown[:, :, done], expected)


def test_given_pixels_are_shown_from_the_start() -> None:
    videos = torch.rand(1, 3, 1, 2, 2)
    given = torch.tensor([[[[True, False], [False, False]]]])

    first, last = filling_in(videos, DecodingRecord(torch.ones(1, 1, 1, 1).long(), given, (1, 2, 2), 0))[0].unbind(
        dim=1
    )

    assert torch.equal(first[:, 0, 0], videos[0, :, 0, 0, 0])
    assert (first.flatten(1)[:, 1:] == GREY).all()
    assert torch.equal(last, videos[0, :, 0])


def test_a_long_video_is_shown_by_evenly_spaced_frames() -> None:
    videos = torch.rand(1, 3, 42, 2, 2)
    record = DecodingRecord(torch.zeros(1, 21, 1, 1).long(), torch.zeros(1, 42, 2, 2) > 0, (2, 2, 2), 1)

    strip = filling_in(videos, record)[:, :, 0]

    assert strip.shape[-1] == MAX_FRAMES * (2 + GAP) - GAP
    assert torch.equal(strip[..., :2], videos[:, :, 1])
    assert torch.equal(strip[..., -2:], videos[:, :, 41])


@pytest.mark.parametrize("ending", [".gif", ".mp4", ".png"])
def test_the_animation_is_saved(tmp_path: Path, ending: str) -> None:
    settled_after = torch.arange(4).view(1, 1, 2, 2)
    record = DecodingRecord(settled_after, torch.zeros(1, 1, 4, 4) > 0, (1, 2, 2), 0)
    output = GenerationOutput(torch.rand(1, 3, 1, 4, 4), settled_after, ("",), record)

    output.save_decoding(tmp_path / f"decoding{ending}", min_width=0)

    picture = imageio.imread(tmp_path / f"decoding{ending}")
    assert picture.shape == (4, 4 * 4 + 3 * 2, 3) if ending == ".png" else picture.shape[0] >= 4
    assert [path.name for path in tmp_path.iterdir()] == [f"decoding{ending}"]


def test_an_output_without_a_record_cannot_be_animated() -> None:
    with pytest.raises(ValueError, match="requires the record"):
        GenerationOutput(torch.rand(1, 3, 1, 4, 4), torch.zeros(1, 1, 2, 2).long(), ("",)).save_decoding("x.gif")
