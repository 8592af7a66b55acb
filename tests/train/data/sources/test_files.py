"""Tables of files: they give back the files that were put in, however they are cut and joined."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from magvit2_pytorch.train.data.sources import files
from magvit2_pytorch.train.data.sources.files import FileTable, FoundFiles, InArchive, OnDisk, Section, VideoFile

SECTIONS = (None, Section(0.5, 2.25), Section(3.0), Section(), Section(0.0, 0.000001))
NAMES = ("b/9", "a/10", "z", "Z/é", "a/9", "\U0001f3a5", "\uffee", "b", "a b", "日本", "\U0001f3a5 2", "~", "Z")


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FILES_PER_CHUNK", 3)


def some_files(number: int = 13, prefix: str = "") -> list[VideoFile]:
    """With and without sections, on disk and in an archive, and some that cannot be read."""
    return [
        VideoFile(
            OnDisk(f"/videos/{name}") if place % 2 else InArchive(Path("/a.tar"), name, 512 * place, 100),
            f"{prefix}{name}.mp4",
            f"label {place % 3}",
            "" if place % 5 == 3 else f"{place} digest",
            2**40 + place,
            SECTIONS[place % len(SECTIONS)],
        )
        for place, name in enumerate(NAMES[:number])
    ]


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 6, 13])
def test_files_are_given_back_one_by_one_and_in_turn_as_they_were(number: int) -> None:
    expected = some_files(number)

    table = FileTable(expected)

    assert len(table) == number
    assert bool(table) == bool(number)
    assert [*table] == expected
    assert [table[place] for place in range(number)] == expected
    assert [table[place - number] for place in range(number)] == expected
    assert [file.identity for file in table] == table.identities.to_pylist()
    for place in (number, -number - 1):
        with pytest.raises(IndexError):
            table[place]


def test_files_can_be_added_after_others_were_read() -> None:
    expected, table = some_files(), FileTable()

    for number, file in enumerate(expected):
        assert [*table] == expected[:number]
        assert table.names.to_pylist() == [one.name for one in expected[:number]]
        table.append(file)

    assert [*table] == expected


@pytest.mark.parametrize(
    "chosen",
    [
        slice(None),
        slice(2, 9),
        slice(9, 2),
        slice(None, None, 4),
        slice(None, None, -3),
        slice(-4, None),
        slice(50, 60),
    ],
)
def test_a_slice_is_a_table_of_those_files(chosen: slice) -> None:
    part = FileTable(some_files())[chosen]

    assert isinstance(part, FileTable)
    assert len(part) == len(some_files()[chosen])
    assert [*part] == some_files()[chosen]


@pytest.mark.parametrize("rows", [[], [4], [12, 0, 7, 7, 3], [*range(13)]])
def test_any_rows_can_be_taken_in_any_order(rows: list[int]) -> None:
    table = FileTable(some_files())

    taken = table.take(np.array(rows, np.int64))

    assert [*taken] == [some_files()[row] for row in rows]
    assert [*table] == some_files()


def test_two_tables_are_joined_one_after_the_other() -> None:
    first, second = some_files(5), some_files(7, prefix="more/")

    joined = FileTable(first).joined(FileTable(second))

    assert [*joined] == first + second
    for one, other in ((FileTable(first), FileTable()), (FileTable(), FileTable(first))):
        assert [*one.joined(other)] == first
    assert [*FileTable().joined(FileTable())] == []


def test_a_joined_table_does_not_change_with_its_parts() -> None:
    first, second = FileTable(some_files(4)), FileTable(some_files(2, prefix="more/"))
    joined = first.joined(second)

    first.append(some_files()[-1])

    assert [*joined] == some_files(4) + some_files(2, prefix="more/")
    assert [*first] == some_files(4) + some_files()[-1:]


def test_the_order_is_that_of_the_names_and_keeps_the_order_of_equal_ones() -> None:
    expected = [*some_files(), replace(some_files()[2], label="other"), *some_files(prefix="0")]

    in_order = FileTable(expected).in_order()

    assert [*in_order] == sorted(expected, key=lambda file: file.name)
    assert [*FileTable().in_order()] == []


def test_renamed_files_differ_in_nothing_but_the_prefix_of_their_names() -> None:
    table = FileTable(some_files())

    renamed = table.renamed("val:")

    assert [*renamed] == some_files(prefix="val:")
    assert [*table] == some_files()


def test_columns_say_what_the_files_say() -> None:
    table, expected = FileTable(some_files()), some_files()

    assert table.names.to_pylist() == [file.name for file in expected]
    assert table.labels.to_pylist() == [file.label for file in expected]
    assert table.identities.to_pylist() == [file.identity for file in expected]
    assert table.is_readable.tolist() == [file.is_readable for file in expected]
    assert table.num_bytes.tolist() == [file.num_bytes for file in expected]
    empty = FileTable()
    assert [len(empty.names), len(empty.identities), len(empty.is_readable), int(empty.num_bytes.sum())] == [0] * 4


def test_a_table_is_carried_to_another_process_as_it_is() -> None:
    assert [*pickle.loads(pickle.dumps(FileTable(some_files())))] == some_files()


def test_all_files_of_a_source_are_its_videos_and_then_its_pictures_in_order(tmp_path: Path) -> None:
    found = FoundFiles()
    for name in ("b.png", "c.mp4", "a.jpg", "d.txt", "a.mp4", "b.mkv", "e.mp4"):
        (tmp_path / name).write_bytes(name.encode())
        found.add(name, "label", OnDisk(str(tmp_path / name)), Section(1.0, 2.0) if name == "a.mp4" else None)
    found.add("gone.mp4", "label", OnDisk(str(tmp_path / "gone.mp4")))

    in_order = found.in_order()

    names = ["a.mp4@1-2", "b.mkv", "c.mp4", "e.mp4", "gone.mp4", "a.jpg", "b.png"]
    assert [file.name for file in in_order.all()] == names
    assert [file.name for file in in_order.videos] == names[:5]
    assert [file.is_readable for file in in_order.all()] == [name != "gone.mp4" for name in names]
    assert [one.name for one in in_order.skipped] == ["d.txt"]
    assert FoundFiles().all().names.to_pylist() == []
