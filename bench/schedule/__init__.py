"""A graph of jobs on the cores, GPUs and TPUs there are.

`run` is a loop of our own over Ray core tasks (not a Tune searcher: trial dependencies are no
feature of Tune, and its state cannot be resumed after the driver is killed). What is done is
known from the job folders alone, so resuming is running again. Ready jobs start longest
remaining path first, which keeps the makespan within a few per cent of its lower bound.

Attempts are counted here: a job whose process dies is tried again and resumes from its
checkpoint; one that fails by itself marks its dependents skipped, and the rest continues. A job
whose process was told to end, or whose node was lost, is preempted: it is tried again without
counting, as long as it comes further. One that another driver works on is waited for, while others
continue, and taken over when that driver dies. A job is done when its record is in the driver's own
store, whatever a worker says.

    order.py        how long jobs take, and which goes first
    one_job.py      one job in this process, under its claim
    executors.py    where jobs run: in this process, or on Ray
    ray_files.py    where Ray keeps its files, and what killed drivers left of them
    loop.py         the loop over a graph
"""

from bench.schedule.executors import Executor, LocalExecutor, Lost, RayExecutor
from bench.schedule.loop import Event, refuse, run
from bench.schedule.one_job import perform
from bench.schedule.order import Estimates, remaining_paths

__all__ = [
    "Estimates",
    "Event",
    "Executor",
    "LocalExecutor",
    "Lost",
    "RayExecutor",
    "perform",
    "refuse",
    "remaining_paths",
    "run",
]
