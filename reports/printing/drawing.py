"""A finished figure in no particular place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A finished figure."""

    name: str
    """File name without ending."""
    title: str
    """Heading."""
    caption: str
    """What is shown."""
    alt: str
    """What the figure says, for who cannot see it."""
    svg: bytes
    """Vector form."""
    png: bytes
    """Pixel form."""
    is_narrow: bool = False
    """As wide as a column of a printed page, not as its text."""
