"""A suite file in, a validated SuiteSpec out: pure, without torch.

    suites/quickstart.toml -> load() -> SuiteSpec        (then bench/plan: SuiteSpec -> JobGraph)

A suite may have scales: blocks that belong to another one stay in the record, and the planner
leaves them out. Whatever is wrong with a file is reported in one line: file, key, cause, nearest
valid name, cure.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from bench.errors import SuiteError, UnknownName, UserError, suggest
from bench.kinds.base import TransferBlock
from bench.plan.spec import SuiteSpec, kinds_of, transfer_record
from bench.plugins import Registry
from bench.specs import Scale, ScaleBlock

MAX_FILE_BYTES = 1_000_000
_KEY = re.compile(r"[^.\[\]]+|\[\d+\]")
DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of text: what is shown need not be what is meant."""


@dataclass(frozen=True)
class SuiteFile:
    """A suite that is known by its name."""

    name: str
    """Name of its file, without the ending."""
    path: Path
    """The file."""


def _files(package: str | ModuleType) -> Iterator[SuiteFile]:
    """Yield the suites that lie in a package."""
    for entry in sorted(resources.files(package).iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".toml"):
            yield SuiteFile(entry.name.removesuffix(".toml"), Path(str(entry)))


def _their_files(package: Any) -> Iterator[SuiteFile]:
    if not isinstance(package, ModuleType):
        raise TypeError(f"{package!r} is not a package of suite files")
    return _files(package)


SUITES: Registry[SuiteFile] = Registry(
    "vitbench.suites",
    ours=lambda: _files("suites"),
    read=_their_files,
    of=SuiteFile,
    noun="suite",
)
"""Suites by name: ours, and those in the packages that entry points of others name."""


def names() -> tuple[str, ...]:
    """Return the names of all suites, those of other distributions included."""
    return tuple(sorted(SUITES))


def locate(suite: str) -> Path:
    """Return the file of `suite`: a name of a packaged suite, or a path."""
    if suite in SUITES:
        return SUITES[suite].path
    path = Path(suite)
    if path.suffix == ".toml" or len(path.parts) > 1:
        try:
            path = path.expanduser()
            is_folder, is_file = path.is_dir(), path.is_file()
        except (OSError, RuntimeError, ValueError) as error:  # too long, a ~user
            cause = getattr(error, "strerror", None) or _lower(str(error))
            raise SuiteError(suite, "", f"cannot be used as a path: {cause}") from error
        if is_folder:
            raise SuiteError(suite, "", "is a folder", hint="Name the .toml file of the suite")
        if not is_file:
            raise SuiteError(
                suite, "", "no such file", hint=f"Suites by name: {', '.join(names())}"
            )
        return path
    raise UnknownName("suite", suite, SUITES, note=SUITES.broken.get(suite, ""))


def load(
    suite: str,
    *,
    settings: Sequence[str] = (),
    scale: str | None = None,
    num_seeds: int | None = None,
    limit_steps: int | None = None,
) -> SuiteSpec:
    """Read, adjust and validate a suite; `settings` are `key=value` texts for any of its fields.

    What its scale changes is applied, except where a setting says otherwise. Raises SuiteError
    with file, key, cause, nearest valid name and cure.
    """
    path = locate(suite)
    data = _read_toml(path)
    for setting in settings:
        _apply(data, setting)
    if scale is not None:
        data["scale"] = scale
    try:
        _check_values(data, "", file=shown(path))
    except RecursionError as error:
        raise SuiteError(shown(path), "", "nested too deeply") from error
    spec = _at_scale(_validate(data, file=shown(path)), settings, file=shown(path))
    if num_seeds is not None:
        if not 1 <= num_seeds <= len(spec.seeds):
            raise UserError(
                f"--seeds {num_seeds}: the suite has {len(spec.seeds)} seeds",
                hint='Add seeds with --set "seeds=[0,1,2,...]"',
            )
        spec = spec.model_copy(update={"seeds": spec.seeds[:num_seeds]})
    if limit_steps is not None:
        if limit_steps < 1:
            raise UserError(f"--limit-steps {limit_steps}: must be at least 1")
        spec = spec.model_copy(update={"limit_steps": limit_steps})
    return _with_paths(spec, path.parent, file=shown(path))


def _with_paths(spec: SuiteSpec, folder: Path, *, file: str) -> SuiteSpec:
    """Return a suite whose weights files are absolute paths; relative ones start at its file."""
    blocks = list(spec.weights)
    for index, block in enumerate(blocks):
        if block.file:
            try:
                path = (folder / Path(block.file).expanduser()).resolve()
                path.exists()
            except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL byte, a ~user
                cause = f"cannot be used as a path ({error})"
                raise SuiteError(file, f"weights[{index}].file", cause) from error
            blocks[index] = block.model_copy(update={"file": str(path)})
    return spec.model_copy(update={"weights": tuple(blocks)}) if spec.weights else spec


def parse(text: str, *, file: str) -> SuiteSpec:
    """Validate the text of a suite that lies in no file yet; `file` is its name in messages."""
    data = _toml(text, where=file)
    _check_values(data, "", file=file)
    return _at_scale(_validate(data, file=file), (), file=file)


def scales(spec: SuiteSpec) -> tuple[Scale, ...]:
    """Return the scales that a suite has, small ones first; empty where it has none."""
    groups = (spec.pretrain, spec.weights, spec.transfer, spec.profile, spec.pair)
    named = {*spec.scales, *(scale for group in groups for block in group for scale in block.scale)}
    return tuple(scale for scale in get_args(Scale) if scale in named)


def _check_values(value: Any, key: str, *, file: str) -> None:
    """Refuse numbers that are none, and characters that a terminal obeys in place of showing."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_values(name, key or name.strip(), file=file)
            _check_values(inner, f"{key}.{name}" if key else name, file=file)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_values(inner, f"{key}[{index}]", file=file)
    elif isinstance(value, float) and not math.isfinite(value):
        raise SuiteError(file, key, f"must be a finite number, not {value}")
    elif isinstance(value, str):
        for character in value:
            if _is_obeyed(character):
                code = f"U+{ord(character):04X}"
                cause = f"holds the control character {code}"
                shown_key = "".join(c if not _is_obeyed(c) else "?" for c in key)
                raise SuiteError(file, shown_key, cause, hint="Remove it")


def _is_obeyed(character: str) -> bool:
    """Tell whether a character controls a terminal, or the direction in which text runs."""
    if character in "\n\t":
        return False
    return unicodedata.category(character) == "Cc" or character in DIRECTIONS


def _at_scale(spec: SuiteSpec, settings: Sequence[str], *, file: str) -> SuiteSpec:
    """Check the scale and apply its `[scales.NAME]`; what a `--set` names itself stays."""
    known = scales(spec)
    words = f"Scales of this suite: {', '.join(known)}" if known else "It has one scale"
    if spec.scale is None:
        if known:
            raise SuiteError(file, "scale", "missing", hint=words)
        return spec
    if spec.scale not in known:
        raise SuiteError(file, "scale", f'the suite has no scale "{spec.scale}"', hint=words)
    ours = spec.narrowed()
    starts = bool(ours.pretrain or ours.weights)
    if starts != bool(ours.transfer) or not (starts or ours.profile):
        what = "transfer" if starts else "pretrain]] or [[weights"
        raise SuiteError(file, "scale", f'no [[{what}]] table belongs to scale "{spec.scale}"')
    block = spec.scales.get(spec.scale, ScaleBlock())
    named = {setting.partition("=")[0].strip() for setting in settings}
    changes = {
        key: value
        for key in ("seeds", "num_threads", "gpus", "tpus", "decoders", "workers")
        if (value := getattr(block, key)) not in (None, ()) and key not in named
    }
    return _validate({**spec.model_dump(), **changes}, file=file) if changes else spec


def shown(path: Path) -> str:
    """Return a suite's path as a person would type it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return path.name if "suites" in path.parts else str(path)


def _read_toml(path: Path) -> dict[str, Any]:
    where = shown(path)
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise SuiteError(where, "", f"{size:,} bytes is too large for a suite file")
        text = path.read_bytes().decode("utf-8-sig")  # some editors write a mark first
    except OSError as error:
        raise SuiteError(where, "", f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SuiteError(
            where, f"byte {error.start}", "not UTF-8 text", hint="Save the file as UTF-8"
        ) from error
    return _toml(text, where=where)


def _toml(text: str, *, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of too many digits too
        cause = "nested too deeply" if isinstance(error, RecursionError) else _lower(str(error))
        raise SuiteError(where, "", f"not valid TOML: {cause}") from error


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _apply(data: dict[str, Any], setting: str) -> None:
    """Set one field by its path, e.g. `pretrain[0].num_examples=[512]` or `seeds=[0]`."""
    key, equals, text = setting.partition("=")
    key, text = key.strip(), text.strip()
    steps = [int(s[1:-1]) if s.startswith("[") else s for s in _KEY.findall(key)]
    if not equals or not steps or "".join(_KEY.findall(key)) != key.replace(".", ""):
        raise SuiteError(
            "--set", setting, "not of the form key=value", hint='Example: --set "seeds=[0,1]"'
        )
    target: Any = data
    for position, step in enumerate(steps[:-1]):
        default: Any = {} if isinstance(steps[position + 1], str) else None
        target = _child(target, step, default=default, setting=key)
    last = steps[-1]
    if isinstance(last, int):
        _child(target, last, default=None, setting=key)
    elif not isinstance(target, dict):
        raise SuiteError("--set", key, f'"{last}" is not a field of a list', hint=_indices(target))
    target[last] = _value(text, key)


def _child(target: Any, step: str | int, *, default: Any, setting: str) -> Any:
    if isinstance(step, int):
        if not isinstance(target, list) or step >= len(target):
            raise SuiteError("--set", setting, f"there is no entry [{step}]", hint=_indices(target))
        return target[step]
    if isinstance(target, list) and step.isdigit():
        return _child(target, int(step), default=default, setting=setting)
    if not isinstance(target, dict):
        raise SuiteError("--set", setting, f'"{step}" is not a field here', hint=_indices(target))
    if step not in target:
        if default is None:
            raise SuiteError("--set", setting, f'there is no "{step}"', hint=suggest(step, target))
        target[step] = default
    return target[step]


def _indices(target: Any) -> str:
    if isinstance(target, list):
        return f"Entries are numbered [0] to [{len(target) - 1}]"
    return ""


def _value(text: str, key: str) -> Any:
    """Read a TOML value; a bare word is a string."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        if re.fullmatch(r"[^\s\"'\[\]{}=,]+", text):
            return text
        raise SuiteError(
            "--set", key, f"{text!r} is not a TOML value", hint='Quote text: key="some text"'
        ) from None
    if set(parsed) != {"value"}:
        raise SuiteError("--set", key, f"{text!r} is not one TOML value")
    return parsed["value"]


def _validate(data: dict[str, Any], *, file: str) -> SuiteSpec:
    try:
        spec = SuiteSpec.model_validate(data)
        _check_types(data, spec.model_dump(), "", file=file)
        _check_repeats(data, file=file)
        return spec
    except ValidationError as error:
        first = _telling(error.errors(include_url=False, include_context=False))
        more = error.error_count() - 1
        location = first["loc"]
        key = _dotted(location)
        hint = ""
        cause = _lower(first["msg"].removeprefix("Value error, ")).replace("tuple", "list")
        if first["type"] == "extra_forbidden":
            cause = "unknown key"
            hint = _key_hint(data, location)
        elif first["type"] == "missing":
            cause = "missing"
        elif first["type"] == "too_short":
            cause = "has too few entries" if first["input"] else "must not be empty"
        elif first["type"] == "string_pattern_mismatch":  # only names have one
            letters = "A-Z, a-z, 0-9, then also '.', '_' and '-'; 64 at most"
            cause = f"{first['input']!r} has characters other than {letters}"
        elif len(location) == 1 and (brackets := _brackets(key)):
            cause, hint = "not written as it is meant", f"Write {brackets} above its keys"
        elif not isinstance(first["input"], dict | list):
            cause += f", not {first['input']!r}"
        if more:
            hint = f"{hint} ({more} more after this)".strip()
        raise SuiteError(file, key, cause, hint=hint) from error


_BLOCKS = ("pretrain", "weights", "transfer", "profile", "pair")
"""Tables that stand in a suite as often as they are needed."""

_ONCE = frozenset((
    "systems", "datasets", "shots", "neighbours", "l2s", "learning_rates", "tables", "figures",
    "image_sizes_px", "batch_sizes", "scale",
))  # fmt: skip
"""Lists in which nothing stands twice."""


def _brackets(key: str) -> str:
    """Return how a table of a suite is begun; empty where a key is none."""
    if key in _BLOCKS:
        return f"[[{key}]]"
    if key == "report":
        return "[report]"
    return f"[{key}.NAME]" if key in ("recipe", "protocol", "dataset", "system", "scales") else ""


def _telling(errors: Sequence[Any]) -> Any:
    """Return the error to show: a misspelled key tells more than the one that is missing for it."""
    first = errors[0]
    if first["type"] != "missing":
        return first
    *place, key = first["loc"]
    for error in errors:
        *beside, written = error["loc"]
        near = difflib.get_close_matches(str(written), [str(key)])
        if error["type"] == "extra_forbidden" and beside == place and near:
            return error
    return first


def _check_types(given: Any, taken: Any, key: str, *, file: str) -> None:
    """Refuse text and truth values that were taken for numbers."""
    if isinstance(given, dict) and isinstance(taken, dict):
        for name in given.keys() & taken.keys():
            place = f"{key}.{name}" if key else str(name)
            _check_types(given[name], taken[name], place, file=file)
    elif isinstance(given, list) and isinstance(taken, list | tuple):
        for index, (one, other) in enumerate(zip(given, taken, strict=False)):
            _check_types(one, other, f"{key}[{index}]", file=file)
    elif isinstance(taken, int | float) and isinstance(given, bool) != isinstance(taken, bool):
        what = "true or false" if isinstance(taken, bool) else "a number"
        raise SuiteError(file, key, f"must be {what}, not {str(given).lower()}")
    elif isinstance(taken, int | float) and isinstance(given, str):
        raise SuiteError(
            file, key, f"must be a number, not {given!r}", hint="Leave out the quotation marks"
        )


def _check_repeats(data: dict[str, Any], *, file: str) -> None:
    """Refuse what stands twice in a list of a block."""
    for place, block in _tables(data):
        for key in _ONCE & block.keys():
            twice = _twice(block[key]) if isinstance(block[key], list) else None
            if twice is not None:
                cause = f"names {twice!r} twice"
                raise SuiteError(file, f"{place}.{key}", cause, hint="Remove one of them")


def _tables(data: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the tables of a suite whose lists name things, each with its key."""
    for table in _BLOCKS:
        for index, block in enumerate(data.get(table, [])):
            yield f"{table}[{index}]", block
    for name, block in data.get("recipe", {}).items():
        yield f"recipe.{name}", block
    yield "report", data.get("report", {})


def _twice(values: Sequence[Any]) -> Any:
    return next((value for place, value in enumerate(values) if value in values[:place]), None)


def _dotted(location: Sequence[str | int]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _key_hint(data: Any, location: Sequence[str | int]) -> str:
    """Return the nearest valid key, or which kinds of block have the one that is refused."""
    *place, key = location
    record = _record_at(data, place)
    fields = tuple(record.model_fields) if record is not None else ()
    near = suggest(str(key), fields, kind="key")
    others = [card.name for card in kinds_of("transfer").values() if _has(card.block, str(key))]
    if place[:1] == ["transfer"] and others:
        words = ", ".join(f'"{name}"' for name in others)
        return f"It is a key of kind = {words}. Known keys: {', '.join(sorted(fields))}"
    return near


def _has(record: type[BaseModel] | None, key: str) -> bool:
    return record is not None and key in record.model_fields


def _record_at(data: Any, location: Sequence[str | int]) -> Any:
    """Return the record at `location` inside SuiteSpec: of a block, that of its kind."""
    record: Any = SuiteSpec
    for part in location:
        data = _inside(data, part)
        field = getattr(record, "model_fields", {}).get(part)
        if field is not None:  # else a place in a list, or a name of the suite's own
            record = _record_inside(field.annotation)
        if record is TransferBlock:
            record = transfer_record(data) or record
    return record


def _inside(data: Any, part: str | int) -> Any:
    try:
        return data[part]
    except (KeyError, IndexError, TypeError):
        return None


def _record_inside(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _record_inside(inner)
        if found is not None:
            return found
    return None
