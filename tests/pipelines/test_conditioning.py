"""Generation from given pixels, labels and contexts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from magvit2_pytorch import VideoGenerationPipeline, VideoTokenizer
from magvit2_pytorch.maskgit import MaskGit
from magvit2_pytorch.maskgit.sub_code_heads import PredictedLogits
from magvit2_pytorch.tokenizer.pixels import to_model_range

BYTES = torch.randint(256, (3, 9, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
VIDEO = BYTES.float() / 255


def as_array(video: Tensor) -> np.ndarray:
    return video.movedim(-4, -1).numpy()


def as_pictures(video: Tensor) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in as_array(video)]


def told(maskgit: MaskGit) -> list[dict[str, Tensor]]:
    """Record the inputs of the transformer from now on."""
    asked: list[dict[str, Tensor]] = []
    forward = maskgit.forward

    def remembering(codes: Tensor, labels: Tensor, **conditions: Tensor) -> PredictedLogits:
        asked.append({"codes": codes, "labels": labels, **conditions})
        return forward(codes, labels, **conditions)

    maskgit.forward = remembering  # type: ignore[method-assign]
    return asked


@pytest.mark.parametrize("form", [torch.Tensor.float, torch.Tensor.clone, as_array, as_pictures])
@pytest.mark.parametrize("num_first", [1, 2, 3, 4, 7])
def test_first_frames_are_returned_unchanged(
    pipeline: VideoGenerationPipeline, num_first: int, form: Callable[[Tensor], Any]
) -> None:
    first = form(BYTES[:, :num_first])
    frames = first / 255 if isinstance(first, Tensor) and first.is_floating_point() else first

    videos = pipeline.generate(8, frames=frames, num_steps=2, seed=0, progress=False).videos

    assert videos.shape == (1, 3, 8, 16, 16)
    assert torch.equal(videos[0, :, :num_first], VIDEO[:, :num_first])


def test_last_frames_are_returned_unchanged(pipeline: VideoGenerationPipeline) -> None:
    for num_frames, num_last in ((5, 1), (5, 2), (12, 3)):
        output = pipeline.generate(
            num_frames, frames=VIDEO[:, 0], last_frames=VIDEO[:, -num_last:], num_steps=2, seed=0, progress=False
        )

        assert torch.equal(output.videos[0, :, 0], VIDEO[:, 0])
        assert torch.equal(output.videos[0, :, -num_last:], VIDEO[:, -num_last:])


@pytest.mark.parametrize("size", [(16, 16), (10, 22)])
@pytest.mark.parametrize("kind", ["pixels", "box", "frames"])
def test_pixels_outside_the_mask_are_returned_unchanged(
    versatile: VideoGenerationPipeline, size: tuple[int, int], kind: str
) -> None:
    video, mask = torch.rand(2, 3, 9, *size), torch.zeros(9, *size) > 0
    if kind == "pixels":
        mask = torch.rand(2, 9, *size) < 0.3
    elif kind == "box":
        mask[:, 3:8, 3:9] = True
    else:
        mask[3:6] = True

    videos = versatile.generate(video=video, mask=mask, num_steps=2, seed=0, progress=False).videos

    known = ~mask.expand(2, -1, -1, -1)[:, None].expand_as(video)
    assert torch.equal(videos[known], video[known])
    assert not torch.equal(videos, video)


def test_hidden_pixels_of_a_video_are_ignored(versatile: VideoGenerationPipeline) -> None:
    mask = torch.zeros(16, 16) > 0
    mask[4:10, 4:10] = True
    other = torch.where(mask, torch.rand(3, 9, 16, 16), VIDEO)

    one, two = (versatile.generate(video=it, mask=mask, num_steps=2, seed=0, progress=False) for it in (VIDEO, other))

    assert torch.equal(one.codes, two.codes)
    assert torch.equal(one.videos, two.videos)


@pytest.mark.parametrize("order", ["confidence", "random", "halton", "critic"])
def test_codes_of_given_frames_do_not_change(versatile: VideoGenerationPipeline, order: str) -> None:
    with torch.no_grad():
        given = versatile.tokenizer.encode(to_model_range(VIDEO[None, :, :3]))
    seen: list[Tensor] = []

    output = versatile.generate(
        9,
        frames=VIDEO[:, :3],
        order=order,
        num_steps=3,
        seed=0,
        callback=lambda _, codes: seen.append(codes),
        progress=False,
    )

    assert len(seen) == 3 * 3
    assert all(torch.equal(codes[:, :2], given) for codes in [*seen, output.codes])


def test_given_frames_before_a_whole_latent_frame_are_not_encoded(pipeline: VideoGenerationPipeline) -> None:
    """A latent frame has two frames: of four frames, the last three fill two latent frames."""
    output = pipeline.generate(5, frames=VIDEO[:, :4], num_steps=2, seed=0, progress=False)

    with torch.no_grad():
        given = pipeline.tokenizer.encode(to_model_range(VIDEO[None, :, 1:4]))
    assert output.codes.shape == (1, 3, 4, 4)
    assert torch.equal(output.codes[:, :2], given)
    assert output.record is not None
    assert output.record.first_frame == 1


def test_known_cells_are_fixed_if_no_task_fits(pipeline: VideoGenerationPipeline) -> None:
    """Cells have 4 x 4 pixels; the box covers the middle four cells and touches others."""
    mask = torch.zeros(16, 16) > 0
    mask[4:13, 4:12] = True

    output = pipeline.generate(video=VIDEO[:, :5], mask=mask, num_steps=2, seed=0, progress=False)

    assert output.record is not None
    is_given = output.record.settled_after == 0
    expected = torch.ones(4, 4) > 0
    expected[1:4, 1:3] = False
    assert torch.equal(is_given, expected.expand(1, 3, 4, 4))


def test_a_model_without_the_task_gets_no_condition_codes(pipeline: VideoGenerationPipeline) -> None:
    mask = torch.zeros(16, 16) > 0
    mask[5:11, 4:12] = True  # of the middle cells some rows are left
    asked = told(pipeline.maskgit)

    pipeline.generate(video=VIDEO[:, :5], mask=mask, num_steps=2, seed=0, progress=False)

    is_hidden = asked[0]["codes"] == pipeline.maskgit.config.mask_id
    expected = torch.zeros(4, 4) > 0
    expected[1:3, 1:3] = True
    assert torch.equal(is_hidden, expected.expand(1, 3, 4, 4))


def test_latent_frames_with_a_known_first_frame_are_fixed_if_no_task_fits(pipeline: VideoGenerationPipeline) -> None:
    """A latent frame has two frames: the first one of the second latent frame is given, and the last of the last."""
    output = pipeline.generate(5, frames=VIDEO[:, :2], last_frames=VIDEO[:, -1], num_steps=2, seed=0, progress=False)

    assert output.record is not None
    is_given = (output.record.settled_after == 0).flatten(2)
    assert is_given.all(dim=2).tolist() == is_given.any(dim=2).tolist() == [[True, True, False]]


def test_partly_known_cells_are_refined_if_a_task_fits(
    versatile: VideoGenerationPipeline,
) -> None:
    mask = torch.zeros(16, 16) > 0
    mask[5:11, 4:12] = True  # of the middle cells some rows are left
    asked = told(versatile.maskgit)

    output = versatile.generate(video=VIDEO[:, :5], mask=mask, num_steps=2, seed=0, progress=False)

    mask_id = versatile.maskgit.config.mask_id
    assert [told["tasks"].tolist() for told in asked] == [[2], [2]]
    assert (asked[0]["codes"] != mask_id).all()
    assert output.record is not None
    assert (output.record.settled_after > 0).all()


def test_each_window_gets_the_fitting_task(versatile: VideoGenerationPipeline) -> None:
    asked = told(versatile.maskgit)

    def tasks(**arguments: Any) -> list[int]:
        asked.clear()
        versatile.generate(num_steps=1, seed=0, progress=False, **arguments)
        return [int(told["tasks"]) for told in asked]

    null_task, prediction, class_prediction = 3, 0, 1
    assert tasks(num_frames=9, labels=0) == [null_task, class_prediction, class_prediction]
    assert tasks(num_frames=7, frames=VIDEO[:, 0]) == [prediction, prediction]
    assert tasks(frames=VIDEO[:, 0], labels=0) == [class_prediction]
    assert tasks(frames=VIDEO[:, 0], last_frames=VIDEO[:, 1]) == [null_task]
    assert tasks(num_frames=7, frames=VIDEO[:, 0], task="central_inpainting") == [2, 2]


def test_given_pixels_without_a_label_get_the_null_label(versatile: VideoGenerationPipeline) -> None:
    asked = told(versatile.maskgit)

    givens: list[dict[str, Any]] = [{"frames": VIDEO[:, 0]}, {"context": torch.rand(2, 6)}]
    for given in givens:
        output = versatile.generate(**given, num_steps=1, seed=0, progress=False)

        assert asked[-1]["labels"].tolist() == [3]
        assert output.labels == ("",)


def test_results_depend_on_the_context_but_not_on_its_padding(versatile: VideoGenerationPipeline) -> None:
    context = torch.randn(2, 4, 6)
    padding = torch.tensor([[False, False, True, True]]).expand(2, 4)
    other = context.masked_fill(padding[..., None], 7.0)

    def codes(**arguments: Any) -> Int[Tensor, "b t h w"]:
        return versatile.generate(seed=[0, 1], num_steps=3, guidance_scale=20.0, progress=False, **arguments).codes

    assert not torch.equal(codes(context=context), codes(context=context.flip(0)))
    assert torch.equal(codes(context=context, context_padding=padding), codes(context=other, context_padding=padding))


def test_all_conditions_work_in_other_dtypes(versatile: VideoGenerationPipeline) -> None:
    versatile.to(dtype=torch.bfloat16)

    videos = versatile.generate(9, 1, frames=VIDEO[:, :3], context=torch.randn(2, 6), seed=0, progress=False).videos

    assert videos.dtype == torch.float32
    assert torch.equal(videos[0, :, :3], VIDEO[:, :3])


def test_videos_of_a_batch_are_independent(versatile: VideoGenerationPipeline) -> None:
    videos = torch.rand(4, 3, 9, 16, 16)
    masks = torch.zeros(4, 9, 16, 16) > 0
    masks[0, 3:] = masks[1, :, 4:9, 4:9] = masks[2, 8:] = masks[3, :, :, 9:] = True
    settings: dict[str, Any] = {"num_steps": 4, "guidance_scale": 2.0, "progress": False}
    labels, context = [0, 1, 2, 1], torch.randn(4, 3, 6)

    together = versatile.generate(
        video=videos, mask=masks, labels=labels, context=context, seed=[5, 6, 7, 8], **settings
    )

    for row in range(4):
        alone = versatile.generate(
            video=videos[row], mask=masks[row], labels=labels[row], context=context[row], seed=5 + row, **settings
        )
        assert torch.equal(alone.codes[0], together.codes[row])
        torch.testing.assert_close(alone.videos[0], together.videos[row])


def test_windows_of_a_batch_are_independent(pipeline: VideoGenerationPipeline) -> None:
    """Also if one of them has almost no hidden codes."""
    videos, masks = torch.rand(2, 3, 9, 16, 16), torch.ones(2, 9, 16, 16) > 0
    masks[1, 1:8] = False

    together = pipeline.generate(video=videos, mask=masks, seed=[5, 6], num_steps=6, progress=False)

    for row in range(2):
        alone = pipeline.generate(video=videos[row], mask=masks[row], seed=5 + row, num_steps=6, progress=False)
        assert torch.equal(alone.codes[0], together.codes[row])


def test_single_videos_and_labels_are_repeated(
    versatile: VideoGenerationPipeline,
) -> None:
    frames = torch.rand(2, 3, 1, 16, 16)

    of_one = versatile.generate(labels=["left", "up"], frames=frames[0], num_steps=1, seed=0, progress=False)
    of_two = versatile.generate(labels="up", frames=frames, num_videos_per_label=2, num_steps=1, seed=0, progress=False)

    assert of_one.labels == ("left", "up")
    assert torch.equal(of_one.videos[:, :, :1], frames[:1].expand(2, -1, -1, -1, -1))
    assert of_two.labels == ("up",) * 4
    assert torch.equal(of_two.videos[:, :, :1], frames.repeat_interleave(2, dim=0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_default_dtype(versatile: VideoGenerationPipeline, dtype: torch.dtype) -> None:
    """For a pipeline created before, whose videos stay the same, and for one created with this default."""
    given: dict[str, Any] = {"frames": VIDEO[:, :2], "num_frames": 9, "num_steps": 2, "seed": 1, "progress": False}
    given |= {"context": torch.rand(2, 6), "guidance_scale": 2.0, "guidance_schedule": "cosine", "top_p": 0.9}
    expected = versatile.generate(**given)
    torch.set_default_dtype(dtype)
    try:
        found = versatile.generate(**given)
        built = VideoGenerationPipeline(
            VideoTokenizer.from_config(versatile.tokenizer.config),
            MaskGit(versatile.maskgit.config),
            labels=versatile.labels,
            num_frames=5,
        )
        of_built = [built.generate(**given, order=order) for order in ("halton", "critic")]
    finally:
        torch.set_default_dtype(torch.float32)

    assert torch.equal(found.videos, expected.videos)
    assert torch.equal(found.codes, expected.codes)
    assert all(one.videos.dtype == torch.float32 and one.videos.isfinite().all() for one in of_built)
