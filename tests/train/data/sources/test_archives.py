import io
import json
import re
import tarfile
from pathlib import Path

import pytest

from magvit2_pytorch.train.data.sources.archives import archives_of, find_in_archives


def write_archive(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def labels(*archives: Path, label_column: str = "label") -> dict[str, str]:
    found = find_in_archives(archives, label_column=label_column)
    return {file.name: file.label for file in (*found.videos, *found.pictures)}


def test_the_label_is_in_the_file_beside_a_video_or_else_its_folder(tmp_path: Path) -> None:
    archive = write_archive(
        tmp_path / "mine/clips.tar",
        {
            "a/1.mp4": b"1",
            "a/1.cls": b"7\n",
            "a/2.json": json.dumps({"label": "dog", "action": 3}).encode(),
            "a/2.mp4": b"2",
            "a/2.txt": b"a brown dog",
            "a/3.mp4": b"3",
            "a/3.txt": b"cat",
            "a/4.mp4": b"4",
            "5.mp4": b"5",
            "6.txt": b"a caption " * 30,
            "6.mp4": b"6",
            "7.json": b"{}",
            "7.v2.mp4": b"7",
        },
    )

    assert labels(archive) == {
        "5.mp4": "mine",
        "6.mp4": "mine",
        "7.v2.mp4": "mine",
        "a/1.mp4": "7",
        "a/2.mp4": "dog",
        "a/3.mp4": "cat",
        "a/4.mp4": "a",
    }
    assert labels(archive, label_column="action")["a/2.mp4"] == "3"


def test_the_bytes_of_a_video_are_those_in_the_archive(tmp_path: Path) -> None:
    contents = {f"{number}.mp4": bytes([number]) * (1000 * number) for number in range(4)}
    archive = write_archive(tmp_path / "clips.tar", contents)

    for file in find_in_archives([archive], label_column="label").videos:
        with file.content.as_file() as path:
            assert path.read_bytes() == contents[file.name]
            assert path.suffix == ".mp4"
        assert not path.exists()


def test_equal_names_in_several_archives_are_told_apart(tmp_path: Path) -> None:
    shards = [
        write_archive(tmp_path / f"{shard}.tar", {"a/0.mp4": b"x", f"a/{shard}-1.mp4": b"y"}) for shard in ("s0", "s1")
    ]

    assert sorted(labels(*shards)) == ["a/s0-1.mp4", "a/s1-1.mp4", "s0.tar/a/0.mp4", "s1.tar/a/0.mp4"]


def test_a_range_names_all_archives(tmp_path: Path) -> None:
    shards = [write_archive(tmp_path / f"s-{number:02d}.tar", {"0.mp4": b"x"}) for number in range(8, 12)]

    assert archives_of(str(tmp_path / "s-{08..11}.tar")) == shards
    assert archives_of(str(shards[0])) == shards[:1]
    with pytest.raises(FileNotFoundError, match=r"there is no archive .*s-12\.tar"):
        archives_of(str(tmp_path / "s-{08..12}.tar"))
    with pytest.raises(FileNotFoundError, match=r"the range in .* is empty"):
        archives_of(str(tmp_path / "s-{11..08}.tar"))


def test_hidden_and_other_members_are_no_videos(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "s.tar", {"a/0.mp4": b"x", "a/._0.mp4": b"x", ".git/1.mp4": b"", "a/0.wav": b""})
    with tarfile.open(archive, "a") as content:
        link = tarfile.TarInfo("a/link.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        content.addfile(link)

        link.name, link.type, link.linkname = "b/same.mp4", tarfile.LNKTYPE, "a/0.mp4"
        content.addfile(link)

    found = find_in_archives([archive], label_column="label")

    assert [file.name for file in found.videos] == ["a/0.mp4", "b/same.mp4"]
    with found.videos[1].content.as_file() as path:
        assert path.read_bytes() == b"x"
    assert [(one.name, one.kind) for one in found.skipped] == [("a/link.mp4", "links"), ("a/0.wav", ".wav")]


def test_names_are_relative(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "s.tar", {"./a/0.mp4": b"x", "./a/0.cls": b"7", "/b/1.mp4": b"x"})

    assert labels(archive) == {"a/0.mp4": "7", "b/1.mp4": "b"}


def test_what_comes_before_the_damage_of_an_archive_is_used(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "s.tar", {f"{number}.mp4": bytes([65 + number]) * 2000 for number in range(3)})
    content = archive.read_bytes()
    second_header = content.index(b"1.mp4")
    archive.write_bytes(content[:second_header] + b"\xff" * 512 + content[second_header + 512 :])

    found = find_in_archives([archive], label_column="label")

    assert [file.name for file in found.videos] == ["0.mp4"]
    assert [(one.name, one.kind) for one in found.skipped] == [("s.tar", "damaged archive")]
    assert re.search(r"not all of it can be read: the header at byte \d+ is damaged", found.skipped[0].reason)

    archive.write_bytes(content[: second_header + 700])  # in the data of the second video
    found = find_in_archives([archive], label_column="label")
    assert [file.name for file in found.videos] == ["0.mp4", "1.mp4"]
    with found.videos[1].content.as_file() as path:
        assert path.read_bytes() == b"B" * 188
    assert found.skipped[0].reason == "not all of it can be read: it ends within 1.mp4"


@pytest.mark.parametrize("content", [b"", b"text", b"\x00" * 2048])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.tar").write_bytes(content)

    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(str(tmp_path / "s.tar"))):
        find_in_archives([tmp_path / "s.tar"], label_column="label")


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "s.tar", {"0.mp4": b"x" * 1000}, "w:gz")

    with pytest.raises(ValueError, match=r"s\.tar must be an uncompressed tar file"):
        find_in_archives([archive], label_column="label")
