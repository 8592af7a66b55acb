import pytest
import torch

from magvit2_pytorch.maskgit.tasks import TASKS, labels_seen, task_named


def test_there_are_ten_tasks_two_of_them_with_labels_and_one_without_a_region() -> None:
    assert len(TASKS) == 10
    assert all(task_named(name).name == name for name in TASKS)
    assert {name for name, task in TASKS.items() if task.uses_label} == {"class_generation", "class_frame_prediction"}
    assert [name for name, task in TASKS.items() if not task.has_region] == ["class_generation"]


def test_an_unknown_task_is_refused_with_the_nearest_and_all_that_there_are() -> None:
    with pytest.raises(ValueError, match="unknown task 'frame_predicton': did you mean 'frame_prediction'"):
        task_named("frame_predicton")
    with pytest.raises(
        ValueError, match=r"unknown task 'xyz': must be one of frame_prediction, .*class_frame_prediction"
    ):
        task_named("xyz")


def test_a_task_without_a_label_sees_the_null_label_and_plain_generation_sees_the_label() -> None:
    names = ("central_inpainting", "class_generation", "frame_prediction", "class_frame_prediction")
    labels, tasks = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([0, 1, 2, 3, 4])

    assert labels_seen(labels, tasks, names, null_label=9).tolist() == [9, 1, 9, 3, 4]
    assert labels_seen(labels, torch.zeros(5, dtype=torch.long), (), null_label=9).tolist() == labels.tolist()
