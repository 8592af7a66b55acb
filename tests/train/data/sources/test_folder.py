import re
from pathlib import Path

import pytest

from magvit2_pytorch.pipelines.media.decoding import PICTURE_ENDINGS
from magvit2_pytorch.train.data import DataConfig
from magvit2_pytorch.train.data.sources.files import VIDEO_ENDINGS, counted, kind_of_ending
from magvit2_pytorch.train.data.sources.find import find_files
from magvit2_pytorch.train.data.sources.folder import find_in_folder


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_the_first_folder_is_the_label(tmp_path: Path) -> None:
    root = tmp_path / "UCF-101"
    touch(
        root,
        "Archery/v_Archery_g01_c01.avi",
        "Archery/more/deep.mp4",
        "Basketball/v_Basketball_g01_c01.avi",
        "loose.mp4",
    )

    labels = {video.name: video.label for video in find_in_folder(root).videos}

    assert labels == {
        "Archery/v_Archery_g01_c01.avi": "Archery",
        "Archery/more/deep.mp4": "Archery",
        "Basketball/v_Basketball_g01_c01.avi": "Basketball",
        "loose.mp4": "UCF-101",
    }


def test_every_ending_counts_in_any_case_and_nothing_else_does(tmp_path: Path) -> None:
    wanted = [f"{number}{ending}" for number, ending in enumerate(VIDEO_ENDINGS)]
    touch(tmp_path, *wanted, "loud.MP4", "notes.txt", "sound.wav", "mp4")

    assert sorted(video.name for video in find_in_folder(tmp_path).videos) == sorted([*wanted, "loud.MP4"])


def test_the_endings_of_cameras_phones_and_discs_count() -> None:
    assert {".mts", ".m2ts", ".ts", ".3gp", ".3g2", ".vob", ".asf", ".ogg", ".apng", ".heic"} <= {*VIDEO_ENDINGS}
    assert {".webp", ".avif", ".jp2"} <= {*PICTURE_ENDINGS}
    assert not {*VIDEO_ENDINGS} & {*PICTURE_ENDINGS}


def test_all_other_files_are_listed_but_contexts(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "a.context.safetensors", "b.txt", "more/c", ".hidden")

    assert [(one.name, one.kind) for one in find_in_folder(tmp_path).skipped] == [
        ("b.txt", ".txt"),
        ("more/c", "without an extension"),
    ]


def test_many_endings_are_counted_in_few_words() -> None:
    endings = [kind_of_ending(f"{number}.{'a' * (number % 20)}") for number in range(400)]

    assert counted(endings).startswith("20 without an extension, 20 .a, ")
    assert counted(endings).endswith(", 160 more")
    assert counted(map(kind_of_ending, ("a.t\nt", "b"))) == r"1 .t\nt, 1 without an extension"


def test_hidden_files_and_folders_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path / ".hidden root", "a.mp4", "._a.mp4", ".trash/b.mp4", "label/.git/c.mp4")

    assert [video.name for video in find_in_folder(tmp_path / ".hidden root").videos] == ["a.mp4"]


def test_links_to_folders_are_followed_even_in_a_circle(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.mp4", "root/b.mp4")
    (tmp_path / "root/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "root")

    assert [video.name for video in find_in_folder(tmp_path / "root").videos] == ["b.mp4", "linked/a.mp4"]


def test_pictures_are_told_from_videos(tmp_path: Path) -> None:
    pictures = sorted(f"label/{number}{ending}" for number, ending in enumerate(PICTURE_ENDINGS))
    touch(tmp_path, *pictures, "LOUD.JPG", "clip.gif", "notes.txt", ".hidden.png")

    found = find_in_folder(tmp_path)

    assert [video.name for video in found.videos] == ["clip.gif"]
    assert [picture.name for picture in found.pictures] == ["LOUD.JPG", *pictures]
    assert {picture.label for picture in found.pictures} == {"label", tmp_path.name}


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "missing"))):
        find_files(str(tmp_path / "missing"), DataConfig())


def test_an_empty_folder_is_told_what_was_looked_for(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")

    with pytest.raises(FileNotFoundError, match=r"found 1 \.txt; .*\.mp4 .*\.gif.*\.png .*\.tiff"):
        find_in_folder(tmp_path)
