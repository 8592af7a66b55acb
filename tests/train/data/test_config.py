from pathlib import Path
from typing import Any

import pytest

from magvit2_pytorch.train.data import DataConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("resolution", 7),
        ("num_frames", 0),
        ("frame_stride", 0),
        ("seed", -1),
        ("heldout_fraction", 0.0),
        ("heldout_fraction", 0.5),
        ("image_ratio", -0.1),
        ("image_ratio", 1.0),
        ("path", ""),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .* got .*{value}"):
        DataConfig(**{name: value})


def test_images_are_not_mixed_into_images() -> None:
    with pytest.raises(ValueError, match=r"image_ratio must be 0 where num_frames is 1, .* got 0\.5"):
        DataConfig(num_frames=1, image_ratio=0.5)


def test_a_window_spans_the_frames_between_its_own() -> None:
    assert DataConfig(num_frames=5, frame_stride=3).span == 13
    assert DataConfig(num_frames=1, frame_stride=3).span == 1


def test_the_cache_lies_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGVIT2_CACHE", "/from/environment")

    assert DataConfig(cache_dir="/from/config").frames_dir == Path("/from/config/frames")
    assert DataConfig().frames_dir == Path("/from/environment/frames")

    monkeypatch.delenv("MAGVIT2_CACHE")
    assert DataConfig().frames_dir == Path.home() / ".cache/magvit2-pytorch/frames"
