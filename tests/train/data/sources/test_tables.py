import io
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from magvit2_pytorch.train.data.sources.files import FoundFiles
from magvit2_pytorch.train.data.sources.tables import find_in_table, load_table

LABELS = datasets.ClassLabel(names=["cat", "dog"])
VIDEO = datasets.Video(decode=False)


def table(columns: dict[str, Any], **features: Any) -> datasets.Dataset:
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def found_in(rows: datasets.Dataset, column: str | None = None, label_column: str = "label") -> FoundFiles:
    return find_in_table(rows, "mine", column=column, label_column=label_column)


def contents(found: FoundFiles) -> dict[str, tuple[str, bytes]]:
    rows = {}
    for file in (*found.videos, *found.pictures):
        with file.content.as_file() as path:
            rows[file.name] = (file.label, path.read_bytes())
    return rows


def test_videos_are_found_as_bytes_and_as_paths(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/b.mp4").write_bytes(b"2")
    videos = [
        {"bytes": b"1", "path": "a.mp4"},
        {"bytes": None, "path": str(tmp_path / "x/b.mp4")},
        {"bytes": b"3", "path": None},
        {"bytes": b"4", "path": "a.mp4"},
        {"bytes": None, "path": "https://example.org/c.mp4"},
    ]
    rows = table({"video": videos, "label": [0, 1, 1, 0, 0]}, video=VIDEO, label=LABELS)

    found = found_in(rows)

    assert contents(found) == {
        "00000000/cat/a.mp4": ("cat", b"1"),
        "00000003/cat/a.mp4": ("cat", b"4"),
        "dog/00000002.mp4": ("dog", b"3"),
        "dog/b.mp4": ("dog", b"2"),
    }
    assert [one.kind for one in found.skipped] == ["without bytes"]


def test_columns_of_bytes_and_of_text_are_read(tmp_path: Path) -> None:
    for name in ("x/a.mp4", "y/b.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(name.encode())
    columns = {"film": [b"1", b"2"], "path": [str(tmp_path / "x/a.mp4"), str(tmp_path / "y/b.mp4")], "kind": [3, None]}
    rows = datasets.Dataset.from_dict(columns)

    assert contents(found_in(rows)) == {"x/a.mp4": ("x", b"x/a.mp4"), "y/b.mp4": ("y", b"y/b.mp4")}
    assert contents(found_in(rows, column="film", label_column="kind")) == {
        "3/00000000.mp4": ("3", b"1"),
        "00000001.mp4": ("mine", b"2"),
    }


def test_a_missing_column_is_refused_with_those_that_there_are() -> None:
    rows = datasets.Dataset.from_dict({"film": [b"1"]})

    with pytest.raises(ValueError, match=r"the data set mine must have a column 'video', got film; .*--data\.column"):
        found_in(rows)
    with pytest.raises(ValueError, match="must have a column 'clip', got film"):
        found_in(rows, column="clip")


def test_images_without_a_name_are_images() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    rows = table({"image": [{"bytes": buffer.getvalue(), "path": None}]}, image=datasets.Image(decode=False))

    found = found_in(rows)

    assert [file.name for file in found.pictures] == ["00000000.png"]
    assert not found.videos


def test_a_data_set_of_the_hub_is_a_label_without_its_revision() -> None:
    rows = datasets.Dataset.from_dict({"video": [b"1"]})

    found = find_in_table(rows, "hf://datasets/user/my.clips@v1.0", column=None, label_column="label")

    assert found.videos[0].label == "my.clips"


def test_a_column_of_labels_that_was_asked_for_must_be_there() -> None:
    with pytest.raises(ValueError, match="there must be a column 'klass' of labels, got video"):
        found_in(datasets.Dataset.from_dict({"video": [b"1"]}), label_column="klass")


def test_selected_and_sorted_rows_have_their_own_bytes() -> None:
    rows = datasets.Dataset.from_dict({"video": [bytes([65 + row]) * 3 for row in range(5)]}).select([4, 2, 0])

    assert [content for _, content in contents(found_in(rows)).values()] == [b"EEE", b"CCC", b"AAA"]


def test_saved_tables_and_parquet_files_are_loaded(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"video": [b"1", b"2"]})
    datasets.DatasetDict([("train", rows), ("test", rows.select([1]))]).save_to_disk(tmp_path / "both")
    rows.save_to_disk(tmp_path / "one")
    rows.to_parquet(tmp_path / "file.parquet")
    (tmp_path / "hub/data").mkdir(parents=True)
    rows.to_parquet(tmp_path / "hub/data/train-00000-of-00001.parquet")
    rows.select([1]).to_parquet(tmp_path / "hub/data/test-00000-of-00001.parquet")

    def loaded(name: str, split: str = "train") -> list[bytes]:
        return load_table(str(tmp_path / name), split=split, subset=None)["video"][:]

    assert loaded("both") == loaded("one") == loaded("file.parquet") == loaded("hub") == [b"1", b"2"]
    assert loaded("both", "test") == loaded("hub", "test") == [b"2"]
    with pytest.raises(ValueError, match=r"both \(split 'validation'\) cannot be loaded"):
        loaded("both", "validation")
    (tmp_path / "broken.parquet").write_text("text")
    with pytest.raises(ValueError, match=r"broken\.parquet .* cannot be loaded"):
        loaded("broken.parquet")


def test_a_data_set_of_the_hub_is_asked_for_by_name_and_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(*names: str | None, **settings: str | None) -> datasets.Dataset:
        asked.append((names, settings))
        return datasets.Dataset.from_dict({})

    monkeypatch.setattr(datasets, "load_dataset", load)

    load_table("hf://datasets/user/clips@v2", split="test", subset="small")
    load_table("hf://datasets/user/clips", split="train", subset=None)

    assert asked == [
        (("user/clips", "small"), {"split": "test", "revision": "v2"}),
        (("user/clips", None), {"split": "train", "revision": None}),
    ]
