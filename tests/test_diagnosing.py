"""One judge asked in several ways: planted faults are found, nothing is paid for twice, what cannot be is said."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from server import Body, FakeServer
from typer.testing import CliRunner

import relabel
from relabel.cli import app
from relabel.diagnostics import Diagnostic
from relabel.errors import SettingsError
from relabel.records import chance

DATA = Path(__file__).parents[1] / "data"
QUERIES = 40
CASCADE = """\
stages:
  - rules
  - name: judge
    judge: llm
    prompt: {prompt}
    engine: {{kind: openai, model: fake, base_url: "{url}", choices: text, concurrency: 8, seed: 5,
      price: {{input: 1, output: 2}}}}
"""

Judge = Callable[[str, str, int, int], bool]
"""Whether the planted judge says yes: query, text, place from 0, how many in the prompt."""


def true(query: str, text: str, *_: int) -> bool:
    """Say what is true: relevant passages name the query that they answer."""
    return f"answers {query}." in text


def training_file(folder: Path) -> Path:
    """Write rows with two positives and eight negatives, of which the first two are relevant."""
    rows = []
    for number in range(QUERIES):
        good = [{"docid": f"p{number}-{i}", "title": "", "text": f"This {i} answers q{number}."} for i in range(2)]
        bad = [
            {
                "docid": f"n{number}-{i}",
                "title": "",
                "text": f"Also {i} answers q{number}." if i < 2 else f"Is {i} not.",
            }
            for i in range(8)
        ]
        rows.append({
            "query_id": f"q{number}", "query": f"q{number}", "positive_passages": good, "negative_passages": bad,
        })  # fmt: skip
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def answering(judge: Judge) -> Callable[[Sequence[Mapping[str, str]], Body], str]:
    """Make a planted judge answer the prompts `rlhn` and `relevance`."""

    def answer(messages: Sequence[Mapping[str, str]], _: Body) -> str:
        prompt = messages[-1]["content"]
        group = re.findall(r'<document name="Doc \((\d+)\)">\n+(.*?)\n+</document>', prompt, re.DOTALL)
        if not group:
            query = re.findall(r"<question>\n(.*?)\n</question>", prompt)[0]
            (text,) = re.findall(r"<document>\n+(.*?)\n+</document>", prompt, re.DOTALL)
            return "Yes" if judge(query, text, 0, 1) else "No"
        query = re.findall(r"<question>\n(.*?)\n</question>", prompt)[0]
        better = [f"Doc ({n})" for n, text in group if judge(query, text, int(n) - 1, len(group))]
        return f"<verdict><better>[{', '.join(better)}]</better><worse>[]</worse></verdict>"

    return answer


def diagnose(folder: Path, judge: Judge, *parts: str, prompt: str = "rlhn") -> dict[str, Diagnostic]:
    """Let a planted judge be asked, and return the figures by name."""
    config = folder / "cascade.yaml"
    with FakeServer(answering(judge)) as server:
        config.write_text(CASCADE.format(url=server.url, prompt=prompt), "utf-8")
        done = relabel.diagnose(training_file(folder), config, output=folder / "out", queries=QUERIES, parts=parts)
    return {figure.name: figure for figure in done.figures}


def test_an_honest_judge_has_no_symptoms(tmp_path: Path) -> None:
    """It knows the probe, heeds neither order nor company, agrees with itself and its swap; bounds say how surely."""
    found = diagnose(tmp_path, true, "probe", "lists", "swap", "repeat")
    assert found["yes rate on a balanced probe"].value == 0.5
    assert (found["sensitivity"].value, found["specificity"].value) == (1.0, 1.0)
    assert found["sensitivity"].of == found["sensitivity"].queries == QUERIES
    assert found["negative bias"].value == 0.0
    assert found["yes rate, alone"].value == found["yes rate, 25 per prompt"].value == 0.25
    changed = [figure for name, figure in found.items() if name.startswith("labels that change")]
    assert [figure.value for figure in changed] == [0.0] * len(changed)
    assert all(figure.high is not None and 0.05 < figure.high < 0.1 for figure in changed)
    assert len(changed) == 5
    assert found["swap consistency"].value == 1.0
    assert found["swap consistency"].of == 2 * QUERIES
    place = found["correlation of yes with the place in the prompt"]
    assert place.low is not None
    assert place.high is not None
    assert place.low < 0 < place.high


def test_a_planted_lean_towards_no_is_measured(tmp_path: Path) -> None:
    """A judge that overlooks 30 % of what answers: the intervals hold sensitivity .7 and negative bias .3."""

    def blind(query: str, text: str, *_: int) -> bool:
        return true(query, text) and chance("blind", query, text) < 0.7

    found = diagnose(tmp_path, blind, "probe")
    sensitivity, bias = found["sensitivity"], found["negative bias"]
    assert None not in (sensitivity.low, sensitivity.high, bias.low, bias.high)
    assert sensitivity.low <= 0.7 <= sensitivity.high < 1  # type: ignore[operator]
    assert 0 < bias.low <= 0.3 <= bias.high  # type: ignore[operator]
    assert found["specificity"].value == 1.0


def test_a_planted_love_of_the_first_place_is_found(tmp_path: Path) -> None:
    """What stands first in a prompt gets a yes: labels change with the order, and yes with the place."""
    found = diagnose(tmp_path, lambda query, text, place, of: true(query, text) or (place == 0 and of > 1), "lists")
    place = found["correlation of yes with the place in the prompt"]
    assert place.high is not None
    assert place.high < 0
    assert (found["yes rate in the first third of a prompt"].low or 0) > 0.4
    assert (found["yes rate in the last third of a prompt"].high or 1) < 0.35
    # of 8 places one is given away, with probability 3/4 to one that was a no, and another the second time
    for size, share in ((25, 1 / 8), (5, 2 / 8)):
        shift = found[f"yes rate, {size} per prompt − alone"]
        assert shift.low is not None
        assert shift.high is not None
        assert shift.low <= 0.75 * share <= shift.high
        assert (found[f"labels that change with the order, {size} per prompt"].low or 0) > 0


def test_a_planted_weariness_with_long_lists_is_found(tmp_path: Path) -> None:
    """With more than five in a prompt the judge finds nothing: yes rates fall by all that there was."""
    found = diagnose(tmp_path, lambda query, text, _, of: true(query, text) and of <= 5, "lists")
    assert found["yes rate, 5 per prompt − alone"].value == 0.0
    assert found["yes rate, 25 per prompt − alone"].value == -0.25
    assert found["labels that change, alone → 25 per prompt"].value == 0.25
    assert found["yes rate, 25 per prompt"].high == pytest.approx(1 - 0.025 ** (1 / QUERIES))


def test_chance_is_not_hidden_by_the_store(tmp_path: Path) -> None:
    """A judge that changes its mind about the same prompt is caught, though the first reply is stored."""
    times: Counter[tuple[str, str]] = Counter()

    def fickle(query: str, text: str, *_: int) -> bool:
        times[query, text] += 1
        return true(query, text) != (times[query, text] > 1 and chance("fickle", text, query) < 0.3)

    changed = diagnose(tmp_path, fickle, "repeat")["labels that change when asked again"]
    assert None not in (changed.low, changed.high)
    assert 0 < changed.low <= 0.3 <= changed.high  # type: ignore[operator]
    assert changed.of == 8 * QUERIES


def test_asking_again_warmer(tmp_path: Path) -> None:
    """Another temperature comes with another seed; the first question keeps those of a run."""
    config = tmp_path / "cascade.yaml"
    with FakeServer(answering(true)) as server:
        config.write_text(CASCADE.format(url=server.url, prompt="rlhn"), "utf-8")
        path = training_file(tmp_path)
        relabel.diagnose(path, config, output=tmp_path / "out", queries=5, parts=["repeat"], temperature=0.7)
        asked = {(body["temperature"], body["seed"]) for body in server.bodies}
    assert asked == {(0.0, 5), (0.7, 6)}


def test_a_planted_contradiction_is_found(tmp_path: Path) -> None:
    """A judge that falls for a word that positives lack calls candidates relevant, and never the known positive."""
    found = diagnose(tmp_path, lambda _, text, *__: text.startswith("Also"), "swap")["swap consistency"]
    assert (found.value, found.of) == (0.0, 2 * QUERIES)


def test_a_pair_prompt_has_no_lists(tmp_path: Path) -> None:
    """What does not apply is there without a value and says why."""
    found = diagnose(tmp_path, true, "lists", "leaning", prompt="relevance")
    lists = found["order and number in a prompt"]
    assert (lists.value, lists.note) == (None, "does not apply: it is asked about one at a time")
    assert (found["correlation of yes with word overlap"].low or 0) > 0  # a relevant passage names its query


def test_other_wordings(tmp_path: Path) -> None:
    """A template of one's own beside the judge's: the judge reads the same pairs, and never changes its mind."""
    config, other = tmp_path / "cascade.yaml", tmp_path / "mine.md"
    own = relabel.load_template("rlhn").content.replace("name: rlhn", "name: mine").replace("Find\nthem.", "Name them.")
    other.write_text(own, "utf-8")
    with FakeServer(answering(true)) as server:
        config.write_text(CASCADE.format(url=server.url, prompt="rlhn"), "utf-8")
        done = relabel.diagnose(
            training_file(tmp_path), config, output=tmp_path / "out", queries=9, parts=["templates"],
            paraphrases=[other, "relevance"],
        )  # fmt: skip
    found = {figure.name: figure for figure in done.figures}
    assert found["yes and no that change, rlhn → mine"].value == 0.0
    assert found["κ of yes and no, rlhn and relevance"].value == 1.0
    assert found["all 3 templates say the same, yes or no"].of == 8 * 9


def test_nothing_is_paid_for_twice(tmp_path: Path) -> None:
    """A run finds what a diagnosis asked, a diagnosis what a run asked; a rehearsal counts what is left to ask."""
    config = tmp_path / "cascade.yaml"
    path, folder = training_file(tmp_path), tmp_path / "out"
    with FakeServer(answering(true)) as server:
        config.write_text(CASCADE.format(url=server.url, prompt="rlhn"), "utf-8")
        before = relabel.rehearse_diagnose(path, config, output=folder, queries=10, paraphrases=["relevance"])
        assert not folder.exists()
        relabel.run(path, config, output=folder)
        ran = server.total
        first = relabel.diagnose(path, config, output=folder, queries=10, paraphrases=["relevance"])
        asked = server.total
        assert asked - ran == first.asked
        again = relabel.diagnose(path, config, output=folder, queries=10, paraphrases=["relevance"])
        after = relabel.rehearse_diagnose(path, config, output=folder, queries=10, paraphrases=["relevance"])
        relabel.run(path, config, output=folder)
        assert server.total == asked
    assert (again.asked, again.figures) == (0, first.figures)
    most = sum(bill.requests for bill in before.bills.values())
    assert first.asked <= most
    assert sum(bill.answered for bill in before.bills.values()) == 0
    left = {name: bill.requests - bill.answered for name, bill in after.bills.items()}
    assert {name for name, lacking in left.items() if lacking} == {"swap, at most"}
    bill = before.bills["base"]
    assert bill.usd == pytest.approx((bill.tokens_in * 1 + bill.tokens_out * 2) / 1e6)


def test_what_is_written(tmp_path: Path) -> None:
    """A plain list of figures, and beside it what they are of; rewriting gives the same bytes."""
    diagnose(tmp_path, true, "probe", "swap")
    text = (tmp_path / "out" / "diagnostics.json").read_text("utf-8")
    told = json.loads(text)
    assert [each["part"] for each in told] == ["probe"] * 4 + ["swap"]
    assert {"judge", "template", "name", "value", "low", "high", "of", "queries", "note"} <= set(told[0])
    execution = json.loads((tmp_path / "out" / "diagnostics_run.json").read_text("utf-8"))
    assert (execution["judge"]["name"], execution["queries"], execution["pairs"]) == ("judge", QUERIES, 8 * QUERIES)


# -- recorded replies, other judges, mistakes ------------------------------------------------------------------


def test_recorded_replies_lack_the_other_ways(tmp_path: Path) -> None:
    """Figures without recordings are left out and say how many lack one; a reply about a larger group is no answer."""
    done = relabel.diagnose(DATA / "sample.jsonl", DATA / "cascade.simulated.yaml", output=tmp_path / "out", queries=20)
    found = {figure.name: figure for figure in done.figures}
    assert found["sensitivity"].value is None
    assert "no recording, of" in found["sensitivity"].note
    assert found["yes rate, alone"].value is None
    assert found["labels that change when asked again"].note == "recorded replies do not change"
    assert found["yes rate, relevance"].value is not None
    assert found["correlation of yes with the place in the prompt"].note.endswith("place and rank are one")
    assert found["correlation of yes with length"].of > 90


def test_an_embedding_can_be_probed(tmp_path: Path) -> None:
    """A judge without a prompt gets the probe and the leanings; what needs a prompt does not apply."""
    config = tmp_path / "cascade.yaml"
    config.write_text("stages:\n  - judge: embedding\n    flag: {by: sum, at: 0.5}\n    ask: null\n", "utf-8")
    done = relabel.diagnose(DATA / "sample.jsonl", config, output=tmp_path / "out", queries=12)
    found = {figure.name: figure for figure in done.figures}
    assert (found["specificity"].value or 0) > 0.8
    assert found["other wordings"].note.startswith("does not apply")
    assert done.asked == 0
    with pytest.raises(SettingsError, match="costs nothing by the token"):
        relabel.rehearse_diagnose(DATA / "sample.jsonl", config, output=tmp_path / "out")


def test_sampled_queries_are_the_same_in_any_order(tmp_path: Path) -> None:
    """The sample depends on seed and texts; a smaller one lies within a larger one."""
    lines = (DATA / "sample.jsonl").read_text("utf-8").splitlines(keepends=True)
    turned = tmp_path / "turned.jsonl"
    turned.write_text("".join(lines[::-1]), "utf-8")
    figures = [
        relabel.diagnose(
            path, DATA / "cascade.simulated.yaml", output=tmp_path / path.stem, queries=9, parts=["leaning"]
        )
        for path in (DATA / "sample.jsonl", turned)
    ]
    assert figures[0].figures == figures[1].figures
    assert figures[0].queries == 9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--stage", "nobody"], "no stage is called 'nobody'"),
        (["--stage", "rules"], "stage 'rules' cannot be asked this"),
        (["--only", "luck"], "there is no part 'luck'"),
        (["--queries", "0"], "a sample of 0 queries"),
        (["--only", "templates", "--paraphrase", "nowhere.md"], "there is no prompt template 'nowhere.md'"),
        (["--gold", "nowhere.csv"], "nowhere.csv"),
        (["--temperature", "-1"], "a temperature of -1"),
        (["--temperature", "nan"], "a temperature of nan"),
        (["--temperature", "inf"], "a temperature of inf"),
    ],
)
def test_mistakes_are_told(arguments: list[str], words: str, tmp_path: Path) -> None:
    """One message, nothing asked; a dry run says the same."""
    call = ["diagnose", str(DATA / "sample.jsonl"), "-c", str(DATA / "cascade.simulated.yaml"), "-o", str(tmp_path)]
    for dry in ([], ["--dry-run"]):
        done = CliRunner().invoke(app, [*call, "--only", "repeat", *arguments, *dry])
        assert isinstance(done.exception, relabel.RelabelError)
        assert words in str(done.exception)


def test_the_command_prints_figures_and_what_was_left_out(tmp_path: Path) -> None:
    """Tables for what was found, a line for what was not; a dry run counts and writes nothing."""
    call = ["diagnose", str(DATA / "sample.jsonl"), "-c", str(DATA / "cascade.simulated.yaml"), "-n", "10"]
    dry = CliRunner().invoke(app, [*call, "-o", str(tmp_path / "dry"), "--dry-run"])
    assert dry.exit_code == 0
    assert "Nothing was asked and nothing was spent." in dry.output
    assert not (tmp_path / "dry").exists()
    done = CliRunner().invoke(app, [*call, "-o", str(tmp_path / "out"), "-q"])
    assert done.exit_code == 0
    assert "Leaning: what a yes goes with" in done.output
    assert "left out of probe" in done.output
