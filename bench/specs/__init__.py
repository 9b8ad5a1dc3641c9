"""Every record that crosses a boundary between two layers.

Records are frozen, forbid unknown fields and turn into canonical JSON. The identity of a job
(`job_id`) is the hash of its `JobSpec`, which therefore holds what a suite says that changes the
number, and no more: names, labels, paths, resources and the suite live in `PlannedJob`. What a
suite asks and the graph that it becomes are in `bench/plan/spec.py`, which knows the kinds of jobs.

Glossary (one word per idea)
    suite       a file that states a claim and the comparison that tests it
    system      what is compared: an architecture at a size (ViT-B/16, R50x1); described by a card
    upstream    the data set of pre-training;  downstream: the data set of transfer
    protocol    how images are prepared, which splits are used and how a result is scored
    recipe      how weights are updated: steps, batch size, optimizer, learning rate, schedule
    job         one unit of work with one result;  attempt: one try at a job
    run         MLflow's word for its record of a job
    pair        systems compared at matched pre-training compute
    top-1       the share of test images whose highest-scored class is right, a fraction in [0, 1]
    exaFLOPs    10^18 floating-point operations; one multiply-add is 2; training is 3 x forward
    core-seconds  seconds of CPU time, summed over cores (device-seconds on an accelerator)
"""

from bench.specs.cards import (
    GPU_ARITHMETIC,
    MAX_EPOCHS,
    DatasetCard,
    Precision,
    Protocol,
    Recipe,
    SplitCard,
    SystemCard,
    Training,
    WeightsSource,
)
from bench.specs.compared import UNRANKED, Compared, NotCompared, comparisons
from bench.specs.jobs import (
    EVALUATION_BATCH,
    DataUse,
    DeviceKind,
    JobSpec,
    Labels,
    PlannedJob,
    Resources,
    SystemUse,
)
from bench.specs.metrics import MetricCard
from bench.specs.record import Args, Record, Scalar, canonical_json, content_id
from bench.specs.results import Cost, JobResult, Metric, PublishedResult
from bench.specs.suites import (
    Pair,
    ReportBlock,
    Scale,
    ScaleBlock,
    Scales,
    SystemBlock,
)

__all__ = [
    "EVALUATION_BATCH",
    "GPU_ARITHMETIC",
    "MAX_EPOCHS",
    "UNRANKED",
    "Args",
    "Compared",
    "Cost",
    "DataUse",
    "DatasetCard",
    "DeviceKind",
    "JobResult",
    "JobSpec",
    "Labels",
    "Metric",
    "MetricCard",
    "NotCompared",
    "Pair",
    "PlannedJob",
    "Precision",
    "Protocol",
    "PublishedResult",
    "Recipe",
    "Record",
    "ReportBlock",
    "Resources",
    "Scalar",
    "Scale",
    "ScaleBlock",
    "Scales",
    "SplitCard",
    "SystemBlock",
    "SystemCard",
    "SystemUse",
    "Training",
    "WeightsSource",
    "canonical_json",
    "comparisons",
    "content_id",
]
