"""What others add is found by entry points, and never breaks what is ours."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from bench import plugins
from bench.errors import UnknownName
from bench.plugins import Registry


@dataclass(frozen=True)
class Thing:
    name: str


@pytest.fixture(autouse=True)
def _own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is broken here is told to no other test."""
    monkeypatch.setattr(plugins, "_REGISTRIES", list(plugins._REGISTRIES))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "own_things"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    thing = f"from {__name__.rpartition('.')[2]}_shared import Thing\n"
    (folder / "one.py").write_text(f"{thing}THING = Thing('one')\n")
    (folder / "two.py").write_text(f"{thing}THING = (Thing('two'), Thing('three'))\n")
    (folder / "_helper.py").write_text("raise RuntimeError('never imported')\n")
    (folder / "none.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    shared = type(sys)(f"{__name__.rpartition('.')[2]}_shared")
    shared.Thing = Thing  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, shared.__name__, shared)
    for name in ("own_things", "own_things.one", "own_things.two", "own_things.none"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "own_things"


class Point:
    """An entry point of a distribution that is not installed."""

    def __init__(self, name: str, found: object) -> None:
        self.name = name
        self.dist = type("Dist", (), {"name": "theirs"})
        self._found = found

    def load(self) -> object:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


def registry(package: str) -> Registry[Thing]:
    return Registry("vitbench.things", package=package, attribute="THING", of=Thing, noun="thing")


def given(monkeypatch: pytest.MonkeyPatch, *points: Point) -> None:
    monkeypatch.setattr(plugins, "entry_points", lambda: {"vitbench.things": points})


def test_ours_are_found_in_the_package(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch)
    things = registry(package)
    assert list(things) == ["one", "two", "three"]
    assert things["two"] == Thing("two")
    assert things.origin("two") == "vitbench"
    assert not things.broken


def test_theirs_join_and_a_broken_one_is_named(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(
        monkeypatch,
        Point("four", Thing("four")),
        Point("bad", ImportError("no module named xyz")),
        Point("odd", "a word"),
        Point("one", Thing("one")),
    )
    things = registry(package)
    assert list(things) == ["one", "two", "three", "four"]
    assert things.origin("four") == "theirs"
    assert things.broken == {
        "bad": "theirs: no module named xyz",
        "odd": "theirs: 'a word' is no Thing",
        "one": "theirs: the name 'one' is taken by vitbench",
    }


def test_an_unknown_name_says_the_nearest_and_why_a_plug_in_is_left_out(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, Point("bad", ImportError("no module named xyz")))
    things = registry(package)
    with pytest.raises(UnknownName, match=r'unknown thing "thre".*Did you mean "three"'):
        things.named("thre")
    with pytest.raises(UnknownName, match=r'unknown thing "bad" .theirs: no module named xyz'):
        things.named("bad")


def test_entry_points_are_grouped() -> None:
    for group, points in plugins.entry_points().items():
        assert group.startswith("vitbench.")
        assert all(isinstance(point, metadata.EntryPoint) for point in points)
