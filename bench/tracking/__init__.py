"""MLflow: the browsable mirror of the job folders.

One experiment per suite; one parent run per invocation that did work, carrying the tables and
figures; under it one run per job, with a readable name, parameters, metrics, learning curve,
cost and lineage. Only the driver writes, in a thread of its own and in batches; when MLflow is
locked, slow or broken, nothing waits for it and nothing is lost: the job folders are the truth,
a ledger says what has arrived, and the next run (or `vitbench sync`) catches up.

    database.py   the MLflow store of a work folder
    runs.py       what one run shows of a job: names, parameters, metrics, tags
    mirror.py     the thread that carries results over, and its ledger
    reading.py    results read back in bulk, by SQL or through MLflow
    view.py       the view of an experiment that MLflow's page opens by its key
"""

from bench.tracking.database import connect, tracking_uri
from bench.tracking.mirror import Ledger, Mirror, missing
from bench.tracking.reading import read_results

__all__ = ["Ledger", "Mirror", "connect", "missing", "read_results", "tracking_uri"]
