"""The view of a suite's experiment that MLflow's page opens by its key.

MLflow keeps a shared view as an experiment tag, `mlflow.sharedViewState.<key>`, whose value is the
page's state as JSON; `#/experiments/<id>/runs?viewStateShareKey=<key>` opens it. This is
what the page's own "share" button writes; MLflow documents no other way, so a page of another
version may ignore parts of it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bench.kinds import stages
from bench.plan.spec import JobGraph
from bench.tracking.database import TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY = "vitbench"
"""Key of the view in the page's address."""


def state(graph: JobGraph) -> dict[str, Any]:
    """Return the page's state: the reported runs by system and upstream size, means over seeds."""
    columns = ["params.`system`", "params.`upstream_examples`", "params.`downstream`"]
    columns += ["params.`stage`", "params.`seed`", "tags.`verdict`"]
    columns += [f"metrics.`{name}`" for name in _metrics(graph)]
    columns += ["metrics.`exaflops`", "metrics.`core_s`"]
    return {
        "searchFilter": f"tags.`{TAG}role` = 'job'{_reported()}",
        "orderByKey": "params.`upstream_examples`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "selectedColumns": columns,
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [
                {"mode": "param", "groupByData": name}
                for name in ("downstream", "upstream_examples", "system")
            ],
        },
    }


def save(client: MlflowClient, experiment_id: str, graph: JobGraph) -> None:
    """Keep the view of a suite in its experiment, replacing an older one."""
    text = json.dumps(state(graph), separators=(",", ":"))
    client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{KEY}", text)


def _reported() -> str:
    """Return the condition that leaves out what only chooses."""
    choices = [stage.name for stage in stages().values() if stage.role == "choice"]
    return "".join(f" AND params.stage != '{name}'" for name in choices)


def _metrics(graph: JobGraph) -> list[str]:
    """Return the names of the metrics that the suite's results and measurements report."""
    names: dict[str, None] = {}
    for job in graph.jobs:
        stage = stages()[job.labels.stage]
        if stage.role in ("result", "measurement"):
            names |= dict.fromkeys(stage.metrics(job.spec.params))
    return list(names)
