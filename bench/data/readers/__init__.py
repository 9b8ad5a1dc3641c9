"""Readers: one file per layout of files, or family of layouts, found here or in a plug-in.

A module names its readers in `READERS`; `bench/data/readers/base.py` says what a reader is.
Importing all of them loads no heavy library: planning a suite does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from bench.data.readers.base import DatasetOptions, Reader
from bench.errors import DataError, UnknownName, suggest
from bench.plugins import Registry
from bench.specs import DatasetCard

READERS: Registry[Reader[Any]] = Registry(
    "vitbench.readers",
    package="bench.data.readers",
    attribute="READERS",
    of=Reader,  # type: ignore[type-abstract]  # compared with, never made
    noun="reader",
)
"""Every reader by name."""


def reader_of(card: DatasetCard) -> Reader[Any]:
    """Return the reader of a card; raises UnknownName."""
    return READERS.named(card.reader, where=card.name)


def block(value: Any) -> DatasetOptions:
    """Return a suite's `[dataset.NAME]` as the record of its reader.

    Raises ValidationError, so that it can validate a field of another record: an unknown reader is
    answered with the nearest one, a key that the reader does not have with the nearest it has.
    """
    if isinstance(value, DatasetOptions):
        return value
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_unset=True)
    if not isinstance(value, Mapping) or not isinstance(value.get("reader"), str):
        return DatasetOptions.model_validate(value)  # refused: not a table, or without its reader
    options = _options(value["reader"])
    if options is None:
        error = _unknown(value["reader"])
        raise _refusal(("reader",), error.message, error.hint, value)
    try:
        return options.model_validate(dict(value))
    except ValidationError as error:
        raise _explained(error, options, value) from None


def options_of(name: str, value: Any) -> DatasetOptions:
    """Return `[dataset.NAME]` as the record of its reader; raises UnknownName or DataError."""
    try:
        return block(value)
    except ValidationError as error:
        if isinstance(value, Mapping) and "reader" in value and _options(value["reader"]) is None:
            raise _unknown(str(value["reader"]), where=f"dataset.{name}.reader") from None
        raise DataError(_in_words(name, error)) from None


def _in_words(name: str, error: ValidationError) -> str:
    """Return what is wrong with a block, in one line."""
    first = error.errors(include_url=False)[0]
    cause = f"{first['msg'][:1].lower()}{first['msg'][1:]}"
    if first["type"] == "missing":
        cause = "missing"
    elif not isinstance(first["input"], Mapping):
        cause += f", not {first['input']!r}"
    return f"{'.'.join(('dataset', name, *map(str, first['loc'])))}: {cause}"


def _options(reader: str) -> type[DatasetOptions] | None:
    return READERS[reader].options if reader in READERS else None


def _unknown(reader: str, *, where: str = "") -> UnknownName:
    """Return the error of a name that no reader with a block has."""
    known = [name for name in READERS if _options(name) is not None]
    return UnknownName(
        READERS.noun, reader, known, where=where, note=READERS.broken.get(reader, "")
    )


def _explained(
    error: ValidationError, options: type[DatasetOptions], value: Mapping[str, Any]
) -> ValidationError:
    """Return the error with the reader's own keys named where a key is not one of them."""
    for detail in error.errors(include_url=False):
        if detail["type"] == "extra_forbidden":
            key = str(detail["loc"][-1])
            cause = f"the {value['reader']} reader has no such key"
            return _refusal(
                detail["loc"], cause, suggest(key, options.model_fields, kind="key"), value
            )
    return error


def _refusal(
    location: tuple[int | str, ...], cause: str, hint: str, value: Mapping[str, Any]
) -> ValidationError:
    words = PydanticCustomError("dataset", "{cause}. {hint}", {"cause": cause, "hint": hint})
    # The whole block stands for the input: the message has said what is wrong already.
    return ValidationError.from_exception_data(
        "dataset", [InitErrorDetails(type=words, loc=location, input=dict(value))]
    )
