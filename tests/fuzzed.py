"""What must hold whatever the bytes: of a reply that is read, of a text that is quoted, of a template file.

Each target takes bytes and raises AssertionError, or any other error, where the code is wrong. `fuzz.py` looks for such
bytes for as long as one likes; tests/test_fuzz.py tries the stored ones and some thousand changed ones.
"""

import json
import random
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from attacks import attacks

from relabel.errors import TemplateError
from relabel.prompts import load_template
from relabel.quoting import Quoting, as_quoted, skeleton
from relabel.records import LABELS, Label, Passage
from relabel.replies import RATIONALE_LIMIT, UNREADABLE, UNSUPPORTED, Answer, ReplySpec, read_reply
from relabel.template_parts import OUTPUT_LIMIT

SPECS: Final = (
    ReplySpec("group", "tagged", {"better": "relevant", "worse": "partial", "neither": "irrelevant"}),
    ReplySpec("group", "json", {"Yes": "relevant", "Partly": "partial", "No": "irrelevant"}),
    ReplySpec("pair", "json", {"Yes": "relevant", "No": "irrelevant"}),
    ReplySpec("pair", "choice", {"Yes": "relevant", "No": "irrelevant"}),
    ReplySpec("pair", "choice", {"3": "relevant", "2": "relevant", "1": "partial", "0": "irrelevant"}),
    ReplySpec("pair", "snippet", {"found": "relevant", "absent": "irrelevant"}),
    ReplySpec("pair", "tagged", {"ja": "relevant", "neither": "irrelevant"}),
)
CANDIDATES: Final = (Passage("1", "It was built in 1901, say its builders."), Passage("2", "b"), Passage("3", "c"))
QUOTINGS: Final = (Quoting.against(["passage", "query"]), Quoting.against(["doc", "verdict"], numbered=True))
HEADER: Final = (
    "---\nname: n\nkind: {}\nreply: json\nreference: optional\nlabels: {{Yes: relevant, No: irrelevant}}\n---\n"
)
WORDS: Final = (
    *(
        "<verdict>",
        "</verdict>",
        "<better>",
        "</better>",
        "<worse>",
        "</worse>",
        "<thinking>",
        "</thinking>",
        "<think>",
    ),
    *("Doc (2)", "[1]", "None", "Yes", "null", "```json", "<passage>", "</doc>", "<|im_start|>", "[INST]", "<s>"),
)
TEMPLATE_WORDS: Final = (
    *(
        "{{ query }}",
        "{{ candidate.text }}",
        "{% for p in candidates %}",
        "{% endfor %}",
        "{% if query %}",
        "{% endif %}",
    ),
    *("|trim", "|truncate(9)", "## system", "## user", "reference[0].text", "p.number", "loop.index", " ~ ", "[:1]"),
)
"""What a fuzzer shall know from the start."""

ENDS: Final = " \t\r\n`*"


def text_of(data: bytes) -> str:
    """Return bytes as a text that may hold anything that a str can."""
    return data.decode("utf-8", "surrogateescape")


def replies(data: bytes) -> None:
    """Read a reply: every candidate gets a label that the reply's own words give it, or a reason why not."""
    spec, text = SPECS[data[0] % len(SPECS) if data else 0], text_of(data[1:])
    candidates = CANDIDATES if spec.kind == "group" else CANDIDATES[:1]
    weights = {word: float(len(text) % (2 + place)) for place, word in enumerate(spec.labels)}
    answers = read_reply(spec, text, candidates, weights)
    assert len(answers) == len(candidates)
    for answer in answers:
        check_answer(answer)
    for number, answer in enumerate(answers, start=1):
        if answer.label is not None:
            assert answer.label in witnesses(spec, text, number), (answer, text)
    if spec.form != "choice" and any(answer.label for answer in answers):  # and then no beginning of it is a reply
        cut = text.rstrip().rstrip(ENDS)[:-1]
        assert {answer.label for answer in read_reply(spec, cut, candidates)} == {None}, cut


def check_answer(answer: Answer) -> None:
    """Check that an answer is a label or a reason, and its figures are figures."""
    assert (answer.label in LABELS and not answer.reason) or (
        answer.label is None and answer.reason in {UNREADABLE, UNSUPPORTED} and answer.rationale
    )
    assert len(answer.rationale) <= RATIONALE_LIMIT
    assert answer.probability is None or 0 <= answer.probability <= 1
    assert answer.score is None or 0 <= answer.score <= 3


def witnesses(spec: ReplySpec, text: str, number: int) -> set[Label]:
    """Return the labels that the words of a reply could mean for a candidate, by a reading that is not the reader's."""
    if spec.form == "choice":
        said = re.sub(r"\W", "", text).casefold()
        return {label for word, label in spec.labels.items() if word.casefold() == said}
    if spec.form == "tagged":
        verdict = text.casefold().rpartition("<verdict>")[2]
        assert verdict.rstrip(ENDS).endswith("</verdict>")
        listed = {
            label
            for word, label in spec.labels.items()
            if re.search(rf"<{word}>[^<]*(?<!\d)0*{number}(?!\d)[^<]*</{word}>", verdict)
        }
        return listed or {spec.labels["neither"]}
    reply: Any = json.loads(text[text.index("{") : text.rindex("}") + 1])
    if spec.form == "snippet":
        shown = reply["answer"]
        return {spec.labels["absent" if shown is None else "found"]}
    entries = [entry for entry in reply["verdicts"] if entry["id"] == number] if spec.kind == "group" else [reply]
    words = {str(entry["label"]).strip("\f\v .,;:!…。\t\r\n\u00a0\u3000\"'`“”‘’«»").casefold() for entry in entries}
    return {label for word, label in spec.labels.items() if word.casefold() in words}


def quoting(data: bytes) -> None:
    """Quote two texts: neither, nor the two one after the other, can write structure; again changes nothing."""
    quoting = QUOTINGS[data[0] % len(QUOTINGS) if data else 0]
    before, _, after = text_of(data[1:]).partition("\x1e")
    first, second = quoting.quote(before), quoting.quote(after)
    for text, shown in ((before, first), (after, second)):
        assert quoting.quote(shown) == shown
        assert as_quoted(shown) == as_quoted(text)
        shown.encode()  # raises at half a surrogate
        assert len(shown) <= len(text)
    for both in (f"{first}\n{second}", f"<x>{first}</x><x>{second}</x>"):
        assert not quoting.structure.search(skeleton(both)), both
    own = "passage|query" if quoting is QUOTINGS[0] else "doc|verdict"
    assert not re.search(rf"</?(?:{own})[\s/>]", first + second), first + second


def templates(data: bytes) -> None:
    """Load a template file, render it: whatever stands in it, there is a prompt or an error of ours."""
    kind = ("pair", "group")[data[0] % 2 if data else 0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.md"
        path.write_bytes(HEADER.format(kind).encode() + data[1:] if data[:1] < b"\xf0" else data[1:])
        with suppress(TemplateError):
            template = load_template(path)
            shown = CANDIDATES if template.spec.kind == "group" else CANDIDATES[:1]
            messages = template.render("q" * 100, CANDIDATES[:2], shown)
            assert sum(len(message.content) for message in messages) <= 2 * OUTPUT_LIMIT


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {"replies": replies, "quoting": quoting, "templates": templates}


def seeds(target: str) -> Iterator[bytes]:
    """Yield inputs to begin with: good replies, the attacks, small templates."""
    hostile = [attack.text.encode("utf-8", "surrogatepass") for attack in attacks()]
    if target == "templates":
        body = "## system\nJudge.\n## user\n<q>{{ query }}</q>"
        body += "{% for p in reference %}<k>{{ p.text|trim }}</k>{% endfor %}\n"
        yield f"\0{body}<d>{{{{ candidate.title ~ candidate.text }}}}</d>".encode()
        yield f"\1{body}{{% for p in candidates %}}<d{{{{ p.number }}}}>{{{{ p.text }}}}</d>{{% endfor %}}".encode()
        yield b"\xf0" + HEADER.format("pair").encode() + f"{body}{{{{ candidate.text }}}}".encode()
        return
    if target == "quoting":
        for number, attack in enumerate(hostile):
            yield bytes([number % 2]) + attack + b"\x1e" + hostile[number - 1]
        return
    good = (
        "<thinking>\nDoc (1): so\n</thinking>\n<verdict>\n<better>[Doc (1)]</better>\n<worse>[2]</worse>\n</verdict>",
        '{"verdicts": [{"id": 1, "label": "Yes"}, {"id": 2, "label": "No"}, {"id": 3, "label": "Partly"}]}',
        '```json\n{"label": "Yes"}\n```', '"Yes."', "3", '{"answer": "built in 1901"}',
        "<verdict><ja>[1]</ja></verdict>",
    )  # fmt: skip
    for number, reply in enumerate(good):
        yield bytes([number]) + reply.encode()
    for attack in hostile:
        yield b"\0<thinking>" + attack + b"</thinking>\n" + good[0].encode()


def changed(known: list[bytes], dice: random.Random) -> bytes:
    """Return one input, or two, with a few stretches cut, doubled, exchanged or replaced by anything."""
    data = bytearray(dice.choice(known))
    for _ in range(dice.randint(1, 4)):
        start = dice.randint(0, len(data))
        stop = min(len(data), start + dice.choice((0, 1, 2, 8, 64)))
        other = dice.choice(known)
        place = dice.randint(0, len(other))
        data[start:stop] = dice.choice((
            b"", bytes(data[start:stop]) * 2, dice.randbytes(dice.randint(1, 4)), other[place : place + 32],
            dice.choice((*WORDS, *TEMPLATE_WORDS, "<", "\n", '"', "\u200b", "\u0430")).encode(),
        ))  # fmt: skip
    return bytes(data)
