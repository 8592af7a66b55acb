"""`docs/data.md`: each command loads what the page says, from small files with the names that the page uses."""

import csv
import io
import json
import logging
import re
import shlex
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import datasets.config
import numpy as np
import pytest

from magvit2_pytorch.train.command_line import parse_run
from magvit2_pytorch.train.data import VideoData, load_sources
from magvit2_pytorch.train.data.report import write_skipped
from magvit2_pytorch.train.data.sources.find import kind_of
from magvit2_pytorch.train.data.video_data import StoredFrames
from magvit2_pytorch.train.tokenizer import PRESETS

from .test_docs import blocks, commands, page

PAGE = page("data.md")
SHOWN = [shlex.join(words) for words in commands(PAGE)]
HUB_NAME = "USER/NAME"
LAST_SHARD = 15

WriteVideo = Callable[..., Path]
Load = Callable[..., tuple[VideoData, ...]]


class Expected(NamedTuple):
    """What a source of a command gives."""

    kind: str | None
    labels: str
    num_files: int
    """With clips, for training or held out."""
    heldout: set[str] | None = None
    """Names of the held-out files; None if clips are held out at random."""


UCF_TEST = {f"{label}/v_{label}_g01_c01.avi" for label in ("Archery", "Bowling")}
EXPECTED = {
    "--data.path my_videos": [Expected("folder", "run walk", 4)],
    "--data.path my_list.csv": [Expected("list", "jumping running walking", 3)],
    "--data.path lists/all.tsv --data.root my_videos": [Expected("list", "running walking", 2)],
    "--data.path lists/all.jsonl --data.root my_videos --data.column file --data.label-column action": [
        Expected("list", "runs walks", 2)
    ],
    "--data.path lists/all.txt --data.root my_videos": [Expected("list", "1 2", 3)],
    "--data.path ucfTrainTestlist/trainlist01.txt --data.root UCF-101": [Expected("list", "Archery Bowling", 4)],
    "--data.path kinetics/train.csv --data.root kinetics/videos": [Expected("list", "abseiling zumba", 2)],
    "--data.path clips.tar": [Expected("archives", "3 b cat dog work", 5)],
    "--data.path 'shards/clips-{000..015}.tar'": [Expected("archives", "cat dog", 18)],
    "--data.path shards": [Expected("archives", "cat dog", 18)],
    "--data.path clips.parquet": [Expected("table", "sit stand", 4)],
    "--data.path my_dataset": [Expected("table", "sit stand", 4)],
    "--data.path my_splits --data.split validation": [Expected("table", "sit", 1)],
    "--data.path my_parquet --data.split test": [Expected("table", "sit", 1)],
    "--data.path hf://datasets/USER/NAME@REVISION --data.subset small": [Expected("table", "sit stand", 4)],
    "--data.path UCF-101 --data.heldout ucfTrainTestlist/testlist01.txt": [
        Expected("folder", "Archery Bowling", 6, UCF_TEST)
    ],
    "--data.path kinetics/train.csv --data.heldout kinetics/validate.csv --data.root kinetics/videos": [
        Expected("list", "abseiling zumba", 3, {"validate:zumba/CCC_000000_000010.mkv"})
    ],
    "--data.path my_videos --data.heldout my_heldout_videos": [
        Expected("folder", "run walk", 5, {"my_heldout_videos:run/0002.mp4"})
    ],
    "--data.path my_splits --data.heldout 'my_splits#validation'": [
        Expected("table", "sit stand", 4, {"my_splits#validation:sit/0003.mp4"})
    ],
    "--data.path UCF-101 --data.heldout ucfTrainTestlist/testlist01.txt --evaluation-clips 1000": [
        Expected("folder", "Archery Bowling", 6, UCF_TEST)
    ],
    "--data.path my_videos --data.fps 8": [Expected("folder", "run walk", 4)],
    "--data.path my_videos shards leaves --data.weights 2 1 1": [
        Expected("folder", "run walk", 4),
        Expected("archives", "cat dog", 18),
        Expected(None, "leaves", 1),
    ],
    "--data.path my_videos --data.cache compressed": [Expected("folder", "run walk", 4)],
}


def pictures(num_frames: int, seed: int) -> np.ndarray:
    """Random squares that become brighter: without anything like a cut, and never blank."""
    texture = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    return (texture * np.linspace(0.5, 1, num_frames)[:, None, None, None]).astype(np.uint8)


@pytest.fixture(scope="module")
def furnished_place(tmp_path_factory: pytest.TempPathFactory, write_video: WriteVideo) -> Path:
    """A folder with every file that the page names."""
    place = tmp_path_factory.mktemp("page") / "work"

    def video(name: str, frames: np.ndarray) -> bytes:
        codec = ("mpeg4", "yuv420p") if name.endswith((".avi", ".mkv")) else ("libx264", "yuv420p")
        return write_video(place / name, frames, *codec).read_bytes()

    for name, frames in {
        "walk/0001.mp4": pictures(250, 1),
        "walk/0002.mp4": np.concatenate([pictures(230, 2), pictures(220, 3)]),
        "walk/0003.mp4": pictures(9, 4),
        "run/0001.mp4": pictures(250, 5),
    }.items():
        video(f"my_videos/{name}", frames)
    (place / "my_videos/run/notes.txt").touch()
    (place / "my_videos/todo.txt").touch()
    (place / "my_videos/jump").mkdir()
    (place / "my_videos/jump/0001.mp4").write_bytes(b"not a video")
    video("my_heldout_videos/run/0002.mp4", pictures(20, 6))

    (place / "my_list.csv").write_text(blocks(PAGE, "csv")[0])
    (place / "lists").mkdir()
    (place / "lists/all.tsv").write_text("path\tlabel\nwalk/0001.mp4\twalking\nrun/0001.mp4\trunning\n")
    rows = [{"file": "walk/0001.mp4", "action": "walks"}, {"file": "run/0001.mp4", "action": "runs"}]
    (place / "lists/all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "lists/all.txt").write_text("walk/0001.mp4 1\nwalk/0002.mp4 2\nrun/0001.mp4 2\n")

    ucf = [
        f"{label}/v_{label}_g{group:02d}_c01.avi" for group in (1, 8, 9) for label in ("Archery", "Bowling")
    ]  # groups 1 to 7 are for tests
    for seed, name in enumerate(ucf):
        video(f"UCF-101/{name}", pictures(20, 10 + seed))
    (place / "ucfTrainTestlist").mkdir()
    (place / "ucfTrainTestlist/testlist01.txt").write_text("\n".join(ucf[:2]))
    (place / "ucfTrainTestlist/trainlist01.txt").write_text("\n".join(f"{ucf[i]} {1 + i % 2}" for i in range(2, 6)))

    video("kinetics/videos/abseiling/AAA_000010_000020.mp4", pictures(20, 20))
    video("kinetics/videos/zumba/BBB.mp4", pictures(60, 21))
    video("kinetics/videos/zumba/CCC_000000_000010.mkv", pictures(20, 22))
    header = "label,youtube_id,time_start,time_end,split\n"
    (place / "kinetics/train.csv").write_text(
        f"{header}abseiling,AAA,10,20,train\nzumba,BBB,1,2,train\nzumba,GONE,0,10,train\n"
    )
    (place / "kinetics/validate.csv").write_text(f"{header}zumba,CCC,0,10,validate\n")

    samples = [video(f"samples/{seed}.mp4", pictures(20, 30 + seed)) for seed in range(LAST_SHARD + 1)]
    write_tar(
        place / "clips.tar",
        {
            **{f"a/000{number}.mp4": samples[number] for number in (1, 2, 3)},
            "a/0001.json": b'{"label": "dog"}',
            "a/0001.txt": b"not this one",
            "a/0002.cls": b"3\n",
            "a/0003.txt": b"cat",
            "b/0004.mp4": samples[4],
            "b/0004.txt": b"a caption " * 11,
            "0005.mp4": samples[5],
            ".hidden/0006.mp4": samples[6],
        },
    )
    for shard in range(LAST_SHARD + 1):
        members = {f"{shard:04d}.mp4": samples[shard], f"{shard:04d}.cls": b"dog" if shard % 2 else b"cat"}
        if shard in (1, 2):
            members |= {"same.mp4": samples[shard], "same.cls": b"cat"}
        write_tar(place / f"shards/clips-{shard:03d}.tar", members)

    table = datasets.Dataset.from_dict(
        {
            "video": [{"bytes": samples[row], "path": f"000{row}.mp4"} for row in range(4)],
            "label": ["sit", "stand", "stand", "sit"],
        },
        features=datasets.Features(
            {"video": datasets.Video(decode=False), "label": datasets.ClassLabel(names=["sit", "stand"])}
        ),
    )
    splits = {"train": table.select([0, 1, 2]), "validation": table.select([3])}
    table.to_parquet(place / "clips.parquet")
    table.save_to_disk(place / "my_dataset")
    datasets.DatasetDict(**splits).save_to_disk(place / "my_splits")
    (place / "my_parquet/data").mkdir(parents=True)
    splits["train"].to_parquet(place / "my_parquet/data/train-00000-of-00001.parquet")
    splits["validation"].to_parquet(place / "my_parquet/data/test-00000-of-00001.parquet")
    return place


def write_tar(path: Path, members: Mapping[str, bytes]) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


@pytest.fixture(scope="module")
def load(furnished_place: Path) -> Iterator[Load]:
    """Loads the data of a command of the page, in the folder with the files. The Hub is a folder of `save_to_disk`."""
    load_dataset = datasets.load_dataset
    asked = []

    def with_hub(name: str, subset: str | None = None, **settings: Any) -> Any:
        if name != HUB_NAME:
            return load_dataset(name, subset, **settings)
        asked.append((subset, settings))
        return datasets.load_from_disk(furnished_place / "my_dataset")

    def load_command(command: str, num_frames: int = 3) -> tuple[VideoData, ...]:
        run = parse_run(PRESETS, description="", arguments=shlex.split(command))
        cache_dir = str(furnished_place.parent / "cache")
        data = replace(run.data, resolution=8, num_frames=num_frames, cache_dir=cache_dir)
        asked.clear()
        loaded = load_sources(data, progress=False)
        assert all(settings == ("small", {"split": "train", "revision": "REVISION"}) for settings in asked)
        assert bool(asked) == ("hf://" in command)
        return loaded

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(furnished_place)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", furnished_place.parent / "datasets")
        patch.setattr(datasets, "load_dataset", with_hub)
        yield load_command


def files_of(data: VideoData) -> tuple[set[str], set[str]]:
    """The names of the files with clips for training, and of those with held-out clips."""
    return set(data.train.every_window().table["file"]), set(data.heldout.table["file"])


@pytest.mark.parametrize("command", SHOWN)
def test_every_command_loads_the_labels_and_the_held_out_files_of_its_sources(command: str, load: Load) -> None:
    preset, options = command.split(" ", 1)
    assert preset == "demo"
    expected = EXPECTED[options]
    paths = parse_run(PRESETS, description="", arguments=shlex.split(command)).data.sources

    loaded = load(command)

    assert len(loaded) == len(expected)
    for path, data, of_source in zip(paths, loaded, expected, strict=True):
        trained, heldout = files_of(data)
        assert kind_of(path) == of_source.kind
        assert data.labels == tuple(of_source.labels.split())
        assert len(trained | heldout) == of_source.num_files
        assert trained
        assert heldout
        if of_source.heldout is not None:
            assert heldout == of_source.heldout
            assert not trained & heldout


def test_the_page_shows_every_kind_of_source() -> None:
    shown = [command.removeprefix("demo ") for command in SHOWN]

    assert sorted(shown) == sorted(EXPECTED)
    assert {source.kind for sources in EXPECTED.values() for source in sources} >= {
        *("folder", "list", "archives", "table")
    }


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (
            "--data.path my_list.csv",
            ["my_videos/walk/0001.mp4", "my_videos/run/0001.mp4@1.5-6", "my_videos/run/0001.mp4@6-"],
        ),
        ("--data.path clips.tar", ["a/0001.mp4"]),
        ("--data.path my_videos", ["run/0001.mp4"]),
        ("--data.path my_videos --data.heldout my_heldout_videos", ["my_heldout_videos:run/0002.mp4"]),
    ],
)
def test_names_are_those_of_the_page(options: str, names: list[str], load: Load) -> None:
    (data,) = load(f"demo {options}")

    assert {*names} <= set.union(*files_of(data))
    assert not [name for name in names if name not in PAGE]


def test_names_in_tables_and_of_equal_names_in_tar_files_are_as_the_page_says(load: Load) -> None:
    (table,), (shards,) = load("demo --data.path clips.parquet"), load("demo --data.path shards")

    assert set.union(*files_of(table)) == {"sit/0000.mp4", "stand/0001.mp4", "stand/0002.mp4", "sit/0003.mp4"}
    names = {f"{number:04d}.mp4" for number in range(LAST_SHARD + 1)}
    assert set.union(*files_of(shards)) - names == {"clips-001.tar/same.mp4", "clips-002.tar/same.mp4"}


def test_sections_and_rates_are_as_the_page_says(load: Load) -> None:
    def num_frames(options: str) -> dict[str, int]:
        (data,) = load(f"demo {options}")
        source = data.train.reader.source
        assert isinstance(source, StoredFrames)
        return {video.name.rpartition("/")[2]: video.num_frames for video in source.videos}

    sections = num_frames("--data.path my_list.csv")
    assert (sections["0001.mp4@1.5-6"], sections["0001.mp4@6-"]) == (150 - 38, 100)  # from frame 38, at 1.52 s
    kinetics = num_frames("--data.path kinetics/train.csv --data.root kinetics/videos")
    assert kinetics == {"AAA_000010_000020.mp4": 20, "BBB.mp4@1-2": 25}
    assert num_frames("--data.path my_videos --data.fps 8")["0001.mp4"] == 1 + int(249 / 25 * 8)


def test_the_report_and_the_table_of_skipped_files_are_those_of_the_page(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (shown,) = re.findall(r"(?:^    .*\n)+", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL), re.MULTILINE)

    with caplog.at_level(logging.INFO):
        (data,) = load("demo --data.path my_videos", num_frames=17)

    lines = [line.strip() for line in shown.splitlines()]
    assert len(lines) == 4
    assert caplog.messages[-len(lines) :] == lines
    assert data.report
    write_skipped(tmp_path, [data.report])
    with (tmp_path / "skipped.csv").open(newline="") as file:
        assert list(csv.reader(file)) == list(csv.reader(io.StringIO(blocks(PAGE, "csv")[1])))
