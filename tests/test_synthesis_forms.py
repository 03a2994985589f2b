"""What a model that writes is asked to reply, and how its reply is read: strictly, and nothing is made up."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relabel.quoting import visible
from relabel.synthesis.forms import DETAIL_LIMIT, MISSING, UNREADABLE, Draft, Form

FORM = Form("write", 2, titled=True, first="requirements")
ENTRIES = [
    {"detail": "violates the year", "title": "Tower", "text": "It was built of iron.", "probability": 0.2},
    {"detail": "violates the place", "title": "Bridge", "text": "It crosses the river.", "probability": 0.05},
]
GOOD = json.dumps({"requirements": ["the year", "the place"], "passages": ENTRIES})
READ = (
    Draft("It was built of iron.", "Tower", "violates the year", 0.2),
    Draft("It crosses the river.", "Bridge", "violates the place", 0.05),
)
NONE = (Draft(failure=UNREADABLE),) * 2
FORGED = json.dumps({"passages": [{"text": "Buy this."}, {"text": "Buy that."}]})


@pytest.mark.parametrize(
    "reply",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}\n```",
        f"Here you are:\n\n{GOOD}\n\nI hope that this helps.",
        f"Sure!\n```json\n{GOOD}\n```\nDone.",
        f"<think>Should I write {FORGED}? No.</think>\n{GOOD}",
        f"{GOOD}\n\n{GOOD}",
        json.dumps(ENTRIES),
        GOOD.replace("requirements", "demands"),
        GOOD.replace("It was built", "It was\\u200b\\u0000 built"),
    ],
    ids=["bare", "fenced", "fence", "prose", "both", "thoughts", "twice", "list", "another list", "unseen signs"],
)
def test_what_stands_around_an_answer_is_forgiven(reply: str) -> None:
    """Fences, prose, thoughts, an answer given twice and a list without its name are all read the same."""
    assert FORM.read(reply) == READ


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I cannot help with that.",
        GOOD[:-20],
        f"{FORGED}\n{GOOD}",
        f"{GOOD}\n{FORGED}",
        f"The passage wants {FORGED}. Mine: {GOOD[:-9]}",
        f"<think>Perhaps {GOOD}",
        '{"passages": "none"}',
        '{"passages": null}',
        '{"passages": [], "passages": [{"text": "a"}]}',
        '{"text": "one, where two are asked for"}',
        "NaN",
        "[" * 5000,
        '{"a":' * 5000,
        "{" * 200_000,
        FORM.told,
        f"{FORM.told}\n\nUnderstood.",
    ],
    ids=[
        "empty", "refused", "torn", "forged before", "forged after", "forged before torn", "unfinished thought",
        "no list", "null", "twice a field", "one of two", "NaN", "deep list", "deep", "long", "echo", "echo with words",
    ],
)  # fmt: skip
def test_what_is_no_answer_is_none(reply: str) -> None:
    """Torn, doubtful, forged or echoed replies give nothing, in no time, whatever they hold."""
    assert FORM.read(reply) == NONE


def test_an_entry_without_a_text_is_none_and_the_others_stand() -> None:
    """Each entry is read by itself; what is not there is missing, what is too much is left out."""
    form = Form("write", 4)
    entries: list[Any] = [{"text": 7}, "A text alone.", {"text": "…", "probability": 0.5}]
    drafts = form.read(json.dumps({"passages": entries}))
    assert [draft.failure for draft in drafts] == [UNREADABLE, "", UNREADABLE, MISSING]
    assert drafts[1].text == "A text alone."
    many = json.dumps({"passages": [{"text": f"Text {n}."} for n in range(9)]})
    assert [draft.text for draft in form.read(many)] == ["Text 0.", "Text 1.", "Text 2.", "Text 3."]


@pytest.mark.parametrize("said", [2, -0.1, "0.3", True, None, 10**400, [0.3]])
def test_a_probability_is_a_number_from_0_to_1_or_none(said: Any) -> None:
    """What is no probability is none: it is not guessed at."""
    reply = json.dumps({"passages": [{"text": "One.", "probability": said}, {"text": "Two.", "probability": 0}]})
    one, two = Form("write", 2).read(reply)
    assert (one.text, one.probability, two.probability) == ("One.", None, 0.0)


def test_what_was_not_asked_for_is_not_taken() -> None:
    """A title where the row has none, or a probability of one alone, would be marks of what is synthetic."""
    (draft,) = Form("write", 1).read(json.dumps({"passages": [ENTRIES[0] | {"detail": "x" * 999}]}))
    assert (draft.title, draft.probability, len(draft.detail)) == ("", None, DETAIL_LIMIT)


def test_queries_are_one_line() -> None:
    """A query that is asked for is read under its own name."""
    form = Form("query", 1)
    assert form.read('{"queries": [{"query": "when was\\n it built?"}]}') == (Draft("when was it built?"),)
    assert form.read('{"query": "when?"}') == (Draft("when?"),)
    assert form.read('{"passages": [{"text": "when?"}]}') == (Draft(failure=UNREADABLE),)


FORMS = st.builds(
    Form, st.sampled_from(["write", "query"]), st.integers(1, 5), st.booleans(), st.sampled_from(["", "requirements"])
)


@given(FORMS, st.text())
def test_any_reply_is_read(form: Form, reply: str) -> None:
    """Whatever a model says, there is one draft for each text that was asked for, with a text or a reason."""
    drafts = form.read(reply)
    assert len(drafts) == form.count
    assert all(bool(draft.text) != bool(draft.failure) for draft in drafts)


@given(
    FORMS,
    st.lists(st.text(min_size=1), min_size=5, max_size=5),
    st.text(alphabet=st.characters(exclude_characters="{<")),
)
def test_a_reply_of_the_schema_is_read_as_it_was_meant(form: Form, texts: list[str], prose: str) -> None:
    """Every text that has a letter comes back, without unseen signs and blanks around it, prose or none before it."""
    name = "passages" if form.kind == "write" else "queries"
    field = "text" if form.kind == "write" else "query"
    reply = f"{prose}\n{json.dumps({name: [{field: text} for text in texts[: form.count]]})}"
    for text, draft in zip(texts, form.read(reply), strict=False):
        plain = visible(text).strip() if form.kind == "write" else " ".join(visible(text).split())
        assert draft == (Draft(plain) if any(sign.isalnum() for sign in plain) else Draft(failure=UNREADABLE))


@given(st.text(), st.text(), st.text(), st.permutations([FORGED, GOOD, GOOD[:-1]]))
def test_a_forged_answer_beside_a_true_one_is_never_taken(
    before: str, between: str, after: str, parts: list[str]
) -> None:
    """Whatever stands around them, and in whatever order: two answers that differ are none, and so is a torn one."""
    drafts = FORM.read(f"{before}{parts[0]}{between}{parts[1]}{after}")
    assert not any(draft.text.startswith("Buy") for draft in drafts)


@given(FORMS)
def test_the_schema_the_words_and_the_reader_are_of_one_mind(form: Form) -> None:
    """The words name every field of the schema, an instance of the schema can be read, and their echo cannot."""
    schema = form.schema
    (name,) = [each for each in schema["properties"] if each != form.first]
    entry = schema["properties"][name]["items"]
    assert schema["required"] == list(schema["properties"])
    assert all(f'"{each}"' in form.told for each in (*schema["properties"], *entry["properties"]))
    assert ("probability" in entry["properties"]) == (form.count > 1)
    values = {each: "word" if kind["type"] == "string" else 0.5 for each, kind in entry["properties"].items()}
    whole: dict[str, Any] = {each: [] for each in schema["properties"]} | {name: [values] * form.count}
    assert [draft.failure for draft in form.read(json.dumps(whole))] == [""] * form.count
    assert {draft.failure for draft in form.read(form.told)} == {UNREADABLE}
