"""The comparison: what was not measured or counted here is no number."""

from __future__ import annotations

from dataclasses import replace

from reports.study.study import Study
from reports.tables import comparison
from tests.reports.conftest import Made


def test_released_weights_have_no_pre_training_to_state(made: Made) -> None:
    """Zero exaFLOPs would say that they came for nothing."""
    lead = comparison.LeadColumns(Study(made.graph, made.results, made.curves, made.hits))
    place = [column.key for column in lead.columns].index("exaflops")
    arm = lead.study.arms[0]
    assert lead.cells(arm)[place].value == arm.exaflops > 0
    released = lead.cells(replace(arm, exaflops=0.0))[place]
    assert (released.text, released.value, released.status) == ("not stated", None, "absent")


def test_what_nobody_states_is_not_what_was_never_trained(made: Made) -> None:
    lead = comparison.LeadColumns(Study(made.graph, made.results, made.curves, made.hits))
    keys, arm = [column.key for column in lead.columns], lead.study.arms[0]

    def words(upstream: str) -> dict[str, str]:
        cells = lead.cells(replace(arm, upstream=upstream, upstream_examples=0, exaflops=0.0))
        shown = dict(zip(keys, cells, strict=True))
        assert shown["upstream_examples"].value is None
        return {key: shown[key].text for key in ("upstream_examples", "exaflops")}

    assert words("") == {"upstream_examples": "not stated", "exaflops": "not stated"}
    assert words("untrained") == {"upstream_examples": "untrained", "exaflops": "–"}
