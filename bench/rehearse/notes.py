"""What rehearsals measured on this machine, kept in the work folder for whoever plans."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import TypeAdapter, ValidationError

from bench.files import write_text
from bench.paths import CachePaths
from bench.rehearse.measured import Measured

_NOTES = TypeAdapter(dict[str, dict[str, Measured]])


def read(paths: CachePaths, machine: str) -> dict[str, Measured]:
    """Return what was measured on a machine, by key of the shape; a damaged file holds nothing."""
    return _all(paths).get(machine, {})


def add(paths: CachePaths, machine: str, measured: Mapping[str, Measured]) -> None:
    """Keep what was measured on a machine; what was pretended or raised is left out."""
    real = {key: one for key, one in measured.items() if one.image_s is not None and not one.fault}
    if real:
        notes = _all(paths)
        notes[machine] = {**notes.get(machine, {}), **real}
        text = _NOTES.dump_json(notes, indent=1, exclude_defaults=True).decode()
        write_text(paths.rehearsals, text, sync=False)


def _all(paths: CachePaths) -> dict[str, dict[str, Measured]]:
    try:
        return _NOTES.validate_json(paths.rehearsals.read_bytes())
    except (FileNotFoundError, ValidationError):
        return {}
