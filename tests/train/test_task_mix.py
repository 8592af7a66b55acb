import math

import pytest

from magvit2_pytorch.maskgit.tasks import TASKS
from magvit2_pytorch.train.task_mix import ALL_TASKS, WeightedTask, check_mix, condition_of, conditions_of, drawn_tasks


def test_the_mix_of_all_needs_every_condition_once() -> None:
    assert [task.name for task in ALL_TASKS] == list(TASKS)
    needed = [name for name in TASKS if name not in ("class_generation", "class_frame_prediction")]
    assert conditions_of(ALL_TASKS) == conditions_of(ALL_TASKS[::-1]) == tuple(needed)
    assert conditions_of(()) == conditions_of((WeightedTask(name="class_generation"),)) == ()


def test_frame_prediction_with_and_without_a_label_share_their_conditions() -> None:
    assert condition_of("class_frame_prediction") == condition_of("frame_prediction") == "frame_prediction"
    assert conditions_of((WeightedTask(name="class_frame_prediction"),)) == ("frame_prediction",)


def test_the_task_of_a_sample_is_a_function_of_its_place_and_the_seed() -> None:
    tasks = drawn_tasks(ALL_TASKS, 3, range(50)).tolist()

    assert [int(drawn_tasks(ALL_TASKS, 3, [place])[0]) for place in range(50)] == tasks
    assert drawn_tasks(ALL_TASKS, 4, range(50)).tolist() != tasks


def test_tasks_come_by_weight() -> None:
    mix = (WeightedTask(name="central_inpainting", weight=0.6), WeightedTask(name="class_generation", weight=0.2))

    tasks = drawn_tasks(mix, 0, range(3000))

    assert abs(tasks.mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 3000)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.inf, math.nan])
def test_a_weight_that_is_not_positive_and_finite_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=f"the weight of class_generation must be positive and finite, got {weight}"):
        WeightedTask(name="class_generation", weight=weight)


def test_a_task_comes_once() -> None:
    with pytest.raises(ValueError, match="each task must appear at most once, got class_generation 2 times"):
        check_mix((*ALL_TASKS, WeightedTask(name="class_generation")))
