"""The language of prompt templates: a small part of Jinja, and how much work a template in it can make.

Values, `if`, `for` over the passages and a few filters; no calls, no assignments, no other files. Loops stand two deep
at most, so that time and memory follow from the text of a template, before anything is rendered: how often each of its
parts comes round, times how long the texts are that it handles.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NoReturn, Self

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from relabel.errors import TemplateError

FILE_LIMIT: Final = 65_536
"""Bytes of a template file; the longest of the shipped ones has 3,000."""

TAG_LIMIT: Final = 100
"""Different tags that a template may write: each text is searched for all of them."""

WORK_LIMIT: Final = 500_000_000
"""Characters that the parts of one prompt may go through: a few seconds at most."""

_FILTERS: Final = ("default", "first", "last", "length", "lower", "trim", "truncate", "upper", "wordcount")
_OF_A_PASSAGE: Final = ("number", "title", "text")
_NO_PASSAGES: Final = frozenset({"query", "reference", "candidates", "rationale"})
_OF_A_LOOP: Final = ("first", "index", "index0", "last", "length", "revindex", "revindex0")
_LANGUAGE: Final = (
    *(nodes.Output, nodes.TemplateData, nodes.If, nodes.CondExpr, nodes.For, nodes.Name, nodes.Const),
    *(nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Filter, nodes.Test, nodes.Keyword, nodes.List, nodes.Tuple),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Add, nodes.Sub, nodes.Neg),
)
_WORKING: Final = (nodes.Filter, nodes.Test, nodes.Compare, nodes.Concat, nodes.Add, nodes.Slice)
_STEP: Final = 100
"""What any other part costs, as if it were so many characters."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a template does.

    Attributes:
        parts: how many parts it has outside loops, in loops, and in loops within loops.
        working: of these the filters, tests, comparisons and joins, which go through whole texts.
        growth: how many times as long as the texts that it is given a text can become by joins.
        source: characters of the template itself.
    """

    parts: tuple[int, ...]
    working: tuple[int, ...]
    growth: int
    source: int

    @classmethod
    def of(cls, tree: nodes.Template, source: int) -> Self:
        """Count the parts of a template whose loops are known to stand two deep at most."""
        parts, working = [0, 0, 0], [0, 0, 0]

        def count(node: nodes.Node, depth: int) -> int:
            depth += isinstance(node, nodes.For)
            parts[depth] += 1
            working[depth] += isinstance(node, _WORKING)
            joined = len(node.nodes) if isinstance(node, nodes.Concat) else int(isinstance(node, nodes.Add))
            return joined + sum(count(child, depth) for child in node.iter_child_nodes())

        return cls(growth=1 + count(tree, 0), parts=tuple(parts), working=tuple(working), source=source)

    def characters(self, passages: int, longest: int) -> int:
        """Return how many characters a rendering goes through at most.

        Args:
            passages: the larger of the numbers of references and of candidates.
            longest: characters of the longest text.
        """
        text = self.growth * max(longest, self.source)
        turns = zip(self.parts, self.working, strict=True)
        return sum((part * _STEP + work * text) * passages**depth for depth, (part, work) in enumerate(turns))


def fail(path: Path | str, line: int, problem: str, hint: str = "") -> NoReturn:
    """Raise the error of a line of a template."""
    raise TemplateError(f"{path}, line {line}: {problem}", hint=hint)


def near(word: str, known: Iterable[str]) -> str:
    """Return a question after the word that may have been meant; "" where none is near."""
    close = get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def new_environment() -> ImmutableSandboxedEnvironment:
    """Return Jinja without what the language lacks."""
    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # a prompt is no HTML
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.globals.clear()
    environment.filters = {name: environment.filters[name] for name in _FILTERS}
    return environment


def _printable(value: Any) -> Any:
    if isinstance(value, str | int | jinja2.Undefined):
        return value
    raise TypeError("a passage is shown by its .number, .title or .text")


def tree_of(path: Path, environment: jinja2.Environment, source: str) -> nodes.Template:
    """Parse a part of a template, and refuse what is not in the language.

    Raises:
        TemplateError: with file and line.
        TemplateSyntaxError: likewise, from Jinja.
    """
    tree = environment.parse(source)
    for node in tree.find_all(nodes.Node):
        _check_node(path, environment, node)
    _check_loops(path, tree, 0)
    return tree


def _check_node(path: Path, environment: jinja2.Environment, node: nodes.Node) -> None:
    """Refuse what the small language lacks, and misspelt filters, tests and attributes even in a branch never taken."""
    line = node.lineno
    match node:
        case nodes.Filter(name=name) if name not in _FILTERS:
            fail(path, line, f"unknown filter {name!r}", f"{near(name, _FILTERS)}known: {', '.join(_FILTERS)}")
        case nodes.Test(name=name) if name not in environment.tests:
            fail(path, line, f"unknown test {name!r}", near(name, environment.tests))
        case nodes.Getattr(attr=attr, node=of):
            known = _attributes(of)
            if attr not in known:
                fail(path, line, f"unknown attribute {attr!r}", f"{near(attr, known)}known: {', '.join(known)}")
        case nodes.Getitem(arg=nodes.Slice(step=step)) if step is not None:  # backwards, a closing tag opens
            fail(path, line, "a slice takes no step", "write candidates[:5]")
        case nodes.Getitem(arg=nodes.Slice() | nodes.Const(value=int()) | nodes.Neg()):
            pass
        case nodes.Getitem():
            fail(path, line, "only numbers go between [ and ]", "write candidate.title, reference[0]")
        case _ if not isinstance(node, _LANGUAGE):
            word = type(node).__name__.lower()
            fail(path, line, f"{word!r} is no part of the template language", "use values, if, for and filters")


def _attributes(of: nodes.Node) -> tuple[str, ...]:
    name = of.name if isinstance(of, nodes.Name) else ""
    return _OF_A_LOOP if name == "loop" else () if name in _NO_PASSAGES else _OF_A_PASSAGE


def _check_loops(path: Path, node: nodes.Node, depth: int) -> None:
    """Let loops go over the passages only, and two deep: a bound on the time that any template can take."""
    if isinstance(node, nodes.For):
        depth += 1
        over = node.iter.node if isinstance(node.iter, nodes.Getitem) else node.iter
        if not isinstance(over, nodes.Name) or over.name not in {"reference", "candidates"} or node.recursive:
            fail(path, node.lineno, "a loop goes over `reference` or `candidates`", "{% for passage in candidates %}")
        if depth > 2:
            fail(path, node.lineno, "loops may stand two deep, not deeper")
    for child in node.iter_child_nodes():
        _check_loops(path, child, depth)
