"""Objects that people add: found in a package of ours, or named by other distributions.

A registry is a mapping of names to objects of one class. Ours are the attribute `attribute` (one
object, or a tuple of them) of the modules of one package; those of others are named by entry
points of the registry's group:

    [project.entry-points."vitbench.kinds"]
    calibration = "my_package.calibration:CARD"

What others add is never allowed to break the rest: an entry point that cannot be loaded, is no
object of the class, or takes a name that is taken already is left out, and `broken` says why.
Nothing is imported before a registry is first asked.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bench.errors import UnknownName

if TYPE_CHECKING:
    from importlib import metadata

OURS = "vitbench"
"""Origin of what comes with the project."""

Named = TypeVar("Named")


class Registry(Mapping[str, Named], Generic[Named]):
    """The objects of one class that people can add, by their attribute `name`."""

    def __init__(
        self,
        group: str,
        *,
        of: type[Named],
        noun: str,
        package: str = "",
        attribute: str = "",
        ours: Callable[[], Iterable[Named]] | None = None,
        read: Callable[[Any], Iterable[Named]] | None = None,
    ) -> None:
        """Make a registry of a class; nothing is looked for yet.

        Ours are found in a package by an attribute of its modules, or are what `ours` returns;
        `read` turns what an entry point names into objects, where it is not an object itself.
        """
        self.group = group
        """Entry points of other distributions."""
        self.noun = noun
        """What an object is called in messages."""
        self._class = of
        _REGISTRIES.append(self)
        self._ours = ours or (lambda: _in_package(package, attribute))
        self._read = read or _each

    def __getitem__(self, name: str) -> Named:
        return self._found[0][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found[0])

    def __len__(self) -> int:
        return len(self._found[0])

    def named(self, name: str, *, where: str = "") -> Named:
        """Return an object; raise UnknownName with the nearest name, or why a plug-in is left out.

        `where` is the key that asked, for the message.
        """
        if name in self:
            return self[name]
        raise UnknownName(self.noun, name, self, where=where, note=self.broken.get(name, ""))

    def origin(self, name: str) -> str:
        """Return where an object comes from: `vitbench`, or another distribution's name."""
        return self._found[1][name]

    @property
    def broken(self) -> Mapping[str, str]:
        """Entry points that were left out, by name, and why: `distribution: reason`."""
        return self._found[2]

    def leave_out(self, name: str, why: Exception | str, *, distribution: str) -> str:
        """Note that something of another distribution is left out; return what `broken` says."""
        said = str(why) or type(why).__name__
        self._found[2][name] = f"{distribution}: {said}"
        return self._found[2][name]

    @functools.cached_property
    def _found(self) -> tuple[dict[str, Named], dict[str, str], dict[str, str]]:
        objects: dict[str, Named] = {}
        origins: dict[str, str] = {}
        broken: dict[str, str] = {}
        for found in self._checked(self._ours()):
            name = _name(found)
            if name in objects:
                raise ValueError(f"two {self.noun}s are named {name!r}")
            objects[name], origins[name] = found, OURS
        for point in entry_points().get(self.group, ()):
            distribution = point.dist.name if point.dist is not None else "?"
            try:
                for found in self._checked(self._read(point.load())):
                    name = _name(found)
                    if name in objects:
                        raise ValueError(f"the name {name!r} is taken by {origins[name]}")
                    objects[name], origins[name] = found, distribution
            except Exception as error:  # whatever the code of others raises
                broken[point.name] = f"{distribution}: {error or type(error).__name__}"
        return objects, origins, broken

    def _checked(self, objects: Iterable[Any]) -> tuple[Named, ...]:
        checked = tuple(objects)
        for each in checked:
            if not isinstance(each, self._class):
                raise TypeError(f"{each!r} is no {self._class.__name__}")
        return checked


def left_out() -> list[tuple[str, str]]:
    """Return the entry points that registries have left out, each with the reason, so far."""
    asked = (registry for registry in _REGISTRIES if "_found" in vars(registry))
    return [found for registry in asked for found in registry.broken.items()]


_REGISTRIES: list[Registry[Any]] = []


def _in_package(package: str, attribute: str) -> Iterator[Any]:
    """Yield the objects that the modules of a package have as an attribute, in order of names."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if not module.name.startswith("_"):
            there = importlib.import_module(f"{package}.{module.name}")
            yield from _each(getattr(there, attribute, ()))


def _each(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else (found,)


def _name(found: object) -> str:
    return str(found.name)  # type: ignore[attr-defined]


@functools.cache
def entry_points() -> dict[str, tuple[metadata.EntryPoint, ...]]:
    """Return the entry points of all distributions in groups of ours, by group."""
    from importlib import metadata  # what it imports takes longer than `vitbench --help`

    every = metadata.entry_points()
    groups = sorted(group for group in every.groups if group.startswith(f"{OURS}."))
    return {group: tuple(sorted(every.select(group=group))) for group in groups}
