from pathlib import Path
from typing import Any

import pytest

from magvit2_pytorch.train.data import DataConfig, load_data


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
        ("zoom", 0.9),
        ("zoom", 8.1),
        ("zoom", float("inf")),
        ("zoom", float("nan")),
        ("path", ""),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .* got .*{value}"):
        DataConfig(**{name: value})


def test_images_are_not_mixed_into_images() -> None:
    with pytest.raises(ValueError, match=r"image_ratio must be 0 if num_frames is 1 .* got 0\.5"):
        DataConfig(num_frames=1, image_ratio=0.5)


def test_an_official_split_belongs_to_one_source_of_files() -> None:
    for path in (("mine", "others"), ("leaves", "arcade")):
        with pytest.raises(ValueError, match=f"heldout needs exactly one source of files, got {' '.join(path)}"):
            DataConfig(path=path, heldout="list.txt")
    DataConfig(path=("mine", "leaves"), heldout="list.txt")


def test_a_range_that_the_shell_has_expanded_is_refused() -> None:
    with pytest.raises(ValueError, match=r"several tar files are one source: .* in quotes, .* got s-0\.tar s-1\.tar"):
        DataConfig(path=("s-0.tar", "s-1.tar"))


def test_a_window_spans_the_frames_between_its_own() -> None:
    assert DataConfig(num_frames=5, frame_stride=3).span == 13
    assert DataConfig(num_frames=1, frame_stride=3).span == 1


def test_the_cache_lies_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAGVIT2_CACHE", "/from/environment")

    assert DataConfig(cache_dir="/from/config").frames_dir == Path("/from/config/frames")
    assert DataConfig().frames_dir == Path("/from/environment/frames")

    monkeypatch.delenv("MAGVIT2_CACHE")
    assert DataConfig().frames_dir == Path.home() / ".cache/magvit2-pytorch/frames"


def test_without_a_home_the_ways_to_choose_a_cache_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAGVIT2_CACHE", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what Python does for a user without a home

    with pytest.raises(ValueError, match=r"--data\.cache-dir .*MAGVIT2_CACHE"):
        _ = DataConfig().frames_dir
    assert DataConfig(cache_dir="/somewhere").codes_dir == Path("/somewhere/codes")


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert DataConfig(cache_dir="~/cache").frames_dir == tmp_path / "cache/frames"
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/videos does not exist"):
        load_data(DataConfig(path="~/videos"))
