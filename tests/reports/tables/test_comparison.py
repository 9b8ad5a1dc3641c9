"""The comparison: what was not measured or counted here is no number."""

from __future__ import annotations

from dataclasses import replace

from reports.study.contests import contests
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


def test_who_looks_at_no_image_stands_below_who_does(made: Made) -> None:
    """Chance and the majority class, of the data sets that the suite brings, and of no others."""
    suite = made.graph.suite
    owned = suite.model_copy(update={"dataset": {"digits": {"reader": "image_folder"}}})
    results = {
        job_id: result.model_copy(update={"values": {"majority_top1": 0.125}})
        for job_id, result in made.results.items()
    }
    graph = made.graph.model_copy(update={"suite": owned})
    table = comparison.table(Study(graph, results, made.curves, made.hits))
    plain = comparison.table(Study(made.graph, results, made.curves, made.hits))
    assert len(table.rows) == len(plain.rows) + 2
    place = [column.key for column in table.columns].index("system")
    majority, chance = table.rows[-2:]
    assert [row[place].text for row in (majority, chance)] == ["Majority class", "Chance"]
    first = len(comparison.LeadColumns(Study(graph, results, made.curves, made.hits)).columns)
    assert {cell.text for cell in majority[first:]} == {"12.5"}
    classes = made.graph.datasets["digits"].num_classes
    assert {cell.value for cell in chance[first:]} == {1 / classes}
    assert "Majority class: always the most frequent class of training" in table.caption


def test_untrained_systems_are_named_so_and_compared_with_nobody(made: Made) -> None:
    jobs = tuple(
        job.model_copy(
            update={
                "labels": job.labels.model_copy(
                    update={"upstream": "untrained", "upstream_examples": 0}
                ),
                "pretrain_exaflops": 0.0,
            }
        )
        if job.labels.upstream_examples == 512
        else job
        for job in made.graph.jobs
    )
    graph = made.graph.model_copy(update={"jobs": jobs})
    study = Study(graph, made.results, made.curves, made.hits)
    table = comparison.table(study)
    keys = [column.key for column in table.columns]
    assert "upstream" not in keys  # there is one upstream set, and none
    rows = [row for row in table.rows if row[keys.index("upstream_examples")].text == "untrained"]
    assert len(rows) == 3
    assert {row[keys.index("exaflops")].status for row in rows} == {"absent"}
    assert contests(study)
    assert not any(c.first.is_untrained or c.second.is_untrained for c in contests(study))


def test_the_caption_says_at_which_size_images_are_seen(made: Made) -> None:
    caption = comparison.table(Study(made.graph, made.results, made.curves, made.hits)).caption
    assert "Images are seen at 48 px (fine-tuned), 32 px (1-shot, 5-shot, 10-shot)." in caption


def test_systems_are_drawn_beside_who_guesses(made: Made) -> None:
    from reports.figures import systems

    plain = Study(made.graph, made.results, made.curves, made.hits)
    assert systems.figure(plain) is None  # no data set of the suite's own
    suite = made.graph.suite.model_copy(update={"dataset": {"digits": {"reader": "image_folder"}}})
    results = {
        job_id: result.model_copy(update={"values": {"majority_top1": 0.125}})
        for job_id, result in made.results.items()
    }
    graph = made.graph.model_copy(update={"suite": suite})
    drawing = systems.figure(Study(graph, results, made.curves, made.hits))
    assert drawing is not None
    assert "Majority class 12.5 %; Chance 10.0 %" in drawing.alt
    assert drawing.alt.count("ViT-Micro/4: Fine-tuned") == 1  # the largest of three upstream sizes
    assert "1-shot" not in drawing.alt  # of several shots, the most
    assert "10-shot" in drawing.alt
