"""The systems compared, the recipes they are trained with, and what was published about them.

A family of systems is one file: its card, its closed forms, its builder and its systems. Nothing
here imports torch or timm until a model is built.

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

from baselines.bit_rule import hyperrule as hyperrule
from baselines.counting import Padding
from baselines.family import FamilyCard, Sizes, card, parse
from bench.errors import SuiteError, UnknownName
from bench.plugins import OURS, Registry
from bench.specs import Args, PublishedResult, Recipe, SystemCard, SystemUse

FAMILIES: Registry[FamilyCard] = Registry(
    "vitbench.families", package=__name__, attribute="FAMILY", of=FamilyCard, noun="family"
)
"""Every family of systems by name, those of other distributions included."""


@functools.cache
def families() -> tuple[FamilyCard, ...]:
    """Return every family in the order in which tables and figures show them, ours first."""

    def order(family: FamilyCard) -> tuple[bool, int, str]:
        return FAMILIES.origin(family.name) != OURS, family.place, family.name

    return tuple(sorted(FAMILIES.values(), key=order))


def family_of(system: SystemCard | SystemUse) -> FamilyCard:
    """Return the family of a system; raise UnknownName."""
    return FAMILIES.named(system.family)


@functools.cache
def systems() -> dict[str, SystemCard]:
    """Return every system card by name, by family.

    Of two systems of one name the first counts; the other is left out, as a broken plug-in is.
    """
    found: dict[str, SystemCard] = {}
    for family in families():
        for system in family.systems:
            if found.setdefault(system.name, system) is not system:
                taken = f"the name {system.name!r} is taken by {found[system.name].family}"
                origin = FAMILIES.origin(family.name)
                FAMILIES.leave_out(f"{family.name}, {system.name}", taken, distribution=origin)
    return found


def system(name: str) -> SystemCard:
    """Return the card of a system, by its name, its printed title or a paper's short name.

    Case and punctuation are free (`vit-b16`, `ViT-B/16`, `R50x1`, `R50+B/16`), except that the
    paper's `b/32` is not `B/32`. `timm:resnet50` is one that no card lists, of a family that makes
    systems by their names. Raises UnknownName.
    """
    family, colon, inner = name.strip().partition(":")
    if colon:
        return _named(family, inner)
    exact, folded = _names()
    found = exact.get(name.strip()) or folded.get(_fold(name))
    if found is None:
        raise UnknownName("system", name, [*systems(), *exact])
    return systems()[found]


@functools.cache
def _named(family: str, name: str) -> SystemCard:
    """Return the card of a system that is listed nowhere: of a family that makes it by its name."""
    known = [card.name for card in families() if card.arguments_of is not None]
    if family not in known:
        raise UnknownName("family of systems by name", family, known)
    arguments_of = FAMILIES[family].arguments_of
    assert arguments_of is not None
    return made(f"{family}:{name}", family=family, title=name, args=arguments_of(name))


def made(name: str, *, family: str, title: str, args: Args) -> SystemCard:
    """Return the card of a system that is given by its family and the arguments of its builder.

    Raises UnknownName for the family, and UserError on arguments that it lacks or refuses.

    >>> made("mine", family="pixels", title="Mine", args={"side_px": 8}).feature_dim
    192
    """
    sizes = parse(FAMILIES.named(family), args)
    usual_px = getattr(sizes, "image_size_px", 224)
    source = FAMILIES[family].title
    return card(name, title or name, family, sizes, image_size_px=usual_px, source=source)


def use(card: SystemCard) -> SystemUse:
    """Return the part of a card that changes numbers."""
    return SystemUse(family=card.family, args=card.args, version=card.version, follows=card.follows)


def sizes(system: SystemCard | SystemUse) -> Sizes:
    """Return the sizes of a system, which know its closed forms and its builder."""
    return parse(family_of(system), system.args)


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
        for name in (known.name, known.title, *family_of(known).aliases(known.title)):
            exact.setdefault(name, known.name)
            folded.setdefault(_fold(name), known.name)
    return exact, folded


def _fold(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
