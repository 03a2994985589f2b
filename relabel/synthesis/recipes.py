"""Recipes: template file → checked, fingerprinted instructions for a model that writes; a row → its messages.

A recipe is a template as those that judge are (`relabel/prompts.py`), with another header:

    ---
    name: requirement
    kind: write                 # passages for a query, or `query`: queries for a passage
    reference: required         # known positives: required, none
    twin: none                  # a mined negative of the row: required, none
    several: yes                # whether one reply may hold several passages
    first: requirements         # a list that the reply begins with; may be left out
    vary:                       # of each, one value by the dice for each request; may be left out
      difficulty: [a, b, c]
    source: where the idea comes from
    description: one line
    ---

The body shows `query`, `reference` and `twin` (for `query`: `passage`), and says `count`, how many are wanted; `form`,
how to reply; and what is varied. It may say `words`, the length of the row's own passages, and `turn`, which is 2 in
the second request for the same row.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

import yaml

from relabel.errors import TemplateError
from relabel.prompts import SUFFIX, read_template, shelf
from relabel.protocols import Message
from relabel.quoting import visible
from relabel.records import Passage, digest
from relabel.synthesis.forms import Form, Kind
from relabel.template_language import fail, near
from relabel.template_parts import Body, Field, Parsed, end_of_header, entries, header_fields, one_of, scalar

FOLDER: Final = "synthesize"
"""Where the shipped recipes stand among the templates."""

RULES: Final = "rules"
"""The recipe that asks nobody: a positive, changed by rule."""

QUERY: Final = "query"
"""The shipped recipe that writes queries for passages."""

_ANSWER: Final = re.compile(r'"(?=(?:passages|queries|text|query)"\s*:)')
_FIELDS: Final = ("name", "kind", "reference", "twin", "several", "first", "vary", "source", "description")
_KINDS: Final[tuple[Kind, ...]] = ("write", "query")
_OPTIONAL: Final = ("words", "turn", "titled")
_OWN: Final = ("query", "reference", "twin", "passage", "count", "form", *_OPTIONAL)


@dataclass(frozen=True, slots=True)
class Asked:
    """What one request shows and wants.

    Attributes:
        form: of the reply; says how many are wanted.
        query: of the row; "" where queries are wanted.
        reference: the known positives that are shown, or the one passage that queries are wanted for.
        twin: the mined negative to be mirrored.
        words: how long a passage should be.
        turn: of several requests by one recipe for one row, from 1.
        drawn: what the dice chose of what the recipe varies.
    """

    form: Form
    query: str = ""
    reference: tuple[Passage, ...] = ()
    twin: Passage | None = None
    words: int = 100
    turn: int = 1
    drawn: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Recipe:
    """Instructions for a model that writes.

    Attributes:
        name: as the header says.
        kind: "write" or "query".
        reference: whether the known positives are shown, which a row must then have.
        twin: whether a mined negative is shown, which a row must then have.
        several: whether several may be asked for at once.
        first: name of the list that a reply begins with, "" = none.
        vary: names, and the values of which the dice choose one for each request.
        source: the paper or page that the idea comes from.
        description: one line for people.
        content: header and body as they stand in the file.
    """

    name: str
    kind: Kind
    reference: bool
    twin: bool
    several: bool
    first: str
    vary: Mapping[str, tuple[str, ...]]
    source: str
    description: str
    content: str = field(repr=False)
    _body: Body = field(repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """32 hex digits of header and body: another character, another fingerprint, wherever the file lies."""
        return digest(self.content).hex()

    def form(self, count: int, *, titled: bool = False) -> Form:
        """Return the form of a reply that holds so many texts."""
        return Form(self.kind, count, titled, self.first)

    def render(self, asked: Asked) -> tuple[Message, ...]:
        """Return the messages.

        Texts are quoted: none can write a tag of the template, a control token of a chat, or an answer.

        Raises:
            TemplateError: the prompt would be too large.
        """
        body, form = self._body, asked.form
        query, known = _harmless(asked.query), [_quiet(each) for each in asked.reference]
        twins = [_quiet(asked.twin)] if asked.twin is not None else []
        texts = [part for each in (*known, *twins) for part in (each.title, each.text)]
        body.check_size([query, *texts], len(known))
        values: dict[str, Any] = {
            **asked.drawn, "query": body.quoting.quote(query), "count": form.count, "form": form.told,
            "titled": form.titled, "words": asked.words, "turn": asked.turn,
        }  # fmt: skip
        reference = body.show(known)
        values |= {"passage": reference[0]} if self.kind == "query" else {"reference": reference}
        values |= {"twin": body.show(twins)[0]} if twins else {}
        return body.fill(values)


def _harmless(text: str) -> str:
    """Return a text without an answer that `Form.read` would take: who only repeats it says nothing."""
    return _ANSWER.sub("”", visible(text))


def _quiet(passage: Passage) -> Passage:
    return replace(passage, title=_harmless(passage.title), text=_harmless(passage.text))


def load_recipe(name_or_path: str | Path, kind: Kind | None = None) -> Recipe:
    """Return the shipped recipe of this name, or the one in this file, checked.

    Raises:
        TemplateError: unknown name, unreadable file, anything wrong in it (with its line), or not of this kind.
    """
    recipe = _load(name_or_path)
    if kind is not None and recipe.kind != kind:
        texts: dict[Kind, str] = {"write": "passages", "query": "queries"}
        raise TemplateError(
            f"recipe {name_or_path} writes {texts[recipe.kind]}, not {texts[kind]}",
            hint="`recipes:` takes those that write passages, `query:` one that writes queries",
        )
    return recipe


def _load(name_or_path: str | Path) -> Recipe:
    known = list_recipes()
    name = str(name_or_path).removeprefix(f"{FOLDER}/")
    if isinstance(name_or_path, str) and name in known:
        return _parse(shelf() / FOLDER / f"{name}{SUFFIX}")
    path = Path(name_or_path)
    try:
        there = path.is_file()
    except OSError:  # a name that no file can have
        there = False
    if not there:
        raise TemplateError(
            f"there is no recipe {str(name_or_path)[:200]!r}",
            hint=f"{near(name, (*known, RULES))}there are {', '.join((*known, RULES))}; or give the path of a file",
        )
    return _parse(path)


def list_recipes() -> tuple[str, ...]:
    """Return the names of the shipped recipes, in alphabetical order; `rules` has no template."""
    return tuple(sorted(path.stem for path in (shelf() / FOLDER).glob(f"*{SUFFIX}")))


def is_recipe(name_or_path: str) -> bool:
    """Whether this is the name of a shipped recipe, or a file whose header says that it is for writing."""
    if name_or_path.removeprefix(f"{FOLDER}/") in list_recipes():
        return True
    try:
        lines = read_template(Path(name_or_path)).split("\n")
        header = "\n".join(lines[: end_of_header(Path(name_or_path), lines)])
    except TemplateError:
        return False
    return re.search(rf"(?m)^kind:\s*(?:{'|'.join(_KINDS)})\s*(?:#.*)?$", header) is not None


def _parse(path: Path) -> Recipe:
    content = read_template(path)
    lines = content.split("\n")
    end = end_of_header(path, lines)
    found = header_fields(path, "\n".join(lines[1:end]), _FIELDS, _FIELDS[:3])
    parsed = Parsed.of(path, lines, end + 1)
    words = {name: scalar(path, *found[name]) for name in found if name != "vary"}
    kind = cast("Kind", _word(path, found, words, "kind", _KINDS))
    recipe = Recipe(
        name=words["name"],
        kind=kind,
        reference=_word(path, found, words, "reference", ("required", "none")) == "required",
        twin=_word(path, found, words, "twin", ("none", "required")) == "required",
        several=_word(path, found, words, "several", ("yes", "no")) == "yes",
        first=words.get("first", ""),
        vary=_vary(path, *found["vary"]) if "vary" in found else MappingProxyType({}),
        source=words.get("source", ""),
        description=words.get("description", ""),
        content=content,
        _body=Body.of(path, content, parsed),
    )
    _check_header(path, recipe, found)
    _check_placeholders(path, recipe, parsed)
    _try(path, recipe)
    return recipe


# --- header ---------------------------------------------------------------------------------------------------------


def _word(path: Path, found: Mapping[str, Field], words: Mapping[str, str], name: str, known: Sequence[str]) -> str:
    """Return the word of a field; the first that is known where the field is not there."""
    return one_of(path, found[name][1], name, words[name], known) if name in words else known[0]


def _vary(path: Path, node: yaml.Node, line: int) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, (values, at) in entries(path, node, "vary", line).items():
        if name in _OWN or not name.isidentifier():
            fail(path, at, f"{name!r} cannot be varied", "choose another name: letters and _")
        if not isinstance(values, yaml.SequenceNode) or not values.value:
            fail(path, at, f"{name!r} is varied over a list of values", f"{name}: [one, another]")
        found[name] = tuple(scalar(path, value, value.start_mark.line + 2) for value in values.value)
    return MappingProxyType(found)


def _check_header(path: Path, recipe: Recipe, found: Mapping[str, Field]) -> None:
    if recipe.name == RULES:
        fail(path, found["name"][1], f"{RULES!r} is the recipe that asks nobody", "choose another name")
    if recipe.first and (not recipe.first.isidentifier() or recipe.first in ("passages", "queries")):
        fail(path, found["first"][1], f"a list cannot be called {recipe.first!r}", "choose another name: letters and _")
    if recipe.kind == "query" and (recipe.twin or not recipe.reference):
        fail(path, found["kind"][1], "queries are written for one passage", "write reference: required, and no twin")


# --- body -----------------------------------------------------------------------------------------------------------


def _check_placeholders(path: Path, recipe: Recipe, parsed: Parsed) -> None:
    """Refuse a body that lacks a placeholder, or has one that there is not."""
    shown = ["query", *(["reference"] if recipe.reference else []), *(["twin"] if recipe.twin else [])]
    needed = (["passage"] if recipe.kind == "query" else shown) + ["form", *recipe.vary]
    needed += ["count"] if recipe.several else []
    known = (*needed, *(["count"] if not recipe.several else []), *_OPTIONAL)
    used = parsed.placeholders()
    for name, line in used.items():
        if name not in known:
            fail(path, line, f"unknown placeholder {name!r}", f"{near(name, known)}there are {', '.join(known)}")
    for name in needed:
        if name not in used:
            fail(path, parsed.last, f"the placeholder {name!r} is missing", f"write {{{{ {name} }}}} where it belongs")


def _try(path: Path, recipe: Recipe) -> None:
    """Render with one and two references, titled and not, for one and several: all that was given must be there."""
    drawn = {name: values[0] for name, values in recipe.vary.items()}
    for title in ("", "Ttl"):
        for known in (1, 2) if recipe.reference and recipe.kind == "write" else (int(recipe.reference),):
            for count in (1, 3) if recipe.several else (1,):
                form = recipe.form(count, titled=bool(title) and recipe.kind == "write")
                reference = tuple([Passage("", f"ref{number}x", title) for number in range(known)])
                twin = Passage("", "twnx", title) if recipe.twin else None
                asked = Asked(form, "qryx" if recipe.kind == "write" else "", reference, twin, turn=count, drawn=drawn)
                seen = "\n".join(message.content for message in recipe.render(asked))
                _check_shown(path, asked, seen)


def _check_shown(path: Path, asked: Asked, seen: str) -> None:
    wanted = {asked.query: "the query", asked.form.told: "the form of the reply"}
    wanted |= {each.text: "a known passage" for each in asked.reference}
    wanted |= {asked.twin.text: "the mined negative"} if asked.twin is not None else {}
    for text, what in wanted.items():
        if text not in seen:
            raise TemplateError(f"{path}: {what} does not appear in the prompt that it makes")
