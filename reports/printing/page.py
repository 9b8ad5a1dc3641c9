"""The page of a suite: one HTML file that needs nothing else.

Everything is inline, a content policy forbids all else but the one script that sorts and filters
tables, and every text is escaped by jinja2.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from markupsafe import Markup

from bench.plan.spec import SuiteSpec
from reports.printing.drawing import Drawing
from reports.printing.html import environment
from reports.printing.table import Table


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page shows, from top to bottom."""

    suite: SuiteSpec
    """The suite, with its title, claim and source."""
    badges: Sequence[tuple[str, str, str]]
    """(number, label, `good` or `bad` or empty) for the head."""
    warning: str
    """What a reader must know before any number; empty when all is as planned."""
    failures: Sequence[tuple[str, str, str]]
    """(name, id, error) of every failed job."""
    verdicts: Sequence[Any]
    """How many published numbers got each verdict: word, meaning, count, kind."""
    findings: Sequence[Any]
    """What was found: subject and text."""
    cautions: Sequence[Any]
    """What weakens the numbers: subject and text."""
    no_published: str
    """What to say where no published number is answered; empty where one is."""
    results: Table
    """The main table."""
    leading: Sequence[Table]
    """Tables before the figures."""
    differences: Table
    """Differences to published protocols."""
    drawings: Sequence[Drawing]
    """Figures."""
    following: Sequence[Table]
    """Tables after the figures."""
    costs: Sequence[Table]
    """What it took; the first one gives the section its title."""
    training: Sequence[Table]
    """How systems were trained; the first one gives the section its title."""
    datasets: Sequence[Mapping[str, Any]]
    """Title, classes, splits, source, licence of each data set, and what is odd in it."""
    machine: Sequence[tuple[str, str]]
    """What is known about the machines."""
    trace: Table
    """Every value and its job; without rows where that would be too long."""


def html(page: Page) -> str:
    """Return the page as HTML."""
    script = _source("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        environment()
        .get_template("page.html")
        .render(
            page=page,
            css=Markup(_source("page.css")),
            script=Markup(script),
            script_hash=f"sha256-{digest}",
            drawings=[(drawing, Markup(_data_uri(drawing))) for drawing in page.drawings],
        )
    )


def _source(name: str) -> str:
    return resources.files("reports.printing").joinpath(name).read_text(encoding="utf-8")


def _data_uri(drawing: Drawing) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(drawing.svg).decode()}"
