import io
from pathlib import Path
from typing import Any

import pytest
from judged import NEGATIVES, QUERIES, three_judges
from rich.console import Console

from relabel import api, screen_stats


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three judges that were all asked about everything, in two sources, with labels of two people."""
    return three_judges(tmp_path_factory.mktemp("three"))


def shown(figures: Any, *, everything: bool) -> str:
    """Return what is printed on a screen of eighty columns."""
    file = io.StringIO()
    screen_stats.statistics(Console(file=file, width=80), figures, everything=everything)
    return file.getvalue()


def test_statistics_of_three_judges_and_two_people(judged: Path) -> None:
    """Together, by what they hold for true, with people as the ceiling, over sources: all in statistics.json."""
    figures = api.stats(judged)
    pairs = QUERIES * NEGATIVES
    two, three = figures["judges_together"]
    assert (two["at_least"], two["n"], three["at_least"], three["n"]) == (2, pairs, 3, pairs)
    assert two["figures"] == three["figures"]
    assert figures["sources"]["odd"]["judges_together"][0]["n"] == pairs / 2
    found = figures["dawid_skene"]
    assert found["prevalence"]["relevant"]["value"] == pytest.approx(0.3, abs=0.07)
    assert found["judges"]["three"]["sensitivity"]["relevant"]["value"] == pytest.approx(0.95, abs=0.06)
    assert found["judges"]["one"]["specificity"]["relevant"]["value"] == pytest.approx(0.75, abs=0.08)
    people = figures["people"]
    assert people["reviewers"] == {"anna": 240, "ben": 240}
    ceiling = people["together"]["figures"]["agreement"]
    assert ceiling["low"] < 0.95 * 0.8 + 0.05 * 0.2 < ceiling["high"]
    assert [entry["n"] for entry in people["judges"]] == [240] * 6
    assert len(figures["over_sources"]) == 6, "three judges and the majority of people, two by two"
    assert figures["over_sources"][0]["figures"]["kappa"]["of"] == 2
    assert "people" not in figures["sources"]["odd"]


def test_the_same_statistics_again(judged: Path) -> None:
    """Concluding the same judgments again gives the same bytes."""
    before = (judged / "statistics.json").read_bytes()
    api.apply(judged)
    assert (judged / "statistics.json").read_bytes() == before


def test_the_small_table_fits_a_screen(judged: Path) -> None:
    """Eighty columns, one table of agreement, and what people reach; no list of every coefficient."""
    text = shown(api.stats(judged), everything=False)
    table = text.partition("Agreement, with")[2]
    assert max(map(len, table.splitlines())) <= 80
    assert text.count("≥ 2 labels") == 2, "judges together, and people together"
    assert "3 judges" in text
    assert "2 people" in text
    assert "quadratic" not in text
    assert "Dawid" not in text


def test_all_shows_everything(judged: Path) -> None:
    """Every coefficient, confusion tables, each source, people one by one, Dawid and Skene's estimate."""
    text = shown(api.stats(judged), everything=True)
    for words in (
        "Agreement of one and two", "design effect", "Cohen's κ, quadratic weights", "Gwet's AC2, ordinal weights",
        "Matthews correlation", "PABAK", "Agreement of 3 together", "= 360 with 3 labels", "Judges with single people",
        "People with one another", "one and two, by source", "Over all pairs, and averaged over sources",
        "Dawid and Skene", "sensitivity", "People: anna 240, ben 240 labels; 0 pairs with one label, 240 with more",
    ):  # fmt: skip
        assert words in text, words


def test_a_figure_that_deceives_is_told() -> None:
    """Where the figure over all lies outside those of the sources, a line says so in the small view too."""
    figures: dict[str, Any] = {
        "stages": [], "verdicts": {}, "passages": {"in": 0}, "rates": {}, "sources": {}, "agreement": [],
        "rows": dict.fromkeys(("in", "written", "removed", "rejected", "below_min_negatives", "scattered"), 0),
        "people": {"together": {"n": 0}},
    }  # fmt: skip
    each = {"pooled": {"value": 0.64}, "average": {"value": 0.0}, "of": 2, "lowest": -0.1, "highest": 0.1}
    figures["over_sources"] = [
        {"first": "a", "second": "b", "figures": {"kappa": each | {"warning": "outside"}}},
        {"first": "a", "second": "b", "figures": {"mcc": each | {"warning": "apart"}}},
    ]
    text = " ".join(shown(figures, everything=False).split())
    assert (
        "Cohen's κ of a and b: 0.64 over all pairs, 0.00 on average over 2 sources (−0.10 to 0.10): outside the range"
        " of the sources"
    ) in text
    assert "Matthews" not in text


def test_statistics_of_an_older_run_are_shown(judged: Path) -> None:
    """A file without what came later is shown as far as it goes."""
    figures = api.stats(judged)
    for name in ("judges_together", "dawid_skene", "people", "over_sources"):
        del figures[name]
    for entry in figures["agreement"]:
        del entry["effective_n"]
    assert "3 judges" not in shown(figures, everything=False)
