import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from magvit2_pytorch.train.curves import curve, panels, plot_runs, smoothed
from magvit2_pytorch.train.metrics_file import append_record, read_records


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Folders of a run of each stage, with what a crash and a bad step leave."""
    folders = [tmp_path / name for name in ("tokenizer", "_cost_$1_and_$2")]
    for folder in folders:
        folder.mkdir()
    for step in range(10, 400, 10):
        loss = None if step == 50 else 1 / step
        append_record(folders[0] / "metrics.jsonl", {"step": step, "time": 1e9, "loss/reconstruction": loss})
        append_record(folders[1] / "metrics.jsonl", {"step": step, "time": 1e9, "train/masked_code": 100 / step})
        if step % 100 == 0:
            scores = {"heldout/psnr": 20.0 + step, "heldout/psnr_raw_weights": 19.0, "heldout/bit_balance": [0.5]}
            append_record(folders[0] / "metrics.jsonl", {"step": step, "time": 1e9, **scores})
            append_record(folders[1] / "metrics.jsonl", {"step": step, "time": 1e9, "heldout/masked_code": 3.0})
    with (folders[0] / "metrics.jsonl").open("a") as file:
        file.write('{"step": 400, "loss/rec')
    return folders


def test_the_curves_of_several_runs_are_one_picture(
    runs: list[Path], tmp_path: Path, magvit2: Callable[..., str]
) -> None:
    printed = magvit2("plot", *map(str, runs), "-o", str(tmp_path / "curves.png"))

    assert printed == f"{tmp_path}/curves.png: 3 curves of 2 run(s)\n"
    pixels = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    for blue_or_orange in ((31, 119, 180), (255, 127, 14)):  # matplotlib's first two colours
        assert (pixels == blue_or_orange).all(axis=-1).sum() > 100


def test_values_with_one_name_share_a_panel_and_lists_have_none(runs: list[Path]) -> None:
    names = {name for run in runs for record in read_records(run / "metrics.jsonl") for name in record}

    assert panels(names - {"heldout/bit_balance"}) == {
        "reconstruction": ["loss/reconstruction"],
        "masked_code": ["train/masked_code", "heldout/masked_code"],
        "psnr": ["heldout/psnr", "heldout/psnr_raw_weights"],
    }


def test_a_curve_leaves_out_what_is_not_a_number(runs: list[Path]) -> None:
    steps, values = curve(read_records(runs[0] / "metrics.jsonl"), "loss/reconstruction")

    assert steps == [step for step in range(10, 400, 10) if step != 50]
    assert values[0] == 0.1
    assert smoothed([1.0, 3.0, 5.0], 2) == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("content", "said"), [(None, "has no metrics.jsonl"), ("", "has no values to plot"), ('{"step": 1}', "no values")]
)
def test_a_folder_without_curves_is_refused(runs: list[Path], tmp_path: Path, content: str | None, said: str) -> None:
    (tmp_path / "other").mkdir()
    if content is not None:
        (tmp_path / "other" / "metrics.jsonl").write_text(content)

    with pytest.raises(ValueError, match=f"other.*{said}"):
        plot_runs([*runs, tmp_path / "other"], tmp_path / "curves.png")

    assert not (tmp_path / "curves.png").exists()


def test_wrong_endings_and_no_folders_are_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"curves\.gif must end in one of \.png, \.svg, \.pdf"):
        plot_runs(runs, tmp_path / "curves.gif")
    with pytest.raises(ValueError, match="name at least one folder"):
        plot_runs([], tmp_path / "curves.png")


def test_a_missing_matplotlib_is_named(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(ValueError, match=r"magvit2 plot needs matplotlib: run `pip install matplotlib`, or .*\[plot\]"):
        plot_runs(runs, tmp_path / "curves.png")
