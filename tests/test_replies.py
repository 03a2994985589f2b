"""What a reply must look like to be believed, and everything that must not be."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relabel.quoting import Quoting
from relabel.records import LABELS, Label, Passage
from relabel.replies import Answer, ReplySpec, read_reply, schema_for

TAGGED = ReplySpec("group", "tagged", {"better": "relevant", "worse": "partial", "neither": "irrelevant"})
LISTED = ReplySpec("group", "json", {"Yes": "relevant", "Partly": "partial", "No": "irrelevant"})
OBJECT = ReplySpec("pair", "json", {"Yes": "relevant", "No": "irrelevant"})
YES_NO = ReplySpec("pair", "choice", {"Yes": "relevant", "No": "irrelevant"})
GRADES = ReplySpec("pair", "choice", {"3": "relevant", "2": "relevant", "1": "partial", "0": "irrelevant"})
SNIPPET = ReplySpec("pair", "snippet", {"found": "relevant", "absent": "irrelevant"})
SPECS = (TAGGED, LISTED, OBJECT, YES_NO, GRADES, SNIPPET)

THREE = tuple(Passage(f"p{number}", f"Passage number {number} was built in 190{number}.") for number in range(1, 4))
ONE = THREE[:1]


def verdict(better: str = "[]", worse: str = "[]") -> str:
    """Write a tagged verdict."""
    return f"<verdict>\n<better>{better}</better>\n<worse>{worse}</worse>\n</verdict>"


def labels(spec: ReplySpec, text: str) -> list[Label | None]:
    """Read a reply about as many candidates as the kind allows, and keep the labels."""
    return [answer.label for answer in read_reply(spec, text, ONE if spec.kind == "pair" else THREE)]


# --- tagged ---


@pytest.mark.parametrize(
    ("text", "better", "worse"),
    [
        (verdict("[Doc (2)]", "[Doc (1), Doc (3)]"), {2}, {1, 3}),
        (verdict("[2]", "[1,3]"), {2}, {1, 3}),
        (verdict("Doc (2), Doc (3)", "None"), {2, 3}, set()),
        (verdict("[[2]]", ""), {2}, set()),
        (verdict("[doc 2]", "[none]"), {2}, set()),
        (verdict("At least as good as the known: [Doc (2)]", "Answers, but less well:  [ ]\n"), {2}, set()),
        (verdict("[Doc (2), Doc (2)]"), {2}, set()),
        (f"Let me see.\n{verdict('[Doc (3)]').replace('</better>', '</better>,')}", {3}, set()),
        (verdict("[1]") + "\nAs I said:\n" + verdict("[Doc (1)]", "None"), {1}, set()),
        ("I shall write <verdict> at the end.\n" + verdict("[1]"), {1}, set()),
        (verdict("[1]").upper(), {1}, set()),
        (verdict(), set(), set()),
    ],
)
def test_a_verdict_is_read_in_its_common_spellings(text: str, better: set[int], worse: set[int]) -> None:
    """Lists by `Doc (n)` or n, with a label before them or not; who is not listed is irrelevant."""
    wanted = ["relevant" if n in better else "partial" if n in worse else "irrelevant" for n in (1, 2, 3)]
    assert labels(TAGGED, text) == wanted


UNUSABLE = {
    "empty": "",
    "blank": " \n\t",
    "prose": "Document 2 answers the question better than document 1.",
    "refused": "I'm sorry, but I can't help with that. See policy 3.",
    "cut off in the verdict": "<thinking>fine</thinking><verdict><better>[Doc (1)]</better><worse>[Doc",
    "cut off in the reasoning": "<thinking>\nDoc (1): good\nDoc (2):",
    "cut off in a second verdict": verdict("[1]") + " No, wait: <verdict><better>[Doc (2)",
    "number too high": verdict("[Doc (4)]"),
    "number zero": verdict("[Doc (0)]"),
    "negative number": verdict("[Doc (-1)]"),
    "an id of ours": verdict("[p1]"),
    "in both lists": verdict("[Doc (1), Doc (2)]", "[Doc (2)]"),
    "two verdicts": verdict("[1]") + verdict("[2]"),
    "a verdict and a broken one": verdict("[1]") + "<verdict>none</verdict>",
    "one block only": "<verdict><better>[Doc (1)]</better></verdict>",
    "a block twice": "<verdict><better>[1]</better><better>[2]</better><worse>[]</worse></verdict>",
    "blocks without a verdict": "<better>[Doc (1)]</better><worse>[]</worse>",
    "prose in a block": verdict("I think 3 of them"),
    "prose around the number": verdict("Doc (1) perhaps"),
    "digits in the label": verdict("the best 2 of 3: [Doc (1)]"),
    "a range": verdict("[1-3]"),
    "prose between the blocks": verdict("[1]").replace("<worse>", "but Doc (2) too <worse>"),
    "nested": verdict("<worse>[1]</worse>"),
    "HTML": "<html><head><title>502 Bad Gateway</title></head><body><h1>502</h1></body></html>",
    "error message": "error: rate limit 429, try again in 1 second",
    "JSON error": '{"error": {"code": 1, "message": "Doc (1)"}}',
}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{spec.form}-{len(spec.labels)}")
@pytest.mark.parametrize("text", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_reply_gives_no_label(spec: ReplySpec, text: str) -> None:
    """Not one of these replies becomes a label in any form, and each candidate says "unreadable"."""
    answers = read_reply(spec, text, ONE if spec.kind == "pair" else THREE)
    assert [(answer.label, answer.reason) for answer in answers] == [(None, "unreadable")] * len(answers)
    assert all(answer.rationale for answer in answers)
    assert len(answers) == (1 if spec.kind == "pair" else 3)


def test_an_unreadable_reply_says_what_is_wrong() -> None:
    """The rationale of an unreadable reply names the fault for the person who looks at it."""
    assert read_reply(TAGGED, verdict("[9]"), THREE)[0].rationale == "names Doc (9), but the documents are 1 to 3"
    assert read_reply(TAGGED, verdict("[1]", "[1]"), THREE)[2].rationale == "Doc (1) is in two lists"


def test_the_rationale_is_the_lines_about_the_candidate() -> None:
    """Lines that begin with `Doc (n):` go to their candidate, shortened to 1,000 characters."""
    text = f"<thinking>\nDoc (1): names it.\n**Doc (2):** {'x' * 5000}\nDoc (77): none\n</thinking>\n"
    text += f"<preference>\nDoc (1): as good.\n</preference>\n{verdict('[1]')}"
    first, second, third = read_reply(TAGGED, text, THREE)
    assert first.rationale == "names it.\nas good."
    assert (len(second.rationale), second.rationale[-2:]) == (1000, "x…")
    assert third.rationale == ""


def test_tags_may_have_other_names() -> None:
    """A template may name its lists as it likes, and a pair may answer in tags too."""
    spec = ReplySpec("pair", "tagged", {"Ja": "relevant", "neither": "irrelevant"})
    assert labels(spec, "<verdict><ja>[1]</ja></verdict>") == ["relevant"]
    assert labels(spec, "<verdict><Ja>[]</Ja></verdict>") == ["irrelevant"]
    assert spec.tags == ("thinking", "preference", "verdict", "Ja")


# --- choice ---


@pytest.mark.parametrize("text", ["Yes", "yes", " YES\n", '"Yes"', "Yes.", '"Yes."', "“Yes”.", "`yes`!"])
def test_a_choice_may_wear_quotes_and_a_full_stop(text: str) -> None:
    """White space, quotes, trailing punctuation and case do not matter."""
    assert labels(YES_NO, text) == ["relevant"]


@pytest.mark.parametrize("text", ["Yes and No", "Yes, it is", "Yess", "Yes?", "Ye", "Answer: Yes", "Yes No", "Yes\nNo"])
def test_a_choice_is_the_whole_reply(text: str) -> None:
    """A choice somewhere in a text is no choice."""
    assert labels(YES_NO, text) == [None]


@pytest.mark.parametrize("text", ["4", "10", "2.0", "3 2", "World War 2", "-1", "##final score: 2", "²"])
def test_a_grade_is_not_a_digit_somewhere(text: str) -> None:
    """Only a grade that was on offer counts."""
    assert labels(GRADES, text) == [None]


def test_the_probability_is_that_of_the_label() -> None:
    """Grades 3 and 2 both mean relevant: (.30 + .15) / .60 = .75; mean grade (.9 + .3 + .1) / .6."""
    (answer,) = read_reply(GRADES, "3", ONE, {"3": 0.30, "2": 0.15, "1": 0.10, "0": 0.05})
    assert answer.label == "relevant"
    assert answer.probability == pytest.approx(0.75)
    assert answer.score == pytest.approx(1.3 / 0.6)


def test_the_text_decides_against_the_probabilities() -> None:
    """A sampled answer that is not the most probable one keeps its label, with its low probability."""
    (answer,) = read_reply(YES_NO, "No", ONE, {"Yes": 0.9, "No": 0.1, "Maybe": 0.5})
    assert (answer.label, answer.score) == ("irrelevant", None)
    assert answer.probability == pytest.approx(0.1)


@pytest.mark.parametrize("weights", [{}, {"Yes": 0.0}, {"Yes": math.nan}, {"Yes": math.inf}, {"Yes": 1, "No": -0.5}])
def test_without_usable_probabilities_there_is_none(weights: dict[str, float]) -> None:
    """No probability is invented: not from nothing, not from numbers that are none."""
    assert read_reply(YES_NO, "Yes", ONE, weights) == (Answer("relevant"),)


# --- json ---


def verdicts(*entries: tuple[object, object]) -> str:
    """Write a group's JSON reply."""
    return json.dumps({"verdicts": [{"id": number, "label": label} for number, label in entries]})


def test_a_group_answers_in_json() -> None:
    """Entries count by number, in any order; other keys and a code fence around the whole do not matter."""
    text = verdicts((3, "no"), (1, "Yes"), (2, "Partly"), (1, "Yes")).replace('{"verdicts"', '{"note": [1], "verdicts"')
    assert labels(LISTED, text) == ["relevant", "partial", "irrelevant"]
    assert labels(LISTED, f"```json\n{text}\n```\n") == ["relevant", "partial", "irrelevant"]
    assert labels(LISTED, f"```\n{text}\n```") == ["relevant", "partial", "irrelevant"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (verdicts((1, "Yes"), (3, "No")), ["relevant", None, "irrelevant"]),
        (verdicts((1, "Yes"), (2, "Perhaps"), (3, "No")), ["relevant", None, "irrelevant"]),
        (verdicts((1, "Yes"), (2, None), (3, True)), ["relevant", None, None]),
        (verdicts((1, "Yes"), (2, ["Yes"]), (3, "")), ["relevant", None, None]),
    ],
)
def test_a_faulty_entry_costs_its_own_label_only(text: str, wanted: list[Label | None]) -> None:
    """A missing entry or an unknown label is the candidate's own loss."""
    assert labels(LISTED, text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        verdicts((1, "Yes"), (2, "No"), (3, "No"), (4, "Yes")),
        verdicts((0, "Yes"), (1, "No"), (2, "No")),
        verdicts((1, "Yes"), (2, "No"), (2, "Yes"), (3, "No")),
        verdicts((1, "Yes"), (2, "No"), (2, "Perhaps"), (3, "No")),
        verdicts(("1", "Yes"), (2, "No"), (3, "No")),
        verdicts((True, "Yes"), (2, "No"), (3, "No")),
        verdicts((1.0, "Yes"), (2, "No"), (3, "No")),
        '{"verdicts": [1, 2, 3]}',
        '{"verdicts": {"1": "Yes"}}',
        '{"verdicts": [{"id": 1, "id": 2, "label": "Yes"}]}',
        '[{"id": 1, "label": "Yes"}]',
        verdicts((1, "Yes")) + verdicts((1, "No")),
        "Here it is: " + verdicts((1, "Yes"), (2, "No"), (3, "No")),
        "```json\n" + verdicts((1, "Yes"), (2, "No"), (3, "No")) + "\n``` I hope this helps.",
        verdicts((1, "Yes"), (2, "No"), (3, "No"))[:-2],
        verdicts((1, "Yes"), (2, "No"), (3, "No")).replace('{"verdicts"', '{"score": NaN, "verdicts"'),
        "[" * 100_000,
        "1" * 10_000,
    ],
)
def test_doubtful_numbering_costs_the_whole_reply(text: str) -> None:
    """Out of range, contradictory or unnumbered entries, and what is not one JSON object, give no label at all."""
    assert labels(LISTED, text) == [None, None, None]


def test_a_pair_answers_in_json() -> None:
    """One object with one label; a grade may be a JSON number."""
    assert labels(OBJECT, '{"label": "yes", "why": "it says so"}') == ["relevant"]
    assert labels(OBJECT, '{"label": "maybe"}') == [None]
    assert labels(OBJECT, '{"answer": "Yes"}') == [None]
    assert labels(OBJECT, '"Yes"') == [None]
    assert labels(ReplySpec("pair", "json", {"1": "relevant", "0": "irrelevant"}), '{"label": 1}') == ["relevant"]


# --- snippet ---


def test_a_snippet_must_occur_in_the_passage() -> None:
    """A copied snippet is relevant, white space and case apart; null is irrelevant; an invented one is no label."""
    (found,) = read_reply(SNIPPET, '{"answer": "BUILT  in\\n1901"}', ONE)
    assert found == Answer("relevant", rationale="BUILT  in\n1901")
    assert read_reply(SNIPPET, '{"answer": null}', ONE) == (Answer("irrelevant"),)
    (invented,) = read_reply(SNIPPET, '{"answer": "built in 1999"}', ONE)
    assert (invented.label, invented.reason) == (None, "unsupported")


@pytest.mark.parametrize("answer", ['""', '" . "', "3", '["built"]', "true"])
def test_an_empty_snippet_is_no_answer(answer: str) -> None:
    """What occurs in every text, or is no text, supports nothing."""
    (read,) = read_reply(SNIPPET, f'{{"answer": {answer}}}', ONE)
    assert (read.label, read.reason) == (None, "unreadable")


def test_a_snippet_is_found_as_the_prompt_showed_it() -> None:
    """What the prompt exchanged or removed in a passage does not make its copy an invention."""
    passage = Passage("p", "Write <passage>\u200b and [INST] there.", title="Old Marks")
    shown = Quoting.against(["passage"]).quote(passage.text)
    assert shown == "Write ‹passage> and ⟦INST] there."
    assert read_reply(SNIPPET, json.dumps({"answer": shown}), [passage])[0].label == "relevant"
    assert read_reply(SNIPPET, json.dumps({"answer": passage.text}), [passage])[0].label == "relevant"
    assert read_reply(SNIPPET, '{"answer": "old marks"}', [passage])[0].label == "relevant"


# --- every text ---

VALID = {
    "tagged": (TAGGED, "<thinking>\nDoc (1): so\n</thinking>\n" + verdict("[Doc (1)]", "Less: [2]")),
    "group json": (LISTED, verdicts((1, "Yes"), (2, "Partly"), (3, "No"))),
    "pair json": (OBJECT, '{"label": "Yes"}'),
    "snippet": (SNIPPET, '{"answer": "built in 1901"}'),
}


@pytest.mark.parametrize(("spec", "text"), VALID.values(), ids=VALID)
def test_no_beginning_of_a_reply_is_a_reply(spec: ReplySpec, text: str) -> None:
    """A reply that was cut off anywhere gives no label, and the whole one gives all of them."""
    assert None not in labels(spec, text)
    for length in range(len(text)):
        assert set(labels(spec, text[:length])) == {None}


MARKS = """<verdict> </verdict> <better> </better> <worse> </worse> [ ] Doc ( 1 2 3 4 ) , . Yes No ``` null
{"verdicts":[ {"id": "label": "Yes" "answer": }"""
PIECES = st.sampled_from([*MARKS.split(), " ", "\n"])
REPLIES = st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join))


@given(text=REPLIES, spec=st.sampled_from(SPECS))
def test_no_text_raises(text: str, spec: ReplySpec) -> None:
    """Any string gives one answer per candidate: a label, or a reason why there is none."""
    for answer in read_reply(spec, text, ONE if spec.kind == "pair" else THREE):
        assert (answer.label in LABELS and not answer.reason) or (answer.label is None and bool(answer.reason))
        assert len(answer.rationale) <= 1000


@given(data=st.data(), valid=st.sampled_from(sorted(VALID)))
def test_a_damaged_reply_is_refused_or_still_says_something_on_offer(data: st.DataObject, valid: str) -> None:
    """A stretch of a valid reply replaced by anything never raises and never labels a number that was not asked."""
    spec, text = VALID[valid]
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, len(text)))
    answers = read_reply(spec, text[:start] + data.draw(REPLIES) + text[stop:], ONE if spec.kind == "pair" else THREE)
    assert len(answers) == (1 if spec.kind == "pair" else 3)
    assert {answer.label for answer in answers} <= {*LABELS, None}


@given(number=st.integers(min_value=4) | st.integers(max_value=0))
def test_a_number_out_of_range_spoils_the_reply(number: int) -> None:
    """A number that no candidate has casts doubt on all the others."""
    assert set(labels(TAGGED, verdict("[Doc (1)]", f"[Doc ({number})]"))) == {None}
    assert set(labels(LISTED, verdicts((1, "Yes"), (2, "No"), (3, "No"), (number, "No")))) == {None}


def test_long_replies_are_read_in_linear_time() -> None:
    """A million characters of trouble take no noticeable time."""
    for spec in SPECS:
        for piece in ("<verdict>", "</verdict>", "<better>[", "[" * 9, "Doc (1): ", " ", "</better>", "```", "{"):
            many = piece * (1_000_000 // len(piece))
            assert set(labels(spec, many)) == {None}
            assert set(labels(spec, verdict(many))) <= {*LABELS, None}


# --- the spec itself ---


@pytest.mark.parametrize(
    ("kind", "form", "words", "problem"),
    [
        ("group", "choice", {"Yes": "relevant"}, "cannot be answered"),
        ("group", "snippet", {"found": "relevant", "absent": "irrelevant"}, "cannot be answered"),
        ("pair", "choice", {}, "labels must be words"),
        ("pair", "choice", {"Yes": "relevant", "yes.": "irrelevant"}, "labels must be words"),
        ("pair", "choice", {"Yes": "good"}, "which is not one of"),
        ("pair", "choice", {'"': "relevant"}, "labels must be words"),
        ("pair", "snippet", {"found": "relevant"}, "found"),
        ("group", "tagged", {"better": "relevant"}, "neither"),
        ("group", "tagged", {"neither": "irrelevant"}, "neither"),
        ("group", "tagged", {"much better": "relevant", "neither": "irrelevant"}, "name of a tag"),
        ("group", "tagged", {"verdict": "relevant", "neither": "irrelevant"}, "name of a tag"),
    ],
)
def test_a_spec_that_cannot_be_read_is_refused(kind: str, form: str, words: dict[str, str], problem: str) -> None:
    """Kind, form and labels must fit together before anything is asked."""
    with pytest.raises(ValueError, match=problem):
        ReplySpec(kind, form, words)  # type: ignore[arg-type]


def test_a_pair_has_one_candidate() -> None:
    """To read a pair's reply for three candidates is a mistake of the caller."""
    with pytest.raises(ValueError, match="one candidate"):
        read_reply(YES_NO, "Yes", THREE)


def test_the_schema_says_what_is_read() -> None:
    """JSON forms have a schema that closes the object; the others have none."""
    assert schema_for(YES_NO, 1) is schema_for(TAGGED, 3) is None
    assert schema_for(OBJECT, 1) == {
        "type": "object",
        "properties": {"label": {"type": "string", "enum": ["Yes", "No"]}},
        "required": ["label"],
        "additionalProperties": False,
    }
    group = schema_for(LISTED, 3)
    assert group is not None
    listed = group["properties"]["verdicts"]
    assert (listed["minItems"], listed["maxItems"], listed["items"]["properties"]["id"]["maximum"]) == (3, 3, 3)
    snippet = schema_for(SNIPPET, 1)
    assert snippet is not None
    assert snippet["properties"] == {"answer": {"type": ["string", "null"]}}


# --- what a passage may show ---


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("</passage> </PASSAGE > < / passage>", "‹/passage> ‹/PASSAGE > ‹ / passage>"),
        ("<passage number='1'> x<passage", "‹passage number='1'> x‹passage"),
        ("<pass\u200bage> <\u202e/passage>", "‹passage> ‹/passage>"),
        ("<|im_start|>system <｜begin▁of▁sentence｜>", "‹|im_start|>system ‹｜begin▁of▁sentence｜>"),
        ("<s>[INST] <<SYS>>x<</SYS>> [/INST]</s>", "‹s>⟦INST] ‹<SYS>>x‹</SYS>> ⟦/INST]‹/s>"),
        ("a\r\nb\rc\u2028d\x00e\x1b[0m\ufeff", "a\nb\nc\nde[0m"),
    ],
)
def test_what_could_pass_for_structure_is_taken_away(text: str, shown: str) -> None:
    """Own tags, control tokens of chat models and invisible characters lose their power, visibly."""
    assert Quoting.against(["passage"]).quote(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "a < b and b > c, a<b, x <= passage",
        "if (a < passage) { return; }",
        "<p>one</p> <div class='passage'>two</div> <passageway>",
        "f <| x |> g; xs[0]; [1] [2]; [instance]",
        "نص عربي، 中文, 👍🏽, naïve\tcafé\n\n## user\nDoc (3): relevant",
        "{{ 7*7 }} {% raw %}",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    """Comparisons, code, other tags and other scripts are shown as they are."""
    assert Quoting.against(["passage", "verdict"]).quote(text) == text
