from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from magvit2_pytorch.pipelines.media.video_like import as_masks, as_videos
from magvit2_pytorch.pipelines.output import to_numpy, to_pictures

BYTES = torch.randint(256, (2, 3, 4, 5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
VIDEOS = BYTES.float() / 255


def pictures(video: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in video.permute(1, 2, 3, 0).numpy()]


@pytest.mark.parametrize(
    "form",
    [
        VIDEOS,
        VIDEOS.double(),
        BYTES,
        to_numpy(VIDEOS),
        to_numpy(VIDEOS).astype(np.float64),
        BYTES.permute(0, 2, 3, 4, 1).numpy(),
        [pictures(video) for video in BYTES],
    ],
    ids=["tensor", "double tensor", "tensor of bytes", "array", "double array", "array of bytes", "pictures"],
)
def test_batches_of_videos_in_all_forms(form: Any) -> None:
    assert torch.equal(as_videos(form, "video"), VIDEOS)


@pytest.mark.parametrize(
    "form",
    [VIDEOS[0], BYTES[0], BYTES[0].permute(1, 2, 3, 0).numpy(), pictures(BYTES[0])],
    ids=["tensor", "tensor of bytes", "array of bytes", "pictures"],
)
def test_a_video_is_a_batch_of_one(form: Any) -> None:
    assert torch.equal(as_videos(form, "video"), VIDEOS[:1])


@pytest.mark.parametrize(
    "form",
    [VIDEOS[0, :, 0], BYTES[0, :, 0].permute(1, 2, 0).numpy(), pictures(BYTES[0])[0]],
    ids=["tensor", "array of bytes", "picture"],
)
def test_an_image_is_a_video_of_one_frame(form: Any) -> None:
    assert torch.equal(as_videos(form, "video"), VIDEOS[:1, :, :1])


def test_outputs_are_valid_inputs() -> None:
    assert torch.equal(as_videos(to_numpy(VIDEOS), "video"), VIDEOS)
    assert torch.equal(as_videos(to_pictures(VIDEOS), "video"), VIDEOS)


def test_views_and_read_only_arrays_are_accepted() -> None:
    mirrored = BYTES[0].permute(1, 2, 3, 0).numpy()[:, :, ::-1]
    fixed = mirrored.copy()
    fixed.setflags(write=False)

    assert torch.equal(as_videos(mirrored, "video"), VIDEOS[:1].flip(-1))
    assert torch.equal(as_videos(fixed, "video"), VIDEOS[:1].flip(-1))


def test_images_of_other_modes_are_converted() -> None:
    grey = Image.fromarray(np.arange(30, dtype=np.uint8).reshape(5, 6))

    for picture in (grey, grey.convert("RGBA"), grey.convert("P")):
        assert torch.equal(as_videos(picture, "frames")[0, :, 0], (torch.arange(30).view(5, 6) / 255).expand(3, 5, 6))


def test_rounding_errors_are_clipped() -> None:
    assert as_videos(VIDEOS * 1.00001 - 0.000005, "video").aminmax() == (0, 1)


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            torch.rand(2, 4, 5, 5),
            r"shape \(c, H, W\) or \(c, T, H, W\) or \(b, c, T, H, W\) with 3 channels c, got \(2, 4, 5, 5\)",
        ),
        (np.zeros((3, 4, 5, 5)), r"an array must have shape \(H, W, c\) .*got \(3, 4, 5, 5\)"),
        (torch.rand(5, 5), r"got \(5, 5\)"),
        (torch.rand(3, 0, 5, 5), r"got \(3, 0, 5, 5\)"),
        (torch.zeros(3, 5, 5, dtype=torch.int64), "floating point in .* or uint8 in 0...255, got torch.int64"),
        (np.zeros((5, 5, 3), dtype=bool), "got torch.bool"),
        (np.array([["text"]]), "numbers or booleans, got <U4"),
        (torch.rand(3, 5, 5) * 255, "must be in .*got values from"),
        (torch.rand(3, 5, 5) - 0.5, "must be in .*got values from -0."),
        (torch.full((3, 5, 5), torch.nan), "got values from nan"),
        ([], "got an empty list"),
        ("video.mp4", "a list of PIL images or a list of such lists, got str"),
        ([torch.rand(3, 5, 5)], "got Tensor"),
        ([Image.new("RGB", (4, 4)), Image.new("RGB", (4, 5))], r"the same size.*\(4, 4, 3\) and \(5, 4, 3\)"),
        ([[Image.new("RGB", (4, 4))], [Image.new("RGB", (4, 4))] * 2], "lists the same length"),
        (Image.new("I", (4, 4)), "8 bits per channel, got mode I"),
    ],
)
def test_wrong_values_are_refused(value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"^frames.*{said}"):
        as_videos(value, "frames")


def test_masks_in_all_forms() -> None:
    mask = torch.rand(2, 4, 5, 6) < 0.5
    shown = [[Image.fromarray(frame) for frame in video] for video in mask.numpy()]

    for whole, first, frame in ((mask, mask[0], mask[0, 0]), (mask.numpy(), mask[0].numpy(), mask[0, 0].numpy())):
        assert torch.equal(as_masks(whole, "mask"), mask)
        assert torch.equal(as_masks(first, "mask"), mask[:1])
        assert torch.equal(as_masks(frame, "mask"), mask[:1, :1])
    assert torch.equal(as_masks(shown, "mask"), mask)
    assert torch.equal(as_masks(shown[0][0].convert("L"), "mask"), mask[:1, :1])


@pytest.mark.parametrize(
    "mask", [torch.zeros(5, 6), torch.zeros(5, 6, dtype=torch.uint8), torch.zeros(1, dtype=torch.bool)]
)
def test_wrong_masks_are_refused(mask: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"mask must be boolean \(True: hidden\) of shape"):
        as_masks(mask, "mask")
