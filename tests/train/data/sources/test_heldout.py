import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest

from magvit2_pytorch.train.data import DataConfig, TrainingBatches, VideoData, load_data, load_sources

WriteVideo = Callable[..., Path]


@pytest.fixture
def ucf101(tmp_path: Path, write_video: WriteVideo) -> DataConfig:
    """Twelve videos of three classes; all frames of the videos of group 1 are brighter than 200, all others darker."""
    for number, label in enumerate(("Archery", "Bowling", "Diving")):
        for group in range(1, 5):
            least = 210 if group == 1 else 20
            frames = np.random.default_rng(10 * number + group).integers(least, least + 40, (20, 8, 8, 3), np.uint8)
            write_video(tmp_path / f"UCF-101/{label}/v_{label}_g{group:02d}_c01.avi", frames)
    tests = [f"{label}/v_{label}_g01_c01.avi" for label in ("Archery", "Bowling", "Diving")]
    (tmp_path / "testlist01.txt").write_text("\r\n".join(tests))
    return DataConfig(
        path=str(tmp_path / "UCF-101"),
        heldout=str(tmp_path / "testlist01.txt"),
        resolution=8,
        num_frames=5,
        cache_dir=str(tmp_path / "cache"),
    )


def files_of(data: VideoData) -> tuple[set[str], set[str]]:
    return set(data.train.every_window().table["file"]), set(data.heldout.table["file"])


def test_an_official_split_is_kept_in_every_batch_of_several_epochs(ucf101: DataConfig) -> None:
    data = load_data(ucf101, progress=False)

    assert len(data.train) == 9 * 4
    assert len(data.train.every_window()) == 9 * 16
    assert len(data.heldout) == 3 * 4
    batches = TrainingBatches(data, batch_size=9, seed=0)
    pixels = [batches.batch(index)["video"] for index in range(8 * len(data.train) // 9)]
    assert max(int(video.max()) for video in pixels) < 100
    assert min(float(data.heldout.video(index).min()) for index in range(len(data.heldout))) > 2 * 200 / 255 - 1


def test_the_list_of_kinetics_finds_files_by_their_ids(ucf101: DataConfig, tmp_path: Path) -> None:
    root = Path(ucf101.sources[0])
    (root / "Archery/v_Archery_g01_c01.avi").rename(root / "Archery/aaa_000003_000013.avi")
    (tmp_path / "validate.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nArchery,aaa,3,13,validate\nDiving,v_Diving_g02_c01,0,10,validate\n"
    )

    data = load_data(replace(ucf101, heldout=str(tmp_path / "validate.csv")), progress=False)

    assert files_of(data)[1] == {"Archery/aaa_000003_000013.avi", "Diving/v_Diving_g02_c01.avi"}
    assert not files_of(data)[0] & files_of(data)[1]


def test_files_of_a_list_that_are_not_there_are_counted(
    ucf101: DataConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "testlist01.txt").write_text("Archery/v_Archery_g01_c01.avi\nArchery/gone.avi\n")

    data = load_data(ucf101, progress=False)

    assert files_of(data)[1] == {"Archery/v_Archery_g01_c01.avi"}
    assert "1 of 2 files in" in caplog.text
    assert "not in the data, for example Archery/gone.avi" in caplog.text


def test_another_folder_can_be_held_out(ucf101: DataConfig, tmp_path: Path, write_video: WriteVideo) -> None:
    frames = np.random.default_rng(7).integers(0, 255, (20, 8, 8, 3), np.uint8)
    write_video(tmp_path / "val/Diving/v_Diving_g02_c01.avi", frames)  # the name of a training file

    data = load_data(replace(ucf101, heldout=str(tmp_path / "val")), progress=False)

    assert len(files_of(data)[0]) == 12
    assert files_of(data)[1] == {"val:Diving/v_Diving_g02_c01.avi"}
    assert set(data.heldout.table["label"]) == {2}


def test_a_held_out_folder_with_a_training_file_is_refused(ucf101: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "val/other").mkdir(parents=True)
    shutil.copy(Path(ucf101.sources[0], "Diving/v_Diving_g02_c01.avi"), tmp_path / "val/other/renamed.avi")

    with pytest.raises(ValueError, match=r"1 files of the held-out source .*val are also training files.*renamed\.avi"):
        load_data(replace(ucf101, heldout=str(tmp_path / "val")), progress=False)


def test_another_split_of_a_data_set_can_be_held_out(ucf101: DataConfig, tmp_path: Path) -> None:
    paths = sorted(Path(ucf101.sources[0]).rglob("*.avi"))
    rows = datasets.Dataset.from_dict({"video": [path.read_bytes() for path in paths], "label": ["a"] * len(paths)})
    splits = datasets.DatasetDict([("train", rows.select(range(8))), ("test", rows.select(range(8, 12)))])
    splits.save_to_disk(tmp_path / "both")

    data = load_data(replace(ucf101, path=str(tmp_path / "both"), heldout=f"{tmp_path}/both#test"), progress=False)

    assert (len(files_of(data)[0]), len(files_of(data)[1])) == (8, 4)


def test_labels_with_held_out_files_only_are_named(
    ucf101: DataConfig, tmp_path: Path, write_video: WriteVideo, caplog: pytest.LogCaptureFixture
) -> None:
    frames = np.random.default_rng(7).integers(0, 255, (20, 8, 8, 3), np.uint8)
    write_video(tmp_path / "val/Surfing/0.avi", frames)

    load_data(replace(ucf101, heldout=str(tmp_path / "val")), progress=False)

    assert "these labels have held-out files only: Surfing" in caplog.text


def test_sections_are_held_out_one_by_one(ucf101: DataConfig, tmp_path: Path) -> None:
    root = Path(ucf101.sources[0])
    listed = "path,start,end\nArchery/v_Archery_g01_c01.avi,0,0.4\nArchery/v_Archery_g01_c01.avi,0.4,0.8\n"
    (root / "all.csv").write_text(listed)
    config = replace(ucf101, path=str(root / "all.csv"), heldout=str(tmp_path / "test.csv"))
    (tmp_path / "test.csv").write_text("path,start,end\n./Archery/v_Archery_g01_c01.avi,0.4,0.8\n")

    data = load_data(config, progress=False)

    assert files_of(data) == (
        {"Archery/v_Archery_g01_c01.avi@0-0.4"},
        {"Archery/v_Archery_g01_c01.avi@0.4-0.8"},
    )


def test_a_section_of_a_training_file_cannot_be_held_out(ucf101: DataConfig, tmp_path: Path) -> None:
    path = Path(ucf101.sources[0], "Diving/v_Diving_g02_c01.avi")
    (tmp_path / "test.csv").write_text(f"path,start,end\n{path},0,0.4\n")

    with pytest.raises(ValueError, match=r"1 files of the held-out source .* are also training files"):
        load_data(replace(ucf101, heldout=str(tmp_path / "test.csv")), progress=False)


def test_a_list_that_names_nothing_is_refused(ucf101: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "testlist01.txt").write_text("Archery/gone.avi\n")

    with pytest.raises(ValueError, match=r"no line of .*testlist01\.txt names a file of the data"):
        load_data(ucf101, progress=False)


def test_drawn_sources_may_be_mixed_with_an_official_split(ucf101: DataConfig) -> None:
    files, leaves = load_sources(replace(ucf101, path=(*ucf101.sources, "leaves"), drawn_clips=4), progress=False)

    assert len(files_of(files)[1]) == 3
    assert len(leaves.train) == 4


def test_holding_everything_out_is_refused(ucf101: DataConfig, tmp_path: Path) -> None:
    files = sorted(path.relative_to(ucf101.sources[0]) for path in Path(ucf101.sources[0]).rglob("*.avi"))
    (tmp_path / "testlist01.txt").write_text("\n".join(map(str, files)))

    with pytest.raises(ValueError, match="holds out all files, so none are left for training"):
        load_data(ucf101, progress=False)


def test_the_split_is_part_of_the_fingerprint_and_its_place_is_not(ucf101: DataConfig, tmp_path: Path) -> None:
    first = load_data(ucf101, progress=False).fingerprint
    shutil.copy(tmp_path / "testlist01.txt", tmp_path / "copy.txt")

    assert load_data(replace(ucf101, heldout=str(tmp_path / "copy.txt")), progress=False).fingerprint == first

    (tmp_path / "copy.txt").write_text("Archery/v_Archery_g02_c01.avi")
    others = [
        load_data(replace(ucf101, heldout=heldout), progress=False) for heldout in (str(tmp_path / "copy.txt"), None)
    ]
    assert len({first, *(data.fingerprint for data in others)}) == 3
