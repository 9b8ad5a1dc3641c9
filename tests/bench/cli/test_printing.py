"""Facts as a person reads them: nested, in words, and never a thousand items."""

from __future__ import annotations

import pytest

from bench.cli.printing import print_facts


def test_facts_are_printed_by_their_parts(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts(
        {
            "num_classes": 40,
            "class_names": [f"class {number}" for number in range(40)],
            "labels": list(range(3)),
            "problems": ["train: 1,200 copies, all alike", "test: 3 copies"],
            "splits": {"train": {"per_class": [5] * 40}, "test": {"per_class": list(range(40))}},
            "note": "",
        }
    )
    assert capsys.readouterr().out.splitlines() == [
        "num classes              40",
        "class names              class 0, class 1, ... class 39 (40)",
        "labels                   0, 1, 2",
        "problems                 train: 1,200 copies, all alike; test: 3 copies",
        "splits",
        "  train",
        "    per class            5 each",
        "  test",
        "    per class            0 to 39",
    ]
