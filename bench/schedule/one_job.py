"""One job, done in this process under its claim."""

from __future__ import annotations

from pathlib import Path

from bench import preemption
from bench.errors import JobError
from bench.specs import DatasetCard, JobResult, JobSpec, Resources
from bench.store import Store


def perform(
    spec: JobSpec,
    card: DatasetCard | None,
    *,
    workdir: Path,
    resources: Resources,
    file: str = "",
) -> JobResult:
    """Do one job in this process, under its claim, and commit its result.

    `file` is the weights file of the user's own that it loads; empty where it loads none.

    Returns the result that is there when another process finished the job first; raises JobHeld
    where one works on it. Told to end, the process saves what it can, releases the claim and ends.
    """
    from bench.jobs import JobContext, _workers, run

    store = Store(workdir)
    with preemption.heeded(), store.claim(spec) as claim:
        done = store.result(spec.job_id)
        if done is not None:
            return done
        inputs = {}
        for role, needed in spec.needs.items():
            result = store.result(needed)
            if result is None:
                raise JobError(f"input {role} ({needed}) of job {spec.job_id} is not there")
            inputs[role] = (result, store.folder(needed))
        do = run if resources.workers == 1 else _workers.run
        result = do(
            JobContext(
                spec=spec,
                folder=claim.folder,
                inputs=inputs,
                dataset=card,
                cache_dir=store.paths.cache.folder,
                attempt=claim.attempt,
                report=claim.report,
                resources=resources,
                file=file,
            )
        )
        claim.commit(result)
        return result
