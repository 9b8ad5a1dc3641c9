"""What is known about a metric: its name, unit, direction and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower", "neither"]


@dataclass(frozen=True, kw_only=True)
class MetricCard:
    """What is known about one metric."""

    name: str
    """Name in records, without a qualifier."""
    title: str
    """Name as printed; `{}` stands for the qualifier."""
    unit: str
    """Unit as printed, after `scale`."""
    base_unit: str
    """Unit of the stored value."""
    direction: Direction
    """Which direction is better."""
    scale: float = 1.0
    """Printed value = stored value x scale."""
    decimals: int | None = None
    """Digits after the point; None: three significant digits."""
    help: str
    """One sentence for captions."""

    @property
    def is_accuracy(self) -> bool:
        """A share of right answers: what ranks, averages, curves and scaling fits are made of."""
        return self.base_unit == "fraction" and self.direction == "higher"
