"""Rows of measured values with bounds, for benchmarks."""

from typing import NamedTuple


class Measured(NamedTuple):
    """A measured value, which must be at least `low` and at most `high`."""

    what: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def is_met(self) -> bool:
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)

    @property
    def bounds(self) -> str:
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        if self.low is not None:
            return f"at least {self.low:g}"
        return "" if self.high is None else f"at most {self.high:g}"

    def line(self, width: int = 78) -> str:
        """Return the row as text, with what was measured in `width` columns."""
        verdict = "" if not self.bounds else "met" if self.is_met else "MISSED"
        return f"{self.what:{width}}  {self.value:10.2f}  {self.bounds:14}  {verdict}".rstrip()
