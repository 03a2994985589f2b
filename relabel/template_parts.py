"""What all prompt templates are made of: a header of fields, and a body of messages in the template language.

Text of a file → fields with their lines → checked, compiled body → messages. What the fields are, and what a body may
show, is the business of each kind: those that judge (`prompts.py`) and those that write (`synthesis/recipes.py`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from traceback import walk_tb
from typing import Any, Final, Self

import jinja2
import yaml
from jinja2 import meta, nodes

from relabel.errors import TemplateError
from relabel.protocols import Message
from relabel.quoting import Quoting, visible
from relabel.records import Passage
from relabel.template_language import TAG_LIMIT, WORK_LIMIT, Work, fail, near, new_environment, tree_of

OUTPUT_LIMIT: Final = 2_000_000
"""Characters of one rendered message; more would be no prompt, but a mistake."""

_FAILURES: Final = (
    jinja2.TemplateError,
    ArithmeticError,
    AssertionError,
    LookupError,
    NameError,
    TypeError,
    ValueError,
)
_HEADING: Final = re.compile(r"## (system|user)\s*")
_TAG: Final = re.compile(r"</?([^\W\d][\w-]*)")

Field = tuple[yaml.Node, int]
"""The value of a field and the line, from 1, where it stands."""


# --- header ---------------------------------------------------------------------------------------------------------


def end_of_header(path: Path, lines: Sequence[str]) -> int:
    """Return the place of the line that ends the header.

    Raises:
        TemplateError: there is no header.
    """
    marks = [number for number, line in enumerate(lines) if line.rstrip() == "---"][:2]
    if len(marks) < 2 or marks[0] != 0:
        fail(path, 1, "a template begins with a header between two lines of ---", "type: relabel prompts show rlhn")
    return marks[1]


def header_fields(path: Path, text: str, known: Sequence[str], needed: Sequence[str]) -> dict[str, Field]:
    """Read a header, every scalar as the text that it is: `Yes` is a word here, and 3 is one too.

    Raises:
        TemplateError: no YAML, a field that is not `known`, or a `needed` one is missing.
    """
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "too deeply nested or with characters that it may not hold"
        raise TemplateError(
            f"{path}, line {mark.line + 2 if mark else 2}: the header is not YAML: {problem}"
        ) from error
    found = entries(path, root, "the header")
    for name, (_, line) in found.items():
        if name not in known:
            fail(path, line, f"unknown field {name!r}", f"{near(name, known)}known are {', '.join(known)}")
    for name in needed:
        if name not in found:
            fail(path, 1, f"the header lacks the field {name!r}")
    return found


def entries(path: Path, node: yaml.Node | None, what: str, line: int = 1) -> dict[str, Field]:
    """Return the fields of a YAML mapping, each with its line in the file."""
    if not isinstance(node, yaml.MappingNode):
        fail(path, line, f"{what} must be lines of `name: value`")
    found: dict[str, Field] = {}
    for key, value in node.value:
        line = key.start_mark.line + 2
        name = scalar(path, key, line)
        if name in found:
            fail(path, line, f"{name!r} is there twice")
        found[name] = value, line
    return found


def scalar(path: Path, node: yaml.Node, line: int) -> str:
    """Return the text of a field that is one word or line."""
    if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
        fail(path, line, "expected a word or a line of text")
    return str(node.value).strip()


def one_of(path: Path, line: int, what: str, word: str, known: Sequence[str]) -> str:
    """Return a word that is known; refuse any other."""
    if word not in known:
        fail(path, line, f"{what} is {word!r}", f"{near(word, known)}it must be one of {', '.join(known)}")
    return word


# --- body -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shown:
    """A passage as a template sees it: its number from 1, its title on one line, its text."""

    number: int
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A body that is in the language: the source and the tree of each message, by its role."""

    sections: Mapping[str, str]
    trees: Mapping[str, nodes.Template]
    environment: jinja2.Environment

    @classmethod
    def of(cls, path: Path, lines: Sequence[str], start: int) -> Self:
        """Read the messages from line `start` (from 0) on.

        Raises:
            TemplateError: with file and line.
        """
        sections = _sections(path, lines, start)
        environment = new_environment()
        with _told(path):
            trees = {role: tree_of(path, environment, source) for role, source in sections.items()}
        return cls(sections, trees, environment)

    @property
    def last(self) -> int:
        """The last line that holds something."""
        return self.sections["user"].rstrip().count("\n") + 1

    def placeholders(self) -> dict[str, int]:
        """Return the names that the body uses, each with its first line, first ones first."""
        used: dict[str, int] = {}
        for tree in self.trees.values():
            for name in meta.find_undeclared_variables(tree):
                used[name] = min(node.lineno for node in tree.find_all(nodes.Name) if node.name == name)
        return dict(sorted(used.items(), key=lambda use: use[1]))

    def attributes(self) -> set[str]:
        """Return the attributes of passages and loops that the body uses."""
        return {node.attr for tree in self.trees.values() for node in tree.find_all(nodes.Getattr)}


@dataclass(frozen=True, slots=True)
class Body:
    """The messages of a template, compiled, and what quotes the texts that they show."""

    path: str
    parts: tuple[tuple[str, jinja2.Template], ...] = field(repr=False)
    quoting: Quoting = field(repr=False)
    works: tuple[Work, ...] = field(repr=False)

    @classmethod
    def of(cls, path: Path, content: str, parsed: Parsed, tags: Iterable[str] = (), *, numbered: bool = False) -> Self:
        """Compile a body; no text that it shows can write its tags, these, or, where `numbered`, a `Doc (2)`.

        Raises:
            TemplateError: it cannot be compiled, or writes too many tags.
        """
        trees = parsed.trees
        with _told(path):
            parts = tuple((role, _compiled(path, parsed.environment, trees[role])) for role in sorted(trees))
        quoting = Quoting.against(_tags(path, tags, trees.values()), numbered=numbered)
        return cls(str(path), parts, quoting, tuple(Work.of(tree, len(content)) for tree in trees.values()))

    def show(self, passages: Iterable[Passage]) -> tuple[Shown, ...]:
        """Return passages as the body may show them, numbered from 1."""
        quote = self.quoting.quote
        return tuple(
            Shown(number, quote(" ".join(visible(passage.title).split())), quote(passage.text))
            for number, passage in enumerate(passages, start=1)
        )

    def check_size(self, texts: Iterable[str], passages: int) -> None:
        """Refuse what would be no prompt before any time is spent on it; `passages` is the most that a loop goes over.

        Raises:
            TemplateError: a message would have more than `OUTPUT_LIMIT` characters, or the body would have to go
                through more than `WORK_LIMIT` of them to make it.
        """
        longest = max(map(len, texts), default=0)
        if longest > OUTPUT_LIMIT:
            raise TemplateError(f"{self.path}: a prompt of more than {OUTPUT_LIMIT:,} characters")
        if sum(work.characters(passages, longest) for work in self.works) > WORK_LIMIT:
            raise TemplateError(
                f"{self.path}: too much work for a prompt of {passages} passages with up to {longest:,} characters",
                hint="use fewer filters and conditions, above all in loops",
            )

    def fill(self, values: dict[str, Any]) -> tuple[Message, ...]:
        """Return the messages that hold something.

        Raises:
            TemplateError: one would have more than `OUTPUT_LIMIT` characters, or cannot be filled with these values.
        """
        messages = [Message(role, _fill(part, values, self.path)) for role, part in self.parts]
        return tuple([message for message in messages if message.content])


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say in our words, with file and line, what Jinja has against a body."""
    try:
        yield
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"{path}, line {error.lineno}: {error.message}") from error
    except (*_FAILURES, MemoryError, RecursionError, SyntaxError) as error:  # constants are computed, nests too deep
        raise TemplateError(f"{path}: the body cannot be read ({error or type(error).__name__})") from error


def _sections(path: Path, lines: Sequence[str], start: int) -> dict[str, str]:
    """Return the source of each message, behind as many empty lines as keep its line numbers those of the file."""
    found: dict[str, list[str]] = {}
    role = ""
    for number, line in enumerate(lines[start:], start=start + 1):
        if heading := _HEADING.fullmatch(line):
            role = heading[1]
            if role in found:
                fail(path, number, f"the part {role!r} is there twice")
            found[role] = [""] * number
        elif role:
            found[role].append(line)
        elif line.strip():
            fail(path, number, "text before the first part", "write a line `## system` or `## user` above it")
    if not "".join(found.get("user", ())).strip():
        fail(path, len(lines), "there is no part `## user`")
    return {role: "\n".join(body) for role, body in found.items()}


def _compiled(path: Path, environment: jinja2.Environment, tree: nodes.Template) -> jinja2.Template:
    code = environment.compile(tree, path.stem, str(path))
    return jinja2.Template.from_code(environment, code, environment.globals)


def _tags(path: Path, own: Iterable[str], trees: Iterable[nodes.Template]) -> frozenset[str]:
    """Return the names of the tags that the template writes itself, and of those of its reply."""
    written = [data.data for tree in trees for data in tree.find_all(nodes.TemplateData)]
    written += [str(constant.value) for tree in trees for constant in tree.find_all(nodes.Const)]
    found = frozenset(own).union(*map(_TAG.findall, written))
    if len(found) > TAG_LIMIT:
        raise TemplateError(f"{path}: writes more than {TAG_LIMIT} different tags")
    return found


def _fill(body: jinja2.Template, values: dict[str, Any], path: str) -> str:
    pieces, size = [], 0
    try:
        for piece in body.generate(values):
            pieces.append(piece)
            size += len(piece)
            if size > OUTPUT_LIMIT:
                raise TemplateError(f"{path}: a prompt of more than {OUTPUT_LIMIT:,} characters")
    except _FAILURES as error:
        lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == path]
        raise TemplateError(f"{path}, line {lines[-1] if lines else 1}: {error}") from error
    return "".join(pieces).strip()
