"""What the words of a judge show, part by part: lists of figures, pure functions of what was said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relabel.agreement import CODES, Tally
from relabel.diagnostics import (
    Diagnostic,
    Point,
    Said,
    correlation,
    correlation_with_gold,
    difference,
    flags,
    rate,
)
from relabel.interview import Heard, Key
from relabel.probes import Probe, overlap
from relabel.records import Case, Label, Pair

THIRDS: Final = ("first", "middle", "last")


@dataclass(frozen=True, slots=True)
class Answers:
    """What was said of a sample in several ways.

    Attributes:
        pairs: the sample's, by key.
        heard: what was said in each way; "base" is as a run asks.
        gold: people's labels, where they gave any.
        seed: of every bootstrap.
    """

    pairs: Mapping[Key, tuple[Case, Pair]]
    heard: Mapping[str, Heard]
    gold: Mapping[Key, Label]
    seed: int

    def query(self, key: Key) -> str:
        """Return the query that a pair belongs to."""
        return self.pairs[key][0].example.query

    def truth(self, key: Key) -> float | None:
        """Return 1 where people say yes, 0 where they say no, None where they say nothing."""
        label = self.gold.get(key)
        return None if label is None else float(flags(label))

    def said(self, way: str) -> list[Said]:
        """Return yes or no for each pair of the sample that has a label."""
        return [
            Said(self.query(key), flags(label)) for key in self.pairs if (label := self.heard[way].label(key))
        ]  # fmt: skip

    def changed(self, one: str, other: str, *, yes: bool = False) -> list[Said]:
        """Return for each pair that has a label both ways whether the labels differ (`yes`: only yes from no)."""
        both = [(key, self.heard[one].label(key), self.heard[other].label(key)) for key in self.pairs]
        return [
            Said(self.query(key), flags(first) != flags(second) if yes else first != second)
            for key, first, second in both
            if first and second
        ]

    def lacking(self, way: str) -> str:
        """Say how many pairs have no label this way, if any."""
        heard = self.heard[way]
        none = [word.reason for word in heard.words.values() if word.label is None]
        if not none:
            return ""
        kinds = ", ".join(f"{none.count(reason):,} {reason}" for reason in sorted(set(none)))
        return f"no label: {kinds}, of {len(heard.words):,}"


def absent(part: str, name: str, why: str) -> Diagnostic:
    """Return a figure that could not be had, and why."""
    return Diagnostic(part, name, None, note=why)


def of_probe(answers: Answers, probe: Sequence[Probe]) -> list[Diagnostic]:
    """Tell how a judge takes passages that should be relevant, and others that should not."""
    part, seed = "probe", answers.seed
    if "probe" not in answers.heard:
        why = "no probe can be made: too few rows with two positives, one of which can be held out"
        return [absent(part, "yes rate on a balanced probe", why)]
    heard = answers.heard["probe"]
    labels = [heard.label((number, 0)) for number in range(len(probe))]
    sides = {
        side: [
            Said(each.example.query, flags(label))
            for each, label in zip(probe, labels, strict=True)
            if label and each.relevant is side
        ]
        for side in (True, False)
    }
    both = [bool(labels[number - number % 2] and labels[number - number % 2 + 1]) for number in range(len(probe))]
    balanced = [
        Said(each.example.query, flags(label)) for each, label, kept in zip(probe, labels, both, strict=True) if kept
    ]
    alone = sum(not each.example.positives for each in probe) // 2
    of = f"held-out positives, each also as a passage for another query{_part(alone)}"
    lacking = answers.lacking("probe")
    refused = [Said(one.query, not one.yes) for one in sides[False]]
    return [
        rate(part, "yes rate on a balanced probe", balanced, seed=seed, note=_noted(of, lacking)),
        rate(
            part,
            "sensitivity",
            sides[True],
            seed=seed,
            note=_noted("held-out positives called relevant or partial", lacking),
        ),
        rate(
            part,
            "specificity",
            refused,
            seed=seed,
            note=_noted("passages of other queries called irrelevant: an upper bound for hard negatives", lacking),
        ),
        difference(
            part,
            "negative bias",
            refused,
            sides[True],
            seed=seed,
            note=_noted("specificity − sensitivity: above 0 it misses more than it invents", lacking),
        ),
    ]


def _part(alone: int) -> str:
    return f"; {alone:,} of rows with one positive, asked without a reference" if alone else ""


def _noted(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def of_lists(answers: Answers, sizes: Sequence[int]) -> list[Diagnostic]:
    """Tell how much a label depends on how many others are asked about in the prompt, and on the order."""
    part, seed = "lists", answers.seed
    found = [rate(part, "yes rate, alone", answers.said("alone"), seed=seed, note=answers.lacking("alone"))]
    for size in sizes:
        one, other = listed(size, 1), listed(size, 2)
        lacking = answers.lacking(one)
        found += [
            rate(part, f"yes rate, {size} per prompt", answers.said(one), seed=seed, note=lacking),
            _shift(answers, one, f"yes rate, {size} per prompt − alone", lacking),
            rate(
                part,
                f"labels that change, alone → {size} per prompt",
                answers.changed("alone", one),
                seed=seed,
                note=lacking,
            ),
            rate(
                part,
                f"labels that change with the order, {size} per prompt",
                answers.changed(one, other),
                seed=seed,
                note=answers.lacking(other),
            ),
        ]
    return found


def listed(size: int, order: int) -> str:
    """Name a way that asks about several candidates in a prompt."""
    return f"{size} per prompt, order {order}"


def _shift(answers: Answers, way: str, name: str, note: str) -> Diagnostic:
    """Return by how much the yes rate exceeds that of pairs asked alone, on pairs with a label both ways."""
    heard, alone = answers.heard[way], answers.heard["alone"]
    both = [key for key in answers.pairs if heard.label(key) and alone.label(key)]
    first, second = (
        [Said(answers.query(key), flags(said.label(key))) for key in both] for said in (heard, alone)
    )  # fmt: skip
    return difference("lists", name, first, second, seed=answers.seed, note=note)


def of_places(answers: Answers, ways: Sequence[str], *, note: str = "") -> list[Diagnostic]:
    """Tell whether the place in the prompt matters: a correlation, and yes rates by thirds of the list."""
    points = [
        Point(answers.query(key), place, float(flags(label)), answers.truth(key))
        for way in ways
        for key, place in answers.heard[way].places.items()
        if (label := answers.heard[way].label(key))
    ]
    name = "correlation of yes with the place in the prompt"
    found = [correlation("lists", name, points, seed=answers.seed, note=_noted("ρ; 0 = no effect", note))]
    if answers.gold:
        found += correlation_with_gold("lists", name, points, seed=answers.seed)
    for number, third in enumerate(THIRDS):
        said = [Said(point.query, bool(point.y)) for point in points if min(int(3 * point.x), 2) == number]
        found.append(rate("lists", f"yes rate in the {third} third of a prompt", said, seed=answers.seed))
    return found


def of_swap(answers: Answers, asked: Sequence[Key]) -> list[Diagnostic]:
    """Tell how often the judge, shown a candidate that it called relevant, calls the known positive so too."""
    part, name = "swap", "swap consistency"
    heard = answers.heard["swap"]
    said = [
        Said(answers.query(key), flags(label))
        for number, key in enumerate(asked)
        if (label := heard.label((number, 0)))
    ]  # fmt: skip
    note = "of pairs called relevant: the known positive is called relevant or partial, with the candidate as reference"
    return [rate(part, name, said, seed=answers.seed, note=_noted(note, answers.lacking("swap")))]


def of_leaning(answers: Answers) -> list[Diagnostic]:
    """Tell whether yes goes with long candidates or with the query's words; beside people's labels, where there are."""
    base = answers.heard["base"]
    said = [(key, flags(label)) for key in answers.pairs if (label := base.label(key))]
    found = []
    for what, note, size in (
        ("length", "ρ with the candidate's characters", _length),
        ("word overlap", "ρ with the share of the query's words that it holds", _overlap),
    ):
        name = f"correlation of yes with {what}"
        points = [
            Point(answers.query(key), size(*answers.pairs[key]), float(yes), answers.truth(key)) for key, yes in said
        ]  # fmt: skip
        lacking = answers.lacking("base")
        found.append(correlation("leaning", name, points, seed=answers.seed, note=_noted(note, lacking)))
        if answers.gold:
            found += correlation_with_gold("leaning", name, points, seed=answers.seed)
    return found


def _length(_: Case, pair: Pair) -> float:
    return float(len(pair.candidate.full_text))


def _overlap(case: Case, pair: Pair) -> float:
    return overlap(case.example.query, pair.candidate.full_text)


def of_repeat(answers: Answers, note: str) -> list[Diagnostic]:
    """Tell how often the same prompt gets another label the second time."""
    changed = answers.changed("base", "again")
    name = "labels that change when asked again"
    return [rate("repeat", name, changed, seed=answers.seed, note=_noted(note, answers.lacking("again")))]


def of_templates(answers: Answers, names: Sequence[str], own: str) -> list[Diagnostic]:
    """Tell how far other wordings agree with the judge's own, and with one another."""
    part, seed = "templates", answers.seed
    found = [rate(part, f"yes rate, {own}", answers.said("base"), seed=seed)]
    for name in names:
        way = f"template {name}"
        lacking = answers.lacking(way)
        found += [
            rate(part, f"yes rate, {name}", answers.said(way), seed=seed, note=lacking),
            rate(
                part,
                f"yes and no that change, {own} → {name}",
                answers.changed("base", way, yes=True),
                seed=seed,
                note=lacking,
            ),
            _kappa(answers, way, own, name, lacking),
        ]
    ways = ["base", *[f"template {name}" for name in names]]
    said = []
    for key in answers.pairs:
        labels = [answers.heard[way].label(key) for way in ways]
        if all(labels):
            said.append(Said(answers.query(key), len({flags(label) for label in labels}) == 1))
    if len(ways) > 2:
        note = "" if said else "no pair has a label of every template"
        found.append(rate(part, f"all {len(ways)} templates say the same, yes or no", said, seed=seed, note=note))
    return found


def _kappa(answers: Answers, way: str, own: str, name: str, note: str) -> Diagnostic:
    """Return Cohen's κ of yes and no between two wordings."""
    tally = Tally([own, f"{name} "])
    by_query: dict[str, list[tuple[int, int]]] = {}
    for key in answers.pairs:
        codes = CODES[answers.heard["base"].label(key)], CODES[answers.heard[way].label(key)]
        by_query.setdefault(answers.query(key), []).append(codes)
    for each in by_query.values():
        tally.add(each)
    (found,) = tally.result(seed=answers.seed)
    figure = found.figures["kappa_relevant_or_partial"]
    return Diagnostic(
        "templates", f"κ of yes and no, {own} and {name}", figure.value, figure.low, figure.high, int(found.n),
        found.clusters, note,
    )  # fmt: skip
