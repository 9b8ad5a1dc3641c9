"""What all records share: frozen, strict, and with one canonical JSON text."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict

Scalar = bool | int | float | str
Args = dict[str, Scalar | tuple[int, ...] | tuple[float, ...]]


class Record(BaseModel):
    """Base of all records: frozen, strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def canonical_json(record: BaseModel | dict[str, Any]) -> str:
    """Return the one JSON text of a record: sorted keys, no spaces, NaN refused."""
    data = record.model_dump(mode="json") if isinstance(record, BaseModel) else record
    return json.dumps(
        data, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )


def content_id(record: BaseModel | dict[str, Any]) -> str:
    """Return the first 16 hex digits (64 bits) of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(record).encode()).hexdigest()[:16]
