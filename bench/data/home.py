"""The data home: one folder per data set, and a note per set of where its files were found.

`VITBENCH_DATA` names it, `./data` otherwise. `DATA/NAME/` holds the files of the data set NAME as
their owner gives them. `vitbench data prepare NAME` checks them and writes `DATA/NAME.card.json`:
the card with reader, path and content digest. Suites that name the set find it there, without
opening a file of the set.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.errors import DataError
from bench.files import write_text
from bench.specs import DatasetCard

FORMAT = 1
"""Version of the notes; those of another version are taken for missing."""

SUFFIX = ".card.json"


def home() -> Path:
    """Return the data home: `VITBENCH_DATA`, or `./data`."""
    return Path(os.environ.get("VITBENCH_DATA") or "data").expanduser().absolute()


def folder_of(name: str) -> Path:
    """Return the folder that holds the files of a data set."""
    return home() / name


def located(cards: Mapping[str, DatasetCard]) -> dict[str, DatasetCard]:
    """Return the cards, those whose files were found with reader, path and digest."""
    root = home()
    try:
        names = {entry[: -len(SUFFIX)] for entry in os.listdir(root) if entry.endswith(SUFFIX)}
    except OSError:
        return dict(cards)
    return {
        name: (_noted(root, card) or card) if name in names else card
        for name, card in cards.items()
    }


def _noted(root: Path, card: DatasetCard) -> DatasetCard | None:
    """Return the card as noted, None where the note does not fit what is published."""
    try:
        note = json.loads((root / f"{card.name}{SUFFIX}").read_text(encoding="utf-8"))
        found = DatasetCard.model_validate(note["card"])
        sound = note["format"] == FORMAT and found.name == card.name
        sound = sound and found.version == card.version and found.num_classes == card.num_classes
        for split, published in card.splits.items():
            here = found.splits[split].num_examples  # fewer where the note is of a part
            sound = sound and here <= found.num_published(split) == published.num_examples
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None
    if not sound:
        return None
    if "path" not in found.args or note.get("hub"):
        return found
    path = (root / str(found.args["path"])).resolve()
    return found.model_copy(update={"args": {**found.args, "path": str(path)}})


def note(card: DatasetCard) -> Path:
    """Write down where the files of a card are; return the note. Raises DataError.

    Paths inside the data home are noted relative to it, so that it can be moved.
    """
    root = home()
    file = root / f"{card.name}{SUFFIX}"
    args = dict(card.args)
    path = Path(str(args.get("path", "")))
    if path.is_relative_to(root.resolve()):
        args["path"] = path.relative_to(root.resolve()).as_posix()
    content: dict[str, Any] = {
        "format": FORMAT,
        "hub": bool(args.get("revision")),
        "card": card.model_copy(update={"args": args}).model_dump(mode="json"),
    }
    try:
        write_text(file, json.dumps(content, indent=1))
    except OSError as error:
        raise DataError(
            f"{root}: cannot be written ({error.strerror})",
            hint="Set VITBENCH_DATA to a folder of yours",
        ) from error
    return file
