"""The view of a suite's experiment that MLflow's page opens by its key.

MLflow keeps a shared view as an experiment tag, `mlflow.sharedViewState.<key>`, whose value is the
page's state as JSON; `#/experiments/<id>/runs?viewStateShareKey=<key>` opens it. This is
what the page's own "share" button writes; MLflow documents no other way, so a page of another
version may ignore parts of it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bench.specs import JobGraph
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
        "searchFilter": f"tags.`{TAG}role` = 'job' AND params.stage != 'candidate' "
        "AND params.stage != 'select'",
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


def _metrics(graph: JobGraph) -> list[str]:
    """Return the names of the metrics that the suite's transfers and profiles report."""
    names: dict[str, None] = {}
    for block in graph.suite.transfer:
        if block.kind == "finetune":
            names["test_top1"] = None
        elif block.kind == "fewshot":
            names |= {f"fewshot_top1/{shots}": None for shots in block.shots}
        elif block.kind == "knn":
            names |= {f"knn_top1/{count}": None for count in block.neighbours}
        else:
            names["probe_top1" if block.kind == "probe" else "eval_top1"] = None
    for measured in graph.suite.profile:
        names |= {f"inference_images_per_s/{batch}": None for batch in measured.batch_sizes}
        names |= {"inference_largest_batch": None, "train_largest_batch": None}
    return list(names)
