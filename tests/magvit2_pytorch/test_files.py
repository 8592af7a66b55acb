import os
from pathlib import Path

import pytest

from magvit2_pytorch.files import as_path, check_result_file, read_json, write_json, written_whole


def test_a_leading_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert as_path("~/runs") == as_path(Path("~/runs")) == tmp_path / "runs"
    assert as_path("runs/~") == Path("runs/~")
    write_json("~/a.json", {"a": 1})
    assert read_json("~/a.json") == read_json(tmp_path / "a.json") == {"a": 1}
    assert check_result_file("~/b.mp4") == tmp_path / "b.mp4"


@pytest.mark.parametrize("path", ["a\0b", "~nobody-has-this-name/a"])
def test_a_path_that_cannot_be_is_refused_in_one_line(path: str) -> None:
    with pytest.raises(ValueError, match=r"null character|home folder is unknown") as no:
        as_path(path)

    assert str(no.value).isprintable()


@pytest.mark.parametrize("name", ["a" * 242 + ".mp4", "a" * 10 + "." + "b" * 200, "." + "c" * 250, "\udcff.mp4"])
def test_every_name_that_the_file_system_takes_is_written(tmp_path: Path, name: str) -> None:
    with written_whole(tmp_path / name) as aside:
        assert len(Path(name).suffix) > 16 or aside.suffix == Path(name).suffix
        aside.write_text("whole")

    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")

    with pytest.raises(ZeroDivisionError), written_whole(tmp_path / "a.txt") as aside:
        aside.write_text(f"new {1 // 0}")

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_name_that_is_too_long_is_named_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / ("d" * 300) / "a.txt"

    with pytest.raises(OSError, match="d" * 300), written_whole(path):
        pass


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "a.json").symlink_to(tmp_path / "theirs")

    write_json(tmp_path / "a.json", {})

    assert (tmp_path / "theirs").read_text() == "theirs"
    assert not (tmp_path / "a.json").is_symlink()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("", "is not a valid JSON file"),
        ("[]", "must contain a JSON object, got list"),
        ('{"a": NaN}', "NaN is not allowed"),
        ('{"a": -Infinity}', "-Infinity is not allowed"),
        ('{"a": 1, "b": {"c": 2, "c": 2}}', "is not a valid JSON file: the key 'c' occurs twice in one object"),
        ('{"a": ' + "9" * 5000 + "}", "digits"),
        ("{" + " " * 2**24 + "}", "at most 16,777,216 are allowed"),
        (b"\xff\xfe{", "is not a valid JSON file"),
    ],
    ids=range(10),
)
def test_what_is_not_strict_json_is_refused_in_one_line(tmp_path: Path, content: str | bytes, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(ValueError, match=said) as no:
        read_json(path)

    assert str(no.value).startswith(str(path))
    assert "\n" not in str(no.value)


def test_an_output_must_be_a_new_file_in_a_writable_folder(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    os.link(tmp_path / "a.mp4", tmp_path / "hard.mp4")

    with pytest.raises(ValueError, match="is a folder"):
        check_result_file(tmp_path)
    with pytest.raises(ValueError, match="must differ from the inputs and the other outputs"):
        check_result_file(tmp_path / "a.mp4", None, 3, str(tmp_path / "x" / ".." / "a.mp4"))
    with pytest.raises(ValueError, match=r"a\.mp4 is not a writable folder"):
        check_result_file(tmp_path / "a.mp4" / "b.mp4")
