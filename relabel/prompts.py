"""Template file → checked, fingerprinted template; query and passages → messages that no passage can forge.

A template is one text file: a header between two lines of `---`, then the parts of the prompt.

    ---
    name: relevance
    kind: pair                  # one candidate per question, or `group`: all of them by number
    reply: choice               # choice, json, snippet, tagged (see replies.py)
    reference: required         # known positives: required, optional, none
    labels:                     # what the model may say, and what it means
      "Yes": relevant
      "No": irrelevant
    source: where the idea comes from
    description: one line
    ---
    ## system
    You judge search results.
    ## user
    <query>{{ query }}</query> …

The body speaks a small part of Jinja: values, `if`, `for` over the passages and a few filters. It has no calls,
no assignments and no other files, so that no template can run for ever or fill the memory. Everything that can be
wrong with it is found when it is loaded, with file and line, by a walk through it and by trial renderings.

Passages are other people's words. Of what they contain, invisible characters are removed, and where they would
open a tag of this template, a tag of its reply or a control token of a chat model, the first sign is exchanged
for one that looks like it: `</passage>` becomes `‹/passage>`, `[INST]` becomes `⟦INST]`. All else stays as it is.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from traceback import walk_tb
from typing import Any, Final, Literal, NoReturn, cast

import jinja2
import yaml
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from relabel.errors import TemplateError
from relabel.protocols import Message
from relabel.records import LABELS, Label, Passage, digest
from relabel.replies import FORMS, Form, Kind, ReplySpec, openings, quote

Need = Literal["required", "optional", "none"]
"""Whether a template wants the known positives."""

SUFFIX: Final = ".md"
OUTPUT_LIMIT: Final = 2_000_000
"""Characters of one rendered message; more would be no prompt, but a mistake."""

_FIELDS: Final = ("name", "kind", "reply", "reference", "labels", "source", "description")
_NEEDS: Final[tuple[Need, ...]] = ("required", "optional", "none")
_FILTERS: Final = ("default", "first", "last", "length", "lower", "trim", "truncate", "upper", "wordcount")
_OF_A_PASSAGE: Final = ("number", "title", "text")
_OF_A_LOOP: Final = ("first", "index", "index0", "last", "length", "revindex", "revindex0")
_LANGUAGE: Final = (
    *(nodes.Output, nodes.TemplateData, nodes.If, nodes.CondExpr, nodes.For, nodes.Name, nodes.Const),
    *(nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Filter, nodes.Test, nodes.Keyword, nodes.List, nodes.Tuple),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Concat, nodes.Add, nodes.Sub, nodes.Neg),
)
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


@dataclass(frozen=True, slots=True)
class Shown:
    """A passage as a template sees it: its number from 1, its title on one line, its text."""

    number: int
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """One message of a template, compiled."""

    role: str
    body: jinja2.Template = field(repr=False)


@dataclass(frozen=True, slots=True)
class Template:
    """A question that a model can be asked, and how its reply is read.

    Attributes:
        name: as the header says.
        spec: kind, form and labels of the reply; what `read_reply` wants.
        reference: whether the known positives are shown: "required", "optional" or "none".
        source: the paper or page that the idea comes from.
        description: one line for people.
        path: the file that it was read from.
        content: header and body as they stand in the file.
    """

    name: str
    spec: ReplySpec
    reference: Need
    source: str
    description: str
    path: str
    content: str = field(repr=False)
    _parts: tuple[Part, ...] = field(repr=False, compare=False)
    _openings: re.Pattern[str] = field(repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """32 hex digits of header and body: another character, another fingerprint, wherever the file lies."""
        return digest(self.content).hex()

    def render(self, query: str, reference: Sequence[Passage], candidates: Sequence[Passage]) -> tuple[Message, ...]:
        """Return the messages that ask about `candidates`, which are numbered from 1 in this order.

        Ids are never shown. Instructions, query and reference come before the candidates in every shipped
        template, so that the questions about one query share their beginning.

        Raises:
            TemplateError: a message would have more than `OUTPUT_LIMIT` characters.
            ValueError: a pair with other than one candidate; no reference where one is required.
        """
        if self.spec.kind == "pair" and len(candidates) != 1:
            raise ValueError(f"a pair has one candidate, not {len(candidates)}")
        if self.reference == "required" and not reference:
            raise ValueError(f"template {self.name!r} needs a known positive")
        shown = self._show(candidates)
        values: dict[str, Any] = {"query": quote(query, self._openings), "reference": self._show(reference)}
        values |= {"candidate": shown[0]} if self.spec.kind == "pair" else {"candidates": shown}
        messages = (Message(part.role, _fill(part.body, values, self.path)) for part in self._parts)
        return tuple(message for message in messages if message.content)

    def _show(self, passages: Iterable[Passage]) -> tuple[Shown, ...]:
        return tuple(
            Shown(number, " ".join(quote(passage.title, self._openings).split()), quote(passage.text, self._openings))
            for number, passage in enumerate(passages, start=1)
        )


def load_template(name_or_path: str | Path) -> Template:
    """Return the shipped template of this name, or the one in this file, checked.

    Raises:
        TemplateError: unknown name, unreadable file, or anything wrong in it (with its line).
    """
    known = list_templates()
    if isinstance(name_or_path, str) and name_or_path in known:
        return _parse(_shelf() / f"{name_or_path}{SUFFIX}")
    if not _is_file(Path(name_or_path)):
        raise TemplateError(
            f"there is no prompt template {str(name_or_path)[:200]!r}",
            hint=f"{_near(str(name_or_path), known)}shipped are {', '.join(known)}; or give the path of a file",
        )
    return _parse(Path(name_or_path))


def list_templates() -> tuple[str, ...]:
    """Return the names of the shipped templates, in alphabetical order."""
    return tuple(sorted(path.stem for path in _shelf().glob(f"*{SUFFIX}")))


def _shelf() -> Path:
    """Return the folder of the shipped templates: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_prompts"
    return installed if installed.is_dir() else package.parent / "prompts"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have: somebody gave the prompt itself
        return False


def _fail(path: Path | str, line: int, problem: str, hint: str = "") -> NoReturn:
    raise TemplateError(f"{path}, line {line}: {problem}", hint=hint)


def _near(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def _parse(path: Path) -> Template:
    content = _text(path)
    lines = content.split("\n")
    end = _end_of_header(path, lines)
    header = _header(path, "\n".join(lines[1:end]))
    sections = _sections(path, lines, end + 1)
    environment = _environment()
    try:
        trees = {role: _tree(path, environment, source) for role, source in sections.items()}
        _check_placeholders(path, header, trees, sections)
        parts = tuple(Part(role, _compiled(path, environment, trees[role])) for role in sorted(trees))
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"{path}, line {error.lineno}: {error.message}") from error
    except (*_FAILURES, MemoryError, RecursionError, SyntaxError) as error:  # constants are computed, nests too deep
        raise TemplateError(f"{path}: the body cannot be read ({error or type(error).__name__})") from error
    template = Template(
        name=header.name,
        spec=header.spec,
        reference=header.reference,
        source=header.source,
        description=header.description,
        path=str(path),
        content=content,
        _parts=parts,
        _openings=openings((*header.spec.tags, *_tags(trees.values()))),
    )
    _try(template)
    return template


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(OUTPUT_LIMIT + 1)
        if len(content) > OUTPUT_LIMIT:
            raise TemplateError(f"{path}: is longer than {OUTPUT_LIMIT:,} bytes", hint="name a prompt template")
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise TemplateError(f"{path}, line {line}: is not text in UTF-8", hint="save the file as UTF-8") from error
    except OSError as error:
        raise TemplateError(f"{path}: cannot be read ({error.strerror})") from error


# --- header ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    spec: ReplySpec
    reference: Need
    source: str
    description: str


def _end_of_header(path: Path, lines: Sequence[str]) -> int:
    marks = [number for number, line in enumerate(lines) if line.rstrip() == "---"][:2]
    if len(marks) < 2 or marks[0] != 0:
        _fail(path, 1, "a template begins with a header between two lines of ---", "type: relabel prompts show rlhn")
    return marks[1]


def _header(path: Path, text: str) -> _Header:
    """Read the header, every scalar as the text that it is: `Yes` is a word here, and 3 is one too."""
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "too deeply nested or with characters that it may not hold"
        raise TemplateError(
            f"{path}, line {mark.line + 2 if mark else 2}: the header is not YAML: {problem}"
        ) from error
    found = _entries(path, root, "the header")
    for name, (_, line) in found.items():
        if name not in _FIELDS:
            _fail(path, line, f"unknown field {name!r}", f"{_near(name, _FIELDS)}known are {', '.join(_FIELDS)}")
    for name in _FIELDS[:5]:
        if name not in found:
            _fail(path, 1, f"the header lacks the field {name!r}")
    words = {name: _scalar(path, *found[name]) for name in found if name != "labels"}
    kind = cast("Kind", _one_of(path, found["kind"][1], "kind", words["kind"], tuple(FORMS)))
    form = cast("Form", _one_of(path, found["reply"][1], f"reply of a {kind}", words["reply"], FORMS[kind]))
    need = cast("Need", _one_of(path, found["reference"][1], "reference", words["reference"], _NEEDS))
    node, line = found["labels"]
    labels: dict[str, Label] = {}
    for word, (value, at) in _entries(path, node, "labels", line).items():
        labels[word] = cast("Label", _one_of(path, at, f"what {word!r} means", _scalar(path, value, at), LABELS))
    try:
        spec = ReplySpec(kind, form, labels)
    except ValueError as error:
        raise TemplateError(f"{path}, line {line}: {error}") from error
    return _Header(words["name"], spec, need, words.get("source", ""), words.get("description", ""))


def _entries(path: Path, node: yaml.Node | None, what: str, line: int = 1) -> dict[str, tuple[yaml.Node, int]]:
    """Return the fields of a YAML mapping, each with its line in the file."""
    if not isinstance(node, yaml.MappingNode):
        _fail(path, line, f"{what} must be lines of `name: value`")
    found: dict[str, tuple[yaml.Node, int]] = {}
    for key, value in node.value:
        line = key.start_mark.line + 2
        name = _scalar(path, key, line)
        if name in found:
            _fail(path, line, f"{name!r} is there twice")
        found[name] = value, line
    return found


def _scalar(path: Path, node: yaml.Node, line: int) -> str:
    if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
        _fail(path, line, "expected a word or a line of text")
    return str(node.value).strip()


def _one_of(path: Path, line: int, what: str, word: str, known: Sequence[str]) -> str:
    if word not in known:
        _fail(path, line, f"{what} is {word!r}", f"{_near(word, known)}it must be one of {', '.join(known)}")
    return word


# --- body -----------------------------------------------------------------------------------------------------------


def _sections(path: Path, lines: Sequence[str], start: int) -> dict[str, str]:
    """Return the source of each message, behind as many empty lines as keep its line numbers those of the file."""
    found: dict[str, list[str]] = {}
    role = ""
    for number, line in enumerate(lines[start:], start=start + 1):
        if heading := _HEADING.fullmatch(line):
            role = heading[1]
            if role in found:
                _fail(path, number, f"the part {role!r} is there twice")
            found[role] = [""] * number
        elif role:
            found[role].append(line)
        elif line.strip():
            _fail(path, number, "text before the first part", "write a line `## system` or `## user` above it")
    if not "".join(found.get("user", ())).strip():
        _fail(path, len(lines), "there is no part `## user`")
    return {role: "\n".join(body) for role, body in found.items()}


def _environment() -> ImmutableSandboxedEnvironment:
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


def _tree(path: Path, environment: jinja2.Environment, source: str) -> nodes.Template:
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
            _fail(path, line, f"unknown filter {name!r}", f"{_near(name, _FILTERS)}known: {', '.join(_FILTERS)}")
        case nodes.Test(name=name) if name not in environment.tests:
            _fail(path, line, f"unknown test {name!r}", _near(name, environment.tests))
        case nodes.Getattr(attr=attr, node=of):
            known = _attributes(of)
            if attr not in known:
                _fail(path, line, f"unknown attribute {attr!r}", f"{_near(attr, known)}known: {', '.join(known)}")
        case nodes.Getitem(arg=nodes.Slice() | nodes.Const(value=int()) | nodes.Neg()):
            pass
        case nodes.Getitem():
            _fail(path, line, "only numbers go between [ and ]", "write candidate.title, reference[0]")
        case _ if not isinstance(node, _LANGUAGE):
            word = type(node).__name__.lower()
            _fail(path, line, f"{word!r} is no part of the template language", "use values, if, for and filters")


def _attributes(of: nodes.Node) -> tuple[str, ...]:
    name = of.name if isinstance(of, nodes.Name) else ""
    return _OF_A_LOOP if name == "loop" else () if name in {"query", "reference", "candidates"} else _OF_A_PASSAGE


def _check_loops(path: Path, node: nodes.Node, depth: int) -> None:
    """Let loops go over the passages only, and two deep: a bound on the time that any template can take."""
    if isinstance(node, nodes.For):
        depth += 1
        over = node.iter.node if isinstance(node.iter, nodes.Getitem) else node.iter
        if not isinstance(over, nodes.Name) or over.name not in {"reference", "candidates"} or node.recursive:
            _fail(path, node.lineno, "a loop goes over `reference` or `candidates`", "{% for passage in candidates %}")
        if depth > 2:
            _fail(path, node.lineno, "loops may stand two deep, not deeper")
    for child in node.iter_child_nodes():
        _check_loops(path, child, depth)


def _check_placeholders(
    path: Path, header: _Header, trees: dict[str, nodes.Template], sections: dict[str, str]
) -> None:
    kind, need = header.spec.kind, header.reference
    asked = "candidate" if kind == "pair" else "candidates"
    known = ("query", asked) if need == "none" else ("query", "reference", asked)
    used: dict[str, int] = {}
    for tree in trees.values():
        for name in meta.find_undeclared_variables(tree):
            used[name] = min(node.lineno for node in tree.find_all(nodes.Name) if node.name == name)
    for name, line in sorted(used.items(), key=lambda use: use[1]):
        if name not in known:
            _fail(path, line, f"unknown placeholder {name!r}", f"{_near(name, known)}a {kind} has {', '.join(known)}")
    last = sections["user"].rstrip().count("\n") + 1
    for name in known:
        if name not in used:
            _fail(path, last, f"the placeholder {name!r} is missing", f"write {{{{ … {name} … }}}} where it belongs")
    numbers = {node.attr for tree in trees.values() for node in tree.find_all(nodes.Getattr)}
    if kind == "group" and not numbers & {"number", "index"}:
        _fail(path, last, "the candidates are shown without their numbers", "the reply names them by `.number`")


def _compiled(path: Path, environment: jinja2.Environment, tree: nodes.Template) -> jinja2.Template:
    code = environment.compile(tree, path.stem, str(path))
    return jinja2.Template.from_code(environment, code, environment.globals)


def _tags(trees: Iterable[nodes.Template]) -> Iterator[str]:
    """Yield the names of the tags that the template writes itself."""
    for tree in trees:
        for data in tree.find_all(nodes.TemplateData):
            yield from _TAG.findall(data.data)
        for constant in tree.find_all(nodes.Const):
            yield from _TAG.findall(str(constant.value))


# --- rendering ------------------------------------------------------------------------------------------------------


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


def _try(template: Template) -> None:
    """Render with few and many, titled and untitled passages: all that was given must be there to read."""
    counts = {"required": (1, 2), "optional": (0, 1, 2), "none": (0,)}[template.reference]
    for known in counts:
        for asked in (1,) if template.spec.kind == "pair" else (1, 3):
            for title in ("", "Ttl"):
                reference = [Passage("", f"ref{number}x", title) for number in range(known)]
                candidates = [Passage("", f"doc{number}x", title) for number in range(asked)]
                messages = template.render("qryx", reference, candidates)
                seen = "\n".join(message.content for message in messages).casefold()
                for text in ("qryx", *(passage.text for passage in (*reference, *candidates))):
                    if text not in seen:
                        what = {"q": "the query", "r": "a known positive"}.get(text[0], "a candidate")
                        raise TemplateError(f"{template.path}: {what} does not appear in the prompt that it makes")
