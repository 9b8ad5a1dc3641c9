"""Choose the learning rate of a fine-tuning sweep by its held-out accuracy.

Source: arXiv:2010.11929, appendix B.1.1. The best `val_top1` wins; of equals, the smaller rate.
A candidate that diverged has none, and is not chosen. Where candidates stopped early, the chosen
one says where the final run ends.
"""

from __future__ import annotations

from bench.errors import JobError
from bench.jobs import JobContext, _work
from bench.jobs._stopping import SHARE
from bench.specs import JobResult


def run(context: JobContext) -> JobResult:
    """Return the chosen `learning_rate`, its job as `candidate`, and its `val_top1`."""
    meter = _work.Meter(context)
    candidates = [
        (result.metrics["val_top1"], float(result.values["learning_rate"] or 0), result)
        for role, (result, _) in sorted(context.inputs.items())
        if role.startswith("candidate:")
    ]
    if not candidates:
        raise JobError(f"selection {context.spec.job_id} has no candidates")
    best, rate, chosen = max(
        candidates,
        key=lambda found: (-1.0 if found[0].value is None else found[0].value, -found[1]),
    )
    if best.value is None:
        raise JobError(
            f"all {len(candidates)} learning rates failed; {rate:g}: {best.reason}",
            hint="Add smaller learning_rates",
        )
    share = {key: value for key, value in chosen.values.items() if key == SHARE}
    return meter.result(
        metrics={"val_top1": best},
        values={"learning_rate": rate, "candidate": chosen.job_id, **share},
    )
