"""Text made safe for where it is printed.

Names and error messages come from suite files, folders and libraries: none of them may break a
table, run in a spreadsheet, or move a terminal's cursor. HTML is escaped by jinja2 (autoescape).
"""

from __future__ import annotations

import re
import unicodedata

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_SPACE = re.compile(r"\s+")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]#|~$])")
# What would begin a list, a rule or a heading at the start of a line; numbers stay as they are.
_MARKDOWN_START = re.compile(r"^(\d*)([-+=.)])(?=[\s=-]|$)")
_FORMULA_START = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    # A row that starts with [ or * would be read as an argument of the \\ before it.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "’": "'",
    "“": "``",
    "”": "''",
    "µ": r"$\mu$",
    "\N{NO-BREAK SPACE}": "~",
}
_LATEX |= {sign: rf"\textsuperscript{{{digit}}}" for digit, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
_LATEX["⁻"] = r"\textsuperscript{-}"


def plain(text: str, *, limit: int = 2000) -> str:
    """Return one line without control, direction-changing or invisible characters.

    Terminal sequences go as a whole; more than `limit` characters are cut and end in `…`.
    """
    if len(text) <= limit and text.isprintable() and "  " not in text:
        return text  # the usual case, told apart quickly
    text = _SPACE.sub(" ", _ANSI.sub("", text[: 4 * limit]))
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def markdown(text: str) -> str:
    """Return text for a Markdown paragraph or table cell: no markup, no HTML, no cell border."""
    text = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN_START.sub(r"\1\\\2", _MARKDOWN.sub(r"\\\1", text))


def latex(text: str) -> str:
    r"""Return text for LaTeX; signs that pdfLaTeX lacks become `U+1F600`."""
    return "".join(_latex_char(c) for c in plain(text))


def csv_text(text: str) -> str:
    """Return text for a CSV field; what a spreadsheet would run as a formula gets a leading '."""
    text = plain(text)
    return f"'{text}" if text.startswith(_FORMULA_START) else text


def _latex_char(char: str) -> str:
    if char in _LATEX:
        return _LATEX[char]
    return char if ord(char) < 0x180 else rf"U+{ord(char):04X}"
