"""A whole run, made to go wrong: nothing moves without a word, everything is counted, nothing hangs."""

import _thread
import csv
import json
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relabel import config, pipeline, runs, sources
from relabel.cascade import open_case
from relabel.concluding import candidate_key, query_key
from relabel.engines.scripted import ScriptedEngine
from relabel.errors import InputError, RunError, SettingsError
from relabel.judges.llm import LLMJudge
from relabel.pipeline import Summary
from relabel.policy import PRESETS
from relabel.prompts import list_templates, load_template
from relabel.protocols import Judge
from relabel.records import LABELS, Case, Example, Judgment, Label, Passage, chance
from relabel.store import PersonLabel, Store

pytestmark = [pytest.mark.usefixtures("tidy"), pytest.mark.timeout(120)]

Row = dict[str, Any]
FORMS_OF = {"t.jsonl": "tevatron", "b.jsonl": "bge", "three.jsonl": "triplets", "x.csv": "triplets"}
RESULTS = ("flagged.csv", "changes.jsonl", "statistics.json")
CHEAP = {"final": ["irrelevant"]}


def stage(name: str, **fields: Any) -> Row:
    """A stage that a test brings its own judge for."""
    return {"judge": "rules", "name": name, **fields}


def cascade(*stages: Row, actions: Any = "relabel", **policy: Any) -> config.Settings:
    """Settings of these stages."""
    return config.Settings.model_validate({"stages": list(stages), "policy": {"actions": actions, **policy}})


@dataclass
class Table:
    """A judge that says of each text what a table says, else "irrelevant"; it remembers what it was asked."""

    words: Mapping[str, Label | None]
    asked: Counter[str]

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Judge each case as it comes."""
        for case in cases:
            self.asked.update(pair.candidate.text for pair in case.pairs)
            labels = [self.words.get(pair.candidate.text, "irrelevant") for pair in case.pairs]
            yield case.judged(tuple(Judgment(label, "" if label else "unreadable") for label in labels))


def says(**words: Label | None) -> Table:
    """Make a judge that says this of the texts."""
    return Table(words, Counter())


def row(name: str, *negatives: str, **fields: Any) -> Row:
    """A row of BGE's form."""
    return {"query_id": name, "query": f"question {name}", "pos": [f"answer {name}"], "neg": list(negatives), **fields}


def go(path: Path, chosen: config.Settings, folder: Path, **judges: Judge) -> Summary:
    """Run with judges of one's own."""
    return pipeline.run(sources.open_source(path), chosen, folder, judges=judges)


def lines(path: Path) -> list[Row]:
    """Read JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def listed(folder: Path) -> list[dict[str, str]]:
    """Read the audit CSV."""
    with (folder / "flagged.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def outcomes(folder: Path) -> dict[tuple[str, str], str]:
    """Return the verdict of each pair, by query id and text."""
    found = runs.show(folder, "question")
    return {(each.example.id, each.candidate.text): each.verdict.outcome for each in found}


# --- 6. no verdict never changes a label ---

VERDICT = "<verdict><better>{}</better><worse>{}</worse></verdict>"
OBJECT = '{{"verdicts": [{{"id": {}, "label": "Yes"}}, {{"id": {}, "label": "Yes"}}, {{"id": {}, "label": "Yes"}}]}}'

UNUSABLE: Mapping[str, Row] = {
    "empty": {"reply": ""},
    "blank": {"reply": " \n\t\u200b"},
    "prose": {"reply": "Document 2 answers the question better than Doc (1) does. Yes."},
    "refusal": {"reply": "I'm sorry, but I can't help with that (policy 3)."},
    "refused": {"reply": None, "failure": "refused"},
    "filtered": {"reply": None, "failure": "filtered"},
    "too long": {"reply": None, "failure": "too long"},
    "failed": {"reply": None, "failure": "failed"},
    "called empty": {"reply": None, "failure": "empty"},
    "called repeated": {"reply": None, "failure": "repeated"},
    "cut off verdict": {"reply": VERDICT.format("[1]", "[2]"), "failure": "cut off", "finish_reason": "length"},
    "cut off yes": {"reply": "Yes", "failure": "cut off", "finish_reason": "length"},
    "cut off grade": {"reply": "3", "failure": "cut off", "finish_reason": "length"},
    "cut off snippet": {"reply": '{"answer": "text"}', "failure": "cut off"},
    "cut off unmarked": {"reply": "<thinking>Doc (1): fine</thinking><verdict><better>[Doc (1)]</better><worse>[Doc"},
    "cut off JSON": {"reply": '{"verdicts": [{"id": 1, "label": "Yes"}, {"id": 2, "la'},
    "wrong ids": {"reply": VERDICT.format("[a0, a1]", "[]")},
    "out of range": {"reply": VERDICT.format("[Doc (1), Doc (4)]", "[]")},
    "zero": {"reply": VERDICT.format("[Doc (0)]", "[]")},
    "both lists": {"reply": VERDICT.format("[Doc (1)]", "[Doc (1)]")},
    "two verdicts": {"reply": VERDICT.format("[1]", "[]") + VERDICT.format("[]", "[1]")},
    "ids as words": {"reply": OBJECT.format('"a0"', '"a1"', '"a2"')},
    "ids out of range": {"reply": OBJECT.format(1, 2, 4)},
    "id twice": {"reply": OBJECT.format(1, 2, '1, "label": "No"')},
    "labels not on offer": {"reply": '{"verdicts": [{"id": 1, "label": "Maybe"}], "label": "Perhaps"}'},
    "no entries": {"reply": '{"verdicts": []}'},
    "null": {"reply": "null"},
    "not in the passage": {"reply": '{"answer": "words that stand nowhere"}'},
    "HTML": {"reply": "<html><head><title>502</title></head><body><h1>2 Bad Gateway</h1></body></html>"},
    "error with a digit": {"reply": "Error 3: rate limit reached, try again in 1 second"},
    "JSON error": {"reply": '{"error": {"code": 1, "message": "Doc (1) yes"}}'},
    "yes and no": {"reply": "Yes / No"},
    "grade and scale": {"reply": "Grade: 3 (of 0 to 3)"},
    "grade not on the scale": {"reply": "4"},
    "negative grade": {"reply": "-1"},
    "surrogate": {"reply": "\ud83d"},
    "probabilities without a word": {"reply": "hm", "probabilities": {"Yes": 0.99, "3": 0.99, "No": 0.01}},
}

FORMS = {
    "pair-json": "kind: pair\nreply: json\nreference: none\nlabels: {Yes: relevant, No: irrelevant}",
    "pair-tagged": "kind: pair\nreply: tagged\nreference: none\nlabels: {better: relevant, neither: irrelevant}",
    "group-json": "kind: group\nreply: json\nreference: none\nlabels: {Yes: relevant, No: irrelevant}",
}
BODY = {
    "pair": "{{ query }} {{ candidate.title }} {{ candidate.text }}",
    "group": "{{ query }} {% for each in candidates %}{{ each.number }} {{ each.title }} {{ each.text }}{% endfor %}",
}


def template_of(name: str, folder: Path) -> str:
    """Return the name of a shipped template, or the path of one that is written for a form that none has."""
    if name not in FORMS:
        return name
    path = folder / f"{name}.md"
    path.write_text(f"---\nname: {name}\n{FORMS[name]}\n---\n## user\n{BODY[name.partition('-')[0]]}\n", "utf-8")
    return str(path)


@pytest.mark.parametrize("name", [*list_templates(), *FORMS])
def test_no_unusable_reply_moves_anything(name: str, tmp_path: Path, save: Save) -> None:
    """Every kind of unusable reply to every template and form: all pairs undecided, listed, and no row changed."""
    path = template_of(name, tmp_path)
    group = load_template(path).spec.kind == "group"
    kinds = [*UNUSABLE, "no recording"]
    rows = [
        {
            "query_id": kind, "query": f"what is {kind}?",
            "positive_passages": [{"docid": "p", "title": "", "text": f"Known text about {kind}."}],
            "negative_passages": [
                {"docid": f"a{i}", "title": "", "text": f"A text with number {i} for {kind}."} for i in range(3)
            ],
        }
        for kind in kinds
    ]  # fmt: skip
    recordings = [
        {"judge": "model", "template": name, "query_id": kind, "candidate_ids": ids, **reply}
        for kind, reply in UNUSABLE.items()
        for ids in ([["a0", "a1", "a2"]] if group else [["a0"], ["a1"], ["a2"]])
    ]
    replies = save(*recordings, name="replies.jsonl")
    model = {
        "name": "model", "judge": "llm", "prompt": path, "shuffle": False,
        "engine": {"kind": "scripted", "replies": str(replies)},
    }  # fmt: skip
    folder = tmp_path / "run"
    source = save(*rows)
    summary = go(source, cascade(model), folder)
    for actions in (None, *PRESETS):
        if actions:
            other = config.Settings.model_validate(
                {"stages": [model], "policy": {"actions": actions, "max_flagged": 0}}
            )  # fmt: skip
            summary = pipeline.apply(folder, settings=other)
        assert summary.files["cleaned"].read_bytes() == source.read_bytes()
        assert (folder / "changes.jsonl").read_bytes() == b""
        assert summary.undecided == 3 * len(kinds)
    found = listed(folder)
    assert [(each["query_id"], each["candidate_id"]) for each in found] == [
        (kind, f"a{i}") for kind in kinds for i in range(3)
    ]
    assert {(each["listed"], each["verdict"], each["action"]) for each in found} == {("undecided", "undecided", "ask")}
    for each in found:
        kind = each["query_id"]
        why = kind if kind == "no recording" else UNUSABLE[kind].get("failure")
        wanted = {why} if why and not kind.startswith("called") else {"unreadable", "unsupported", f"{why} reply"}
        assert each["evidence"] in wanted
        assert each["model_label"] == ""


# --- 7. accounting, rebuilding, determinism, for any input ---


@dataclass(frozen=True)
class Dice:
    """A judge that says anything, by a hash of what it is shown; it gives its cases back late and out of order."""

    salt: str
    late: int

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Collect some cases, give the last one first."""
        held: list[Case] = []
        for case in cases:
            held.append(case)
            if len(held) > self.late:
                yield from (self._judged(each) for each in reversed(held))
                held = []
        yield from (self._judged(each) for each in reversed(held))

    def _judged(self, case: Case) -> Case:
        return case.judged(tuple(self._word(case, pair.key) for pair in case.pairs))

    def _word(self, case: Case, key: bytes) -> Judgment:
        def roll(what: str) -> float:
            return chance(self.salt, what, case.key.hex(), key.hex())

        label = (*LABELS, None, None)[int(roll("label") * 5)]
        probability = roll("probability") if roll("sure") < 0.5 else None
        if label is None:
            reasons = ("unreadable", "refused", "no recording", "in the ask band", "repeated", "empty")
            return Judgment(None, reasons[int(roll("reason") * 6)], probability=probability)
        evidence = ("", "copy of a positive", "percpos")[int(roll("evidence") * 3)]
        return Judgment(label, "", evidence, probability, score=roll("score"), rationale="so \ud83d")


texts = st.sampled_from(["alpha", "Alpha!", "beta", "gamma", "delta delta", "", " ", "β\u2028\ud83d", 'a,"b"\nc'])
good_texts = texts.filter(lambda text: bool(text.strip()))
queries = st.sampled_from(["who?", "what?", "where is it?"])
unknown = st.dictionaries(
    st.sampled_from(["note", "Ümlaut", "nested"]), st.none() | st.lists(st.integers(), max_size=2)
)
broken = st.sampled_from(["not JSON", "[1, 2]", '{"query": "", "pos": []}', '{"no": 1}', '"text"', '{"query": 3}'])


@st.composite
def tevatron_rows(draw: st.DrawFn) -> Row:
    """A row with ids that may be missing or the same, and parallel lists."""

    def passages(text: st.SearchStrategy[str], least: int) -> list[Row]:
        ids = st.fixed_dictionaries({}, optional={"docid": st.sampled_from(["1", "2", 3, None]), "title": texts})
        return draw(
            st.lists(st.builds(lambda text, more: {"text": text, **more}, text, ids), min_size=least, max_size=5)
        )

    made: Row = draw(unknown) | {
        "query": draw(queries),
        "positive_passages": passages(good_texts, 1),
        "negative_passages": passages(texts, 0),
    }
    if draw(st.booleans()):
        made["query_id"] = draw(st.sampled_from(["q1", "q2", 7]))
    if draw(st.booleans()):
        made["subset"] = draw(st.sampled_from(["left", "right", "exempt"]))
    for side in draw(st.sets(st.sampled_from(["positive", "negative"]))):
        made[f"{side}_passage_scores"] = [i / 4 for i in range(len(made[f"{side}_passages"]))]
    return made


@st.composite
def bge_rows(draw: st.DrawFn) -> Row:
    """A row of texts with scores beside them."""
    made: Row = draw(unknown) | {
        "query": draw(queries),
        "pos": draw(st.lists(good_texts, min_size=1, max_size=3)),
        "neg": draw(st.lists(texts, max_size=5)),
        "source": draw(st.sampled_from(["left", "exempt", None])),
    }
    for side in draw(st.sets(st.sampled_from(["pos", "neg"]))):
        made[f"{side}_scores"] = [i / 4 for i in range(len(made[side]))]
        made[f"{side}_id"] = draw(
            st.lists(st.sampled_from(["1", 2, None]), min_size=len(made[side]), max_size=len(made[side]))
        )
    return made


triplet_rows = st.builds(
    lambda more, query, positive, negative, source: {
        **more, "anchor": query, "positive": positive, "negative": negative, "dataset": source
    },
    unknown, queries, good_texts, texts, st.sampled_from(["left", "exempt"]),
)  # fmt: skip


@dataclass(frozen=True)
class Input:
    """A training file to be: its name and its lines, of which some may be broken."""

    name: str
    lines: tuple[str, ...]

    def write(self, folder: Path, order: Sequence[int] | None = None) -> Path:
        """Write the file, its rows in this order."""
        path = folder / self.name
        rows = [self.lines[i] for i in order] if order is not None else list(self.lines)
        if path.suffix == ".csv":
            rows = ["anchor,positive,negative,dataset", *rows]
        path.write_bytes("".join(f"{row}\n" for row in rows).encode("utf-8"))
        return path


def as_csv(*cells: str) -> str:
    """Write one line of CSV."""
    quoted = [cell.replace("\ud83d", "?").replace('"', '""') for cell in cells]
    return ",".join(f'"{cell}"' for cell in quoted)


csv_rows = st.builds(as_csv, queries, good_texts, texts, st.sampled_from(["left", "exempt"]))
inputs = st.one_of(
    *[
        st.builds(
            lambda name, first, rest: Input(name, (first, *rest)),
            st.just(name),
            rows.map(json.dumps),
            st.lists(st.one_of(rows.map(json.dumps), rows.map(json.dumps), broken), max_size=7),
        )
        for name, rows in (("t.jsonl", tevatron_rows()), ("b.jsonl", bge_rows()), ("three.jsonl", triplet_rows))
    ],
    st.builds(
        lambda first, rest: Input("x.csv", (first, *rest)),
        csv_rows,
        st.lists(csv_rows | st.sampled_from(['"too few"', "a,b,c,d,e"]), max_size=7),
    ),
)
finals = st.none() | st.lists(st.sampled_from(LABELS), unique=True) | st.dictionaries(
    st.sampled_from(LABELS), st.sampled_from([0.0, 0.5, 0.9])
)  # fmt: skip
fields = st.fixed_dictionaries(
    {"final": finals, "escalate": st.sampled_from(["pair", "query"]), "sample": st.sampled_from([0.0, 0.3, 1.0])}
)
lively = st.sampled_from(["promote", "drop", "remove", "keep", "ask"])
quiet = st.sampled_from(["keep", "ask"])
tables = st.sampled_from(sorted(PRESETS)) | st.fixed_dictionaries(
    {},
    optional={
        "relevant": lively, "partial": lively, "copy of a positive": lively, "percpos": lively, "s1:relevant": lively,
        "s0:percpos": lively, "irrelevant": quiet, "undecided": quiet, "void": st.sampled_from(["keep", "drop"]),
        "unreadable": lively, "rules:relevant": lively,
    },
)  # fmt: skip


def named(actions: str | Row, stages: int, *, rules: bool) -> str | Row:
    """Leave out what a table says of stages that are not there: a config is refused for it."""
    names = {"", *[f"s{i}" for i in range(stages)], *(["rules"] if rules else [])}
    return actions if isinstance(actions, str) else {k: v for k, v in actions.items() if k.rpartition(":")[0] in names}


plans = st.builds(
    lambda stages, rules, actions, flagged, least, seed: {
        "stages": [*[{"judge": "rules"}][: int(rules)], *[stage(f"s{i}", **each) for i, each in enumerate(stages)]],
        "policy": {
            "actions": named(actions, len(stages), rules=rules),
            "max_flagged": flagged, "min_negatives": least, "exempt": ["exempt"],
        },
        "seed": seed, "reference": 1 + seed % 2,
    },
    st.lists(fields, min_size=1, max_size=3), st.booleans(), tables, st.none() | st.integers(0, 2), st.integers(0, 3),
    st.integers(0, 3),
)  # fmt: skip


def rolled(path: Path, plan: Row, folder: Path) -> Summary:
    """Run a plan with judges that say anything; broken rows are left out."""
    chosen = config.Settings.model_validate(plan)
    judges = {name: Dice(name, late) for late, name in enumerate(chosen.names) if name != "rules"}
    return pipeline.run(opened(path), chosen, folder, judges=judges)


def opened(path: Path) -> sources.Source:
    """Open a file in its form, which its first line, being broken, need not show."""
    return sources.open_source(path, format=FORMS_OF[path.name], on_error="skip")


def results(summary: Summary) -> dict[str, bytes]:
    """Return everything that two equal runs must have in common."""
    files = [summary.files["cleaned"], *[summary.folder / name for name in RESULTS]]
    return {file.name: file.read_bytes() for file in files}


def check_accounting(told: Input, path: Path, summary: Summary, exempt: frozenset[str]) -> None:
    """Check the three identities, against the input's own counts."""
    figures = summary.statistics
    rows, passages = figures["rows"], figures["passages"]
    examples = list(opened(path).examples())
    judged = [example for example in examples if example.source not in exempt]
    assert rows["in"] == rows["written"] + rows["removed"] + rows["rejected"] == len(told.lines)
    assert rows["in"] - rows["rejected"] == len(examples)
    assert passages["in"] == sum(len(example.negatives) for example in examples)
    assert passages["in"] == sum(passages[name] for name in ("kept", "promoted", "dropped", "in_removed_rows"))
    pairs = sum(len(example.negatives) for example in judged)
    assert sum(figures["verdicts"].values()) == pairs == figures["stages"][0]["asked"]
    parts = [figures, *figures["sources"].values()]
    for part in parts:
        for each in part["stages"]:
            for asked in (each, each["second_opinions"]):
                assert asked["asked"] == sum(asked[label] for label in LABELS) + sum(asked["none"].values())
    for index, each in enumerate(figures["stages"]):
        assert each["asked"] == sum(part["stages"][index]["asked"] for part in parts[1:])
    assert sum(change["action"] == "remove" for change in lines(summary.folder / "changes.jsonl")) == rows["removed"]


def check_moves(folder: Path) -> None:
    """Check that nothing moved without a final word that says so, and that exempt rows are untouched."""
    with pipeline.open_run(folder) as (plan, store):
        for one, _ in pipeline.concluded(plan, store, lambda _: None):
            changes = one.edited.changes
            if one.trail is None:
                assert (one.edited.example, changes) == (one.example, ())
                continue
            still = {
                i for i, verdict in enumerate(one.verdicts) if verdict.outcome in ("undecided", "true negative")
            }  # fmt: skip
            for verdict in one.verdicts:
                word = verdict.judgment
                if word is None or word.label is None:
                    assert verdict.outcome == "undecided" or (verdict.outcome == "void" and word is not None)
                assert verdict.outcome != "void" or (word and word.reason in ("repeated", "empty"))
            if one.edited.example is None:
                assert len(still) < len(one.verdicts)
            assert not still & {change.origin for change in changes if change.origin is not None}


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(inputs, plans)
def test_property_accounting_rebuilding_and_repeating(told: Input, plan: Row) -> None:
    """For any input, judges, cascade and policy: counts add up, the ledger rebuilds the input, results repeat."""
    with tempfile.TemporaryDirectory() as place:
        path = told.write(Path(place))
        summary = rolled(path, plan, Path(place) / "run")
        first = results(summary)
        check_accounting(told, path, summary, frozenset({"exempt"}))
        check_moves(summary.folder)
        rows = [dict(example.row) for example in opened(path).examples()]
        assert list(runs.rebuild(summary.folder)) == rows
        assert results(rolled(path, plan, Path(place) / "run")) == first
        assert results(rolled(path, plan, Path(place) / "new")) == first
        assert results(pipeline.apply(Path(place) / "run")) == first


def verdicts_by_row(folder: Path) -> Counter[tuple[str, tuple[str, ...]]]:
    """Return what was concluded of each row's pairs, wherever the row stands."""
    with pipeline.open_run(folder) as (plan, store):
        return Counter(
            (
                json.dumps(one.example.row, sort_keys=True),
                tuple(f"{each.outcome} {each.evidence}" for each in one.verdicts),
            )
            for one, _ in pipeline.concluded(plan, store, lambda _: None)
        )


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(inputs, plans, st.data())
def test_property_the_order_of_rows_changes_no_verdict(told: Input, plan: Row, data: st.DataObject) -> None:
    """With its rows in another order every pair of every row gets the same verdict, by the same evidence."""
    order = data.draw(st.permutations(range(len(told.lines))))
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "other").mkdir()
        first = rolled(told.write(Path(place)), plan, Path(place) / "run")
        other = rolled(told.write(Path(place) / "other", order), plan, Path(place) / "again")
        assert verdicts_by_row(first.folder) == verdicts_by_row(other.folder)
        rows, other_rows = ({**each.statistics["rows"], "scattered": 0} for each in (first, other))  # that is of order
        assert rows == other_rows
        assert first.statistics["verdicts"] == other.statistics["verdicts"]


def test_rows_with_a_common_pair_are_judged_each_by_itself(tmp_path: Path, save: Save) -> None:
    """A text that another row holds twice (but for its case) is no repetition in a row that holds it once."""
    twice, once = row("1", "Some Words.", "some words"), row("1", "some words")
    for order in ((twice, once), (once, twice)):
        folder = tmp_path / order[0]["neg"][0]
        go(save(*order), cascade(stage("rules", final=[]), stage("last")), folder, last=says())
        kept = [len(each["neg"]) for each in lines(folder / "cleaned.jsonl")]
        assert kept == [1, 1]


# --- results that are hard to hold ---


def test_a_run_that_removes_every_row_can_be_rebuilt(tmp_path: Path, save: Save) -> None:
    """An empty cleaned file is no error: the ledger alone holds the input."""
    rows = [row("1", "bad"), row("2", "bad")]
    go(save(*rows), cascade(stage("s"), actions="remove"), tmp_path / "run", s=says(bad="relevant"))
    assert (tmp_path / "run" / "cleaned.jsonl").read_bytes() == b""
    assert list(runs.rebuild(tmp_path / "run")) == rows


@pytest.mark.parametrize("name", ["x.csv", "x.CSV"])
def test_a_csv_file_that_loses_every_row(tmp_path: Path, name: str) -> None:
    """CSV without a row left can be rebuilt; the cleaned file is CSV however its name is spelt, and found again."""
    path = tmp_path / name
    path.write_text("anchor,positive,negative\nq,p,bad\n", encoding="utf-8")
    go(path, cascade(stage("s")), tmp_path / "run", s=says(bad="relevant"))
    pipeline.apply(tmp_path / "run")
    assert [each.name for each in (tmp_path / "run").glob("cleaned*")] == ["cleaned.csv"]
    assert list(runs.rebuild(tmp_path / "run")) == [{"anchor": "q", "positive": "p", "negative": "bad"}]


def test_a_csv_file_without_a_good_row(tmp_path: Path) -> None:
    """Broken rows only, left out: a run without examples ends and counts them."""
    path = tmp_path / "x.csv"
    path.write_text("anchor,positive,negative\n,p,n\n,p,n\n", encoding="utf-8")
    source = sources.open_source(path, on_error="skip")
    summary = pipeline.run(source, cascade(stage("s")), tmp_path / "run", judges={"s": says()})
    assert summary.statistics["rows"] | {"rejected": 2, "in": 2} == summary.statistics["rows"]
    assert list(runs.rebuild(tmp_path / "run")) == []


def test_an_empty_text_called_relevant_leaves_a_file_that_can_be_read(tmp_path: Path, save: Save) -> None:
    """No judge can promote an empty text: the cleaned row would be no row."""
    rows = [row("1", "", "good")]
    words: dict[str, Label | None] = {"": "relevant", "good": "relevant"}
    summary = go(save(*rows), cascade(stage("s")), tmp_path / "run", s=Table(words, Counter()))
    assert lines(summary.files["cleaned"])[0]["pos"] == ["answer 1", "good"]
    assert list(runs.rebuild(tmp_path / "run")) == rows


def test_a_run_killed_as_it_began_goes_on(tmp_path: Path, save: Save) -> None:
    """A folder that holds nothing but the lock and the cache of a run is no stranger's."""
    folder = tmp_path / "run"
    (folder / "cache").mkdir(parents=True)
    (folder / "run.lock").touch()
    assert go(save(row("1", "a")), cascade(stage("s")), folder, s=says()).statistics["rows"]["written"] == 1


def test_the_input_is_never_overwritten(tmp_path: Path, save: Save) -> None:
    """An input that lies where the cleaned file goes is refused, and still there; so are a stranger's files."""
    (tmp_path / "run").mkdir()
    path = save(row("1", "a"), name="run/cleaned.jsonl")
    before = path.read_bytes()
    with pytest.raises(RunError, match="holds other files"):
        go(path, cascade(stage("s")), tmp_path / "run", s=says())
    Store(tmp_path / "run").close()
    with pytest.raises(InputError, match="would be overwritten"):
        go(path, cascade(stage("s")), tmp_path / "run", s=says())
    assert path.read_bytes() == before


# --- people ---


def label(store: Store, query: str, text: str, **words: Label) -> None:
    """Keep what reviewers said of a pair."""
    store.add_people(
        PersonLabel(query_key(f"question {query}"), candidate_key("", text), name.replace("_", ", "), word)
        for name, word in words.items()
    )


def test_people_decide_over_stages(tmp_path: Path, save: Save) -> None:
    """One label, a majority and a tie, against judges that are sure of the contrary; nobody is asked again."""
    folder = tmp_path / "run"
    texts = ("one", "majority", "tie", "nobody", "three")
    judge = says(one="relevant", majority="relevant", tie="relevant", nobody="relevant")
    go(save(row("1", *texts)), cascade(stage("s")), folder, s=judge)
    asked = judge.asked.total()
    with Store(folder) as store:
        label(store, "1", "one", ann="irrelevant")
        label(store, "1", "majority", ann="irrelevant", Doe_Jane="irrelevant", zoe="relevant")
        label(store, "1", "tie", ann="irrelevant", zoe="relevant")
        label(store, "1", "three", ann="irrelevant", bob="partial", zoe="relevant")
    summary = pipeline.apply(folder)
    assert judge.asked.total() == asked
    found = {each.candidate.text: each for each in runs.show(folder, "1")}
    assert {text: (each.verdict.outcome, each.verdict.stage) for text, each in found.items()} == {
        "one": ("true negative", "human"),
        "majority": ("true negative", "human"),
        "tie": ("undecided", ""),
        "nobody": ("false negative", "s"),
        "three": ("undecided", ""),
    } | {text: (each.verdict.outcome, "human") for text, each in found.items() if text in ("tie", "three")}
    assert found["tie"].verdict.evidence == "reviewers disagree"
    assert found["majority"].people == {"Doe, Jane": "irrelevant", "ann": "irrelevant", "zoe": "relevant"}
    assert lines(summary.files["cleaned"]) == [
        {**row("1", "one", "majority", "tie", "three"), "pos": ["answer 1", "nobody"]}
    ]
    assert [each["candidate"] for each in listed(folder)] == ["tie", "nobody", "three"]


# --- routing ---


def test_max_flagged_removes_the_row_whole(tmp_path: Path, save: Save) -> None:
    """The row with more false negatives than allowed goes, whole and with its reason; the other is cleaned."""
    rows = [row("1", "bad", "worse", "good"), row("2", "bad", "good")]
    folder = tmp_path / "run"
    judge = says(bad="relevant", worse="relevant")
    summary = go(save(*rows), cascade(stage("s"), max_flagged=1), folder, s=judge)
    (removed, promoted) = lines(folder / "changes.jsonl")
    assert (removed["action"], removed["row"]) == ("remove", rows[0])
    assert removed["why"] == "2 false negatives, more than max_flagged = 1"
    assert (promoted["action"], promoted["position"]) == ("promote", 1)
    assert summary.statistics["passages"] == {
        "in": 5, "kept": 1, "promoted": 1, "dropped": 0, "in_removed_rows": 3,
    }  # fmt: skip


def test_second_opinions_change_no_verdict_and_are_listed(tmp_path: Path, save: Save) -> None:
    """With sample = 1 the strong judge is asked about everything: contradictions are listed, results do not move."""
    path = save(row("1", "a", "b", "c", "d"))
    chosen = [cascade(stage("cheap", **CHEAP, sample=share), stage("strong")) for share in (0.0, 1.0)]
    found = []
    for name, settings_ in zip(("without", "with"), chosen, strict=True):
        strong = says(a="relevant", b="partial", c=None, d="irrelevant")
        found.append(go(path, settings_, tmp_path / name, cheap=says(d="relevant"), strong=strong))
        assert strong.asked == Counter({"without": "d", "with": "abcd"}[name])
    assert found[0].files["cleaned"].read_bytes() == found[1].files["cleaned"].read_bytes() == path.read_bytes()
    assert found[0].statistics["verdicts"] == found[1].statistics["verdicts"]
    assert listed(tmp_path / "without") == []
    assert [(each["candidate"], each["listed"], each["verdict"]) for each in listed(tmp_path / "with")] == [
        ("a", "contradicted", "true negative"), ("b", "contradicted", "true negative"),
    ]  # fmt: skip
    figures = found[1].statistics["stages"][1]
    assert (figures["asked"], figures["second_opinions"]["asked"]) == (1, 3)


def test_a_doubt_sends_all_pairs_of_its_query_up(tmp_path: Path, save: Save) -> None:
    """Escalation by query: the strong judge is asked about all pairs of the one query, and none of the other."""
    path = save(row("1", "a", "b", "doubt"), row("2", "c", "d"))
    strong = says(a="relevant", doubt="irrelevant")
    go(path, cascade(stage("cheap", **CHEAP, escalate="query"), stage("strong")), tmp_path / "run",
       cheap=says(doubt=None), strong=strong)  # fmt: skip
    assert strong.asked == Counter({"a": 1, "b": 1, "doubt": 1})
    assert outcomes(tmp_path / "run") == {
        ("1", "a"): "false negative", ("1", "b"): "true negative", ("1", "doubt"): "true negative",
        ("2", "c"): "true negative", ("2", "d"): "true negative",
    }  # fmt: skip


def test_exempt_sources_are_not_judged(tmp_path: Path, save: Save) -> None:
    """Rows of an exempt source are written as they are and counted; their texts are shown to nobody."""
    judge = says(a="relevant")
    path = save(row("1", "a", source="arguana"), row("2", "a", source="msmarco"))
    summary = go(path, cascade(stage("s"), exempt=["arguana"]), tmp_path / "run", s=judge)
    assert judge.asked == Counter("a")
    assert [each["neg"] for each in lines(summary.files["cleaned"])] == [["a"], []]
    assert summary.statistics["rows"]["exempt"] == 1


class Threaded:
    """A judge that takes its cases in one thread and gives them back in another, as an API engine does."""

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Judge everything relevant."""
        import queue

        box: queue.SimpleQueue[Case | None] = queue.SimpleQueue()

        def pull() -> None:
            for case in cases:
                box.put(case)
            box.put(None)

        thread = threading.Thread(target=pull)
        thread.start()
        while (case := box.get()) is not None:
            yield case.judged(tuple(Judgment("relevant") for _ in case.pairs))
        thread.join()


@contextmanager
def hurried() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_cases_that_pass_by_and_cases_that_were_judged_all_arrive(tmp_path: Path, save: Save) -> None:
    """Two threads send cases to the last stage, which gets each of them once."""
    path = save(*[row(str(i), "settled" if i % 2 else "open") for i in range(4000)])
    last = says()
    with hurried():
        go(path, cascade(stage("first", final=["irrelevant"], sample=1.0), stage("second", final=[]), stage("last")),
           tmp_path / "run", first=says(open="relevant"), second=Threaded(), last=last)  # fmt: skip
        again = cascade(stage("first", **CHEAP), stage("second", **CHEAP, escalate="query"), stage("last"))
        go(path, again, tmp_path / "again", first=says(open="relevant"), second=Threaded(), last=last)
    assert last.asked == Counter({"open": 4000})


# --- judges that fail ---


class Raising:
    """A judge that gives back some cases and then fails."""

    def __init__(self, after: int, error: Exception) -> None:
        self.after, self.error = after, error

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Judge until it is enough."""
        for number, case in enumerate(cases):
            if number == self.after:
                raise self.error
            yield case.judged(tuple(Judgment(None, "unreadable") for _ in case.pairs))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_judge_that_raises_stops_the_run(which: int, tmp_path: Path, save: Save) -> None:
    """Its own error comes out, no thread is left, no result is written, and the next run starts clean."""
    path = save(*[row(str(i), "a", "b") for i in range(1500)])  # more than all belts hold
    chosen = cascade(stage("s0", final=[]), stage("s1", final=[]), stage("s2"))
    error = ZeroDivisionError("of the judge's own")
    judges: list[Judge] = [says(a=None) for _ in range(3)]
    judges[which] = Raising(20, error)
    folder = tmp_path / "run"
    with pytest.raises(ZeroDivisionError) as caught:
        go(path, chosen, folder, **{f"s{i}": judge for i, judge in enumerate(judges)})
    assert caught.value is error
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("relabel-")]
    assert sorted(each.name for each in folder.glob("*.json*")) == []
    with pytest.raises(RunError, match="holds no finished run"):
        pipeline.apply(folder)
    summary = go(path, chosen, folder, s0=says(), s1=says(), s2=says())
    assert summary.statistics["verdicts"]["true_negative"] == 3000


class Losing:
    """A judge that gives back all cases but one."""

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Judge all but the third."""
        for number, case in enumerate(cases):
            if number != 2:
                yield case.judged(tuple(Judgment("irrelevant") for _ in case.pairs))


def test_a_judge_that_loses_a_case_is_found_out(tmp_path: Path, save: Save) -> None:
    """A case that does not come back is an error that names the stage, not a pair that nobody misses."""
    path = save(*[row(str(i), "a") for i in range(5)])
    with pytest.raises(RuntimeError, match="the judge of stage s lost 1 cases"):
        go(path, cascade(stage("s")), tmp_path / "run", s=Losing())


@pytest.mark.parametrize("fault", ["gave 0 judgments for 1 pairs of query 1", "or twice", "said 'yes' of a pair"])
def test_a_judge_that_does_not_keep_to_the_rules_is_found_out(fault: str, tmp_path: Path, save: Save) -> None:
    """A case unjudged, twice, or with a word that is no label: the error names the stage and the query."""

    class Careless:
        def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
            for case in cases:
                strange: Any = "yes"
                good = case.judged(tuple(Judgment("irrelevant") for _ in case.pairs))
                odd = case.judged(tuple(Judgment(strange) for _ in case.pairs))
                yield from {"gave": [case], "or t": [good, good], "said": [odd]}[fault[:4]]

    for stages in ((stage("s"),), (stage("s"), stage("last"))):
        judges: dict[str, Judge] = {"s": Careless(), "last": says()}
        with pytest.raises(SettingsError, match=f"the judge of stage s .*{fault}"):
            pipeline.run(
                sources.open_source(save(row("1", "a"))), cascade(*stages), tmp_path / f"{len(stages)}",
                judges={each["name"]: judges[each["name"]] for each in stages},
            )  # fmt: skip


def test_a_broken_row_is_found_before_anybody_is_asked(tmp_path: Path, save: Save) -> None:
    """The error names the line; no judge has seen a case."""
    judge = says()
    with pytest.raises(InputError, match="line 3"):
        go(save(row("1", "a"), row("2", "a"), "not JSON"), cascade(stage("s")), tmp_path / "run", s=judge)
    assert judge.asked.total() == 0


def test_interrupting_keeps_what_was_said(tmp_path: Path, save: Save) -> None:
    """Ctrl-C in the middle: no thread is left, what was said is kept, and a second run ends like an unbroken one."""

    class Interrupting(Table):
        def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
            for number, case in enumerate(super().judge(cases)):
                if number == 700:
                    _thread.interrupt_main()
                yield case

    path = save(*[row(str(i), "a", "b", "c") for i in range(1500)])
    chosen = cascade(stage("cheap", **CHEAP), stage("strong"))
    words: dict[str, Label | None] = {"a": "relevant", "b": None}
    with pytest.raises(KeyboardInterrupt):
        go(path, chosen, tmp_path / "run", cheap=Interrupting(words, Counter()), strong=says(a="partial"))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("relabel-")]
    with Store(tmp_path / "run") as store:
        kept = store._reader.execute("SELECT count(*) FROM judgments").fetchone()[0]
    assert kept >= 2000
    resumed = go(path, chosen, tmp_path / "run", cheap=Table(words, Counter()), strong=says(a="partial"))
    unbroken = go(path, chosen, tmp_path / "new", cheap=Table(words, Counter()), strong=says(a="partial"))
    assert results(resumed) == results(unbroken)


# --- run directories ---


def finished(tmp_path: Path, save: Save) -> tuple[Path, Path]:
    """Make a finished run; return its input and its directory."""
    path = save(row("1", "a", "b"))
    go(path, cascade(stage("s")), tmp_path / "run", s=says(a="relevant"))
    return path, tmp_path / "run"


def test_a_run_directory_in_use(tmp_path: Path, save: Save) -> None:
    """Neither run nor apply touches a directory that another process works in."""
    path, folder = finished(tmp_path, save)
    with Store(folder):
        with pytest.raises(RunError, match="is in use by another relabel process"):
            go(path, cascade(stage("s")), folder, s=says())
        with pytest.raises(RunError, match="is in use by another relabel process"):
            pipeline.apply(folder)


def test_an_input_that_changed_is_refused(tmp_path: Path, save: Save) -> None:
    """What was decided about one file is not applied to another; the error says what to type."""
    path, folder = finished(tmp_path, save)
    before = results(pipeline.apply(folder))
    path.write_text(path.read_text() + json.dumps(row("2", "c")) + "\n")
    with pytest.raises(RunError, match="is not the file that this run read") as caught:
        pipeline.apply(folder)
    assert f"relabel run {path} -o {folder}" in caught.value.hint
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_an_input_that_moved_is_named(tmp_path: Path, save: Save) -> None:
    """An input that is gone is asked for, and taken from where it is now."""
    path, folder = finished(tmp_path, save)
    moved = path.rename(tmp_path / "moved.jsonl")
    with pytest.raises(RunError, match="is no longer there"):
        pipeline.apply(folder)
    assert pipeline.apply(folder, path=moved).statistics["rows"]["written"] == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: {"settings": {}},
        lambda told: {**told, "settings": {**told["settings"], "from the future": 1}},
        lambda told: {**told, "stages": None},
        lambda told: {**told, "input": "somewhere"},
        lambda _: [],
    ],
)
def test_a_manifest_of_another_version(spoil: Callable[[Row], Any], tmp_path: Path, save: Save) -> None:
    """A manifest that is not understood is an error of the run directory, not of the program."""
    _, folder = finished(tmp_path, save)
    told = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(spoil(told)))
    with pytest.raises(RunError, match=r"manifest\.json is not what "):
        pipeline.apply(folder)


def test_a_judge_for_no_stage(tmp_path: Path, save: Save) -> None:
    """A judge under a name that no stage has is refused, before anything is read or written."""
    with pytest.raises(SettingsError, match="no stage is called other"):
        go(save(row("1", "a")), cascade(stage("s")), tmp_path / "run", other=says())


def test_another_policy_asks_nobody(tmp_path: Path, save: Save) -> None:
    """Apply with other presets edits from what the store holds; the first policy gives the first result again."""
    path, folder = finished(tmp_path, save)
    first = (folder / "cleaned.jsonl").read_bytes()
    assert lines(pipeline.apply(folder, actions="drop").files["cleaned"]) == [row("1", "b")]
    assert lines(pipeline.apply(folder, actions="remove").files["cleaned"]) == []
    assert lines(pipeline.apply(folder).files["cleaned"]) == []  # the policy in force is the one applied last
    assert pipeline.apply(folder, actions="relabel").files["cleaned"].read_bytes() == first
    assert list(runs.rebuild(folder)) == lines(path)


def test_another_threshold_asks_nobody(tmp_path: Path, save: Save) -> None:
    """A stricter threshold makes what was certain undecided, by the stored probabilities."""

    class Sure:
        def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
            for case in cases:
                yield case.judged(tuple(Judgment("relevant", probability=0.8) for _ in case.pairs))

    go(save(row("1", "a")), cascade(stage("s", final={"relevant": 0.7})), tmp_path / "run", s=Sure())
    assert outcomes(tmp_path / "run") == {("1", "a"): "false negative"}
    stricter = cascade(stage("s", final={"relevant": 0.9}))
    assert pipeline.apply(tmp_path / "run", settings=stricter).statistics["verdicts"]["undecided"] == 1
    with pytest.raises(SettingsError, match="the config's stages are other, the run's s"):
        pipeline.apply(tmp_path / "run", settings=cascade(stage("other")))


# --- recorded judges, sources ---


def test_two_recorded_judges_that_were_asked_the_same(tmp_path: Path, save: Save) -> None:
    """Same template, query and candidates, opposite replies: each stage gets its own judge's, in each run."""
    rows = [row(str(i), f"text {i}", pos=[f"answer {i}"]) for i in range(60)]
    recorded = [
        {
            "judge": judge, "template": "relevance", "query_id": str(i), "reply": said,
            "candidate_ids": [example.negatives[0].id],
        }
        for i, example in enumerate(sources.open_source(save(*rows)).examples())
        for judge, said in (("mini", "Yes"), ("strong", "No"))
    ]  # fmt: skip
    (tmp_path / "replies.jsonl").write_text("".join(json.dumps(each) + "\n" for each in recorded), "utf-8")
    engine = {"kind": "scripted", "replies": str(tmp_path / "replies.jsonl")}
    asked = {"judge": "llm", "prompt": "relevance", "engine": engine}
    chosen = cascade({"name": "mini", **asked}, {"name": "strong", **asked})
    for name in ("one", "two"):
        figures = go(save(*rows), chosen, tmp_path / name).statistics
        mini, strong = figures["stages"]
        assert (mini["relevant"], strong["irrelevant"]) == (60, 60)
        assert figures["verdicts"]["true_negative"] == 60


def test_figures_by_source_add_up_to_those_of_all(tmp_path: Path, save: Save) -> None:
    """Counts, rates and agreement of two sources, against worked numbers."""
    path = save(
        row("1", "good", "bad", subset="a"), row("2", "good", "bad", subset="b"), row("3", "bad", "bad2", subset="b")
    )
    first, second = says(good="relevant", bad="relevant", bad2="irrelevant"), says(good="relevant", bad="irrelevant")
    figures = go(
        path, cascade(stage("s", final=[]), stage("t")), tmp_path / "run", s=first, t=second
    ).statistics  # fmt: skip
    a, b = figures["sources"]["a"], figures["sources"]["b"]
    for name, hits in (("flagged by s", {"a": 1.0, "b": 0.75}), ("confirmed after s", {"a": 0.5, "b": 1 / 3})):
        for source, rate in hits.items():
            assert figures["sources"][source]["rates"][name]["value"] == pytest.approx(rate, abs=1e-6)
        assert a["rates"][name]["of"] + b["rates"][name]["of"] == figures["rates"][name]["of"]
    # source a: (relevant, relevant) and (relevant, irrelevant): the same word once in two pairs
    assert a["agreement"][0]["figures"]["agreement"]["value"] == 0.5
    assert a["agreement"][0]["n"] + b["agreement"][0]["n"] == figures["agreement"][0]["n"] == 6


# --- what was found in review ---


class Crowd:
    """A judge that looks at its group: it calls "relevant" only what it is asked about alone, or with one other."""

    def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Say the same of all pairs of a part: the open ones, and the second opinions apart."""
        for case in cases:
            words = []
            for pair in case.pairs:
                part = [other for other in case.pairs if (other.key in case.opinions) == (pair.key in case.opinions)]
                words.append(Judgment("relevant" if len(part) < 3 else "irrelevant"))
            yield case.judged(tuple(words))


def test_second_opinions_stand_in_groups_of_their_own(tmp_path: Path) -> None:
    """The groups of an LLM judge hold open pairs or second opinions, never both: a sample changes no prompt."""
    engine = ScriptedEngine(_no_replies(tmp_path))
    judge = LLMJudge("s", load_template("rlhn"), engine, group_size=4)
    example = Example("q", "query", (Passage("p", "text"),), tuple(Passage(str(i), f"text {i}") for i in range(9)))
    case = open_case(0, example, 3)
    opinions = frozenset(pair.key for pair in case.pairs[::2])
    for group in judge.groups(replace(case, opinions=opinions)):
        assert len({pair.key in opinions for pair in group}) == 1
    without = replace(case, pairs=tuple(pair for pair in case.pairs if pair.key not in opinions))
    assert judge.groups(without) == judge.groups(replace(case, opinions=opinions))[: len(judge.groups(without))]


def _no_replies(folder: Path) -> Path:
    path = folder / "none.jsonl"
    path.touch()
    return path


def test_a_sample_changes_no_verdict_of_a_judge_that_looks_at_groups(tmp_path: Path, save: Save) -> None:
    """Two open pairs are relevant to a judge that counts its group, however many second opinions come along."""
    path = save(row("1", "odd", "even", *[f"settled {i}" for i in range(5)]))
    first = says(odd="partial", even="partial")
    found = []
    for share in (0.0, 1.0):
        chosen = cascade(stage("s", final=["irrelevant"], sample=share), stage("t"))
        go(path, chosen, tmp_path / str(share), s=first, t=Crowd())
        found.append(outcomes(tmp_path / str(share)))
    assert found[0] == found[1]


def test_agreement_of_a_sample_is_that_of_all(tmp_path: Path, save: Save) -> None:
    """With a tenth of what was settled as second opinions, weighted back, the figures are those of asking about all."""
    rows = [row(str(i), *[f"text {i} {j}" for j in range(10)]) for i in range(400)]

    class Coin:
        def __init__(self, wrong: float, salt: str) -> None:
            self.wrong, self.salt = wrong, salt

        def judge(self, cases: Iterable[Case]) -> Iterator[Case]:
            for case in cases:
                words: list[Judgment] = []
                for pair in case.pairs:
                    true = chance("truth", pair.candidate.text) < 0.15
                    said = true != (chance(self.salt, pair.candidate.text) < self.wrong)
                    words.append(Judgment("relevant" if said else "irrelevant"))
                yield case.judged(tuple(words))

    figures = {}
    for share in (1.0, 0.1):
        chosen = cascade(stage("s", final=["irrelevant"], sample=share), stage("t"))
        done = go(save(*rows), chosen, tmp_path / str(share), s=Coin(0.1, "a"), t=Coin(0.03, "b"))
        figures[share] = done.statistics["agreement"][0]
    for name in ("agreement", "kappa", "ac1", "prevalence_first_relevant"):
        true, sampled = figures[1.0]["figures"][name]["value"], figures[0.1]["figures"][name]
        assert sampled["value"] == pytest.approx(true, abs=0.06), name  # unweighted: .72 for .87 of agreement
        assert sampled["high"] - sampled["low"] < 0.2
    assert figures[0.1]["n"] < figures[1.0]["n"] == 4000


def test_the_action_is_what_was_done(tmp_path: Path, save: Save) -> None:
    """A row that goes says "remove" of its pairs; a copy that could only be promoted twice says "drop"."""
    path = save(row("1", "a", "b", "c"), row("2", "answer 2", "d"))
    judge = Table({"a": "relevant", "b": "relevant", "answer 2": "relevant"}, Counter())
    go(path, cascade(stage("s"), max_flagged=1), tmp_path / "run", s=judge)
    done = {each.candidate.text: each.action for each in runs.show(tmp_path / "run", "question")}
    assert done == {"a": "remove", "b": "remove", "c": "remove", "answer 2": "drop", "d": "keep"}


def test_apply_leaves_a_run_that_agrees_with_itself(tmp_path: Path, save: Save) -> None:
    """After another policy, ledger, `show` and manifest say the same; half-written results are not rebuilt from."""
    folder = tmp_path / "run"
    path = save(row("1", "a", "b"))
    rows = lines(path)
    go(path, cascade(stage("s")), folder, s=says(a="relevant"))
    pipeline.apply(folder, actions="drop")
    assert [line["action"] for line in lines(folder / "changes.jsonl")] == ["drop"]
    assert {each.action for each in runs.show(folder, "question")} == {"drop", "keep"}
    assert list(runs.rebuild(folder)) == rows
    old = (folder / "changes.jsonl").read_bytes()
    manifest = (folder / "manifest.json").read_bytes()
    pipeline.apply(folder, actions="relabel")
    (folder / "manifest.json").write_bytes(manifest)  # as if stopped before the manifest was written
    with pytest.raises(RunError, match="relabel apply"):
        list(runs.rebuild(folder))
    (folder / "changes.jsonl").write_bytes(old)
    with pytest.raises(RunError, match="relabel apply"):
        list(runs.rebuild(folder))
    pipeline.apply(folder)
    assert list(runs.rebuild(folder)) == rows


def test_apply_refuses_judges_that_were_not_asked(tmp_path: Path, save: Save) -> None:
    """Another prompt in the config of `apply` is refused; another threshold is taken."""
    replies = _no_replies(tmp_path)

    def config_of(prompt: str, final: list[str]) -> config.Settings:
        engine = {"kind": "scripted", "replies": str(replies)}
        return cascade({"judge": "llm", "name": "s", "prompt": prompt, "engine": engine, "final": final})

    path = save(row("1", "a", "b"))
    pipeline.run(sources.open_source(path), config_of("rlhn", []), tmp_path / "run")
    pipeline.apply(tmp_path / "run", settings=config_of("rlhn", ["irrelevant"]))
    with pytest.raises(SettingsError, match="another judge has to be asked"):
        pipeline.apply(tmp_path / "run", settings=config_of("relevance", []))


def test_queries_that_come_back_are_counted(tmp_path: Path, save: Save) -> None:
    """Rows of one query that are not neighbours are counted, since the intervals take them for two queries."""
    path = save(row("1", "a"), row("2", "b"), row("1", "c"), row("1", "d"))
    done = go(path, cascade(stage("s")), tmp_path / "run", s=says())
    assert done.statistics["rows"]["scattered"] == 1


def test_many_sources_are_counted_together(tmp_path: Path, save: Save) -> None:
    """A field of addresses does not make a table for each: beyond 200 sources the rest is one."""
    path = save(*[row(str(i), "a", subset=f"http://{i}") for i in range(230)])
    done = go(path, cascade(stage("s")), tmp_path / "run", s=says())
    sources = done.statistics["sources"]
    assert len(sources) == 201
    assert sources["(other)"]["verdicts"]["true_negative"] == 30


def test_rows_below_the_minimum_are_listed(tmp_path: Path, save: Save) -> None:
    """Rows left with fewer negatives than asked for are kept, counted, and listed with what they have left."""
    path = save(row("1", "a", "b"), row("2", "c", "d"))
    go(path, cascade(stage("s"), min_negatives=2), tmp_path / "run", s=says(a="relevant"))
    assert lines(tmp_path / "run" / "below_min_negatives.jsonl") == [{"position": 0, "example_id": "1", "negatives": 1}]


# --- what people wrote, and what differs between runs ---


def fill_in(folder: Path, **labels: str) -> Path:
    """Write labels into the audit CSV of a run, by the texts of the candidates."""
    rows = [{**each, "human_label": labels.get(each["candidate"], "")} for each in listed(folder)]
    with (folder / "flagged.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "flagged.csv"


def test_labels_that_were_taken_in_are_not_set_aside(tmp_path: Path, save: Save) -> None:
    """An imported audit file is written anew in its place; one that was changed since is kept, and is one person's."""
    folder = tmp_path / "run"
    go(save(row("1", "a", "b", "c")), cascade(stage("s")), folder, s=says(a="relevant", b="relevant", c="relevant"))
    runs.audit_import(folder, fill_in(folder, a="irrelevant"))
    summary = pipeline.apply(folder)
    assert "labelled" not in summary.files
    assert list(folder.glob("flagged*")) == [folder / "flagged.csv"]
    assert [each["candidate"] for each in listed(folder)] == ["b", "c"]
    fill_in(folder, b="irrelevant")
    kept = pipeline.apply(folder).files["labelled"]
    assert kept == folder / "flagged-labelled.csv"
    assert runs.audit_import(folder, kept).reviewers == ("flagged",)
    (b,) = [each for each in runs.show(folder, "question") if each.candidate.text == "b"]
    assert b.people == {"flagged": "irrelevant"}
    pipeline.apply(folder)
    assert [each["candidate"] for each in listed(folder)] == ["c"]


def test_an_export_of_all_pairs_says_why_each_is_listed(tmp_path: Path, save: Save) -> None:
    """A true negative is listed as judged, not as flagged."""
    go(save(row("1", "a", "b", "c")), cascade(stage("s")), tmp_path / "run", s=says(a="relevant", b=None))
    runs.audit_export(tmp_path / "run", tmp_path / "run" / "flagged.csv", everything=True)
    assert [each["listed"] for each in listed(tmp_path / "run")] == ["flagged", "undecided", "judged"]


def test_flips_between_runs_with_other_exempt_sources(tmp_path: Path, save: Save) -> None:
    """Rows that one of the runs did not judge are not compared; those that both did are, each with itself."""
    path = save(row("1", "a", subset="x"), row("2", "a", "b", subset="y"), row("3", "a", subset="z"), row("4"))
    go(path, cascade(stage("s"), exempt=["x"]), tmp_path / "old", s=says(a="relevant"))
    go(path, cascade(stage("s"), exempt=["z"]), tmp_path / "new", s=says(b="relevant"))
    for one, other, first in (("new", "old", "false negative"), ("old", "new", "true negative")):
        found = runs.flips(tmp_path / one, tmp_path / other)
        assert [(each.before.example.id, each.before.candidate.text) for each in found] == [("2", "a"), ("2", "b")]
        assert found[0].before.verdict.outcome == first
        assert all(each.before.fingerprint == each.after.fingerprint for each in found)


def test_flips_between_runs_with_other_references(tmp_path: Path, save: Save) -> None:
    """Runs that were shown different positives judged different questions."""
    path = save(row("1", "a"))
    go(path, cascade(stage("s")), tmp_path / "old", s=says())
    go(path, cascade(stage("s")).model_copy(update={"reference": 1}), tmp_path / "new", s=says(a="relevant"))
    with pytest.raises(RunError, match=r"up to 1 positives as reference, .* 3"):
        runs.flips(tmp_path / "new", tmp_path / "old")


def test_a_packed_file_of_labels_stops_the_run(tmp_path: Path, save: Save) -> None:
    """A stage of people whose labels are packed is refused with what to do, whoever reads them first."""
    (tmp_path / "labels.csv.gz").write_bytes(b"\x1f\x8b\x08")
    people = {"judge": "human", "labels": str(tmp_path / "labels.csv.gz")}
    with pytest.raises(InputError, match=r"labels\.csv\.gz: is not UTF-8 text"):
        go(save(row("1", "a")), cascade(people), tmp_path / "run")
