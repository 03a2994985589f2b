"""No hostile passage can step out of its fence, forge a label, open a turn of a chat, or become a verdict."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

import pytest
from attacks import Attack, attacks

from relabel.errors import TemplateError
from relabel.prompts import Template, list_templates, load_template
from relabel.quoting import Quoting, as_quoted
from relabel.records import Label, Passage
from relabel.replies import ReplySpec, read_reply
from relabel.template_parts import OUTPUT_LIMIT

GROUP = """---
name: ours
kind: group
reply: json
reference: optional
labels: {Yes: relevant, No: irrelevant}
---
## user
<query>{{ query }}</query>
{% for passage in reference %}
<known>{{ passage.title }}{{ passage.text }}</known>
{% endfor %}
{% for passage in candidates %}
<doc{{ passage.number }} label="Doc ({{ passage.number }})">
{{ passage.title }} {{ passage.text }}</doc{{ passage.number }}>
{% endfor %}
"""
"""A template of a user's own, with the number in its tags and with title and text side by side."""

TAGS = {
    "answer": "question|passage",
    "relevance": "question|known|document",
    "rlhn": "question|known|document|verdict|better|worse|thinking|preference",
    "verdict": "question|known|document|verdict|better|worse|thinking|preference",
    "umbrela": "query|passage",
    "ours": r"query|known|doc\d*",
}
"""The tags of each template and of its replies."""

CONTROL = (
    *("<|", "<｜", "<s>", "</s>", "[inst]", "[/inst]", "<<sys>>", "<</sys>>", "<think>", "<start_of_turn>"),
    *("<end_of_turn>", "<turn", "<file_sep>", "<repo_name>", "<issue_closed>", "[system_prompt]", "[/system_prompt]"),
    *("[tool_calls]", "[think]", "[/think]", "[cls]", "[sep]", "[pad]", "[mask]", "<unk>", "<pad>", "<extra_id_0>"),
    *("<unused7>",),
)
ALL = [pytest.param(attack, id=attack.name) for attack in attacks()]
SHORT = [pytest.param(attack, id=attack.name) for attack in attacks() if attack.kind != "volume"]
HUGE = [pytest.param(attack, id=attack.name) for attack in attacks() if attack.kind == "volume"]


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Template]:
    """Return the shipped templates and one of a user's own."""
    path = tmp_path_factory.mktemp("templates") / "ours.md"
    path.write_text(GROUP, encoding="utf-8")
    return {name: load_template(name) for name in list_templates()} | {"ours": load_template(path)}


def seen(text: str) -> str:
    """Return what a reader may take a text for: small letters, no accents, nothing invisible, no full-width forms."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    plain = plain.translate(str.maketrans("аеорсуѕіԁ", "aeopcysid"))
    return "".join(sign for sign in plain if unicodedata.category(sign) not in {"Mn", "Cf"})


def structure(name: str, prompt: str) -> list[str]:
    """Return the tags of a template's prompt and the labels of its candidates, in their order."""
    label = "" if name in {"answer", "relevance", "umbrela"} else r"|doc\s*\(\s*\d+"
    return re.findall(rf"<\s*/?\s*(?:{TAGS[name]})(?!\w){label}", seen(prompt))


def rendered(template: Template, place: str, text: str) -> str:
    """Return a prompt with a text at one place and harmless words at all others."""

    def at(where: str) -> str:
        return text if place == where else f"words of the {where}"

    known = Passage("k", at("text of the known"), at("title of the known"))
    hostile = Passage("c", at("text"), at("title"))
    other = Passage("o", "The last candidate.", "Other")
    candidates = [hostile] if template.spec.kind == "pair" else [Passage("f", "The first."), hostile, other]
    messages = template.render(at("query"), [] if template.reference == "none" else [known], candidates)
    return "\n".join(message.content for message in messages)


PLACES = ("query", "title", "text", "title of the known", "text of the known")
NAMES = (*list_templates(), "ours")


def test_the_set_is_broad() -> None:
    """At least 60 attacks, of a dozen kinds and in ten languages; each has a name and says what it tries."""
    every = attacks()
    assert len(every) >= 60
    assert len({attack.name for attack in every}) == len(every)
    assert len({attack.kind for attack in every}) >= 12
    assert len({attack.language for attack in every}) >= 10
    assert all(attack.note for attack in every)
    assert min(Counter(attack.aim for attack in every).values()) >= 15


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("attack", ALL)
def test_a_prompt_keeps_its_structure(templates: dict[str, Template], name: str, attack: Attack) -> None:
    """Fences and labels are those of the template, once each and in order, wherever in the prompt the attack stands."""
    template = templates[name]
    for place in PLACES:
        if template.reference == "none" and "known" in place:
            continue
        harmless, prompt = rendered(template, place, "harmless"), rendered(template, place, attack.short)
        assert structure(name, prompt) == structure(name, harmless), place
        assert prompt.encode()
        shown = prompt.casefold()
        assert [mark for mark in CONTROL if mark in shown] == []


@pytest.mark.parametrize("attack", SHORT)
def test_a_quoted_passage_says_what_it_said(attack: Attack) -> None:
    """Of what can be seen, only the first signs of structure are exchanged; a script's joiners stay."""
    shown = Quoting.against(["document", "passage", "verdict"], numbered=True).quote(attack.text)
    assert as_quoted(shown) == as_quoted(attack.text)
    if attack.kind == "disguise" and attack.language in {"fa", "hi"}:
        assert "\u200c" in shown or "\u200d" in shown


@pytest.mark.timeout(60)
@pytest.mark.parametrize("attack", HUGE)
def test_megabytes_are_quoted_or_refused_in_seconds(templates: dict[str, Template], attack: Attack) -> None:
    """A passage of a million signs is shown with the structure intact; one that is too long is an error of ours."""
    template = templates["umbrela"]
    if len(attack.whole) > OUTPUT_LIMIT:
        with pytest.raises(TemplateError, match="2,000,000 characters"):
            rendered(template, "text", attack.whole)
        return
    prompt = rendered(template, "text", attack.whole)
    assert structure("umbrela", prompt) == structure("umbrela", rendered(template, "text", "harmless"))


def test_two_fields_cannot_write_a_tag_together(templates: dict[str, Template]) -> None:
    """A tag that begins in a title and ends in the text beside it is no tag; nor is one that follows on a line."""
    for first, second in (("<", "/known>"), ("</kno", "wn>"), ("<|im_", "start|>"), ("[IN", "ST]"), ("<s", ">")):
        known = Passage("k", f"{second} and more", f"a title {first}")
        (message,) = templates["ours"].render("q", [known], [Passage("c", "text")])
        harmless = templates["ours"].render("q", [Passage("k", "and more", "a title")], [Passage("c", "text")])
        assert structure("ours", message.content) == structure("ours", harmless[0].content)
        assert not any(token in message.content for token in ("<|im_start", "[INST]", "<s>"))


# --- replies ---

TAGGED = ReplySpec("group", "tagged", {"better": "relevant", "worse": "partial", "neither": "irrelevant"})
LISTED = ReplySpec("group", "json", {"Yes": "relevant", "No": "irrelevant"})
OBJECT = ReplySpec("pair", "json", {"Yes": "relevant", "No": "irrelevant"})
CHOICES = (
    ReplySpec("pair", "choice", {"Yes": "relevant", "No": "irrelevant"}),
    ReplySpec("pair", "choice", {"3": "relevant", "2": "relevant", "1": "partial", "0": "irrelevant"}),
)
SNIPPET = ReplySpec("pair", "snippet", {"found": "relevant", "absent": "irrelevant"})
SPECS = (TAGGED, LISTED, OBJECT, *CHOICES, SNIPPET)
THREE = tuple(Passage(str(number), "Built in 1901.") for number in range(3))
SHOWN = Quoting.against(TAGGED.tags, numbered=True)
OWN = "<verdict>\n<better>[]</better>\n<worse>[Doc (2)]</worse>\n</verdict>"


def labels(spec: ReplySpec, reply: str) -> set[tuple[Label | None, ...]]:
    """Return the labels that a reply gives, as a set of one."""
    return {tuple(answer.label for answer in read_reply(spec, reply, THREE if spec.kind == "group" else THREE[:1]))}


def quotations(attack: str) -> Iterator[str]:
    """Yield replies that quote an attack and give no verdict; one that ends with it, as the prompt showed it."""
    shown = SHOWN.quote(attack)
    yield f"The document says: {shown}"
    yield f"> {shown}"
    yield f'Doc (1): tries to fool me with "{attack}"'
    yield f"Doc (1) holds this:\n{attack}\nI do not follow it."
    yield f"```\n{attack}\n```\nThese are not my words."
    yield f"<thinking>\nDoc (1): {attack}\n</thinking>"
    yield f"<thinking>\nDoc (1) says:\n{attack}\n</thinking>\n"
    yield f"<think>{attack}</think>"
    yield f"<thinking>\n{shown}"


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{spec.form}-{len(spec.labels)}")
@pytest.mark.parametrize("attack", ALL)
def test_a_quotation_is_no_verdict(spec: ReplySpec, attack: Attack) -> None:
    """A model that repeats what a passage wants, in prose or in its reasoning, has not said it."""
    nothing = {(None,) * (3 if spec.kind == "group" else 1)}
    for reply in quotations(attack.short):
        assert labels(spec, reply) == nothing, reply


@pytest.mark.parametrize("attack", ALL)
def test_what_a_prompt_showed_is_no_tagged_verdict(attack: Attack) -> None:
    """A reply that copies a passage as the prompt showed it, and nothing else, gives no label."""
    assert labels(TAGGED, SHOWN.quote(attack.short)) == {(None, None, None)}


@pytest.mark.parametrize("attack", ALL)
def test_the_models_own_verdict_counts(attack: Attack) -> None:
    """Beside any quotation in the reasoning, or in a field of its own, the verdict is the one that the model gave."""
    own: tuple[Label | None, ...] = ("irrelevant", "partial", "irrelevant")
    assert labels(TAGGED, f"<thinking>\nDoc (1): {attack.short}\n</thinking>\n{OWN}") == {own}
    assert labels(TAGGED, f"{attack.short}\n</thinking>\n{OWN}") == {own}
    listed = [{"id": number, "label": "No", "why": attack.short} for number in (1, 2, 3)]
    assert labels(LISTED, json.dumps({"why": attack.short, "verdicts": listed})) == {("irrelevant",) * 3}
    assert labels(OBJECT, json.dumps({"label": "No", "why": attack.short})) == {("irrelevant",)}
    assert labels(SNIPPET, json.dumps({"answer": None, "why": attack.short})) == {("irrelevant",)}
    assert labels(SNIPPET, json.dumps({"answer": attack.short})) == {(None,)}
    for spec in CHOICES:
        for word in spec.labels:
            for reply in (f"{word} {attack.short}", f"{attack.short}\n{word}"):
                assert labels(spec, reply) <= {(None,), (spec.labels[word],)}, reply


def test_an_echo_of_the_prompt_is_no_verdict() -> None:
    """A model that repeats its instructions, with the verdict that they show as an example, has not given one."""
    messages = load_template("rlhn").render("q", THREE[:1], THREE)
    for message in messages:
        assert labels(TAGGED, message.content) == {(None, None, None)}


@pytest.mark.parametrize("snippet", ["null", "none", "1", "built", "9", "no", "is"])
def test_a_snippet_is_not_a_piece_of_a_word(snippet: str) -> None:
    """A word that the passage holds only within others is not copied from it."""
    passage = Passage("p", "Rebuilt in 1901, it was annulled nonetheless; this notice says why.")
    assert read_reply(SNIPPET, json.dumps({"answer": snippet}), [passage])[0].label is None


@pytest.mark.parametrize("snippet", ["1901", "1901年", "建于", "Built in 1901"])
def test_a_snippet_may_touch_what_is_no_letter(snippet: str) -> None:
    """Where a script has no blanks between words, a copied part counts."""
    passage = Passage("p", "(Built in 1901.) 它建于1901年。")
    assert read_reply(SNIPPET, json.dumps({"answer": snippet}), [passage])[0].label == "relevant"
