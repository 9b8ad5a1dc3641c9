"""Families of systems as tables and figures name them, in the order of their cards."""

from __future__ import annotations

from collections.abc import Iterable

import baselines


def word(family: str) -> str:
    """Return a family's short name; its name in records where nobody knows it here."""
    found = baselines.FAMILIES.get(family)
    return found.word if found else family


def in_order(names: Iterable[str]) -> list[str]:
    """Return families once each, in the order of their cards; those that nobody knows left out."""
    there = set(names)
    return [family.name for family in baselines.families() if family.name in there]


def reference(firsts: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Return key and word of what stands first in every comparison: a family, or just `first`.

    `firsts` are the family and the word of the first system of each.
    """
    met = list(firsts)
    keys, words = ({pair[part] for pair in met} for part in (0, 1))
    return (
        keys.pop() if len(keys) == 1 else "first",
        words.pop() if len(words) == 1 else "first",
    )


def capital(text: str) -> str:
    """Return a text that begins with a capital letter."""
    return text[:1].upper() + text[1:]
