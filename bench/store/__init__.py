"""The work folder: job folders and their claims, an index of what they hold, and bundles.

folders.py    what was done: results, failures, learning curves, files of jobs
holds.py      who works on something, and whether they still live
claims.py     the right to work on a job
index.py      what job folders hold, known without reading them again
bundle.py     everything behind a suite's tables in one archive
scrub.py      records without paths of the machine
"""

from bench.store.claims import Claim
from bench.store.folders import Store
from bench.store.holds import Holder

__all__ = ["Claim", "Holder", "Store"]
