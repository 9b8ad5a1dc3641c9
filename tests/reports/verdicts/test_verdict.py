"""The verdict rule: its cases are the table below."""

from __future__ import annotations

from typing import Any

import pytest

from bench.facts import MARGIN
from bench.specs import PublishedResult
from reports.study.study import Study
from reports.tables.published import table
from reports.verdicts.linking import counterparts
from reports.verdicts.rule import Measured, Printed, judge, printed

TIGHT = Printed(value=0.9915, rounding=0.00005, std=0.0003, n=3)  # CIFAR-10, ViT-L/16, Table 2


@pytest.mark.parametrize(
    ("values", "published", "word"),
    [
        # three seeds that agree with the paper
        ((0.9914, 0.9916, 0.9915), TIGHT, "reproduced"),
        ((0.9912, 0.9913, 0.9911), TIGHT, "reproduced"),
        # a difference beyond noise, but shown to be less than half a point: the same in practice
        ((0.9880, 0.9881, 0.9882), TIGHT, "reproduced"),
        # beyond half a point with all its noise, on either side
        ((0.9830, 0.9831, 0.9829), TIGHT, "off"),
        ((0.8600, 0.8605, 0.8595), printed("84.15"), "off"),
        # 0.45 points below, interval [-0.77, -0.13]: less or more than half a point, who knows
        ((0.9449, 0.9455, 0.9461), printed("95.00", "0.22", n=3), "undecided"),
        # 0.49 below with little noise, and the same with more: neither is shown
        ((0.9450, 0.9451, 0.9452), printed("95.00"), "undecided"),
        ((0.9441, 0.9451, 0.9461), printed("95.00"), "undecided"),
        # seeds that scatter so much that nothing can be said
        ((0.97, 0.99, 0.98), TIGHT, "within noise"),
        # one seed takes the published spread for its own, is never a reproduction, and may be off
        ((0.9915,), TIGHT, "within noise"),
        ((0.9000,), TIGHT, "off"),
        # without one nothing is known of its spread
        ((0.9915,), printed("99.15"), "undecided"),
        ((0.9000,), printed("99.15"), "undecided"),
        # exactly as printed, no error known but the rounding
        ((0.9915, 0.9915), printed("99.15"), "reproduced"),
        # rounding alone: 84 may be anything from 83.5 to 84.5
        ((0.8440, 0.8440), printed("84"), "within noise"),
        ((0.8440, 0.8440), printed("84.0"), "reproduced"),
        ((0.8460, 0.8460), printed("84"), "undecided"),
        ((0.8520, 0.8520), printed("84"), "off"),
    ],
)
def test_verdicts(values: tuple[float, ...], published: Printed, word: str) -> None:
    found = judge(Measured(values=values), published)
    assert found.word == word
    assert found.reasons


@pytest.mark.parametrize("spread", [0.0, 0.001, 0.003, 0.01])
@pytest.mark.parametrize("gap", [0.0, 0.002, 0.0048, 0.0052, 0.02])
def test_what_is_shown_is_shown_with_all_its_noise(gap: float, spread: float) -> None:
    found = judge(
        Measured(values=(0.9 + gap - spread, 0.9 + gap, 0.9 + gap + spread)), printed("90.00")
    )
    assert found.noise is not None
    assert (found.word == "reproduced") == (gap + found.noise <= MARGIN)
    assert (found.word == "off") == (gap - found.noise > MARGIN)
    assert (found.word == "within noise") == (MARGIN - found.noise < gap <= found.noise)


@pytest.mark.parametrize(
    ("measured", "options", "word", "reason"),
    [
        (Measured(status="failed", reason="out of memory"), {}, "failed", "out of memory"),
        (Measured(status="not run"), {}, "not run", "no job has run"),
        (Measured(), {}, "not run", "no job has run"),
        (Measured(values=(0.99,)), {"is_public": False}, "not public", "the weights or the data"),
        (Measured(status="failed"), {"is_public": False}, "not public", "the weights or the data"),
        (
            Measured(values=(0.9915, 0.9915, 0.9915)),
            {"differences": ["224 px, published 384 px"]},
            "off-protocol",
            "224 px, published 384 px",
        ),
        (
            Measured(status="failed", reason="NaN"),
            {"differences": ["224 px, published 384 px"]},
            "failed",
            "NaN",
        ),
    ],
)
def test_verdicts_without_a_comparison(
    measured: Measured, options: dict[str, Any], word: str, reason: str
) -> None:
    found = judge(measured, TIGHT, **options)
    assert found.word == word
    assert found.reasons[0].startswith(reason)


@pytest.mark.parametrize(
    ("text", "value", "rounding"),
    [("88.55", 0.8855, 5e-5), ("88.4", 0.884, 5e-4), ("84", 0.84, 5e-3)],
)
def test_rounding_is_read_from_the_print(text: str, value: float, rounding: float) -> None:
    found = printed(text)
    assert (found.value, found.rounding) == (pytest.approx(value), pytest.approx(rounding))
    assert found.std is None


def test_the_noise_is_what_its_parts_say() -> None:
    # two seeds: t = 12.706, std = sqrt(2) * 0.001, so the seeds' half-width is 12.706 * 0.001
    found = judge(Measured(values=(0.900, 0.902)), printed("90.0", "0.10", n=4))
    seeds, spread = 12.7062 * 0.001, 1.95996 * 0.001 / 2
    expected = (seeds**2 + spread**2) ** 0.5 + 0.0005
    assert found.noise == pytest.approx(expected, rel=1e-4)
    assert found.difference == pytest.approx(0.001)
    one = judge(Measured(values=(0.901,)), printed("90.0", "0.10", n=4))
    assert one.noise == pytest.approx(1.95996 * 0.001 * 1.25**0.5 + 0.0005, rel=1e-4)
    assert one.reasons[1] == "one seed, taken to spread as the published ones"


def test_more_noise_never_turns_a_cell_off() -> None:
    for spread in (0.0, 0.001, 0.003, 0.01, 0.03):
        values = (0.98 - spread, 0.98, 0.98 + spread)
        word = judge(Measured(values=values), printed("98.1")).word
        assert word in ("reproduced", "within noise")


def _row(**fields: object) -> PublishedResult:
    shared = {
        "paper": "ViT", "table": "Table 2", "system": "R14-Micro", "pretrain_dataset": "Fractals",
        "pretrain_epochs": "20", "resolution": "48", "dataset": "Digits", "metric": "top1",
        "value": "95.7", "std": "0.20", "unit": "%", "source": "made up", "confidence": "verified",
        "system_id": "bit-r14-micro", "upstream_id": "fractals-64", "dataset_id": "digits",
        "metric_ids": "test_top1", "image_size_px": 48, "epochs": "20",
    }  # fmt: skip
    return PublishedResult.model_validate({**shared, **fields})


def test_a_measured_cell_meets_its_published_number(made: Any) -> None:
    study = Study(made.graph, made.results, {}, published=(_row(), _row(system_id="vit-h14")))
    found = counterparts(study)
    assert [c.arm.upstream_examples for c in found] == [512, 2048, 8192]
    assert found[0].verdict.word == "off-protocol"
    assert found[0].verdict.reasons == ("upstream images 512, published 8,192",)
    assert found[2].verdict.word == "within noise"
    shown = table(study)
    assert shown.rows[0][5].text == "95.7 ± 0.20"
    assert "3 seeds" in shown.notes[-1]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image_size_px": 384}, "image size 48 px, published 384 px"),
        ({"epochs": "7 14"}, "upstream epochs 20, published 7 or 14"),
    ],
)
def test_another_protocol_is_off_protocol(
    made: Any, fields: dict[str, object], reason: str
) -> None:
    found = counterparts(Study(made.graph, made.results, {}, published=(_row(**fields),)))
    assert {c.verdict.word for c in found} == {"off-protocol"}
    assert found[2].verdict.reasons == (reason,)


def test_what_answers_nothing_published_has_no_rows(made: Any) -> None:
    rows = (_row(dataset_id="cifar10"), _row(value="80-85"), _row(metric_ids=()))
    assert not table(Study(made.graph, made.results, {}, published=rows)).rows
