"""Metrics: names, units, and numbers as printed."""

from __future__ import annotations

import pytest

from bench import metrics
from bench.errors import UnknownName


def test_a_qualifier_names_the_shots() -> None:
    assert metrics.title("fewshot_top1/5") == "5-shot"
    assert metrics.metric("fewshot_top1/5") is metrics.cards()["fewshot_top1"]


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="test_top1"):
        metrics.metric("test_top")


@pytest.mark.parametrize(
    ("name", "value", "printed"),
    [
        ("test_top1", 0.97222, "97.2"),
        ("test_top1", 1.0, "100.0"),
        ("test_top1", 0.0, "0.0"),
        ("train_loss", 2.3456, "2.346"),
        ("num_params", 85_798_656, "85,798,656"),
        ("exaflops", 1.2345e-6, "1.23e-06"),
        ("core_s", 0.0123, "0.0123"),
        ("core_s", 9.999, "10.0"),
        ("core_s", 99.96, "100"),
        ("core_s", 1234.5, "1,234"),
    ],
)
def test_values_are_printed_in_their_unit(name: str, value: float, printed: str) -> None:
    assert metrics.show(name, value) == printed


def test_a_spread_is_printed_only_where_there_is_one() -> None:
    assert metrics.show_spread("test_top1", 0.972, 0.0031) == "97.2 ± 0.3"
    assert metrics.show_spread("test_top1", 0.972, None) == "97.2"


@pytest.mark.parametrize(
    ("value", "printed"),
    [(0.0123, "+1.2"), (-0.0123, "−1.2"), (0.0, "0.0"), (-0.0004, "0.0"), (0.00051, "+0.1")],
)
def test_differences_have_a_sign_and_never_a_negative_zero(value: float, printed: str) -> None:
    assert metrics.show_difference("test_top1", value) == printed


def test_every_card_says_what_it_is() -> None:
    for name, card in metrics.cards().items():
        assert card.name == name
        assert card.help
        assert card.title
