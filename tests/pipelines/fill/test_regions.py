import math

import pytest
import torch
from jaxtyping import Bool
from torch import Tensor

from magvit2_pytorch import VideoTokenizer
from magvit2_pytorch.maskgit.tasks import TASKS
from magvit2_pytorch.pipelines.fill.regions import encode_condition, fill_unknown, fitting_task, known_region

CLIP = (9, 8, 12)


@pytest.fixture(scope="module")
def tokenizer() -> VideoTokenizer:
    """Tokenizer with latent frames of two frames and cells of 4 x 2 pixels."""
    layers = ("residual", "attend_time")
    return VideoTokenizer(image_size=16, init_dim=16, layers=layers, codebook_size=2**9, patch_size=(2, 4, 2)).eval()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(task: str, count: int = 40) -> Tensor:
    return torch.stack([known_region(task, *CLIP, generator(seed)) for seed in range(count)])


@pytest.mark.parametrize("task", TASKS)
def test_tasks_have_known_and_unknown_pixels(task: str) -> None:
    for clip in (CLIP, (3, 2, 2), (17, 5, 7)):
        known = known_region(task, *clip, generator())
        assert known.shape == clip
        assert not known.all()
        assert known.any() == TASKS[task].has_region


def test_frame_prediction_gives_one_or_five_frames() -> None:
    for task in ("frame_prediction", "class_frame_prediction"):
        known = drawn(task, 200)
        num_given = known.flatten(2).all(dim=-1).sum(dim=1)

        assert torch.equal(known, (torch.arange(CLIP[0]) < num_given[:, None])[:, :, None, None].expand_as(known))
        assert set(num_given.tolist()) == {1, 5}
        assert abs((num_given == 5).float().mean() - 0.5) < 4 * math.sqrt(0.25 / 200)
        assert {int(known_region(task, 5, 2, 2, generator(seed)).sum()) for seed in range(20)} == {4}


def test_interpolation_gives_the_first_and_last_frame() -> None:
    known = known_region("frame_interpolation", *CLIP)

    assert known[[0, -1]].all()
    assert not known[1:-1].any()


def test_static_regions_are_half_the_frame_and_centred() -> None:
    rows, columns = torch.arange(8)[:, None], torch.arange(12)[None]
    is_middle_row, is_middle_column = (rows >= 2) & (rows < 6), (columns >= 3) & (columns < 9)
    expected = {
        "central_outpainting": is_middle_row & is_middle_column,
        "vertical_outpainting": is_middle_column & (rows >= 0),
        "horizontal_outpainting": is_middle_row & (columns >= 0),
        "central_inpainting": ~(is_middle_row & is_middle_column),
    }

    for task, frame in expected.items():
        assert torch.equal(known_region(task, *CLIP), frame.expand(CLIP))


@pytest.mark.parametrize(
    ("task", "inside", "box"), [("dynamic_outpainting", True, (8, 6)), ("dynamic_inpainting", False, (4, 6))]
)
def test_a_dynamic_region_is_a_box_in_steady_motion(task: str, inside: bool, box: tuple[int, int]) -> None:
    known = drawn(task)
    is_inside = known == inside
    rows, columns = is_inside.any(dim=3), is_inside.any(dim=2)

    assert torch.equal(is_inside, rows[..., None] & columns[..., None, :])
    for lines, length in zip((rows, columns), box, strict=True):
        starts = lines.long().argmax(dim=-1)
        assert (lines.sum(dim=-1) == length).all()
        assert torch.equal(lines, ((torch.arange(lines.shape[-1]) - starts[..., None]) // length) == 0)
        line = starts[:, :1] + (starts[:, -1:] - starts[:, :1]) * torch.arange(CLIP[0]) / (CLIP[0] - 1)
        assert ((starts - line).abs() <= 0.5).all()
        room = lines.shape[-1] - length
        assert set(starts[:, [0, -1]].flatten().tolist()) == set(range(room + 1))


def test_a_region_depends_on_its_generator_only() -> None:
    regions = [known_region("dynamic_inpainting", *CLIP, generator(seed)) for seed in (1, 1, 2)]

    assert torch.equal(regions[0], regions[1])
    assert not torch.equal(regions[0], regions[2])


@pytest.mark.parametrize(
    ("task", "clip", "message"),
    [
        (
            "frame_prediction",
            (1, 8, 8),
            r"frame_prediction needs at least 2 frame\(s\) of 2 x 2 pixels, got 1 of 8 x 8",
        ),
        ("frame_interpolation", (2, 8, 8), r"needs at least 3 frame\(s\)"),
        ("central_inpainting", (4, 8, 1), r"needs at least 1 frame\(s\) of 2 x 2 pixels, got 4 of 8 x 1"),
        ("inpainting", (4, 8, 8), "unknown task 'inpainting': did you mean '.*inpainting'"),
    ],
)
def test_invalid_tasks_and_clips_are_refused(task: str, clip: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        known_region(task, *clip)


def test_a_pixel_known_in_other_frames_is_interpolated_in_time() -> None:
    video = torch.rand(2, 3, 6, 3, 4) * 2 - 1
    known = torch.rand(2, 6, 3, 4) < 0.4
    known[:, 2] |= ~known.any(dim=1)

    filled = fill_unknown(video, known)

    for b, c, y, x in torch.cartesian_prod(*(torch.arange(size) for size in (2, 3, 3, 4))).tolist():
        times = known[b, :, y, x].nonzero()[:, 0].tolist()
        for t in range(6):
            before, after = (
                max([s for s in times if s <= t], default=None),
                min([s for s in times if s >= t], default=None),
            )
            before, after = (after if before is None else before), (before if after is None else after)
            assert before is not None
            assert after is not None
            share = (t - before) / max(after - before, 1)
            expected = (1 - share) * video[b, c, before, y, x] + share * video[b, c, after, y, x]
            torch.testing.assert_close(
                filled[b, c, t, y, x], expected if before != after else video[b, c, before, y, x]
            )


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if task.has_region])
def test_known_pixels_are_unchanged_and_unknown_ones_ignored(task: str) -> None:
    video, known = torch.rand(2, 3, *CLIP) * 2 - 1, torch.stack([known_region(task, *CLIP) for _ in range(2)])
    shown = known[:, None].expand_as(video)

    filled = fill_unknown(video, known)

    assert torch.equal(filled[shown], video[shown])
    assert torch.equal(filled, fill_unknown(torch.where(shown, video, math.nan), known))
    assert torch.equal(filled, torch.cat([fill_unknown(video[i : i + 1], known[i : i + 1]) for i in range(2)]))
    low, high = (video[shown].min(), video[shown].max())
    assert filled.min() >= low
    assert filled.max() <= high


def test_pixels_known_in_no_frame_are_filled_in_space() -> None:
    left_to_right = torch.linspace(-1, 1, 32).expand(1, 3, 2, 32, 32)
    known = known_region("central_inpainting", 2, 32, 32)[None]
    nearest = torch.where(torch.arange(32) < 16, -1.0, 1.0)

    inner = fill_unknown(left_to_right, known)
    outer = fill_unknown(nearest.expand(1, 3, 2, 32, 32), known_region("central_outpainting", 2, 32, 32)[None])

    assert (inner - left_to_right).abs().max() < 0.2
    assert (outer[..., 4:28, :8] < -0.8).all()
    assert (outer[..., 4:28, 24:] > 0.8).all()
    torch.testing.assert_close(
        fill_unknown(torch.full((1, 3, 2, 32, 32), 0.3), known), torch.full((1, 3, 2, 32, 32), 0.3)
    )


def test_a_clip_without_known_pixels_becomes_grey() -> None:
    video, known = torch.rand(2, 3, 4, 5, 6), torch.zeros(2, 4, 5, 6, dtype=torch.bool)
    known[1, 0] = True

    filled = fill_unknown(video, known)

    assert (filled[0] == 0).all()
    assert torch.equal(filled[1], video[1, :, :1].expand(-1, 4, -1, -1))


@torch.no_grad()
def test_exact_codes_do_not_depend_on_later_frames(tokenizer: VideoTokenizer) -> None:
    video = torch.rand(3, 3, 9, 16, 16) * 2 - 1
    known = torch.zeros(3, 9, 16, 16, dtype=torch.bool)
    for sample, num_given in enumerate((1, 4, 5)):
        known[sample, :num_given] = True
    known[:, 7:] = True
    known[2, 3, 0, 0] = False

    codes, is_exact = encode_condition(tokenizer, video, known)

    assert is_exact[:, :, 0, 0].tolist() == [
        [True] + [False] * 4,
        [True, True] + [False] * 3,
        [True, True] + [False] * 3,
    ]
    assert torch.equal(is_exact, is_exact[:, :, :1, :1].expand_as(is_exact))
    assert torch.equal(codes[is_exact], tokenizer.encode(video)[is_exact])
    assert torch.equal(
        codes[is_exact], encode_condition(tokenizer, video.where(known[:, None], 0), known).codes[is_exact]
    )


@torch.no_grad()
def test_only_cells_with_known_pixels_have_condition_codes(
    tokenizer: VideoTokenizer,
) -> None:
    video, known = torch.rand(1, 3, 5, 16, 16) * 2 - 1, torch.zeros(1, 5, 16, 16, dtype=torch.bool)
    known[0, 0, 3, 5] = known[0, 2, 4, 0] = known[0, 3, 15, 15] = True

    codes, is_exact = encode_condition(tokenizer, video, known)

    has_code = codes != tokenizer.codebook_size
    assert has_code.nonzero().tolist() == [[0, 0, 0, 2], [0, 1, 1, 0], [0, 2, 3, 7]]
    assert torch.equal(codes[has_code], tokenizer.encode(fill_unknown(video, known))[has_code])
    assert not is_exact.any()


@torch.no_grad()
def test_padding_does_not_affect_known_cells(tokenizer: VideoTokenizer) -> None:
    video, known = torch.rand(1, 3, 4, 15, 15) * 2 - 1, torch.ones(1, 4, 15, 15, dtype=torch.bool)

    codes, is_exact = encode_condition(tokenizer, video, known)

    assert torch.equal(codes, tokenizer.encode(video))
    assert is_exact.all()
    known[:, :, 12:] = False
    assert (encode_condition(tokenizer, video, known).codes[:, :, 3] == tokenizer.codebook_size).all()


NO_REGION = torch.zeros(9, 16, 16) > 0


def region(*given: tuple[slice, slice, slice]) -> Bool[Tensor, "T H W"]:
    known = NO_REGION.clone()
    for place in given:
        known[place] = True
    return known


ALL = slice(None)


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if not task.uses_label])
def test_the_fitting_task_of_a_region_is_its_task(task: str) -> None:
    for seed in range(20):
        known = known_region(task, 9, 16, 16, torch.Generator().manual_seed(seed))
        fitting = fitting_task(known, has_label=False)

        if not task.startswith("dynamic"):  # a box may happen to stand still, or to touch the edge
            assert fitting == task
        assert fitting_task(known, has_label=True) == ("class_frame_prediction" if task == "frame_prediction" else None)


@pytest.mark.parametrize("task", ["dynamic_outpainting", "dynamic_inpainting"])
def test_a_region_that_moves_is_dynamic(task: str) -> None:
    known = NO_REGION.clone()
    for frame in range(9):
        known[frame, :, frame : frame + 8] = True
    if task == "dynamic_inpainting":
        known = ~known
        known[:, [0, -1]] = known[:, :, [0, -1]] = True

    assert fitting_task(known, has_label=False) == task


@pytest.mark.parametrize(
    ("known", "without_label", "with_label"),
    [
        (NO_REGION, None, "class_generation"),
        (region((slice(3), ALL, ALL)), "frame_prediction", "class_frame_prediction"),
        (region((slice(3), ALL, ALL), (slice(-1, None), ALL, ALL)), "frame_interpolation", None),
        (region((slice(-1, None), ALL, ALL)), "frame_interpolation", None),
        (region((slice(4, 5), ALL, ALL)), "frame_interpolation", None),
        (region((ALL, ALL, slice(5, 11))), "vertical_outpainting", None),
        (region((ALL, ALL, slice(0, 5))), "dynamic_outpainting", None),
        (region((ALL, slice(0, 3), ALL)), "horizontal_outpainting", None),
        (region((ALL, slice(2, 9), slice(0, 8))), "central_outpainting", None),
        (~region((ALL, slice(5, 9), slice(6, 12))), "central_inpainting", None),
        (~region((ALL, slice(1, 4), slice(6, 12))), "dynamic_inpainting", None),
        (~region((ALL, slice(0, 4), slice(6, 12))), "central_outpainting", None),
    ],
)
def test_fitting_tasks(known: Bool[Tensor, "T H W"], without_label: str | None, with_label: str | None) -> None:
    assert fitting_task(known, has_label=False) == without_label
    assert fitting_task(known, has_label=True) == with_label


def test_frames_of_earlier_windows_do_not_change_the_task() -> None:
    for task in ("central_outpainting", "vertical_outpainting", "central_inpainting"):
        known = known_region(task, 9, 16, 16)
        known[:3] = True

        assert fitting_task(known, has_label=False) == task
