"""Evidence bundles: everything behind a suite's tables in one archive, for another machine.

    bundle.json                 format, suite, version, and the SHA-256 of every other file
    graph.json                  the planned suite: jobs, their specifications, data cards
    published.json              the published numbers that the tables answer
    environment.json            what the bundle was made with
    jobs/<job id>/result.json   metrics, costs, environment of a job
    jobs/<job id>/progress.jsonl    learning curve, pre-training alone
    jobs/<job id>/hits.npz      which test images a job got right, and what it took them for
    report/tables/*, report/timings/*   the tables, as rendered when it was made

No checkpoints: their digests are in the results, and so are those of the public weights that jobs
started from (`Evidence.weights`). No paths of the machine, and workers are
numbered: see `bench/store/scrub.py`. The same records give the same bytes. Hashes find damage and
careless changes; they prove nothing about who made a bundle: its digest does,
received by another route.

A bundle comes from others. It is never unpacked: names are allow-listed, sizes are bounded before
anything is read, and nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from bench import digests
from bench.errors import UserError
from bench.files import replacing
from bench.paths import CLASSES, GRAPH, HITS, LABELS, PROGRESS, RESULT
from bench.plan.spec import JobGraph
from bench.specs import JobResult, PublishedResult

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
"""Version of the layout of a bundle."""
MANIFEST = "bundle.json"
PUBLISHED = "published.json"
ENVIRONMENT = "environment.json"
MAX_FILES = 200_000
MAX_FILE_BYTES = 256 * 2**20
MAX_BYTES = 2 * 2**30
"""Bounds on what is read from a bundle, unpacked."""


def _any_of(*names: str) -> str:
    return f"({'|'.join(map(re.escape, names))})"


_JOB = rf"jobs/[0-9a-f]{{16}}/{_any_of(RESULT, PROGRESS, HITS)}"
_REPORT = r"report/(tables|timings)/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}"
_NAMES = re.compile(rf"{_any_of(MANIFEST, GRAPH, PUBLISHED, ENVIRONMENT)}|{_JOB}|{_REPORT}")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first day that a zip file knows
_PUBLISHED = TypeAdapter(tuple[PublishedResult, ...])


@dataclass(frozen=True)
class Evidence:
    """What a bundle holds, checked."""

    graph: JobGraph
    """The planned suite."""
    results: Mapping[str, JobResult]
    """Outcomes by job id."""
    curves: Mapping[str, list[dict[str, Any]]]
    """Learning curves of pre-training jobs by job id."""
    hits: Mapping[str, bytes]
    """Files of per-image hits by job id."""
    published: tuple[PublishedResult, ...]
    """Published numbers."""
    environment: Mapping[str, str]
    """What the bundle was made with."""
    tables: Mapping[str, bytes]
    """Rendered tables by name, e.g. `tables/comparison.csv`."""
    digest: str = ""
    """SHA-256 of the manifest, which holds that of every file."""

    @property
    def weights(self) -> tuple[digests.Used, ...]:
        """The public weights that its jobs loaded, with their digests."""
        return tuple(digests.used(self.graph.jobs, self.results))

    def hits_of(self, job_id: str) -> np.ndarray | None:
        """Return hits_N (bool) of a job on the test images; None where it has none."""
        content = self.hits.get(job_id)
        return None if content is None else read_hits(content, job_id)

    def answers_of(self, job_id: str) -> dict[str, np.ndarray]:
        """Return a job's labels and classes of the test images, as `Store.answers` does."""
        content = self.hits.get(job_id)
        if content is None:
            return {}
        found = _arrays(content, job_id)
        return {n: a for n, a in found.items() if n.startswith((LABELS, f"{CLASSES}/"))}


def write(path: Path, evidence: Evidence) -> str:
    """Write a bundle, whole or not at all; return the digest of its manifest."""
    contents = dict(sorted(_contents(evidence)))
    manifest = {
        "format": FORMAT,
        "suite": evidence.graph.suite.name,
        "vitbench": evidence.environment.get("vitbench", ""),
        "files": {name: _sha256(content) for name, content in contents.items()},
    }
    first = _json(manifest)
    try:
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, content in {MANIFEST: first, **contents}.items():
                info = zipfile.ZipInfo(name, date_time=_EPOCH)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.create_system = 3
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(info, content)
    except OSError as error:
        raise UserError(f"--out {path}: {error.strerror}") from error
    return _sha256(first)


def read(path: Path) -> Evidence:
    """Return what a bundle holds; raises UserError where it is damaged, unsafe or incomplete."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(path, archive)
            manifest = _manifest(path, archive, members)
            contents = dict(_checked(path, archive, members, manifest["files"]))
            digest = _sha256(_content(archive, members[MANIFEST]))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, RuntimeError,
            NotImplementedError, ValueError) as error:  # fmt: skip
        raise _damaged(path, str(error)) from error
    try:
        return _evidence(path, contents, digest)
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError) as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _damaged(path, f"not the records of vitbench: {words}") from error


def read_hits(content: bytes, name: str) -> np.ndarray | None:
    """Return hits_N (bool) from the bytes of a job's `hits.npz`; None where it has no such row."""
    found = _arrays(content, name).get("hits")
    return None if found is None else found.astype(bool)


def _arrays(content: bytes, name: str) -> dict[str, np.ndarray]:
    """Return the arrays in the bytes of a job's `hits.npz`; raises UserError where damaged."""
    import numpy as np

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_FILE_BYTES:
                raise ValueError("larger than allowed")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise UserError(f"{_in_job(name, HITS)}: damaged: {error}") from error


def _contents(evidence: Evidence) -> Iterator[tuple[str, bytes]]:
    yield GRAPH, evidence.graph.model_dump_json().encode()
    yield PUBLISHED, _PUBLISHED.dump_json(evidence.published)
    yield ENVIRONMENT, _json(dict(evidence.environment))
    for job_id, result in evidence.results.items():
        yield _in_job(job_id, RESULT), result.model_dump_json().encode()
    for job_id, curve in evidence.curves.items():
        lines = "".join(f"{json.dumps(line)}\n" for line in curve)
        yield _in_job(job_id, PROGRESS), lines.encode()
    for job_id, content in evidence.hits.items():
        yield _in_job(job_id, HITS), content
    for name, content in evidence.tables.items():
        yield f"report/{name}", content


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members by name, after every check that needs no content."""
    infos = archive.infolist()
    if len(infos) > MAX_FILES:
        raise _damaged(path, f"{len(infos):,} files; at most {MAX_FILES:,} are read")
    if sum(info.file_size for info in infos) > MAX_BYTES:
        raise _damaged(path, f"more than {MAX_BYTES >> 30} GiB when unpacked")
    found: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename
        if not _NAMES.fullmatch(name):
            raise _damaged(path, f"a file that no bundle has: {name[:100]!r}")
        if name in found:
            raise _damaged(path, f"{name} is in it twice")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise _damaged(path, f"{name} is a link or not a plain file")
        if info.file_size > MAX_FILE_BYTES:
            raise _damaged(path, f"{name} is larger than {MAX_FILE_BYTES >> 20} MiB")
        found[name] = info
    return found


def _manifest(
    path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo]
) -> dict[str, Any]:
    if MANIFEST not in members:
        raise _damaged(path, f"no {MANIFEST}: not an evidence bundle")
    manifest = json.loads(_content(archive, members[MANIFEST]))
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise _damaged(path, f"{MANIFEST} lists no files")
    if manifest.get("format") != FORMAT:
        raise UserError(
            f"{path}: a bundle of format {manifest.get('format')!r}; this vitbench reads {FORMAT}"
        )
    listed = {MANIFEST, *manifest["files"]}
    for name in sorted(listed ^ set(members)):
        what = "is missing" if name in listed else f"is not listed in {MANIFEST}"
        raise _damaged(path, f"{name[:100]} {what}")
    return manifest


def _checked(
    path: Path,
    archive: zipfile.ZipFile,
    members: Mapping[str, zipfile.ZipInfo],
    digests: Mapping[str, str],
) -> Iterator[tuple[str, bytes]]:
    for name, digest in digests.items():
        content = _content(archive, members[name])
        if _sha256(content) != digest:
            raise _damaged(path, f"{name} is not what {MANIFEST} says")
        yield name, content


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return a member, unpacked no further than the size it states."""
    with archive.open(info) as file:
        content = file.read(info.file_size)
    if len(content) != info.file_size:
        raise zipfile.BadZipFile(f"{info.filename} is shorter than it states")
    return content


def _evidence(path: Path, contents: Mapping[str, bytes], digest: str) -> Evidence:
    graph = JobGraph.model_validate_json(contents[GRAPH])
    ids = {job.job_id for job in graph.jobs}
    for job in graph.jobs:
        if job.spec.job_id != job.job_id:
            raise _damaged(path, f"job {job.job_id} is not that of its specification")
    results = {
        job_id: JobResult.model_validate_json(content)
        for job_id, content in _of_jobs(contents, RESULT)
    }
    for job_id, result in results.items():
        if result.job_id != job_id or job_id not in ids:
            raise _damaged(path, f"{_in_job(job_id, RESULT)} is of another job")
    hits = dict(_of_jobs(contents, HITS))
    for job_id, content in hits.items():
        stated = results[job_id].files.get(HITS) if job_id in results else None
        if stated is not None and stated != _sha256(content):
            raise _damaged(path, f"{_in_job(job_id, HITS)} is not the file of its result")
    return Evidence(
        graph=graph,
        results=results,
        curves={
            job_id: [json.loads(line) for line in content.splitlines()]
            for job_id, content in _of_jobs(contents, PROGRESS)
        },
        hits=hits,
        published=_PUBLISHED.validate_json(contents[PUBLISHED]),
        environment={
            str(key): str(value) for key, value in json.loads(contents[ENVIRONMENT]).items()
        },
        tables={
            name.removeprefix("report/"): content
            for name, content in contents.items()
            if name.startswith("report/")
        },
        digest=digest,
    )


def _in_job(job_id: str, file: str) -> str:
    return f"jobs/{job_id}/{file}"


def _of_jobs(contents: Mapping[str, bytes], file: str) -> Iterator[tuple[str, bytes]]:
    for name, content in contents.items():
        if name.startswith("jobs/") and name.endswith(f"/{file}"):
            yield name.split("/")[1], content


def _damaged(path: Path, cause: str) -> UserError:
    return UserError(
        f"{path}: damaged or unsafe bundle: {cause}", hint="Ask for it again, or do not use it"
    )


def _json(data: Any) -> bytes:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
