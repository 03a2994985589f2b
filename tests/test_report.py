"""The report of a run: one page that loads nothing, says what the statistics say, and shows hostile data as text."""

import json
import math
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import filled
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged import three_judges
from rows import training_file
from server import FakeServer

import relabel
from relabel.certain import InTurns
from relabel.errors import MissingPart, RunError, SettingsError
from relabel.gleaning import MOST_BINS, Histogram, on_common_edges
from relabel.labelled import judged_pairs
from relabel.pipeline import open_run
from relabel.reportrun import _tenths
from relabel.rundir import state_of

DATA = Path(__file__).parents[1] / "data"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "br", "img", "hr", "input", "link", "col", "area", "base", "wbr"}
HOSTILE = (
    "<script>document.title='owned'</script>", '"><img src="http://evil.example/x.png" onerror="alert(1)">',
    "</style></title><iframe src=//evil.example></iframe>", "{{ 7 * 7 }}{% raw %}", "\u202egnp.exe\u202c\u2066",
    "a\x00b\x1b[31m\x85\ud800", "&lt;b&gt; & <b>", "javascript:alert(1)", "$\\frac{1}{2}$", "سلام <i>",
)  # fmt: skip


class Page(HTMLParser):
    """A page as a parser sees it: tags that do not close, ids, attributes, and the text that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.faults: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag and its attributes."""
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids.update(value or "" for name, value in attrs if name == "id")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that closes itself, as those of SVG do."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Close a tag: the last that was opened."""
        self.words.append(" " if tag in ("td", "th", "p", "li", "dd") else "")
        if not self.open or self.open[-1] != tag:
            self.faults.append(f"</{tag}> where {self.open[-1:]} is open, line {self.getpos()[0]}")
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        """Note text that is shown."""
        if not {"style", "title"} & set(self.open[-1:]):
            self.words.append(data)

    @property
    def text(self) -> str:
        """All that is shown, blanks as one."""
        return " ".join("".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())


def read(run: Path) -> tuple[str, Page]:
    """Write a run's report; return it, and as a parser sees it."""
    html = relabel.report(run).path.read_text("utf-8")
    return html, Page(html)


@cache
def seen(run: Path) -> tuple[str, Page]:
    """Do the same once for a run that several tests look at, and none changes."""
    return read(run)


def label(run: Path, folder: Path, *, every: int = 3) -> None:
    """Have two people label every third pair, who are not always at one, and decide again."""
    words = ("relevant", "irrelevant", "irrelevant", "partial", "irrelevant")
    with open_run(run) as (plan, store):
        found = {pair.fingerprint: pair for query in judged_pairs(plan, store) for pair in query}
        pairs = list(found.values())[::every]
    for who, shift in (("ada", 0), ("grace", 1)):
        lines = ["pair,human_label"]
        lines += [f"{pair.fingerprint},{words[(at + shift * (at % 7 == 0)) % 5]}" for at, pair in enumerate(pairs)]
        path = folder / f"{who}.csv"
        path.write_text("\n".join(lines), "utf-8")
        relabel.audit_import(run, path)
    relabel.apply(run)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of the simulated cascade over the sample, a third of it labelled by two people."""
    folder = tmp_path_factory.mktemp("rich")
    relabel.run(DATA / "sample.jsonl", DATA / "cascade.simulated.yaml", output=folder / "run")
    label(folder / "run", folder)
    return folder / "run"


@pytest.fixture(scope="module")
def paid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of two models behind a server with prices, one with probabilities, and people's labels."""
    folder = tmp_path_factory.mktemp("paid")
    train = training_file(folder / "train.jsonl", 30)
    with FakeServer() as server:
        engine = f"{{kind: openai, base_url: '{server.url}', model: small, price: {{input: 1, output: 4}}}}"
        (folder / "cascade.yaml").write_text(
            f"""
stages:
  - rules
  - {{name: small, judge: llm, prompt: relevance, engine: {engine}, final: {{irrelevant: 0.5}}, sample: 0.2}}
  - {{name: strong, judge: llm, prompt: rlhn, engine: {engine.replace("small", "strong").replace("4}", "40}")}}}
""",
            "utf-8",
        )
        relabel.run(train, folder / "cascade.yaml", output=folder / "run")
    label(folder / "run", folder)
    return folder / "run"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run over rows whose every field is an attack, a megabyte of text and a row that cannot be read."""
    folder = tmp_path_factory.mktemp("hostile")
    rows: list[str] = []
    for number, text in enumerate(("long " * 200_000, *HOSTILE)):
        good = {"docid": f"p{number}{text[:60]}", "title": text[:80], "text": text}
        rows.append(json.dumps({
            "query_id": f"{number}{text[:60]}", "query": f"{text[:500]} {number}", "positive_passages": [good],
            "negative_passages": [good | {"docid": f"n{number}"}, good | {"text": "another"}], "source": text[:300],
        }))  # fmt: skip
    rows.append(json.dumps({"query": HOSTILE[0], "positive_passages": HOSTILE[1]}))
    (folder / "train.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    (folder / "rules.yaml").write_text("stages: [rules]\npolicy: {min_negatives: 2}\n", "utf-8")
    relabel.run(folder / "train.jsonl", folder / "rules.yaml", output=folder / HOSTILE[7], on_error="skip")
    return folder / HOSTILE[7]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of three judges that were all asked about everything, with labels of two people."""
    return three_judges(tmp_path_factory.mktemp("three"))


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of `relabel synthesize`, written and judged by models behind a server."""
    return filled.paid(tmp_path_factory.mktemp("synthetic"))


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of `relabel synthesize` whose passages and names are attacks."""
    return filled.given_away(
        tmp_path_factory.mktemp("attacked"), [each for each in HOSTILE if "\ud800" not in each]
    ).folder


@pytest.fixture
def any_run(request: pytest.FixtureRequest) -> Path:
    """Return the run whose name a test is parametrised with."""
    found: Path = request.getfixturevalue(request.param)
    return found


RUNS = ("rich", "paid", "hostile", "three")
every_run = pytest.mark.parametrize("any_run", RUNS, indirect=True)
every_page = pytest.mark.parametrize("any_run", [*RUNS, "synthetic", "attacked"], indirect=True)


@every_page
def test_the_page_is_well_formed_and_loads_nothing(any_run: Path) -> None:
    """Tags nest, ids are unique and linked to; nothing has an address outside the page, nothing is a script."""
    html, page = seen(any_run)
    assert page.faults == []
    assert [name for name, times in page.ids.items() if times > 1] == []
    links = [value for _, name, value in page.attributes if name in ("href", "xlink:href")]
    assert [link for link in links if not (link.startswith("#") and link[1:] in page.ids)] == []
    assert not {"script", "iframe", "img", "link", "object", "embed", "form", "base", "image"} & set(page.tags)
    assert [
        name for _, name, _ in page.attributes if name.startswith("on") or name in ("src", "srcset", "action")
    ] == []
    styles = [value for _, name, value in page.attributes if name == "style"]
    styles.append(html[html.index("<style>") : html.index("</style>")])
    assert [found for style in styles for found in re.findall(r"url\((?!#)[^)]*\)|@import", style)] == []
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in html


@every_page
def test_the_same_run_gives_the_same_bytes(any_run: Path, tmp_path: Path) -> None:
    """Written twice, the second time in another process, the page is the same."""
    first = seen(any_run)[0].encode()
    other = tmp_path / "again.html"
    command = [sys.executable, "-m", "relabel", "report", str(any_run), "-o", str(other)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert other.read_bytes() == first
    assert str(other) in done.stdout
    assert f"{len(first) / 1e6:.2f} MB" in done.stdout


@every_run
def test_the_accounting_is_that_of_the_statistics(any_run: Path) -> None:
    """The lines that add up, and every stage's words, stand in the page as statistics.json has them."""
    _, page = seen(any_run)
    figures = relabel.stats(any_run)
    rows, passages = figures["rows"], figures["passages"]
    assert f"{rows['in']:,} = {rows['written']:,} written + {rows['removed']:,} removed" in page.text
    assert f"{passages['kept']:,} kept + {passages['promoted']:,} promoted + {passages['dropped']:,}" in page.text
    assert " + ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in figures["verdicts"].items()) in page.text
    for stage in figures["stages"]:
        counts = [stage[key] for key in ("asked", "relevant", "partial", "irrelevant")]
        assert " ".join(f"{number:,}" for number in [*counts, sum(stage["none"].values())]) in page.text
    rate = figures["rates"]["pairs called relevant"]
    assert f"{100 * rate['value']:.1f} % ({100 * rate['low']:.1f} to {100 * rate['high']:.1f})" in page.text
    assert f"in {rate['queries']:,} quer" in page.text


def test_rates_say_of_how_many_queries(rich: Path) -> None:
    """No more queries than pairs, and as many as the pairs have, neighbours taken as one."""
    rates = relabel.stats(rich)["rates"]
    with open_run(rich) as (plan, store):
        queries = len(list(judged_pairs(plan, store)))
    assert rates["pairs called relevant or partial"]["queries"] <= queries
    assert rates["flagged by rules"]["queries"] == queries
    assert all(0 < rate["queries"] <= rate["of"] for rate in rates.values())


def test_people_and_pairs_are_shown(rich: Path) -> None:
    """Agreement with people and its confusion matrix, and the three kinds of instructive pairs with their texts."""
    _, page = seen(rich)
    (entry,) = [
        each for each in relabel.stats(rich)["agreement"] if (each["first"], each["second"]) == ("strong", "human")
    ]
    assert f"strong and people: both gave a label to {entry['n']:,} pairs of {entry['clusters']:,} queries" in page.text
    kappa = entry["figures"]["kappa"]
    written = f"{kappa['value']:.2f} ({kappa['low']:.2f} to {kappa['high']:.2f})".replace("-", "−")
    assert f"Cohen’s κ {written}" in page.text
    for part in ("Judges against people", "Second opinions that contradict", "The most certain false negatives"):
        assert part in page.text
    with open_run(rich) as (plan, store):
        pairs = [pair for query in judged_pairs(plan, store) for pair in query if pair.gold]
    texts = [" ".join(pair.finding.candidate.text.split()) for pair in pairs]
    assert any(text in page.text for text in texts if text)


def test_people_are_the_ceiling(three: Path) -> None:
    """People with one another beside every judge with single people: a sentence, a drawing, and what each rests on."""
    _, page = seen(three)
    people = relabel.stats(three)["people"]
    together = people["together"]["figures"]
    assert f"same label on {shown(together['agreement'], 100)} of 240 pairs that two or more labelled" in page.text
    assert f"κ {shown(together['fleiss_kappa'])}: a judge that reaches this agrees" in page.text
    ceiling = together["fleiss_kappa"]
    for judge in ("one", "two", "three"):
        kappas = [entry["figures"]["kappa"] for entry in people["judges"] if entry["first"] == judge]
        low, high = sorted(each["value"] for each in kappas)
        below, above = (
            sum(each["high"] < ceiling["low"] for each in kappas), sum(each["low"] > ceiling["high"] for each in kappas)
        )  # fmt: skip
        where = {(1, 0): "below people with 1 of 2", (0, 1): "above people with 1 of 2"}.get((below, above), "no diff")
        assert f"{judge} comes to κ {low:.2f} to {high:.2f} ({where}" in page.text
    labels = [value for _, name, value in page.attributes if name == "aria-label" and "anna" in value]
    assert any("anna – ben κ" in label and "three – ben AC1" in label for label in labels)
    for entry in (*people["agreement"], *people["judges"]):
        assert (
            f"{entry['first']} and {entry['second']} 240 {entry['effective_n']:,.0f} {entry['clusters']}" in page.text
        )
    assert "Labels: anna 240, ben 240. 0 pairs with one label, 240 with more" in page.text


def shown(figure: dict[str, Any], times: int = 1) -> str:
    """Write a figure with its interval as the page does."""
    places = 1 if times == 100 else 2
    value, low, high = (f"{times * figure[key]:.{places}f}".replace("-", "−") for key in ("value", "low", "high"))
    return f"{value} % ({low} to {high})" if times == 100 else f"{value} ({low} to {high})"


def test_judges_together_and_what_they_hold_for_true(three: Path) -> None:
    """Three judges at once, effective n, every coefficient, and Dawid and Skene's estimate of each judge."""
    _, page = seen(three)
    figures = relabel.stats(three)
    whole = figures["judges_together"][1]
    relevant = f"{100 * whole['figures']['prevalence_relevant']['value']:.1f} %"
    counts = f"{whole['n']} – {whole['clusters']}"
    assert f"3 judges, ≥ 3 labels {counts} {relevant} {shown(whole['figures']['agreement'], 100)}" in page.text
    assert "More than two at once: every coefficient" in page.text
    assert f"Gwet’s AC2, ordinal weights {shown(whole['figures']['ac2_ordinal'])}" in page.text
    first = figures["agreement"][0]
    assert f"worth {round(first['effective_n'])} independent ones" in page.text
    assert f"Matthews correlation {shown(first['figures']['mcc'])}" in page.text
    for judge, each in figures["dawid_skene"]["judges"].items():
        rates = [shown(each[key]["relevant"], 100) for key in ("sensitivity", "specificity")]
        assert f"{judge} relevant {' '.join(rates)}" in page.text
    assert "360 pairs, 360 of them with three labels or more" in page.text


def test_sources_that_tell_another_story(three: Path, tmp_path: Path) -> None:
    """A figure over all pairs outside those of the sources is told; the others stand in the table without a word."""
    run = shutil.copytree(three, tmp_path / "run")
    figures = relabel.stats(run)
    for entry in figures["over_sources"]:
        for each in entry["figures"].values():
            each["warning"] = ""
    (run / "statistics.json").write_text(json.dumps(figures), "utf-8")
    assert "source by source" not in read(run)[1].text
    each = figures["over_sources"][0]["figures"]["kappa"]
    each |= {"pooled": {"value": 0.64, "low": 0.5, "high": 0.7}, "average": {"value": 0.0, "low": None, "high": None}}
    each |= {"lowest": -0.1, "highest": 0.1, "warning": "outside"}
    (run / "statistics.json").write_text(json.dumps(figures), "utf-8")
    told = (
        "one and two, source by source: Cohen’s κ 0.64 over all pairs, 0.00 on average over 2 sources (−0.10 to 0.10),"
        " outside the range of the sources."
    )
    assert told in read(run)[1].text


def test_statistics_of_an_older_run_are_shown(three: Path, tmp_path: Path) -> None:
    """A statistics.json without what came later is shown as far as it goes."""
    run = shutil.copytree(three, tmp_path / "run")
    figures = relabel.stats(run)
    for name in ("judges_together", "dawid_skene", "people", "over_sources"):
        del figures[name]
    for entry in figures["agreement"]:
        del entry["effective_n"]
    (run / "statistics.json").write_text(json.dumps(figures), "utf-8")
    _, page = read(run)
    assert page.faults == []
    assert "one and two: both gave a label to 360 pairs of 60 queries" in page.text
    assert "independent ones" not in page.text
    assert "Dawid" not in page.text


def test_diagnostics_that_lie_in_the_run(three: Path, tmp_path: Path) -> None:
    """What `diagnose` left in the run directory is a table; without it there is no such section."""
    assert "How a judge behaves" not in seen(three)[1].text
    run = shutil.copytree(three, tmp_path / "run")
    each = {"part": "swap", "name": "still yes", "value": 0.5, "low": 0.25, "high": 0.75, "of": 40, "queries": 9,
            "note": "<b>sides</b>"}  # fmt: skip
    other = each | {"part": "probe", "name": "correlation with length", "value": -0.1, "low": None, "high": None}
    (run / "diagnostics.json").write_text(json.dumps([each, other]), "utf-8")
    _, page = read(run)
    assert page.faults == []
    assert "swap still yes <b>sides</b> 50.0 % (25.0 to 75.0) 40 9" in page.text
    assert "correlation with length <b>sides</b> −0.10 40 9" in page.text
    (run / "diagnostics.json").write_text("[{}]", "utf-8")
    with pytest.raises(RunError, match=r"diagnostics\.json is not what relabel writes"):
        relabel.report(run)


def test_money_and_what_the_strong_model_alone_would_have_cost(paid: Path) -> None:
    """Tokens and dollars are those of run.json; the last model alone is scaled from what it was asked."""
    _, page = seen(paid)
    spending = json.loads((paid / "run.json").read_text("utf-8"))["spending"]
    for stage in ("small", "strong"):
        assert f"{spending[stage]['tokens_in']:,}" in page.text
        assert f"{spending[stage]['tokens_out']:,}" in page.text
    total = sum(each["usd"] for each in spending.values())
    assert 0 < total < 1
    assert f"{total:.2g} in all" in page.text
    figures = relabel.stats(paid)
    asked = figures["stages"][2]["asked"] + figures["stages"][2]["second_opinions"]["asked"]
    pairs = sum(figures["verdicts"].values()) - figures["verdicts"]["void"]
    scaled = round(spending["strong"]["tokens_in"] * pairs / asked)
    assert (
        f"An estimate: strong alone, asked about all {pairs:,} pairs, would have taken about {scaled:,} + " in page.text
    )


def test_probabilities_have_their_diagrams(paid: Path) -> None:
    """A judge with probabilities, and people's labels: a reliability diagram and histograms, each with its table."""
    _, page = seen(paid)
    assert "small, probability: " in page.text
    labels = [value for _, name, value in page.attributes if name == "aria-label"]
    assert any(value.startswith("Reliability diagram of small") for value in labels)
    assert any(value.startswith("Histograms of the probability") for value in labels)
    assert page.tags["svg"] == page.tags["figure"]
    assert page.tags["details"] >= page.tags["figure"]


def test_hostile_data_is_text(hostile: Path) -> None:
    """Scripts, tags and templates are read as they stand; what turns the text or is no character is spelled out."""
    html, page = seen(hostile)
    for text in HOSTILE[:4]:
        assert text in page.text
        assert text not in html or "<" not in text
    assert "&lt;b&gt; & <b>" in page.text
    assert r"\u202egnp.exe\u202c\u2066" in page.text
    assert r"a\x00b\x1b[31m \ud800" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html)
    assert "the first 1,200 of 1,000,000 characters" in page.text
    assert len(html) < 600_000
    assert "1 row could not be read" in page.text
    assert "left with fewer than 2 negatives" in page.text


def test_a_run_with_little_in_it(tmp_path: Path) -> None:
    """One stage, no people, nothing flagged: every section says what would fill it, or that there is nothing."""
    row = {"query_id": "q", "query": "a", "positive_passages": [{"docid": "p", "title": "", "text": "b"}]}
    (tmp_path / "train.jsonl").write_text(
        "".join(
            json.dumps(
                row | {"query_id": str(at), "negative_passages": [{"docid": "n", "title": "", "text": "c"}] * at}
            )
            + "\n"
            for at in (0, 1)
        )
    )
    (tmp_path / "rules.yaml").write_text("stages: [rules]\n")
    relabel.run(tmp_path / "train.jsonl", tmp_path / "rules.yaml", output=tmp_path / "run")
    _, page = read(tmp_path / "run")
    assert page.faults == []
    for told in (
        "No pair came to a verdict.", "No two judges gave a label to the same pairs",
        "relabel audit import RUN pairs.csv", "No judge of this run gives a probability or a score",
        "No stage asked a language model", "Nothing was estimated", "No thresholds were calibrated",
        "No pair was called a false negative", "Every row could be read",
    ):  # fmt: skip
        assert told in page.text, told


def test_estimates_and_calibration(rich: Path, tmp_path: Path) -> None:
    """What `audit estimate` and `calibrate` left in the run is shown, with intervals and what each figure rests on."""
    run = shutil.copytree(rich, tmp_path / "run")
    figure = {
        "name": "false-negative rate", "value": 0.158, "low": 0.138, "high": 0.18, "low_queries": 0.119,
        "high_queries": 0.206, "n": 192, "of": 1887, "clusters": 102, "method": "by strata", "note": "<i>well</i>",
    }  # fmt: skip
    unknown = figure | dict.fromkeys(("value", "low", "high", "low_queries", "high_queries", "of"))
    estimates = [figure, unknown | {"name": "precision of <b>", "n": 0}]
    now = state_of(run)
    (run / "estimates.json").write_text(json.dumps({"run": now, "figures": estimates}), "utf-8")
    step = {"pairs": 1542, "errors": 68, "upper": 0.1473}
    choice = {"settle": "irrelevant", "alpha": 0.2, "threshold": -0.25, "chosen": step, "why": ""}
    curve = {"brier": 0.111, "ece": 0.005, "bins": [
        {"low": 0.1, "high": 0.2, "predicted": 0.13, "observed": 0.14, "observed_low": 0.09, "observed_high": 0.2,
         "pairs": 500, "queries": 120},
    ]}  # fmt: skip
    stage = {
        "name": "cheap", "by": "score", "settled": {"relevant": 0, "partial": 0, "irrelevant": 1850},
        "parts": [{"source": None, "choices": [choice, choice | {"settle": "relevant", "chosen": None, "why": "few"}]}],
        "reliability": {"method": "platt", "before": None, "after": curve},
    }  # fmt: skip
    calibration = {
        "labels": {"pairs": 563, "queries": 128}, "delta": 0.1, "delta_is_of": "each promise by itself",
        "bound": "query-clustered", "pairs": 1887, "people": 11, "stages": [stage], "run": now,
    }  # fmt: skip
    (run / "calibration.json").write_text(json.dumps(calibration), "utf-8")
    _, page = read(run)
    assert page.faults == []
    for told in (
        "Estimated from 192 labels in 102 queries: false-negative rate, 15.8 % (13.8 to 18.0).",
        "false-negative rate 15.8 % (13.8 to 18.0) 11.9 to 20.6 % 192 102 1,887", "precision of <b> – – 0 102 –",
        "<i>well</i>", "cheap any irrelevant 20.0 % score ≤ -0.25 1,542 68 14.7 % 1,850",
        "No promise for “relevant” by cheap, of source any: few.",
        "cheap, recalibrated, platt: Brier score 0.111, calibration error 0.005",
    ):  # fmt: skip
        assert told in page.text, told
    for name, content in (
        ("estimates.json", json.dumps({"run": now, "figures": [{}]})), ("estimates.json", json.dumps({"run": now})),
        ("calibration.json", json.dumps({"run": now})), ("calibration.json", "{"),
    ):  # fmt: skip
        (run / name).write_text(content, "utf-8")
        with pytest.raises(RunError, match=f"{name} is not what relabel writes"):
            relabel.report(run)
        (run / name).unlink()


def test_figures_of_an_earlier_state_are_not_shown(tmp_path: Path) -> None:
    """Estimates and thresholds of another input, other judges or other thresholds: what to type stands instead."""
    run, gold = tmp_path / "run", tmp_path / "gold.csv"
    rows = [json.loads(line) for line in (DATA / "sample.jsonl").read_text("utf-8").splitlines()]
    text = (DATA / "reference_labels.csv").read_text("utf-8")
    gold.write_text(text, "utf-8")
    copied = shutil.copytree(DATA, tmp_path / "data")
    source, config = copied / "sample.jsonl", copied / "cascade.simulated.yaml"
    relabel.run(source, config, output=run)
    relabel.audit_estimate(run, gold=gold)
    done = relabel.calibrate(run, gold=gold, keep=0.1)
    stale = ("There are estimates of an earlier state", "There are calibrated thresholds of an earlier state")

    def shown() -> list[bool]:
        _, page = read(run)
        assert page.faults == []
        assert ("Estimated from 887 labels" in page.text) == (stale[0] not in page.text)
        assert ("how right the judges are, no figure here can say" in page.text) == (stale[0] in page.text)
        return [words in page.text for words in stale]

    assert shown() == [False, False]
    relabel.apply(run, done.files["config"])
    assert shown() == [True, False]
    relabel.apply(run, config)
    assert shown() == [False, False]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows[:-1]), "utf-8")
    relabel.run(source, config, output=run)
    assert shown() == [True, True]
    for name in ("estimates.json", "calibration.json"):
        (run / name).write_text("[]", "utf-8")  # as they were before they said of what they are
    assert shown() == [True, True]


def test_no_run_is_said_before_all_else(tmp_path: Path) -> None:
    """A folder that is not there is no place for a report, but what is missing is the run."""
    with pytest.raises(RunError, match="holds no finished run") as caught:
        relabel.report(tmp_path / "no run")
    assert caught.value.hint == f"start or finish it: relabel run INPUT -o '{tmp_path / 'no run'}'"


@pytest.mark.parametrize(
    ("name", "content", "command"),
    [
        ("statistics.json", "{}", "relabel apply"), ("statistics.json", "[]", "relabel apply"),
        ("statistics.json", '{"rows": 3}', "relabel apply"), ("run.json", "{}", "relabel run INPUT -o"),
        ("manifest.json", "{}", "relabel run INPUT -o"),
    ],
)  # fmt: skip
def test_documents_of_another_shape(rich: Path, tmp_path: Path, name: str, content: str, command: str) -> None:
    """Valid JSON that no run wrote: what to type, quoted so that it can be typed."""
    run = shutil.copytree(rich, tmp_path / "my run")
    (run / name).write_text(content, "utf-8")
    asked: list[Any] = [relabel.report, *([relabel.stats] if name == "statistics.json" else [])]
    for ask in asked:
        with pytest.raises(RunError, match="is not what a run writes") as caught:
            ask(run)
        assert caught.value.hint == f"write it anew: {command} '{run}'"


def test_labels_that_were_not_applied_yet(tmp_path: Path) -> None:
    """Imported, but no figure knows them: the page says what to type."""
    relabel.run(training_file(tmp_path / "train.jsonl", 6), output=tmp_path / "run", config=_rules(tmp_path))
    with open_run(tmp_path / "run") as (plan, store):
        first = next(judged_pairs(plan, store))[0]
    (tmp_path / "ada.csv").write_text(f"pair,human_label\n{first.fingerprint},relevant\n")
    relabel.audit_import(tmp_path / "run", tmp_path / "ada.csv")
    _, page = read(tmp_path / "run")
    assert "which the figures do not know yet: relabel apply RUN" in page.text


def _rules(folder: Path) -> Path:
    path = folder / "rules.yaml"
    path.write_text("stages: [rules]\n")
    return path


def test_where_a_report_cannot_be_written(rich: Path, tmp_path: Path) -> None:
    """A folder, or a folder that is not there: said before anything is gathered. No run: as every command says it."""
    (tmp_path / "folder.html").mkdir()
    for place in (tmp_path / "folder.html", tmp_path / "nowhere" / "report.html"):
        with pytest.raises(RunError, match="no file can be written there"):
            relabel.report(rich, place)
    with pytest.raises(SettingsError, match="taken for something else"):
        relabel.report(rich, DATA / "sample.jsonl")
    with pytest.raises(RunError, match="holds no finished run"):
        relabel.report(tmp_path, tmp_path / "report.html")


def test_without_matplotlib(rich: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which extra brings it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPart, match=re.escape("relabel[report]")):
        relabel.report(rich)


def test_bins_take_queries_for_witnesses() -> None:
    """Forty pairs of forty queries are surer than forty pairs of four; forty of one query tell nothing of others."""
    widths = []
    for queries in (40, 4, 1):
        said = [(0.9, at % queries % 2 == 0 if queries > 1 else at % 2 == 0, f"q{at % queries}") for at in range(40)]
        (one,) = _tenths(said)
        assert (one.pairs, one.share) == (40, 0.5)
        widths.append(one.share_high - one.share_low)
    assert widths[0] < 0.4 < widths[1] < widths[2] == 1


numbers = st.lists(st.floats(-1e6, 1e6) | st.floats(0, 1), max_size=60)


@given(numbers, numbers, st.randoms())
def test_histograms_count_all_in_any_order(first: list[float], second: list[float], dice: Any) -> None:
    """Every number lies in one bin, between its edges, and the order of arrival changes nothing."""
    if not first or not second:
        return

    def counted(values: list[float]) -> Histogram:
        made = Histogram()
        for value in [*values, math.inf, math.nan]:
            made.add(value)
        return made

    edges, counts = on_common_edges({"a": counted(first), "b": counted(second)})
    assert len(edges) <= 33
    for name, values in (("a", first), ("b", second)):
        expected = [sum(low <= value < high for value in values) for low, high in pairwise(edges)]
        assert list(counts[name]) == expected
        dice.shuffle(values)
        assert counted(values).counts == counted(sorted(values)).counts


def test_histograms_stay_small() -> None:
    """However many different numbers come, the bins are no more than the limit, and nothing is lost."""
    made = Histogram()
    for at in range(3 * MOST_BINS):
        made.add(at * 1.7)
    assert len(made.counts) <= MOST_BINS
    assert made.counts.total() == 3 * MOST_BINS


def test_kinds_take_turns() -> None:
    """The best of each kind in turn, each query once first; kinds as they came, or by their best."""
    best: InTurns[str] = InTurns(3)
    for kind, weight, query, thing in (
        ("x", 1.0, "q1", "x1"), ("x", 3.0, "q2", "x3"), ("x", 2.0, "q1", "x2"), ("y", 9.0, "q2", "y9"),
        ("x", 0.5, "q3", "x0"),
    ):  # fmt: skip
        best.add((kind,), (weight,), query, thing)
    assert best.found() == ("x3", "x2", "y9")
    assert best.found(best_kind_first=True) == ("y9", "x2", "x3")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Open Chromium, if it is there."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.mark.browser
@every_page
def test_in_a_browser(any_run: Path, browser: Any) -> None:
    """Offline, without a request or complaint, at phone and desk width, light and dark: nothing runs over the edge."""
    seen(any_run)
    path = any_run / "report.html"
    for width, scheme in ((390, "light"), (390, "dark"), (1280, "light")):
        context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, offline=True)
        page = context.new_page()
        heard: list[str] = []
        page.on("console", lambda message: heard.append(message.text))  # noqa: B023 - heard within this turn
        page.on("pageerror", lambda error: heard.append(str(error)))  # noqa: B023
        page.on("dialog", lambda dialog: heard.append(dialog.message))  # noqa: B023
        page.on("request", lambda each: heard.append(each.url))  # noqa: B023
        page.goto(path.resolve().as_uri())
        page.eval_on_selector_all("details", "all => all.forEach(each => each.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(
            "[...document.querySelectorAll('svg')].every(each => each.getBoundingClientRect().width > 200)"
        )
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (colour == "rgb(255, 255, 255)") == (scheme == "light")
        assert heard == [path.resolve().as_uri()]
        assert page.title().endswith("– relabel report")
        context.close()
