"""Single pairs with their texts and every word about them → cards of the page."""

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from relabel.records import Finding, Judgment, majority, read_label
from relabel.reporting.content import Block, Card, Cards, Cell, Section, Text, Word, excerpt, name, short
from relabel.reporting.trust import ask_people

_ACTIONS: Final = {
    "promote": "promoted to the positives", "drop": "dropped from the negatives", "keep": "left where it is",
    "ask": "left where it is, and listed for people", "remove": "gone with its whole row",
}  # fmt: skip
_AGAINST: Final = (
    "Where the judges’ last word is not what most people said: far apart first, then by the judge’s certainty; each"
    " kind in turn."
)
_CONTRADICTED: Final = (
    "A judge was asked for a second opinion on a sample of what another had settled, and said otherwise. The verdict"
    " stays."
)
_CERTAIN: Final = "The best of each kind of evidence in turn, each query once before any comes again."


def disagreements(
    against: Sequence[tuple[Finding, str]], contradicted: Sequence[Finding], certain: Sequence[Finding], *, people: bool
) -> Section:
    """Show the most instructive pairs: judges against people, contradicting second opinions, the most certain finds."""
    blocks: list[Block] = []
    if against:
        cards = tuple(_card(each, _against(each, stage)) for each, stage in against)
        blocks.append(Cards("Judges against people", _AGAINST, cards))
    elif people:
        blocks.append(Text("On no pair that people labelled do they contradict the judges’ last word."))
    else:
        blocks.append(ask_people("Pairs on which people contradict the judges would stand first."))
    if contradicted:
        cards = tuple(_card(each, _doubt(each)) for each in contradicted)
        blocks.append(Cards("Second opinions that contradict", _CONTRADICTED, cards))
    if certain:
        cards = tuple(_card(each, _found(each)) for each in certain)
        blocks.append(Cards("The most certain false negatives", _CERTAIN, cards))
    else:
        blocks.append(Text("No pair was called a false negative."))
    return Section("pairs", "The most instructive pairs", tuple(blocks))


def _card(finding: Finding, heading: Cell) -> Card:
    example, candidate, verdict = finding.example, finding.candidate, finding.verdict
    ids = Markup("{} · {} · {}").format(
        name(example.source or "no source"), name(example.id or "no id"), name(candidate.id or "no id")
    )
    reference = finding.reference[0] if finding.reference else None
    words = [Word(who, label, "", "", person=True) for who, label in finding.people.items()]
    words += [_word(stage, word) for stage, word in finding.words.items()]
    by = Markup(" by {}").format(name(verdict.stage)) if verdict.stage and verdict.stage != "human" else ""
    by = " by people" if verdict.stage == "human" else by
    return Card(
        heading=heading,
        verdict=Markup("Verdict: {}{}; {}.").format(verdict.outcome, by, _ACTIONS[finding.action]),
        query=excerpt(example.query, longest=400),
        reference=excerpt(reference.text, title=reference.title) if reference else None,
        more=max(len(finding.reference) - 1, 0),
        candidate=excerpt(candidate.text, title=candidate.title),
        ids=ids,
        words=tuple(words),
    )


def _word(stage: str, word: Judgment) -> Word:
    sure = [f"p = {word.probability:.2f}" if word.probability is not None else ""]
    sure.append(f"score {word.score:.3g}".replace("-", "−") if word.score is not None else "")
    why = [word.reason, word.evidence, word.rationale]
    told = "; ".join(dict.fromkeys(each for each in why if each))
    return Word(short(stage), word.label or "no label", ", ".join(each for each in sure if each), short(told, 400))


def _against(finding: Finding, stage: str) -> Cell:
    said = [label for told in finding.people.values() if (label := read_label(told)) is not None]
    return Markup("People: {} · {}: {}").format(majority(said), name(stage), finding.words[stage].label)


def _doubt(finding: Finding) -> Cell:
    stage, by = finding.verdict.stage, finding.verdict.contradicted
    first = finding.words.get(stage)
    settled = first.label if first is not None else finding.verdict.outcome
    return Markup("{}: {} · {}: {}").format(name(stage), settled, name(by), finding.words[by].label)


def _found(finding: Finding) -> Cell:
    return Markup("{}: {}").format(name(finding.verdict.stage), name(finding.verdict.evidence))
