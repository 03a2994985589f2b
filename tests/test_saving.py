"""What a run asks only once, in which order, in which portions, and why it flagged: tokens that are not paid for."""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import training_file
from server import FakeServer, oracle
from test_judges import Clerk, ask, better, example_of, short

import relabel
from relabel import config, pipeline, sources
from relabel.building import template_of, window
from relabel.engine_settings import OpenAI, Scripted
from relabel.errors import SettingsError
from relabel.judges.fitting import Window, least_tokens, most_tokens
from relabel.judges.leading import LONG, led, marked
from relabel.judges.llm import WHY, LLMJudge
from relabel.pipeline import Summary
from relabel.prompts import load_template
from relabel.protocols import Message, Request
from relabel.records import Judgment
from relabel.replies import read_reasons
from relabel.store import Store

Body = Mapping[str, Any]

pytestmark = pytest.mark.usefixtures("tidy")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no key and no address of this machine take part."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def judged(source: Path, folder: Path, url: str, *, stage: Body | None = None, **engine: Any) -> Summary:
    """Run one LLM stage."""
    asked = {"kind": "openai", "model": "fake", "base_url": url, **engine}
    told = {"judge": "llm", "name": "m", "engine": asked, **(stage or {})}
    return pipeline.run(sources.open_source(source), config.parse(json.dumps({"stages": [told]})), folder)


# --- reasons ---


def asks_why(messages: Sequence[Mapping[str, str]]) -> bool:
    """Whether this is the question after a verdict."""
    return messages[0]["content"].startswith(WHY[:40])


def reasoned(messages: Sequence[Mapping[str, str]], body: Any) -> str:
    """Judge like the oracle; give a reason for each document that was found."""
    if asks_why(messages):
        return "\n".join(f"Doc ({number}): because of {number}" for number in range(1, 30))
    return oracle(messages, body)


def words_in(folder: Path, column: str) -> dict[str, tuple[str, str]]:
    """Read label and reason of the stage `m` from a run's audit file, by pair."""
    with (folder / "flagged.csv").open(encoding="utf-8-sig", newline="") as file:
        return {row["pair"]: (row["m_label"], row[column]) for row in csv.DictReader(file)}


@pytest.mark.parametrize("prompt", ["verdict", "relevance"])
def test_flagged_pairs_get_their_reason_afterwards(prompt: str, tmp_path: Path) -> None:
    """Short questions about the flagged pairs, no other verdict, all tokens counted; a second run asks nobody."""
    source = training_file(tmp_path / "train.jsonl", 10)
    with FakeServer(reasoned) as server:
        plain = judged(source, tmp_path / "plain", server.url, stage={"prompt": prompt})
        without, server.asked = len(server.asked), Counter()
        done = judged(source, tmp_path / "run", server.url, stage={"prompt": prompt, "rationale": "flagged"})
        asked, server.asked = len(server.asked), Counter()
        again = judged(source, tmp_path / "run", server.url, stage={"prompt": prompt, "rationale": "flagged"})
        assert not server.asked
    assert plain.statistics == done.statistics == again.statistics
    assert plain.files["cleaned"].read_bytes() == done.files["cleaned"].read_bytes()
    assert done.files["flagged"].read_bytes() == again.files["flagged"].read_bytes()
    column = "m_reason"
    before, after = words_in(tmp_path / "plain", column), words_in(tmp_path / "run", column)
    flagged = {pair for pair, (label, _) in after.items() if label in ("relevant", "partial")}
    assert flagged
    assert all(before[pair] == (after[pair][0], "") for pair in flagged)
    assert all(after[pair][1].startswith("because of") for pair in flagged)
    assert 0 < asked - without <= len(flagged)  # rows that stand there twice are asked once
    assert done.spending["m"]["asked"] == asked
    with Store(tmp_path / "run") as store:
        spent = store.spent(1)
    assert (spent.replies, spent.tokens_in) == (asked, done.spending["m"]["tokens_in"])


def test_a_question_why_that_fails_changes_nothing(tmp_path: Path) -> None:
    """The verdicts stand, without a reason."""

    def refusing(messages: Sequence[Mapping[str, str]], body: Any) -> str:
        return " \u200b" if asks_why(messages) else oracle(messages, body)

    source = training_file(tmp_path / "train.jsonl", 6)
    with FakeServer(refusing) as server:
        plain = judged(source, tmp_path / "plain", server.url)
        done = judged(source, tmp_path / "run", server.url, stage={"rationale": "flagged"})
    assert plain.statistics == done.statistics
    assert plain.files["flagged"].read_bytes() == done.files["flagged"].read_bytes()


def test_reasons_of_all_pairs_need_a_place_in_the_template() -> None:
    """`rationale: all` is for templates whose replies hold reasons; the others say what to do instead."""
    engine = OpenAI(model="m", base_url="http://127.0.0.1:1/v1")
    for name in ("verdict", "rlhn", "answer"):
        assert template_of(config.LLM(judge="llm", prompt=name, engine=engine, rationale="all")).name == name
    with pytest.raises(SettingsError, match="'relevance' cannot ask for the reasons") as caught:
        template_of(config.LLM(judge="llm", prompt="relevance", engine=engine, rationale="all"))
    assert "rationale: flagged" in caught.value.hint


def test_only_reasons_of_all_pairs_make_another_judge(tmp_path: Path) -> None:
    """`flagged` is asked of the same judge, who then is not asked again; `all` is another question."""
    source = training_file(tmp_path / "train.jsonl", 4)
    prints = []
    with FakeServer(reasoned) as server:
        for rationale in ("none", "flagged", "all"):
            folder = tmp_path / rationale
            judged(source, folder, server.url, stage={"rationale": rationale})
            prints.append(json.loads((folder / "manifest.json").read_text("utf-8"))["stages"][0]["fingerprint"])
        judged(source, tmp_path / "none", server.url, stage={"rationale": "flagged"})
    assert prints[0] == prints[1] != prints[2]
    assert any(reason for _, reason in words_in(tmp_path / "none", "m_reason").values())


@settings(deadline=None)
@given(st.text(), st.integers(1, 4))
def test_a_reason_is_one_line(text: str, count: int) -> None:
    """Whatever comes: one for each candidate, a line of at most 1,000 characters without invisible ones."""
    reasons = read_reasons(text, count)
    assert len(reasons) == count
    for reason in reasons:
        assert len(reason) <= 1000
        assert len(reason.splitlines()) <= 1
        assert read_reasons(f"Doc (1): {reason}", 1) == (reason,)


def test_reasons_find_their_candidates() -> None:
    """By number, whatever stands around; one that is not named has none; the only one needs no number."""
    assert read_reasons("Sure!\n- **Doc (2)**: names the\u200b year\n\nDoc (1): no place", 3) == (
        "no place",
        "names the year",
        "",
    )
    assert read_reasons("It names\nthe year.", 1) == ("It names the year.",)
    assert read_reasons("It names the year.", 2) == ("", "")


def test_the_question_why_shows_the_flagged_alone() -> None:
    """One question a query for a group template, one a pair for the other kind; both tell what was found."""
    case = judged_case(example_of("a1", "b2", "c3"))
    flagged = [(case.pairs[0], Judgment("relevant")), (case.pairs[2], Judgment("partial"))]
    group = LLMJudge("m", load_template("verdict"), Clerk(better()))
    [both] = group.whys(case, flagged)
    request = group.why(case, both)
    assert "Doc (1) fully, Doc (2) in part. Say\nwhy for each" in request.messages[0].content
    assert all(text in request.messages[1].content for text in ("a1", "c3", "Doc (2)"))
    assert "b2" not in request.messages[1].content
    single = LLMJudge("m", load_template("relevance"), Clerk(better()))
    assert [len(part) for part in single.whys(case, flagged)] == [1, 1]
    assert request.address != group.request(case, (case.pairs[0], case.pairs[2])).address


# --- the order that caches like ---


def queries(sizes: Sequence[tuple[int, bool]]) -> list[list[Request]]:
    """Make the requests of queries: how many each has, and whether their common beginning is long."""
    return [
        [Request(f"{q}-{n}", (Message("user", f"{q} " + "x" * (LONG if long else 10) + f" {n}"),)) for n in range(size)]
        for q, (size, long) in enumerate(sizes)
    ]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans())), st.integers(1, 8))
def test_the_first_goes_ahead_of_those_that_begin_alike(sizes: list[tuple[int, bool]], distance: int) -> None:
    """Every request once and in its query's order; followers after `distance` others or when no query is left."""
    asked = queries(sizes)
    given_out = list(led(iter(asked), distance))
    place = {request.address: number for number, request in enumerate(given_out)}
    assert sorted(place) == sorted(request.address for own in asked for request in own)
    last_begun = max((place[own[0].address] for own in asked if own), default=0)
    for own, (size, long) in zip(asked, sizes, strict=True):
        places = [place[request.address] for request in own]
        assert places == sorted(places)
        marks = {given_out[number].shares for number in places}
        assert len(marks) <= 1
        assert marks <= ({""} if size < 2 or not long else marks - {""})
        if long and size > 1:
            assert places[1] - places[0] > distance or places[1] > last_begun
        else:
            assert places == list(range(places[0], places[0] + size)) if places else True


def test_a_mark_is_that_of_the_common_beginning() -> None:
    """Equal beginnings, equal marks; the mark is no part of a query's words and no part of an address."""
    (one,), (other,) = queries([(3, True)]), queries([(2, True)])
    marks = {request.shares for request in [*marked(one), *marked(other)]}
    assert len(marks) == 1
    assert len(marks.pop()) == 16
    assert [each.address for each in marked(one)] == [each.address for each in one]


def long_rows(path: Path, rows: int) -> Path:
    """Write rows whose known positive is long enough for a provider's cache."""
    lines = [
        {
            "query_id": f"q{number}",
            "query": f"question {number}",
            "positive_passages": [{"docid": "p", "title": "", "text": f"known {number} " + "word " * 800}],
            "negative_passages": [{"docid": f"n{i}", "title": "", "text": f"text {number} {i}"} for i in range(4)],
        }
        for number in range(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


@pytest.mark.parametrize("told", [True, None])
def test_a_query_is_read_before_its_other_pairs_are_asked(told: bool | None, tmp_path: Path) -> None:
    """Of each query one request arrives ahead of the others, which name the same beginning where that is wanted."""
    source = long_rows(tmp_path / "train.jsonl", 12)
    with FakeServer(latency=0.01) as server:
        judged(
            source, tmp_path / "run", server.url, stage={"prompt": "relevance"}, concurrency=4, prompt_cache_key=told
        )
        bodies = list(server.bodies)
    assert len(bodies) == 48
    arrived = defaultdict(list)
    for place, body in enumerate(bodies):
        arrived[body["messages"][-1]["content"].split()[2]].append(place)
    assert len(arrived) == 12
    leads = [places[1] - places[0] for places in arrived.values()]
    assert min(sorted(leads)[2:]) >= 3  # the last queries have nobody behind whom to wait
    keys = {body.get("prompt_cache_key") for body in bodies}
    assert (None in keys) == (told is None)  # this server is not OpenAI
    assert len(keys) == (12 if told else 1)


def test_a_key_of_ones_own_is_sent(tmp_path: Path) -> None:
    """What stands in `extra_body` wins."""
    with FakeServer() as server:
        judged(
            long_rows(tmp_path / "train.jsonl", 2), tmp_path / "run", server.url, stage={"prompt": "relevance"},
            prompt_cache_key=True, extra_body={"prompt_cache_key": "mine"},
        )  # fmt: skip
        assert {body["prompt_cache_key"] for body in server.bodies} == {"mine"}


# --- portions that the model can read ---


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(1, 900), min_size=1, max_size=12, unique=True),
    st.integers(300, 1500),
    st.sampled_from("xäж字"),
)
def test_a_group_is_divided_until_it_fits(sizes: list[int], tokens: int, letter: str) -> None:
    """Every pair once, in row order; each prompt fits or is about one pair; no two neighbours would do as one."""
    row = example_of(*[letter * size for size in sizes])
    template, room = load_template("verdict"), Window(tokens, 50)
    clerk = Clerk(better())
    judge = LLMJudge("m", template, clerk, shuffle=False, window=room)
    ask(judge, row)
    names = [name for request in clerk.asked for name in request.candidate_ids]
    refused = [each.id for each in row.negatives if each.id not in names]
    assert sorted([*names, *refused]) == sorted(each.id for each in row.negatives)
    for request in clerk.asked:
        assert room.holds(request.messages) or len(request.candidate_ids) == 1
        assert room.excess(request.messages) <= 0
        assert least_tokens(request.messages) <= most_tokens(request.messages)
    whole = LLMJudge("m", template, clerk, shuffle=False).request(judged_case(row), judged_case(row).pairs)
    if room.holds(whole.messages):
        assert len(clerk.asked) == 1


def judged_case(row: relabel.Example) -> Any:
    """Open the row as a case."""
    from relabel.cascade import open_case

    return open_case(0, row, 3)


def test_a_pair_that_surely_does_not_fit_is_not_asked() -> None:
    """It ends as "too long", says by how much, and its neighbours are judged."""
    clerk = Clerk(better("small"))
    judge = LLMJudge("m", load_template("verdict"), clerk, window=Window(1000, 100))
    (words,) = ask(judge, example_of("small", "x" * 9000, "tiny"))
    assert short(words) == ["relevant", "too long", "irrelevant"]
    assert "tokens longer than the model reads" in words[1].rationale
    assert all("x" * 100 not in request.messages[-1].content for request in clerk.asked)


def test_how_much_a_model_reads() -> None:
    """As the settings say, else as listed for OpenAI's own models; of an unknown server nothing is known."""
    assert window(OpenAI(model="gpt-4o-mini")) == Window(128_000, 2048)
    assert window(OpenAI(model="gpt-4o-mini", context_tokens=9000, max_tokens=None)) == Window(9000, 0)
    told = OpenAI(model="gpt-4o-mini", max_tokens=None, extra_body={"max_completion_tokens": 77})
    assert window(told) == Window(128_000, 77)
    assert window(OpenAI(model="gpt-4o-mini", base_url="http://127.0.0.1:8000/v1")) is None
    assert window(Scripted(kind="scripted", replies="x")) is None


def test_a_run_asks_in_portions_that_fit(tmp_path: Path) -> None:
    """With a small context the same pairs go in more requests; a second run asks nobody."""
    source = training_file(tmp_path / "train.jsonl", 5, negatives=12, twins=False)
    with FakeServer() as server:
        judged(source, tmp_path / "whole", server.url, max_tokens=100)
        whole, server.asked = len(server.asked), Counter()
        done = judged(source, tmp_path / "run", server.url, max_tokens=100, context_tokens=800)
        divided, server.asked = len(server.asked), Counter()
        judged(source, tmp_path / "run", server.url, max_tokens=100, context_tokens=800)
        assert not server.asked
    assert (whole, divided) == (5, 10)
    assert not done.statistics["stages"][0]["none"]


# --- nothing twice ---


def test_equal_pairs_are_asked_once(tmp_path: Path) -> None:
    """Rows that stand there twice, under other ids and in another order, cost one request for each different pair."""
    source = training_file(tmp_path / "train.jsonl", 14)
    rows = [json.loads(line) for line in source.read_text("utf-8").splitlines()]
    again = [
        row | {"query_id": f"{row['query_id']}+", "negative_passages": row["negative_passages"][::-1]} for row in rows
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *again]), "utf-8")
    with FakeServer() as server:
        done = judged(source, tmp_path / "run", server.url, stage={"prompt": "relevance"})
        assert set(server.asked.values()) == {1}
        different = {
            (row["query"], json.dumps(row["positive_passages"]), each["title"], each["text"].strip())
            for row in rows
            for each in row["negative_passages"]
        }
        assert done.spending["m"]["asked"] == len(server.asked) == len(different)


def test_a_second_opinion_is_asked_once(tmp_path: Path) -> None:
    """Two stages with one model and prompt: what is sampled or goes up has its reply already, pair by pair."""
    source = training_file(tmp_path / "train.jsonl", 12, twins=False)
    with FakeServer() as server:
        engine = {"kind": "openai", "model": "fake", "base_url": server.url}
        one = {"judge": "llm", "prompt": "relevance", "engine": engine}
        stages = [one | {"name": "first", "final": ["irrelevant"], "sample": 0.5}, one | {"name": "second"}]
        done = pipeline.run(sources.open_source(source), config.parse(json.dumps({"stages": stages})), tmp_path / "run")
        assert set(server.asked.values()) == {1}
    assert done.spending["second"]["asked"] == 0
    assert done.spending["second"]["from_store"] > 0
    assert done.statistics["stages"][1]["second_opinions"]["asked"] > 0
