import json
import math

import pytest

from magvit2_pytorch.train.metrics.report import Row, aligned, table


def row(samples: float, *, low: float = -math.inf, high: float = math.inf) -> Row:
    return Row(name="figure", samples=samples, baseline=2.0, reconstructions=4.0, low=low, high=high)


@pytest.mark.parametrize(
    ("samples", "is_missed"), [(0.69, True), (0.7, False), (1.35, False), (1.36, True), (math.nan, True)]
)
def test_bounds_are_kept_up_to_their_ends_and_by_no_nan(samples: float, is_missed: bool) -> None:
    assert row(samples, low=0.7, high=1.35).is_missed == is_missed


def test_a_figure_without_bounds_is_never_missed() -> None:
    assert not row(math.nan).is_missed


def test_multiples_are_of_one_unit_and_without_sense_where_it_is_not_positive() -> None:
    multiple = row(3.0).over(4.0, "relative to reconstructions", high=0.5)

    assert (multiple.samples, multiple.baseline, multiple.reconstructions) == (0.75, 0.5, 1)
    assert multiple.is_missed
    assert row(-3.0).over(-1.0, "relative to the baseline", high=5).is_missed


def test_the_table_says_what_was_missed() -> None:
    text = table([row(1.0, low=0.5), row(1.0, high=0.5), row(1.0, low=0.5, high=2), row(1.0)])

    head, *lines = text.splitlines()
    assert head.split() == ["samples", "baseline", "reconstructions", "bound"]
    assert [line.split("4.000")[1].strip() for line in lines] == [
        "at least 0.5      ok",
        "at most 0.5  missed",
        "0.5 to 2      ok",
        "",
    ]


def test_a_row_can_be_written_as_json() -> None:
    written = json.dumps(row(math.nan, low=0.5).as_json(), allow_nan=False)

    assert json.loads(written) == {
        "name": "figure",
        "samples": None,
        "baseline": 2.0,
        "reconstructions": 4.0,
        "low": 0.5,
        "high": None,
        "is_missed": True,
    }


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert aligned([("", "a", "bcd"), ("name", "1234", "")]) == "         a  bcd\nname  1234"
