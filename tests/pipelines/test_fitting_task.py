import pytest
import torch
from jaxtyping import Bool
from torch import Tensor

from magvit2_pytorch.maskgit.tasks import TASKS
from magvit2_pytorch.pipelines.fitting_task import fitting_task
from magvit2_pytorch.pipelines.regions import known_region

NO_REGION = torch.zeros(9, 16, 16) > 0


def region(*given: tuple[slice, slice, slice]) -> Bool[Tensor, "T H W"]:
    known = NO_REGION.clone()
    for place in given:
        known[place] = True
    return known


ALL = slice(None)


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if not task.uses_label])
def test_what_a_task_gives_is_recognised_as_that_task(task: str) -> None:
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
def test_the_task_follows_from_what_is_known(
    known: Bool[Tensor, "T H W"], without_label: str | None, with_label: str | None
) -> None:
    assert fitting_task(known, has_label=False) == without_label
    assert fitting_task(known, has_label=True) == with_label


def test_frames_that_a_window_continues_do_not_change_the_task_of_a_region() -> None:
    for task in ("central_outpainting", "vertical_outpainting", "central_inpainting"):
        known = known_region(task, 9, 16, 16)
        known[:3] = True

        assert fitting_task(known, has_label=False) == task
