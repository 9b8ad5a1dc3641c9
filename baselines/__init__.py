"""The systems compared, the recipes they are trained with, and what was published about them.

A family of systems is one file: its cards, its closed forms and its builder. Nothing here imports
torch or timm until a model is built.

>>> system("ViT-B/16").name
'vit-b16'
>>> forward_flops(system("vit-b16"), 224)
35126120448
"""

from __future__ import annotations

import csv
import functools
import re
import tomllib
from importlib.resources import files

from pydantic import ValidationError

from baselines import bit, hybrid, noisy_student, vit
from baselines.bit_rule import hyperrule as hyperrule
from baselines.counting import Padding
from baselines.family import Family, card, parse
from bench.errors import SuiteError, UnknownName
from bench.specs import Args, PublishedResult, Recipe, SystemCard, SystemUse

FAMILIES: dict[str, type] = {
    "vit": vit.Vit,
    "bit": bit.Bit,
    "hybrid": hybrid.Hybrid,
    "noisy-student": noisy_student.NoisyStudent,
}
"""Class of each family's sizes, by `SystemCard.family`."""


@functools.cache
def systems() -> dict[str, SystemCard]:
    """Return every system card by name, in the order of the files."""
    cards = (*vit.CARDS, *bit.CARDS, *hybrid.CARDS, *noisy_student.CARDS)
    return {card.name: card for card in cards}


def system(name: str) -> SystemCard:
    """Return the card of a system, by its name, its printed title or a paper's short name.

    Case and punctuation are free (`vit-b16`, `ViT-B/16`, `R50x1`, `R50+B/16`), except that the
    paper's `b/32` is not `B/32`. Raises UnknownName.
    """
    exact, folded = _names()
    found = exact.get(name.strip()) or folded.get(_fold(name))
    if found is None:
        raise UnknownName("system", name, [*systems(), *exact])
    return systems()[found]


def use(card: SystemCard) -> SystemUse:
    """Return the part of a card that changes numbers."""
    return SystemUse(family=card.family, args=card.args, version=card.version, follows=card.follows)


def sizes(system: SystemCard | SystemUse) -> Family:
    """Return the sizes of a system, which know its closed forms and its builder."""
    if system.family not in FAMILIES:
        raise UnknownName("family", system.family, FAMILIES)
    return parse(system.family, FAMILIES[system.family], system.args)


def variant(name: str, *, like: SystemCard, title: str, args: Args) -> SystemCard:
    """Return a card of its own for a system with some builder arguments changed.

    Sizes are computed anew; public weights are of the original and are left out. Raises UserError
    on an argument that the family lacks or refuses.

    >>> variant("mine", like=system("vit-b16"), title="", args={"posemb": "none"}).num_params
    85647360
    """
    use = SystemUse(
        family=like.family,
        args={**like.args, **args},
        version=like.version,
        follows=like.follows,
    )
    changed = ", ".join(f"{key} = {value}" for key, value in args.items())
    found = card(
        name,
        title or name,
        like.family,
        sizes(use),
        image_size_px=like.image_size_px,
        source=like.source,
        note=f"{like.title} with {changed}" if changed else f"As {like.title}",
    )
    return found.model_copy(
        update={"version": like.version, "follows": like.follows, "licence": like.licence}
    )


def forward_flops(
    system: SystemCard | SystemUse, image_size_px: int, *, padding: Padding = "counted"
) -> int:
    """Return the FLOPs of one image through the encoder, without representation layer and head.

    One multiply-add is 2. `padding="skipped"` leaves out multiply-adds on zero padding. Raises
    UserError for an impossible image size.
    """
    checked = sizes(system)
    checked.check_image(image_size_px)
    return checked.forward_flops(image_size_px, padding=padding)


@functools.cache
def recipes() -> dict[str, Recipe]:
    """Return every recipe of `recipes.toml` by name; raise SuiteError where one is wrong."""
    file = files("baselines") / "recipes.toml"
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, tomllib.TOMLDecodeError) as error:
        raise SuiteError("recipes.toml", "", str(error)) from error
    return {name: _recipe(name, table) for name, table in tables.items()}


def recipe(name: str) -> Recipe:
    """Return a recipe by name; raise UnknownName."""
    if name not in recipes():
        raise UnknownName("recipe", name, recipes())
    return recipes()[name]


@functools.cache
def published() -> tuple[PublishedResult, ...]:
    """Return every published number, with its source, in the order of `published.csv`.

    Raises SuiteError where a row is wrong.
    """
    text = (files("baselines") / "published.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(_published(row, line) for line, row in enumerate(rows, 2))


def _published(row: dict[str, str], line: int) -> PublishedResult:
    try:
        return PublishedResult.model_validate({key: cell for key, cell in row.items() if cell})
    except ValidationError as error:
        first = error.errors()[0]
        column = ".".join(str(part) for part in first["loc"])
        raise SuiteError("published.csv", f"line {line}, {column}", first["msg"]) from error


def _recipe(name: str, table: Args) -> Recipe:
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([name, *(str(part) for part in first["loc"])])
        raise SuiteError("recipes.toml", key, first["msg"]) from error


@functools.cache
def _names() -> tuple[dict[str, str], dict[str, str]]:
    """Return card names by exact name, and by name without case and punctuation."""
    exact: dict[str, str] = {}
    folded: dict[str, str] = {}
    for known in systems().values():
        for name in (known.name, *_aliases(known.title)):
            exact.setdefault(name, known.name)
            folded.setdefault(_fold(name), known.name)
    return exact, folded


def _aliases(title: str) -> list[str]:
    """Return the ways papers print a title: `ResNet50x1`, `R50x1`, `BiT-R50x1`, ..."""
    names = [title]
    if title.startswith("ResNet"):
        short = "R" + title.removeprefix("ResNet")
        names += [short, f"BiT-{short}", f"BiT-{title}"]
        # S, M and L say what a BiT was pre-trained on; the architecture is the same.
        names += [f"BiT-{size} {short}" for size in "SML"]
    for old, new in (("ViT-", ""), ("R50x1+", "R50+")):
        names += [name.replace(old, new) for name in names if old in name and name != old]
    return names


def _fold(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
