"""How far synthetic negatives are told from mined ones by their text alone → a section of the page."""

from collections.abc import Mapping
from typing import Any, Final

from markupsafe import Markup

from relabel.reporting.content import (
    DASH,
    Block,
    Cell,
    Plot,
    Plots,
    Section,
    Table,
    Text,
    code,
    coefficient,
    many,
    name,
    number,
    percent,
)
from relabel.reporting.plots import Whisker, whiskers
from relabel.synthesis.features import STYLE

Json = Mapping[str, Any]

WORDS_LISTED: Final = 24

_OF_STYLE: Final = (
    "The AUC of one figure alone: 0.5 = as often higher in synthetic passages as in mined ones, 1 = always higher, 0 ="
    " always lower. Intervals: 95 %, over queries. They are not corrected for the number of figures."
)
_OF_WORDS: Final = (
    "z within queries (Mantel–Haenszel): above 0 for words of synthetic passages, below 0 for words of mined ones; p is"
    " two-sided and corrected for all words that were tested (Holm). Words with p below 0.05 are listed."
)
_BLIND_SPOT: Final = "A low AUC is no proof that a stronger classifier sees nothing. This one saw style figures, words"
_SEEN: Final = f"{_BLIND_SPOT}, characters and embeddings."
_TO_SEE_MORE: Final = "relabel synthesize separate FILE --model NAME"


def told_apart(found: Json) -> Cell:
    """Say the AUC with its interval and what it is of, or why it is not known."""
    if found["auc"]["value"] is None:
        return (
            f"Whether synthetic negatives are told from mined ones by their text alone is not known: {found['note']}."
        )
    return Markup(
        "Without seeing the query, a classifier tells synthetic from mined negatives with AUC <strong>{}</strong>,"
        " where 0.5 is chance: {} and {} of {}."
    ).format(
        coefficient(found["auc"]), many(found["synthetic"], "synthetic passage"), many(found["mined"], "mined one"),
        many(found["queries"], "query", "queries"),
    )  # fmt: skip


def alarm(found: Json) -> str:
    """Say plainly what an AUC above the limit means, or that it may be above; "" where there is nothing to fear."""
    if found["warning"]:
        return (
            f"Warning: that is above {found['limit']:.2f}. A model that is trained on these negatives can learn who"
            " wrote a passage in place of what it says."
        )
    known = found["auc"]["value"] is not None
    return f"{found['note'][:1].upper()}{found['note'][1:]}." if known and found["note"] else ""


def separability(found: Json) -> Section:
    """Show the AUC with its warning, the style figures of both kinds, and the words that give one away."""
    known = found["auc"]["value"] is not None
    blocks: list[Block] = [Text(told_apart(found), "" if known else "missing")]
    if known:
        right = round(100 * found["auc"]["value"])
        told = (
            "These are the synthetic negatives that were used, and the mined ones of the same rows. Shown one of each,"
            f" the classifier takes the right one for synthetic {right} times in 100."
        )
        blocks.append(Text(told))
    if found["left_out"]:
        blocks.append(Text(f"Not looked at: {many(found['left_out'], 'passage')} of queries that the dice left out."))
    if warning := alarm(found):
        blocks.append(Text(warning, "warning"))
    if found["style"]:
        blocks += [Plots((_style(found),), wide=True), Text(_OF_STYLE, "note")]
    if known:
        blocks += _words(found)
    more = Markup("{} and characters; {} lets it see embeddings, too.").format(_BLIND_SPOT, code(_TO_SEE_MORE))
    return Section("apart", "Told apart by text alone", (*blocks, Text(_SEEN if found["embedded"] else more, "note")))


def _style(found: Json) -> Plot:
    """Draw the classifier's AUC, and below it that of each style figure alone, with the medians as its table."""
    drawn = [("all the text", found["auc"]), *[(each["name"], each["auc"]) for each in found["style"]]]
    svg = whiskers(
        [Whisker(what, "", auc["value"], auc["low"], auc["high"]) for what, auc in drawn],
        "AUC, synthetic against mined (dashed: chance)", line=0.5,
    )  # fmt: skip
    rows = tuple(
        (each["name"], STYLE.get(each["name"], DASH), *[_plain(each[what]) for what in
         ("synthetic", "mined", "difference")], coefficient(each["auc"]))
        for each in found["style"]
    )  # fmt: skip
    heads = ("figure", "which is", "median, synthetic", "median, mined", "difference", "AUC (95 % interval)")
    of = f"{many(found['synthetic'], 'synthetic passage')}, {many(found['mined'], 'mined one')}"
    label = "; ".join(f"{what}: {number(auc['value'])}" for what, auc in drawn)
    table = Table(heads, rows, f"Length and style: {of}", words=2)
    return Plot(svg, "Length and style", f"AUC of the classifier and of each style figure alone. {label}", table)


def _words(found: Json) -> list[Block]:
    tested, words = many(found["words_tested"], "word"), found["artefacts"]
    if not words:
        none = f"No word gives away who wrote a passage, of {tested} that stand in enough passages to be tested."
        return [Text(none)]
    rows = tuple(
        (name(each["word"]), percent(each["synthetic"]), percent(each["mined"]),
         f"{each['z']:.1f}".replace("-", "−"), f"{each['p']:.2g}")
        for each in words[:WORDS_LISTED]
    )  # fmt: skip
    of = f"{len(words):,} of {tested} that were tested"
    shown = f"; the {WORDS_LISTED} farthest from chance" if len(words) > WORDS_LISTED else ""
    heads = ("word", "synthetic passages with it", "mined ones with it", "z", "corrected p")
    return [Table(heads, rows, f"Words that give away who wrote a passage: {of}{shown}"), Text(_OF_WORDS, "note")]


def _plain(value: float) -> str:
    """Write a median as it is read: three figures that say something."""
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}").replace("-", "−")
