"""Wrong options and missing arguments, in one line as every other message.

    vitbench: run: no such option --limt-steps. Did you mean --limit-steps? (vitbench run --help)

The framework tells them in several lines, after a usage that `--help` shows better.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import typer
from typer.main import get_command

# The framework carries its own copy of click in some versions: this is the one that it raises.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def is_help(error: Exception) -> bool:
    """Return whether an error is the help that is shown where no word was given."""
    return type(error).__name__ == "NoArgsIsHelpError"


def in_words(error: Exception, app: typer.Typer, words: Sequence[str]) -> str:
    """Return what is wrong with the words after `vitbench`, and where help is."""
    group, verb = _command(app, words)
    where = ": ".join(filter(None, (" ".join(verb), _cause(error, group))))
    return f"{where} ({' '.join(('vitbench', *verb, '--help'))})"


def _command(app: typer.Typer, words: Sequence[str]) -> tuple[Any, list[str]]:
    """Return the command that words name, and its own words: errors do not always know it."""
    found: Any = get_command(app)
    verb: list[str] = []
    for word in words:
        commands = getattr(found, "commands", {})
        if word in commands:
            found = commands[word]
            verb.append(word)
        elif not word.startswith("-"):
            break
    return found, verb


def _cause(error: Any, command: Any) -> str:
    param = getattr(error, "param", None)
    if hasattr(error, "possibilities") and hasattr(error, "option_name"):
        known = [option for each in command.params for option in each.opts]
        near = difflib.get_close_matches(error.option_name, [*known, "--help"], n=1)
        hint = f". Did you mean {near[0]}?" if near else ""
        return f"no such option {error.option_name}{hint}"
    if hasattr(error, "param_type") and param is not None:
        return f"{_name(param)} is missing"
    if isinstance(error, typer.BadParameter) and param is not None:
        return f"{_name(param)}: {_plain(error.message)}"
    return _plain(error.format_message())


def _name(param: Any) -> str:
    """Return how a person writes a parameter: `--seeds`, `SUITE`."""
    if param.param_type_name == "option":
        return str(max(param.opts, key=len))
    return str(param.metavar or param.name.upper())


def _plain(message: str) -> str:
    message = message.removeprefix("Value error, ").removesuffix(".")
    return message[:1].lower() + message[1:]
