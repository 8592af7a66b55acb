import json
import math
from pathlib import Path

import pytest

from magvit2_pytorch.train.metrics_file import append_record, drop_records_after, read_records


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_lines_are_strict_json_and_are_read_back(path: Path) -> None:
    append_record(path, {"step": 1, "loss/a": math.nan, "loss/b": 0.5})
    append_record(path, {"step": 2, "heldout/psnr": math.inf, "heldout/bit_balance": [0.25, 1.0]})

    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    assert read_records(path) == [
        {"step": 1, "loss/a": None, "loss/b": 0.5},
        {"step": 2, "heldout/psnr": None, "heldout/bit_balance": [0.25, 1.0]},
    ]


def test_half_a_line_and_lines_of_other_programs_are_not_read(path: Path) -> None:
    path.write_bytes(b'{"step": 1}\n[1]\n{"step": "2"}\n{"step": true}\n\xff\n' + b"[" * 100_000 + b'\n{"step": 3, "lo')

    assert read_records(path) == [{"step": 1}]


def test_a_run_that_continues_keeps_the_lines_until_its_checkpoint(path: Path) -> None:
    for step in (2, 4, 6):
        append_record(path, {"step": step, "loss/a": 1.0})
    append_record(path, {"step": 4, "heldout/psnr": 20.0})
    with path.open("a") as file:
        file.write('{"step": 4, "loss')

    drop_records_after(path, 4, num_steps=8)
    append_record(path, {"step": 6, "loss/a": 2.0})

    assert [(record["step"], record.get("loss/a")) for record in read_records(path)] == [
        *((2, 1.0), (4, 1.0), (4, None), (6, 2.0))
    ]
    assert len(path.read_text().splitlines()) == 4
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_evaluation_after_the_last_step_is_written_again(path: Path) -> None:
    for step in (4, 8):
        append_record(path, {"step": step, "loss/a": 1.0})
        append_record(path, {"step": step, "heldout/psnr": 20.0})

    drop_records_after(path, 8, num_steps=8)

    assert [[*record][1] for record in read_records(path)] == ["loss/a", "heldout/psnr", "loss/a"]


def test_a_run_without_the_file_continues_without_it(path: Path) -> None:
    drop_records_after(path, 4, num_steps=8)

    assert not path.exists()
