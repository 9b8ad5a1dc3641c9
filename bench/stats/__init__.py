"""Intervals, paired comparisons, ranks and fits: arrays in, numbers out.

Rules that hold everywhere
    - The unit of replication is the seed: a mean states its n, and fewer than two values have no
      spread and no interval (None). Nothing is invented.
    - Standard deviations divide by n - 1.
    - Two systems are compared on the same seeds, by their differences. Where the interval of the
      mean difference holds zero nothing is decided; a tie is shown where it is also small.
    - Curves are read between measured points; only a fit, which says so, goes beyond them.

Intervals follow Student's t and the bootstrap (Efron, 1979); practice with few runs follows
Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (2021).
Coverage is tested by simulation.
"""

from bench.stats.curves import first_reaching_log, interpolate_log, upper_envelope
from bench.stats.groups import TaskMean, group_means, task_mean
from bench.stats.intervals import (
    Interval,
    Summary,
    bootstrap_interval,
    normal_quantile,
    summary,
    t_interval,
)
from bench.stats.paired import (
    Difference,
    Leader,
    McNemar,
    holm,
    mcnemar,
    paired_bootstrap,
    paired_difference,
)
from bench.stats.ranks import Rank, bootstrap_ranks, paired_ranks
from bench.stats.scaling import MIN_FIT_POINTS, PowerLaw, fit_power_law

__all__ = [
    "MIN_FIT_POINTS",
    "Difference",
    "Interval",
    "Leader",
    "McNemar",
    "PowerLaw",
    "Rank",
    "Summary",
    "TaskMean",
    "bootstrap_interval",
    "bootstrap_ranks",
    "first_reaching_log",
    "fit_power_law",
    "group_means",
    "holm",
    "interpolate_log",
    "mcnemar",
    "normal_quantile",
    "paired_bootstrap",
    "paired_difference",
    "paired_ranks",
    "summary",
    "t_interval",
    "task_mean",
    "upper_envelope",
]
