"""Agreement over all sources beside its average over sources: two figures that may tell opposite stories.

Where sources differ in prevalence, judges may agree no better than chance within each and still well over all, since
both know which source is which; and the other way round (Simpson 1951, Journal of the Royal Statistical Society B
13(2), 238–241). Of the two the average is what a new source of the same kind may expect.
"""

from collections.abc import Mapping
from math import sqrt
from statistics import NormalDist, fmean
from typing import Any, Final

from relabel.agreement import Agreement
from relabel.bootstrap import LEVEL, Figure

COMPARED: Final = ("agreement", "kappa", "kappa_relevant_or_partial", "ac1", "alpha_ordinal", "mcc")

ENOUGH: Final = 30
"""Pairs with labels of both judges, of two queries at least, that a source must have to take part in the average."""

APART: Final = 0.1
"""Pooled and averaged figures that differ by more are worth a word."""

VISIBLY: Final = 0.02
"""By how much a pooled figure lies outside the range of the sources before that is said: less is rounding."""

WARNINGS: Final = {"outside": "outside the range of the sources", "apart": "far from their average", "": ""}
"""What each `warning` of `side_by_side` says of the pooled figure."""


def side_by_side(pooled: Agreement, sources: Mapping[str, Agreement]) -> dict[str, Any] | None:
    """Return pooled figures of two judges beside their average over sources, each source counting the same.

    The interval of an average is that of a sum of independent figures, whose standard errors are read off their own
    intervals. `warning` is "outside" where the pooled figure lies below or above all of theirs by `VISIBLY`, "apart"
    where it is more than `APART` from their average, "" where neither.

    Args:
        pooled: of all sources together.
        sources: of each source, the same two judges.

    Returns:
        Plain JSON; None where fewer than two sources have `ENOUGH` pairs.
    """
    taking_part = {name: each for name, each in sources.items() if each.n >= ENOUGH and each.clusters >= 2}
    if len(taking_part) < 2:
        return None
    figures = {}
    for name in COMPARED:
        parts = [each.figures[name] for each in taking_part.values()]
        values = [part.value for part in parts if part.value is not None]
        whole = pooled.figures[name]
        if whole.value is None or len(values) < 2:
            continue
        average = _average([part for part in parts if part.value is not None])
        low, high = min(values), max(values)
        figures[name] = {
            "pooled": whole.to_json(),
            "average": average.to_json(),
            "of": len(values),
            "lowest": round(low, 6) + 0.0,
            "highest": round(high, 6) + 0.0,
            "warning": _warning(whole.value, average.value, low, high),
        }
    return {
        "first": pooled.first,
        "second": pooled.second,
        "sources": list(taking_part),
        "too_small": len(sources) - len(taking_part),
        "figures": figures,
    }


def _average(parts: list[Figure]) -> Figure:
    """Return the mean of figures; without an interval where one of them has none."""
    value = fmean(part.value for part in parts if part.value is not None)
    widths = [part.high - part.low for part in parts if part.low is not None and part.high is not None]
    if len(widths) < len(parts):
        return Figure(value)
    # widths are so many standard errors each, and those of independent figures add up in squares
    reach = NormalDist().inv_cdf((1 + LEVEL) / 2)
    error = sqrt(sum((width / (2 * reach)) ** 2 for width in widths)) / len(parts)
    return Figure(value, value - reach * error, value + reach * error)


def _warning(pooled: float, average: float | None, low: float, high: float) -> str:
    if not low - VISIBLY <= pooled <= high + VISIBLY:
        return "outside"
    return "apart" if average is not None and abs(pooled - average) > APART else ""
