"""The one table model: columns, rows of cells, and the samples behind each cell.

A table holds values (in base units: accuracies as fractions) and their printed text side by side,
and behind each cell the samples it was made from, with their job ids. Its forms are
`reports/printing/files.py` and `terminal.py`; each escapes what it prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

Status = Literal["done", "failed", "skipped", "not run", "absent"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One value at one seed, with the jobs that it came from: what every table is made of."""

    seed: int | None
    """Seed of the job; None where several seeds are behind it."""
    value: float | None
    """Value in the base unit; None when absent."""
    job_ids: tuple[str, ...]
    """Jobs it came from."""
    reason: str = ""
    """Why it is absent."""
    status: Status = "done"
    """`done`, or in a word why there is no value."""
    n: float = 0
    """Test images behind it; of a mean over data sets, those of one set of equal resolution."""

    @property
    def step(self) -> float:
        """Step in which values on so many images come; 0 where that is not known."""
        return 1 / self.n if self.n else 0.0


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell: what is printed, and what it stands for."""

    text: str
    """Printed text."""
    value: float | None = None
    """Value in the base unit, where the cell holds a number."""
    std: float | None = None
    """Standard deviation over samples, in the base unit."""
    low: float | None = None
    """Lower end of the interval, in the base unit."""
    high: float | None = None
    """Upper end of the interval, in the base unit."""
    n: int = 0
    """Number of values behind `value`."""
    status: Status = "done"
    """`done`, or why there is no value."""
    strong: bool = False
    """Printed bold; the caption says what that means."""
    marks: tuple[int, ...] = ()
    """Numbers of the table's notes that apply."""
    samples: tuple[Sample, ...] = ()
    """Values behind the cell."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column."""

    key: str
    """Name in CSV files."""
    title: str
    """Printed name."""
    unit: str = ""
    """Printed unit."""
    base_unit: str = ""
    """Unit of the values in CSV files."""
    group: str = ""
    """Heading shared with the neighbouring columns."""
    align: Literal["left", "right"] = "right"
    """Alignment."""
    header: bool = False
    """Names the row instead of measuring something."""
    measured: bool = False
    """Holds timings, which differ between runs."""
    priority: int = 0
    """Columns of the highest priority number are left out first where width is short."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table in no particular form."""

    name: str
    """File name without ending."""
    title: str
    """Heading."""
    caption: str
    """What is shown, with n, units and the meaning of marks."""
    columns: tuple[Column, ...]
    """Columns."""
    rows: tuple[tuple[Cell, ...], ...]
    """Rows, one cell for each column."""
    notes: tuple[str, ...] = ()
    """Notes, numbered from 1."""
    warning: str = ""
    """What a reader must know first, e.g. that the run was cut short."""
    group_by: tuple[str, ...] = ()
    """Columns whose change starts a new group of rows."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.name}: {len(row)} cells for {len(self.columns)} columns"
                )

    @property
    def num_groups(self) -> int:
        """Number of distinct column headings."""
        return len({column.group for column in self.columns if column.group})

    def blocks(self) -> Iterator[list[tuple[Cell, ...]]]:
        """Yield the rows in groups of equal `group_by` cells."""
        places = [i for i, column in enumerate(self.columns) if column.key in self.group_by]
        block: list[tuple[Cell, ...]] = []
        for row in self.rows:
            if block and [row[i].text for i in places] != [block[-1][i].text for i in places]:
                yield block
                block = []
            block.append(row)
        if block:
            yield block

    def heading(self, column: Column) -> str:
        """Return a column's name on one line: group (if there are several), title, unit."""
        name = f"{column.title} ({column.unit})" if column.unit else column.title
        return f"{column.group}: {name}" if column.group and self.num_groups > 1 else name

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON-able data: fields that hold their default are left out."""
        return _compact(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Table:
        """Rebuild a table from `to_json`."""
        rows = tuple(tuple(_cell(cell) for cell in row) for row in data["rows"])
        columns = tuple(Column(**column) for column in data["columns"])
        lists: dict[str, Any] = {
            key: tuple(data[key]) for key in ("notes", "group_by") if key in data
        }
        return cls(**{**data, **lists, "columns": columns, "rows": rows})


def _cell(data: dict[str, Any]) -> Cell:
    samples = tuple(
        Sample(**{**sample, "job_ids": tuple(sample["job_ids"])})
        for sample in data.pop("samples", ())
    )
    return Cell(**{**data, "marks": tuple(data.get("marks", ())), "samples": samples})


_DEFAULTS = {
    kind: tuple((field.name, field.default) for field in fields(kind))
    for kind in (Table, Column, Cell, Sample)
}
_NESTED = (tuple, *_DEFAULTS)


def _compact(part: Any) -> Any:
    if type(part) is tuple:
        # Nearly all tuples hold numbers or texts: those need no look at each of their items.
        return [_compact(item) for item in part] if part and type(part[0]) in _NESTED else [*part]
    defaults = _DEFAULTS.get(type(part))
    if defaults is None:
        return part
    found = {}
    for name, default in defaults:
        value = getattr(part, name)
        if value != default:
            found[name] = _compact(value) if type(value) is tuple else value
    return found


def spans(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """Return (heading, width) of neighbouring columns that share a heading."""
    found: list[tuple[str, int]] = []
    for column in columns:
        if found and found[-1][0] == column.group:
            found[-1] = (column.group, found[-1][1] + 1)
        else:
            found.append((column.group, 1))
    return found
