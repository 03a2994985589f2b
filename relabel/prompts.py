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

The body speaks a small part of Jinja: values, `if`, `for` over the passages and a few filters. What stands between
`{% if rationale %}` and `{% endif %}` is said only where the stage wants the reasons of all pairs. It has no calls,
no assignments and no other files, so that no template can run for ever or fill the memory (`template_language.py`).
Everything that can be wrong with it is found when it is loaded, with file and line, by a walk through it and by trial
renderings.

Queries and passages are other people's words, and are quoted: none can write a tag of the template or of its reply,
a control token of a chat model, or the label of a candidate (`quoting.py`).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from traceback import walk_tb
from typing import Any, Final, Literal, cast

import jinja2
import yaml
from jinja2 import meta, nodes

from relabel.errors import TemplateError
from relabel.protocols import Message
from relabel.quoting import Quoting, visible
from relabel.records import LABELS, Label, Passage, digest
from relabel.replies import FORMS, Form, Kind, ReplySpec
from relabel.template_language import FILE_LIMIT, TAG_LIMIT, WORK_LIMIT, Work, fail, near, new_environment, tree_of

Need = Literal["required", "optional", "none"]
"""Whether a template wants the known positives."""

Reasons = Literal["always", "wanted", "never"]
"""Whether the replies to a template hold reasons beside the verdicts."""

SUFFIX: Final = ".md"
OUTPUT_LIMIT: Final = 2_000_000
"""Characters of one rendered message; more would be no prompt, but a mistake."""

RATIONALE: Final = "rationale"
"""The placeholder that is true where a stage wants the reasons of all pairs."""

_FIELDS: Final = ("name", "kind", "reply", "reference", "labels", "source", "description")
_NEEDS: Final[tuple[Need, ...]] = ("required", "optional", "none")
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
        reasons: whether its replies hold the reasons of all verdicts: "always", "wanted" (where they are), "never".
        path: the file that it was read from.
        content: header and body as they stand in the file.
    """

    name: str
    spec: ReplySpec
    reference: Need
    source: str
    description: str
    reasons: Reasons
    path: str
    content: str = field(repr=False)
    _parts: tuple[Part, ...] = field(repr=False, compare=False)
    _quoting: Quoting = field(repr=False, compare=False)
    _works: tuple[Work, ...] = field(repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """32 hex digits of header and body: another character, another fingerprint, wherever the file lies."""
        return digest(self.content).hex()

    def render(
        self, query: str, reference: Sequence[Passage], candidates: Sequence[Passage], *, rationale: bool = False
    ) -> tuple[Message, ...]:
        """Return the messages that ask about `candidates`, which are numbered from 1 in this order.

        With `rationale` a template that has a part for it asks for reasons beside the verdicts.

        Ids are never shown. Instructions, query and reference come before the candidates in every shipped
        template, so that the questions about one query share their beginning.

        Raises:
            TemplateError: a message would have more than `OUTPUT_LIMIT` characters, or the template would have to go
                through more than `WORK_LIMIT` of them to make it.
            ValueError: a pair with other than one candidate; no reference where one is required.
        """
        if self.spec.kind == "pair" and len(candidates) != 1:
            raise ValueError(f"a pair has one candidate, not {len(candidates)}")
        if self.reference == "required" and not reference:
            raise ValueError(f"template {self.name!r} needs a known positive")
        self._check_size(query, reference, candidates)
        shown = self._show(candidates)
        values: dict[str, Any] = {"query": self._quoting.quote(query), "reference": self._show(reference)}
        values[RATIONALE] = rationale
        values |= {"candidate": shown[0]} if self.spec.kind == "pair" else {"candidates": shown}
        messages = (Message(part.role, _fill(part.body, values, self.path)) for part in self._parts)
        return tuple(message for message in messages if message.content)

    def _show(self, passages: Iterable[Passage]) -> tuple[Shown, ...]:
        quote = self._quoting.quote
        return tuple(
            Shown(number, quote(" ".join(visible(passage.title).split())), quote(passage.text))
            for number, passage in enumerate(passages, start=1)
        )

    def _check_size(self, query: str, reference: Sequence[Passage], candidates: Sequence[Passage]) -> None:
        """Refuse what would be no prompt before any time is spent on it."""
        texts = [query, *(part for each in (*reference, *candidates) for part in (each.title, each.text))]
        longest, most = max(map(len, texts)), max(len(reference), len(candidates))
        if longest > OUTPUT_LIMIT:
            raise TemplateError(f"{self.path}: a prompt of more than {OUTPUT_LIMIT:,} characters")
        if sum(work.characters(most, longest) for work in self._works) > WORK_LIMIT:
            raise TemplateError(
                f"{self.path}: too much work for a prompt of {most} passages with up to {longest:,} characters",
                hint="use fewer filters and conditions, above all in loops",
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
            hint=f"{near(str(name_or_path), known)}shipped are {', '.join(known)}; or give the path of a file",
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


def _parse(path: Path) -> Template:
    content = _text(path)
    lines = content.split("\n")
    end = _end_of_header(path, lines)
    header = _header(path, "\n".join(lines[1:end]))
    sections = _sections(path, lines, end + 1)
    environment = new_environment()
    try:
        trees = {role: tree_of(path, environment, source) for role, source in sections.items()}
        used = _check_placeholders(path, header, trees, sections)
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
        reasons=_reasons(content, header.spec, used),
        path=str(path),
        content=content,
        _parts=parts,
        _quoting=Quoting.against(_tags(path, header.spec, trees.values()), numbered=header.spec.kind == "group"),
        _works=tuple(Work.of(tree, len(content)) for tree in trees.values()),
    )
    _try(template)
    return template


def _reasons(content: str, spec: ReplySpec, used: set[str]) -> Reasons:
    if RATIONALE in used:
        return "wanted"
    return "always" if spec.form == "snippet" or "<thinking>" in content else "never"


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_LIMIT + 1)
        if len(content) > FILE_LIMIT:
            raise TemplateError(f"{path}: has more than {FILE_LIMIT:,} bytes: that is no template")
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
        fail(path, 1, "a template begins with a header between two lines of ---", "type: relabel prompts show rlhn")
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
            fail(path, line, f"unknown field {name!r}", f"{near(name, _FIELDS)}known are {', '.join(_FIELDS)}")
    for name in _FIELDS[:5]:
        if name not in found:
            fail(path, 1, f"the header lacks the field {name!r}")
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
        fail(path, line, f"{what} must be lines of `name: value`")
    found: dict[str, tuple[yaml.Node, int]] = {}
    for key, value in node.value:
        line = key.start_mark.line + 2
        name = _scalar(path, key, line)
        if name in found:
            fail(path, line, f"{name!r} is there twice")
        found[name] = value, line
    return found


def _scalar(path: Path, node: yaml.Node, line: int) -> str:
    if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
        fail(path, line, "expected a word or a line of text")
    return str(node.value).strip()


def _one_of(path: Path, line: int, what: str, word: str, known: Sequence[str]) -> str:
    if word not in known:
        fail(path, line, f"{what} is {word!r}", f"{near(word, known)}it must be one of {', '.join(known)}")
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
                fail(path, number, f"the part {role!r} is there twice")
            found[role] = [""] * number
        elif role:
            found[role].append(line)
        elif line.strip():
            fail(path, number, "text before the first part", "write a line `## system` or `## user` above it")
    if not "".join(found.get("user", ())).strip():
        fail(path, len(lines), "there is no part `## user`")
    return {role: "\n".join(body) for role, body in found.items()}


def _check_placeholders(
    path: Path, header: _Header, trees: dict[str, nodes.Template], sections: dict[str, str]
) -> set[str]:
    """Return the placeholders that the body uses: all that it must, and none that there is not."""
    kind, need = header.spec.kind, header.reference
    asked = "candidate" if kind == "pair" else "candidates"
    known = ("query", asked) if need == "none" else ("query", "reference", asked)
    used: dict[str, int] = {}
    for tree in trees.values():
        for name in meta.find_undeclared_variables(tree):
            used[name] = min(node.lineno for node in tree.find_all(nodes.Name) if node.name == name)
    for name, line in sorted(used.items(), key=lambda use: use[1]):
        if name not in (*known, RATIONALE):
            fail(path, line, f"unknown placeholder {name!r}", f"{near(name, known)}a {kind} has {', '.join(known)}")
    last = sections["user"].rstrip().count("\n") + 1
    for name in known:
        if name not in used:
            fail(path, last, f"the placeholder {name!r} is missing", f"write {{{{ … {name} … }}}} where it belongs")
    numbers = {node.attr for tree in trees.values() for node in tree.find_all(nodes.Getattr)}
    if kind == "group" and not numbers & {"number", "index"}:
        fail(path, last, "the candidates are shown without their numbers", "the reply names them by `.number`")
    return set(used)


def _compiled(path: Path, environment: jinja2.Environment, tree: nodes.Template) -> jinja2.Template:
    code = environment.compile(tree, path.stem, str(path))
    return jinja2.Template.from_code(environment, code, environment.globals)


def _tags(path: Path, spec: ReplySpec, trees: Iterable[nodes.Template]) -> frozenset[str]:
    """Return the names of the tags that the template writes itself, and of those of its reply."""
    written = [data.data for tree in trees for data in tree.find_all(nodes.TemplateData)]
    written += [str(constant.value) for tree in trees for constant in tree.find_all(nodes.Const)]
    found = frozenset(spec.tags).union(*map(_TAG.findall, written))
    if len(found) > TAG_LIMIT:
        raise TemplateError(f"{path}: writes more than {TAG_LIMIT} different tags")
    return found


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
                for rationale in (False, True) if template.reasons == "wanted" else (False,):
                    _check_shown(template, reference, candidates, rationale=rationale)


def _check_shown(
    template: Template, reference: Sequence[Passage], candidates: Sequence[Passage], *, rationale: bool
) -> None:
    messages = template.render("qryx", reference, candidates, rationale=rationale)
    seen = "\n".join(message.content for message in messages).casefold()
    for text in ("qryx", *(passage.text for passage in (*reference, *candidates))):
        if text not in seen:
            what = {"q": "the query", "r": "a known positive"}.get(text[0], "a candidate")
            raise TemplateError(f"{template.path}: {what} does not appear in the prompt that it makes")
