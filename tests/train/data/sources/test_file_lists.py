import re
from pathlib import Path

import pytest

from magvit2_pytorch.train.data.sources.file_lists import Entry, find_in_list, read_list
from magvit2_pytorch.train.data.sources.files import FoundFiles, Section


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def found_in(
    source: Path, root: Path | None = None, column: str | None = None, label_column: str = "label"
) -> FoundFiles:
    return find_in_list(source, root=root, column=column, label_column=label_column)


def described(found: FoundFiles) -> list[tuple[str, str]]:
    return [(file.name, file.label) for file in (*found.videos, *found.pictures)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", "path,label\nb/2.mp4,cat\n a.mp4 , dog \n\n"),
        ("list.csv", "\ufefflabel,path\r\ncat,b/2.mp4\r\ndog,a.mp4\r\n"),
        ("list.csv", "b/2.mp4,cat\na.mp4,dog\n"),
        ("LIST.TSV", "path\tlabel\nb/2.mp4\tcat\na.mp4\tdog\n"),
        ("list.jsonl", '{"path": "b/2.mp4", "label": "cat"}\n\n{"label": "dog", "path": "a.mp4", "width": 3}\n'),
    ],
)
def test_paths_and_labels_are_read_from_every_form(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    touch(tmp_path, "a.mp4", "b/2.mp4", "unlisted.mp4")

    assert described(found_in(tmp_path / name)) == [("a.mp4", "dog"), ("b/2.mp4", "cat")]


def test_without_a_label_the_first_folder_is_the_label(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("path\nb/c/2.mp4\na.mp4\n")
    touch(tmp_path, "a.mp4", "b/c/2.mp4")

    assert described(found_in(tmp_path / "mine.csv")) == [("a.mp4", "mine"), ("b/c/2.mp4", "b")]


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("file,action\na.mp4,run\n")
    touch(tmp_path, "a.mp4")

    assert described(found_in(tmp_path / "list.csv", column="file", label_column="action")) == [("a.mp4", "run")]
    with pytest.raises(ValueError, match="there must be a column 'path', got file, action"):
        found_in(tmp_path / "list.csv")


def test_paths_are_relative_to_the_root(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/all.csv").write_text(f"path,label\nx/a.mp4,l\n{tmp_path}/videos/b.mp4,l\n{tmp_path}/c.mp4,l\n")
    touch(tmp_path, "videos/x/a.mp4", "videos/b.mp4", "c.mp4")

    names = [name for name, _ in described(found_in(tmp_path / "lists/all.csv", root=tmp_path / "videos"))]

    assert names == [f"{tmp_path}/c.mp4", "b.mp4", "x/a.mp4"]
    (tmp_path / "lists/one.txt").write_text("x/a.mp4")
    with pytest.raises(
        FileNotFoundError, match=r"none of the 1 files .*lists/one\.txt.*lists/x/a\.mp4; .*--data\.root"
    ):
        found_in(tmp_path / "lists/one.txt")


def test_the_lists_of_ucf101_are_read_as_they_are(tmp_path: Path) -> None:
    touch(tmp_path, "Archery/v_Archery_g01_c01.avi", "Bowling/v_Bowling_g02_c01.avi")
    (tmp_path / "trainlist01.txt").write_text("Archery/v_Archery_g01_c01.avi 1\r\nBowling/v_Bowling_g02_c01.avi 2\r\n")
    (tmp_path / "testlist01.txt").write_text("Archery/v_Archery_g01_c01.avi\nBowling/v_Bowling_g02_c01.avi\n")

    for name in ("trainlist01.txt", "testlist01.txt"):
        assert described(found_in(tmp_path / name)) == [
            ("Archery/v_Archery_g01_c01.avi", "Archery"),
            ("Bowling/v_Bowling_g02_c01.avi", "Bowling"),
        ]


def test_numbers_that_do_not_number_the_folders_are_labels(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("videos/my film.mp4 3\nvideos/b.mp4 1\nvideos/c.mp4 3\n")

    assert read_list(tmp_path / "list.txt") == [
        Entry("videos/my film.mp4", "3"),
        Entry("videos/b.mp4", "1"),
        Entry("videos/c.mp4", "3"),
    ]


def test_the_csvs_of_kinetics_name_files_by_their_ids(tmp_path: Path) -> None:
    touch(tmp_path, "videos/abseiling/aaaaaaaaaaa_000010_000020.mp4", "videos/zumba/b-b.b_bbbbb.mkv")
    touch(tmp_path, "videos/info/aaaaaaaaaaa_000010_000020.json", "videos/other/aaaaaaaaaaa_000010_000020.webm")
    (tmp_path / "train.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nabseiling,aaaaaaaaaaa,10,20,train\n"
        "zumba,b-b.b_bbbbb,3,13,train\nzumba,gone,0,10,train\n"
    )

    found = found_in(tmp_path / "train.csv", root=tmp_path / "videos")

    assert [(file.name, file.label, file.section) for file in found.videos] == [
        ("abseiling/aaaaaaaaaaa_000010_000020.mp4", "abseiling", None),
        ("zumba/b-b.b_bbbbb.mkv@3-13", "zumba", Section(3, 13)),
    ]
    assert [(one.name, one.kind) for one in found.skipped] == [("gone", "missing")]


def test_sections_are_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label,start,end\na.mp4,x,0.5,2\na.mp4,x,,\na.mp4,y,3,\na.mp4,x,,2.5\n")
    touch(tmp_path, "a.mp4")

    files = found_in(tmp_path / "list.csv").videos

    assert {file.name: file.section for file in files} == {
        "a.mp4": None,
        "a.mp4@0-2.5": Section(0, 2.5),
        "a.mp4@0.5-2": Section(0.5, 2),
        "a.mp4@3-": Section(3, None),
    }


def test_times_in_names_are_exact(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,start,end\na.mp4,10800.01,10801.51\na.mp4,10800.04,10801.54\n")
    touch(tmp_path, "a.mp4")

    assert [file.name for file in found_in(tmp_path / "list.csv").videos] == [
        "a.mp4@10800.01-10801.51",
        "a.mp4@10800.04-10801.54",
    ]


def test_a_column_of_labels_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\na.mp4,x\n")

    with pytest.raises(ValueError, match="there must be a column 'klass', got path, label"):
        found_in(tmp_path / "list.csv", label_column="klass")


def test_missing_repeated_and_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\na.mp4,x\na.mp4,x\nb.mp4,x\nnotes.doc,x\n")
    touch(tmp_path, "a.mp4", "notes.doc")

    skipped = found_in(tmp_path / "list.csv").skipped

    assert [(one.name, one.kind) for one in skipped] == [
        ("a.mp4", "listed twice"),
        ("b.mp4", "missing"),
        ("notes.doc", ".doc"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.csv", "label,width\ncat,3\n", "there must be a column 'path', got label, width"),
        (
            "list.csv",
            "path,start\na.mp4,soon\n",
            "line 2: start and end must be times in seconds.* got 'soon' and None",
        ),
        ("list.csv", "path,start,end\na.mp4,2,2\n", "the end after the start, got '2' and '2'"),
        ("list.csv", "path,start,end\na.mp4,nan,\n", "got 'nan' and ''"),
        ("list.csv", "path,label\n,cat\n", "line 2 must have a 'path', the path of a file, got ''"),
        ("list.jsonl", '{"path": "a.mp4"}\n{"path": 3}\n', "line 2 must have a 'path'.* got 3"),
        ("list.jsonl", "[1]\n", r"line 1 must be an object, got \[1\]"),
        ("list.jsonl", '{"path": "a.mp4"}\n{\n', "line 2 is not JSON"),
    ],
)
def test_a_list_of_another_form_is_refused_with_the_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path / name))} cannot be read .*: .*{message}"):
        read_list(tmp_path / name)
