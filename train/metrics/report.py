"""Tables of metrics of generated videos, of a baseline and of reconstructions, with bounds."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """A metric of each set of videos. Its value for the samples must be within the bounds, if there are bounds."""

    name: str
    samples: float
    baseline: float
    reconstructions: float
    low: float = -math.inf
    high: float = math.inf

    def over(self, unit: float, words: str, *, low: float = -math.inf, high: float = math.inf) -> "Row":
        """Return the row divided by `unit`, with `words` appended to its name. NaN if `unit` is not positive."""
        samples, baseline, reconstructions = (
            figure / unit if unit > 0 else math.nan for figure in (self.samples, self.baseline, self.reconstructions)
        )
        return Row(
            name=f"{self.name}, {words}",
            samples=samples,
            baseline=baseline,
            reconstructions=reconstructions,
            low=low,
            high=high,
        )

    @property
    def is_bounded(self) -> bool:
        return self.low > -math.inf or self.high < math.inf

    @property
    def is_missed(self) -> bool:
        return self.is_bounded and not self.low <= self.samples <= self.high  # NaN is outside of all bounds

    @property
    def bounds(self) -> str:
        """Text of the bounds."""
        if not self.is_bounded:
            return ""
        if self.high == math.inf:
            return f"at least {self.low:g}"
        return f"at most {self.high:g}" if self.low == -math.inf else f"{self.low:g} to {self.high:g}"

    def as_json(self) -> dict[str, object]:
        """Return the fields by name; infinite values and NaN, which JSON does not have, become None."""
        fields = {
            name: value if isinstance(value, str) or math.isfinite(value) else None
            for name, value in asdict(self).items()
        }
        return {**fields, "is_missed": self.is_missed}


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text, with their bounds and whether they are met."""
    cells: list[tuple[str, ...]] = [("", "samples", "baseline", "reconstructions", "bound", "")]
    for row in rows:
        figures = (f"{figure:.3f}" for figure in (row.samples, row.baseline, row.reconstructions))
        verdict = ("missed" if row.is_missed else "ok") if row.is_bounded else ""
        cells.append((row.name, *figures, row.bounds, verdict))
    return aligned(cells)


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """Return a table as text, with the first column aligned to the left and the others to the right."""
    first, *widths = (max(len(cell) for cell in column) for column in zip(*cells, strict=True))
    lines = [
        "  ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(others, widths, strict=True))])
        for name, *others in cells
    ]
    return "\n".join(line.rstrip() for line in lines)
