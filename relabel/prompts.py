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

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, cast

from relabel.errors import TemplateError
from relabel.protocols import Message
from relabel.records import LABELS, Label, Passage, digest
from relabel.replies import FORMS, Form, Kind, ReplySpec
from relabel.template_language import FILE_LIMIT, fail, near
from relabel.template_parts import Body, Parsed, end_of_header, entries, header_fields, one_of, scalar

Need = Literal["required", "optional", "none"]
"""Whether a template wants the known positives."""

Reasons = Literal["always", "wanted", "never"]
"""Whether the replies to a template hold reasons beside the verdicts."""

SUFFIX: Final = ".md"
RATIONALE: Final = "rationale"
"""The placeholder that is true where a stage wants the reasons of all pairs."""

_FIELDS: Final = ("name", "kind", "reply", "reference", "labels", "source", "description")
_NEEDS: Final[tuple[Need, ...]] = ("required", "optional", "none")


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
    _body: Body = field(repr=False, compare=False)

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
        body = self._body
        texts = [query, *(part for each in (*reference, *candidates) for part in (each.title, each.text))]
        body.check_size(texts, max(len(reference), len(candidates)))
        shown = body.show(candidates)
        values: dict[str, Any] = {"query": body.quoting.quote(query), "reference": body.show(reference)}
        values[RATIONALE] = rationale
        values |= {"candidate": shown[0]} if self.spec.kind == "pair" else {"candidates": shown}
        return body.fill(values)


def load_template(name_or_path: str | Path) -> Template:
    """Return the shipped template of this name, or the one in this file, checked.

    Raises:
        TemplateError: unknown name, unreadable file, or anything wrong in it (with its line).
    """
    known = list_templates()
    if isinstance(name_or_path, str) and name_or_path in known:
        return _parse(shelf() / f"{name_or_path}{SUFFIX}")
    if not _is_file(Path(name_or_path)):
        raise TemplateError(
            f"there is no prompt template {str(name_or_path)[:200]!r}",
            hint=f"{near(str(name_or_path), known)}shipped are {', '.join(known)}; or give the path of a file",
        )
    return _parse(Path(name_or_path))


def list_templates() -> tuple[str, ...]:
    """Return the names of the shipped templates, in alphabetical order."""
    return tuple(sorted(path.stem for path in shelf().glob(f"*{SUFFIX}")))


def shelf() -> Path:
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
    content = read_template(path)
    lines = content.split("\n")
    end = end_of_header(path, lines)
    header = _header(path, "\n".join(lines[1:end]))
    parsed = Parsed.of(path, lines, end + 1)
    used = _check_placeholders(path, header, parsed)
    spec = header.spec
    template = Template(
        name=header.name,
        spec=spec,
        reference=header.reference,
        source=header.source,
        description=header.description,
        reasons=_reasons(content, spec, used),
        path=str(path),
        content=content,
        _body=Body.of(path, content, parsed, spec.tags, numbered=spec.kind == "group"),
    )
    _try(template)
    return template


def _reasons(content: str, spec: ReplySpec, used: set[str]) -> Reasons:
    if RATIONALE in used:
        return "wanted"
    return "always" if spec.form == "snippet" or "<thinking>" in content else "never"


def read_template(path: Path) -> str:
    """Return what a template file holds, with one kind of line break.

    Raises:
        TemplateError: it cannot be read, is no text, or is longer than any template.
    """
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


def _header(path: Path, text: str) -> _Header:
    found = header_fields(path, text, _FIELDS, _FIELDS[:5])
    words = {name: scalar(path, *found[name]) for name in found if name != "labels"}
    kind = cast("Kind", one_of(path, found["kind"][1], "kind", words["kind"], tuple(FORMS)))
    form = cast("Form", one_of(path, found["reply"][1], f"reply of a {kind}", words["reply"], FORMS[kind]))
    need = cast("Need", one_of(path, found["reference"][1], "reference", words["reference"], _NEEDS))
    node, line = found["labels"]
    labels: dict[str, Label] = {}
    for word, (value, at) in entries(path, node, "labels", line).items():
        labels[word] = cast("Label", one_of(path, at, f"what {word!r} means", scalar(path, value, at), LABELS))
    try:
        spec = ReplySpec(kind, form, labels)
    except ValueError as error:
        raise TemplateError(f"{path}, line {line}: {error}") from error
    return _Header(words["name"], spec, need, words.get("source", ""), words.get("description", ""))


# --- body -----------------------------------------------------------------------------------------------------------


def _check_placeholders(path: Path, header: _Header, parsed: Parsed) -> set[str]:
    """Return the placeholders that the body uses: all that it must, and none that there is not."""
    kind, need = header.spec.kind, header.reference
    asked = "candidate" if kind == "pair" else "candidates"
    known = ("query", asked) if need == "none" else ("query", "reference", asked)
    used = parsed.placeholders()
    for name, line in used.items():
        if name not in (*known, RATIONALE):
            fail(path, line, f"unknown placeholder {name!r}", f"{near(name, known)}a {kind} has {', '.join(known)}")
    for name in known:
        if name not in used:
            fail(
                path,
                parsed.last,
                f"the placeholder {name!r} is missing",
                f"write {{{{ … {name} … }}}} where it belongs",
            )
    if kind == "group" and not parsed.attributes() & {"number", "index"}:
        fail(path, parsed.last, "the candidates are shown without their numbers", "the reply names them by `.number`")
    return set(used)


# --- rendering ------------------------------------------------------------------------------------------------------


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
