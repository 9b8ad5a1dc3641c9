"""The ViT paper's own tables, rebuilt without training anything.

Source: arXiv:2010.11929. Tables 1 (with our parameter counts), 2, 5, 6, 7, 8 and 9 as published,
and the compute column of Table 6 next to our arithmetic. Where the paper disagrees with itself or
with other sources, a note says so; nothing is corrected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.files import write_bytes
from bench.specs import PublishedResult, SystemCard
from reports.printing.cells import Notes, absent_cell, number_cell, text_cell
from reports.printing.files import SUFFIXES, file_bytes, render
from reports.printing.table import Cell, Column, Table

FORMATS = tuple(SUFFIXES)


class ComputeRow(Protocol):
    """A row of the compute column (`bench.cost.ComputeRow`)."""

    @property
    def title(self) -> str:
        """System, as printed."""

    @property
    def epochs(self) -> int:
        """Epochs on JFT-300M."""

    @property
    def printed(self) -> float:
        """exaFLOPs, as printed."""

    @property
    def counted(self) -> float:
        """exaFLOPs with multiply-adds on zero padding."""

    @property
    def skipped(self) -> float:
        """exaFLOPs without them."""

    @property
    def counted_off(self) -> float:
        """Difference of `counted` from the printed value, as a fraction."""

    @property
    def skipped_off(self) -> float:
        """Difference of `skipped` from the printed value, as a fraction."""

    @property
    def note(self) -> str:
        """Why the row is off, where it is."""


@dataclass(frozen=True, kw_only=True)
class _Published:
    """How a published table is laid out: one row per system, one column per data set."""

    number: str
    title: str
    caption: str
    notes: tuple[tuple[str, str], ...] = ()
    """(Start of the system's name, note)."""


_PUBLISHED = (
    _Published(
        number="2",
        title="State of the art",
        caption="Top-1 in per cent, mean ± std over three runs; pre-training cost in "
        "TPUv3-core-days. ImageNet at 512 px (L/16) or 518 px (H/14) with Polyak averaging: not "
        "to be mixed with Tables 5 and 6.",
        notes=(
            (
                "BiT-L",
                "Medians of three runs, copied from the BiT paper (its Table 1), where the ViT "
                "rows are means. The BiT text says 40 epochs, ViT's appendix D.1 says 30.",
            ),
            ("Noisy", "The FixEfficientNet variant reaches 88.5 % (footnote of the paper)."),
        ),
    ),
    _Published(
        number="5",
        title="ViT by pre-training data set",
        caption="Top-1 in per cent, fine-tuned at 384 px, without Polyak averaging.",
        notes=(
            (
                "ViT-H/14",
                "Table 6 prints other numbers for the same model (ImageNet 88.08, ReaL 90.36, "
                "CIFAR-100 94.71, Pets 97.11, Flowers 99.71); its Pets value is that of L/16. Both "
                "are kept. 384 px is not a multiple of 14; the size actually used is not printed.",
            ),
        ),
    ),
    _Published(
        number="6",
        title="Scaling study: transfer",
        caption="Top-1 in per cent, pre-trained on JFT-300M, fine-tuned at 384 px, without Polyak "
        "averaging. The compute column is a table of its own.",
        notes=(
            (
                "ViT-H/14",
                "Table 5 prints other numbers for the same model (ImageNet 88.04, ReaL 90.33, "
                "CIFAR-100 94.55, Pets 97.56, Flowers 99.68). Both are kept.",
            ),
        ),
    ),
    _Published(
        number="7",
        title="ResNets: Adam or SGD in pre-training",
        caption="Top-1 in per cent; Average-5 is the mean of the five data sets.",
    ),
    _Published(
        number="8",
        title="Position embeddings",
        caption="ImageNet 5-shot linear top-1 of ViT-B/16, as a fraction.",
    ),
    _Published(
        number="9",
        title="VTAB-1k by task",
        caption="Top-1 in per cent with 1,000 training images; VTAB is the plain mean of the 19 "
        "tasks, not the mean of group means.",
    ),
)

_SHORT = {
    "Oxford-IIIT Pets": "Pets",
    "Oxford Flowers-102": "Flowers",
    "ImageNet-ReaL": "ReaL",
    "VTAB-1k (19 tasks)": "VTAB",
    "pretrain_cost": "Core-days",
}


def tables(
    published: Iterable[PublishedResult],
    *,
    systems: Mapping[str, SystemCard],
    compute: Sequence[ComputeRow],
) -> tuple[Table, ...]:
    """Return the paper's tables, in its order, Table 6's compute column after Table 6."""
    rows = [row for row in published if row.paper == "ViT"]
    by_number = {
        spec.number: _as_published([r for r in rows if r.table == f"Table {spec.number}"], spec)
        for spec in _PUBLISHED
    }
    return (
        variants([row for row in rows if row.table == "Table 1"], systems),
        by_number["2"],
        by_number["5"],
        by_number["6"],
        _compute(compute),
        by_number["7"],
        by_number["8"],
        by_number["9"],
    )


def write(
    made: Iterable[Table], out_dir: Path, *, formats: Sequence[str] = FORMATS
) -> dict[str, Path]:
    """Write tables as `<name>.<ending>` and return the files by name."""
    files = {}
    for table in made:
        for form in formats:
            for suffix, text in render(table, form).items():
                path = out_dir / f"{table.name}{suffix}"
                write_bytes(path, file_bytes(text, suffix), sync=False)
                files[path.name] = path
    return files


def variants(rows: Sequence[PublishedResult], systems: Mapping[str, SystemCard]) -> Table:
    """Return Table 1: sizes as printed, next to the parameters of our systems."""
    printed: dict[str, dict[str, str]] = {}
    for row in rows:
        printed.setdefault(row.system, {})[row.metric] = row.value
    notes = Notes()
    mark = notes.mark(
        "The paper does not say which patch side or head its count is of. With a head of 1,000 "
        f"classes ViT-L/32 has {_millions(systems['vit-l32'])} M and rounds to the printed 307."
    )
    names = {"ViT-Base": "vit-b16", "ViT-Large": "vit-l16", "ViT-Huge": "vit-h14"}
    cells = []
    for title, values in printed.items():
        card = systems[names[title]]
        with_head = _with_head(card)
        cells.append(
            (
                text_cell(title),
                *(
                    number_cell(float(values[key]), values[key])
                    for key in ("layers", "hidden_size_D", "mlp_size", "heads")
                ),
                Cell(text=values["params"], value=float(values["params"]) * 1e6, marks=(mark,)),
                text_cell(card.title),
                number_cell(card.num_params, f"{card.num_params / 1e6:.1f}"),
                number_cell(with_head, f"{with_head / 1e6:.1f}"),
            )
        )
    return Table(
        name="paper-table-1",
        title="ViT paper, Table 1: variants",
        caption="Sizes and parameters as printed, next to the parameters of our systems.",
        columns=(
            Column(key="model", title="Model", align="left", header=True),
            Column(key="layers", title="Layers", group="Printed"),
            Column(key="width", title="Hidden size", group="Printed"),
            Column(key="mlp", title="MLP size", group="Printed"),
            Column(key="heads", title="Heads", group="Printed"),
            Column(key="params", title="Params", unit="M", base_unit="count", group="Printed"),
            Column(key="system", title="System", align="left", group="Ours"),
            Column(key="ours", title="No head", unit="M", base_unit="count", group="Ours"),
            Column(
                key="ours_1000", title="1,000 classes", unit="M", base_unit="count", group="Ours"
            ),
        ),
        rows=tuple(cells),
        notes=tuple(notes.texts),
    )


def _compute(rows: Sequence[ComputeRow]) -> Table:
    notes = Notes()
    cells = tuple(
        (
            text_cell(row.title),
            number_cell(row.epochs, str(row.epochs)),
            Cell(
                text=f"{row.printed:.0f}",
                value=row.printed,
                marks=(notes.mark(row.note),) if row.note else (),
            ),
            number_cell(row.skipped, f"{row.skipped:.1f}"),
            number_cell(row.skipped_off, _percent(row.skipped_off)),
            number_cell(row.counted, f"{row.counted:.1f}"),
            number_cell(row.counted_off, _percent(row.counted_off)),
        )
        for row in rows
    )
    return Table(
        name="paper-table-6-compute",
        title="ViT paper, Table 6: pre-training compute",
        caption="exaFLOPs as printed and as computed: 3 x forward, 2 FLOPs per multiply-add, "
        "224 px, no head, 303 M images per epoch. Without multiply-adds on zero padding every row "
        "is within 1 % of the printed value, but for the two that are marked.",
        columns=(
            Column(key="system", title="System", align="left", header=True),
            Column(key="epochs", title="Epochs"),
            Column(key="printed", title="Printed", base_unit="exaFLOPs"),
            Column(
                key="skipped", title="Computed", base_unit="exaFLOPs", group="Padding not counted"
            ),
            Column(
                key="skipped_off", title="Off", base_unit="fraction", group="Padding not counted"
            ),
            Column(key="counted", title="Computed", base_unit="exaFLOPs", group="Padding counted"),
            Column(key="counted_off", title="Off", base_unit="fraction", group="Padding counted"),
        ),
        rows=cells,
        notes=tuple(notes.texts),
    )


def _as_published(rows: Sequence[PublishedResult], spec: _Published) -> Table:
    """Return rows by (system, pre-training) and columns by data set, both in printed order."""
    rows = [row for row in rows if row.metric != "pretrain_compute" and "(Fix" not in row.system]
    notes = Notes()
    found: dict[tuple[str, str, str], dict[str, PublishedResult]] = {}
    for row in rows:
        key = (row.system, row.pretrain_dataset, row.pretrain_epochs)
        found.setdefault(key, {})[row.dataset or row.metric] = row
    datasets = list(dict.fromkeys(row.dataset or row.metric for row in rows))
    with_epochs = any(epochs for _, _, epochs in found)
    cells = []
    for (system, upstream, epochs), values in found.items():
        remarks = [note for start, note in spec.notes if system.startswith(start)]
        remarks += [f"{row.note[0].upper()}{row.note[1:]}." for row in values.values() if row.note]
        marks = tuple(dict.fromkeys(notes.mark(note) for note in remarks))
        head = [Cell(text=system, marks=marks), text_cell(upstream)]
        head += [_epochs(epochs, notes)] if with_epochs else []
        cells.append((*head, *(_value(values.get(dataset), notes) for dataset in datasets)))
    head_columns = [
        Column(key="system", title="System", align="left", header=True),
        Column(key="pretrain_dataset", title="Pre-training", align="left", header=True),
    ]
    if with_epochs:
        head_columns.append(Column(key="pretrain_epochs", title="Epochs", header=True))
    return Table(
        name=f"paper-table-{spec.number}",
        title=f"ViT paper, Table {spec.number}: {spec.title}",
        caption=f"As published. {spec.caption}",
        columns=(*head_columns, *(_dataset_column(dataset, rows) for dataset in datasets)),
        rows=tuple(cells),
        notes=tuple(notes.texts),
        group_by=("pretrain_dataset",) if spec.number == "5" else (),
    )


def _dataset_column(dataset: str, rows: Sequence[PublishedResult]) -> Column:
    unit = next(row.unit for row in rows if (row.dataset or row.metric) == dataset)
    title = _SHORT.get(dataset, dataset.removeprefix("VTAB-1k/"))
    return Column(key=dataset, title=title, base_unit="fraction" if _is_share(unit) else unit)


def _value(row: PublishedResult | None, notes: Notes) -> Cell:
    if row is None:
        return absent_cell()
    marks = (notes.mark("Recalled, not looked up."),) if row.confidence == "recalled" else ()
    scale = 0.01 if row.unit == "%" else 1.0
    return Cell(
        text=f"{row.value} ± {row.std}" if row.std else row.value,
        value=scale * float(row.value),
        std=scale * float(row.std) if row.std else None,
        marks=marks,
    )


def _epochs(epochs: str, notes: Notes) -> Cell:
    if not epochs:
        return absent_cell()
    two = "Table 3 of the paper lists both lengths; which one this row shows is not printed."
    return Cell(text=epochs, marks=(notes.mark(two),) if "/" in epochs else ())


def _is_share(unit: str) -> bool:
    return unit in ("%", "fraction")


def _with_head(card: SystemCard) -> int:
    return card.num_params + 1000 * (card.feature_dim + 1)


def _millions(card: SystemCard) -> str:
    return f"{_with_head(card) / 1e6:.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:+.2f} %"
