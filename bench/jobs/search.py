"""Choose the learning rate of a fine-tuning by a search that stops bad candidates early.

Source: asynchronous successive halving (ASHA, arXiv:1810.05934) as Ray Tune has it, on the held-out
score of the candidates of arXiv:2010.11929, appendix B.1.1. The paper trains every candidate to its
end; numbers that rest on this search are off-protocol.

Candidates train one after another, in the given order, each in a process of Ray's that computes
with what the job was given. After a quarter and after half of its steps a candidate is stopped if
it is below the median of those that came that far before it, so that a search gives the same choice
every time. Scores and checkpoints of candidates are kept until the job is done: a search that was
killed continues where it was.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import jobs
from bench.errors import BenchError, Diverged, JobError
from bench.files import read_json
from bench.jobs import JobContext, _work
from bench.jobs._ray import environment, node_resource, ray_here
from bench.jobs.finetune import Task, Tuning
from bench.paths import JobPaths
from bench.specs import JobResult, Metric, Scalar
from bench.training import Checkpoints, replace_file
from bench.training.devices import peak_gib

QUARTERS = (1, 2, 4)
"""Quarters of the steps after which a candidate is scored; after the last it is done."""

REDUCTION = 2
"""One in so many candidates continues from one score to the next."""

_QUIET = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the job, not the search alone
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}

_DEVICES = "CUDA_VISIBLE_DEVICES"


def run(context: JobContext) -> JobResult:
    """Return the chosen `learning_rate`, its `val_top1`, and how many candidates were stopped.

    Raises JobError where no candidate was trained to the end.
    """
    meter = _work.Meter(context)
    rates = _rates(context)
    if context.data.held_out is None and context.data.eval_split == "test":
        raise JobError(
            f"search {context.spec.job_id} has no held-out images to choose on",
            hint="Set held_out in the block",
        )
    with environment(_QUIET), ray_here():
        _search(context, len(rates))
    trials = [_Trial(context, index) for index in range(len(rates))]
    best = _best(trials)
    values: dict[str, Scalar | None] = {
        "learning_rate": best.rate,
        "num_trials": len(trials),
        "num_stopped": sum(trial.stopped for trial in trials),
    }
    for trial in trials:
        values |= trial.values()
    return meter.result(
        metrics={
            "val_top1": Metric(name="val_top1", value=best.score, n=best.scores[-1]["num_scored"])
        },
        values=values,
        others=[trial.spent() for trial in trials],
    )


def _best(trials: Sequence[_Trial]) -> _Trial:
    """Return the best of those trained to their end; of equals, the one of the smaller rate."""
    finished = [trial for trial in trials if trial.finished]
    if finished:
        return max(finished, key=lambda trial: (trial.score, -trial.rate))
    rate, why = next((t.rate, t.scores[-1]["absent"]) for t in trials if t.scores[-1]["absent"])
    raise JobError(
        f"none of {len(trials)} learning rates was trained to the end; {rate:g}: {why}",
        hint="Add smaller learning_rates",
    )


def _rates(context: JobContext) -> tuple[float, ...]:
    params: dict[str, Any] = context.spec.params
    rates = tuple(float(rate) for rate in params["learning_rates"])
    if not rates:
        raise JobError(f"search {context.spec.job_id} has no learning_rates")
    return rates


# --- the search -----------------------------------------------------------------------------


def _search(context: JobContext, num_trials: int) -> None:
    """Have Ray Tune do the trials; each leaves its scores in the job folder."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    def trial(config: dict[str, Any]) -> None:
        _do_trial(context, int(config["index"]), devices=devices)

    devices = os.environ.get(_DEVICES)
    folder = JobPaths(context.folder).checkpoints / "tune"
    node = node_resource()
    tuner = tune.Tuner(
        # Nothing of the cluster's: the job waits, and what it was given is the trials'.
        tune.with_resources(trial, {"CPU": 0, node: 0.001}),
        param_space={"index": tune.grid_search(list(range(num_trials)))},
        tune_config=tune.TuneConfig(
            scheduler=ASHAScheduler(
                time_attr="quarter",
                metric="val_top1",
                mode="max",
                max_t=QUARTERS[-1],
                grace_period=QUARTERS[0],
                reduction_factor=REDUCTION,
            ),
            max_concurrent_trials=1,
            # A process each: one that is not ready for the next trial in time would end the search.
            reuse_actors=False,
        ),
        run_config=tune.RunConfig(name="search", storage_path=str(folder), verbose=0),
    )
    found = tuner.fit()
    if found.errors:
        # Not an error that a trial reports itself: its process died, and may not die again.
        raise RuntimeError(f"a trial of search {context.spec.job_id} died: {found.errors[0]}")
    for index in range(num_trials):
        last = _Trial(context, index).scores[-1:]
        if not last:  # its process never came so far: it may at the next attempt
            raise RuntimeError(f"trial {index} of search {context.spec.job_id} left no score")
        if last[0]["failed"]:
            raise JobError(last[0]["failed"])


# --- one candidate --------------------------------------------------------------------------


def _do_trial(context: JobContext, index: int, *, devices: str | None) -> None:
    """Train one candidate in a process of Ray's, and tell Tune its scores."""
    if devices is not None:
        os.environ[_DEVICES] = devices  # asking Ray for none, it was given none
    trial = _Trial(context, index)
    try:
        with jobs.conditions(context):
            trial.run()
    except Diverged as error:
        trial.record(QUARTERS[-1], score=0.0, absent=error.message)
    except BenchError as error:
        trial.record(QUARTERS[-1], score=0.0, failed=str(error))


class _Trial:
    """One candidate: its scores so far, kept in the job folder."""

    def __init__(self, context: JobContext, index: int) -> None:
        self._context = context
        self._index = index
        rates = _rates(context)
        self._num_trials = len(rates)
        self.rate = rates[index]
        self._folder = JobPaths(context.folder).checkpoints / f"trial-{index}"
        self._path = self._folder / "scores.json"
        self.scores = _read(self._path)
        """Scores in order: quarter, val_top1, num_scored, num_images, core_s, peak_memory_gib,
        and why it is absent, or why the candidate failed."""
        self._started_s = time.process_time()
        self._earlier_s = self.scores[-1]["core_s"] if self.scores else 0.0
        self._tuning: Tuning | None = None

    @property
    def score(self) -> float:
        """The newest score."""
        return float(self.scores[-1]["val_top1"])

    @property
    def finished(self) -> bool:
        """Whether it was trained to the end."""
        last = self.scores[-1]
        return bool(last["quarter"] == QUARTERS[-1] and not last["absent"])

    @property
    def stopped(self) -> bool:
        """Whether it was stopped early."""
        return bool(self.scores[-1]["quarter"] < QUARTERS[-1])

    def values(self) -> dict[str, Scalar | None]:
        """Return its last score and the share of its steps that it was given."""
        last, name = self.scores[-1], f"{self.rate:g}"
        if last["absent"]:
            return {f"val_top1/{name}": None}
        share = last["quarter"] / QUARTERS[-1]
        return {f"val_top1/{name}": self.score, f"trained_share/{name}": share}

    def spent(self) -> _work.Spent:
        """Return what it took."""
        last = self.scores[-1]
        return _work.Spent(
            num_images=last["num_images"],
            core_s=last["core_s"],
            peak_memory_gib=last["peak_memory_gib"],
        )

    def run(self) -> None:
        """Tell the scores of an earlier attempt, and train on from there."""
        from ray import tune

        _work.Meter(self._context)  # this process measures its memory anew
        self.scores = [score for score in self.scores if not score["failed"]]  # it may do now
        for known in self.scores:
            tune.report({key: known[key] for key in ("quarter", "val_top1")})
        if self.scores and self.scores[-1]["quarter"] == QUARTERS[-1]:
            return
        recipe = self._context.recipe
        tuning = Tuning(
            self._context, recipe.model_copy(update={"base_lr": self.rate}), Task.of(self._context)
        )
        self._tuning = tuning
        tuning.train(
            checkpoints=Checkpoints(self._folder, f"{self._context.spec.job_id}:{self._index}"),
            report=self._progress,
        )
        hits_N = tuning.hits()
        self._record_hits(QUARTERS[-1], hits_N, step=tuning.num_steps)

    def _progress(self, line: dict[str, Any]) -> None:
        """Pass a progress line on, counted over all candidates, and score where it is time."""
        assert self._tuning is not None
        step, num_steps = line["step"], self._tuning.num_steps
        self._context.report(
            line
            | {
                "step": self._index * num_steps + step,
                "num_steps": self._num_trials * num_steps,
            }
        )
        known = self.scores[-1]["quarter"] if self.scores else 0
        reached = [q for q in QUARTERS[:-1] if q > known and step >= q * num_steps / QUARTERS[-1]]
        if reached and step < num_steps:
            hits_N = self._tuning.hits()
            self._tuning.model.train()
            self._record_hits(reached[-1], hits_N, step=step)

    def _record_hits(self, quarter: int, hits_N: Any, *, step: int) -> None:
        num_scored = len(hits_N) * (len(self.scores) + 1)
        self.record(
            quarter,
            score=float(hits_N.mean()),
            num_scored=len(hits_N),
            num_images=step * self._context.recipe.batch_size + num_scored,
        )

    def record(
        self,
        quarter: int,
        *,
        score: float,
        num_scored: int = 0,
        num_images: int = 0,
        absent: str = "",
        failed: str = "",
    ) -> None:
        """Keep a score and tell it to Tune, which may end the trial here."""
        from ray import tune

        self.scores.append(
            {
                "quarter": quarter,
                "val_top1": score,
                "num_scored": num_scored,
                "num_images": num_images,
                "core_s": self._earlier_s + time.process_time() - self._started_s,
                "peak_memory_gib": peak_gib(self._context.device),
                "absent": absent,
                "failed": failed,
            }
        )
        text = json.dumps(self.scores)
        replace_file(self._path, lambda path: path.write_text(text, encoding="utf-8"))
        tune.report({"quarter": quarter, "val_top1": score})


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the scores of an earlier attempt, none where they cannot be read."""
    scores: list[dict[str, Any]] | None = read_json(path)
    return scores or []
