"""The work folder: can it be written to, does it keep locks, what did the last run leave there."""

from __future__ import annotations

import importlib.util
import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from bench.doctor.check import Check, ok, problem, warning
from bench.errors import UserError
from bench.paths import JobPaths, WorkPaths
from bench.store.claims import newest_claim
from bench.store.holds import holder, try_link

NETWORK = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs")
)
"""File systems on which kernel locks or SQLite's write-ahead log may not hold."""

LOCK_WAIT_S = 0.2
"""How long a lock of another process is waited for."""


def nearest(folder: Path) -> Path:
    """Return the folder itself, or the closest folder above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def writable(workdir: Path) -> Check:
    """Write and remove a file where the work folder is, or would be made."""
    place = nearest(workdir)
    cure = "Choose a folder that can be written to with --workdir, or fix its permissions"
    if not place.is_dir():
        return problem("work folder", f"{place} is a file, not a folder", cure)
    try:
        with tempfile.TemporaryFile(dir=place):
            try_link(place)
    except UserError as error:
        return problem("work folder", str(error.message), error.hint)
    except OSError as error:
        return problem("work folder", f"{place} cannot be written to ({error.strerror})", cure)
    return ok("work folder", f"{workdir}" + ("" if place == workdir else ", made on the first run"))


def file_system(workdir: Path, mounts: str) -> Check:
    """Judge the kind of file system by the longest mount point above; `mounts` as /proc/mounts."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        if workdir.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, fields[2]
    if kind in NETWORK or kind.startswith("fuse."):
        return warning(
            "file system",
            f"{workdir} lies on a network file system ({kind})",
            "Choose a local folder with --workdir: locks and MLflow's database need one",
        )
    return ok("file system", kind or "unknown")


def mounts() -> str:
    """Return the mounted file systems as the kernel tells them, "" where it does not."""
    try:
        return Path("/proc/mounts").read_text(encoding="utf-8")
    except OSError:
        return ""


def leftovers(workdir: Path) -> list[Check]:
    """Find what killed processes left, and who else works in the folder."""
    paths = WorkPaths(workdir)
    jobs = list(paths.each_job())
    working = [job.folder.name for job in jobs if holder(newest_claim(job)) is not None]
    checks = []
    if working:
        checks.append(
            warning(
                "locks",
                f"another process works on {len(working)} jobs there ({working[0]} ...)",
                "Let it finish: both may run, and each job is done once",
            )
        )
    interrupted = [
        job.folder.name for job in jobs if _is_open(job) and job.folder.name not in set(working)
    ]
    if interrupted:
        checks.append(
            warning(
                "locks",
                f"{len(interrupted)} jobs were started and never finished ({interrupted[0]} ...)",
                "Run the suite again: they continue from their last checkpoint",
            )
        )
    partial = paths.cache.partials()
    if partial:
        checks.append(
            warning(
                "locks",
                f"{partial[0]} is left of a data set that was never fully packed",
                "Run the suite again: packing continues where it stopped; or remove the folder",
            )
        )
    return checks or [ok("locks", "nothing is left over, no other process works there")]


def _is_open(job: JobPaths) -> bool:
    """Return whether an attempt was made at a job, without an outcome."""
    return newest_claim(job).exists() and not (job.result.exists() or job.failure.exists())


# --- MLflow's database ----------------------------------------------------------------------


def database(workdir: Path) -> Check:
    """Read MLflow's database without MLflow: is it whole, of a known version, and free."""
    file = WorkPaths(workdir).mlflow_database
    if not file.exists():
        return ok("tracking", "no MLflow database yet: the first run makes one")
    cure = f"Move {file} away; `vitbench sync SUITE` fills a new one from the job folders"
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True)) as connection:
            connection.execute(f"PRAGMA busy_timeout = {int(LOCK_WAIT_S * 1000)}")
            version = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
            broken = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if broken != "ok":
                return problem("tracking", f"{file} is damaged ({broken})", cure)
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return warning(
                "tracking",
                f"{file} is locked by another program",
                "Close it; results are kept in the job folders and carried over later",
            )
        return problem("tracking", f"{file} cannot be read ({error})", cure)
    except (sqlite3.DatabaseError, TypeError) as error:
        return problem("tracking", f"{file} is damaged ({error})", cure)
    known = schema_versions()
    if known and version not in known:
        return problem(
            "tracking",
            f"{file} was made by another MLflow (schema {version})",
            "Install the MLflow that made it, or a newer one",
        )
    return ok("tracking", f"{file} is intact (schema {version})")


def schema_versions() -> frozenset[str]:
    """Return the schema versions that the installed MLflow knows, read without importing it."""
    found = importlib.util.find_spec("mlflow")
    if found is None or found.origin is None:
        return frozenset()
    folder = Path(found.origin).parent / "store" / "db_migrations" / "versions"
    texts = (path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    matches = (re.search(r"^revision(?:: str)? = ['\"](\w+)['\"]", text, re.M) for text in texts)
    return frozenset(match[1] for match in matches if match)
