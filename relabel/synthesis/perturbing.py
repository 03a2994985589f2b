"""Typed perturbation: a passage in which one thing is said otherwise, made by rule, without a model.

    text ─▶ spots: what could be changed, by kind ─▶ dice choose one ─▶ changed wherever it stands ─▶ Perturbed

One number, date, name or statement becomes another of the same type and form, so that the passage reads as before and a
reader sees from `detail` what no longer holds. Contrast sets that experts write change texts in this small way too
(Gardner et al. 2020, Evaluating Models' Local Decision Boundaries via Contrast Sets, Findings of EMNLP, 1307–1323).
Rules are for English and German; in other languages only figures are changed.
What a rule changes need not be what the query asked for: whether the passage still answers is for judges to say.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from relabel.records import chance
from relabel.synthesis.contrasts import COMMON, COUNTS, ENTITIES, MONTHS, OPPOSITES, WEEKDAYS

KINDS: Final = ("number", "date", "entity", "negation")
"""What can be changed."""


@dataclass(frozen=True, slots=True)
class Perturbed:
    """A passage that says one thing otherwise.

    Attributes:
        text: the whole passage, changed.
        kind: one of `KINDS`.
        detail: "old → new"; every spot where "old" stood as a whole now has "new", and nothing else was changed
            (of a negation, one spot only).
    """

    text: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class _Spot:
    """What stands in a text from `start`, and what could stand there."""

    start: int
    old: str
    options: tuple[str, ...]

    @property
    def end(self) -> int:
        return self.start + len(self.old)


def perturb(text: str, *, dice: str, kinds: Sequence[str] = KINDS, most: int = 1) -> list[Perturbed]:
    """Return at most `most` variants of a text, each with one change; [] where there is nothing to change.

    Kinds take turns, beginning with a drawn one, so that several variants differ in kind as far as they can. The same
    text, dice, kinds and most give the same variants.

    Args:
        text: the passage.
        dice: seeds the choice; another word is another draw.
        kinds: which kinds of change are allowed, of `KINDS`; their order does not matter.
        most: how many variants at most.

    Raises:
        ValueError: a kind that is none.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise ValueError(f"{unknown[0]!r} is no kind of perturbation; there are {', '.join(KINDS)}")
    made = {kind: _variants(text, kind, dice) for kind in _drawn(set(kinds), "kind", dice, text)}
    found: list[Perturbed] = []
    while made and len(found) < most:
        for kind in list(made):
            variant = next(made[kind], None)
            if variant is None:
                del made[kind]
            elif len(found) < most and variant.text not in {text, *(each.text for each in found)}:
                found.append(variant)
    return found


def _drawn(values: Iterable[str], *parts: str) -> list[str]:
    """Return values in an order that dice choose."""
    return sorted(values, key=lambda value: (chance("perturb", *parts, value), value))


def _variants(text: str, kind: str, dice: str) -> Iterator[Perturbed]:
    """Yield the variants of one kind, in drawn order, one for each thing that can be changed."""
    things: dict[str, list[_Spot]] = {}
    for spot in _SPOTS[kind](text, _language(text)):
        # a statement is one thing where it stands, a name the same thing everywhere
        things.setdefault(f"{spot.start} {spot.old}" if kind == "negation" else spot.old, []).append(spot)
    for thing in _drawn(things, "thing", dice, kind, text):
        spots = things[thing]
        # what the passage speaks of already would make it speak of two things as one
        options = [each for each in spots[0].options if not _stands(each, text)]
        options = [each for each in options if all(_article_fits(text, spot, each) for spot in spots)]
        if options:
            new = _drawn(options, "option", dice, thing, text)[0]
            yield Perturbed(_replaced(text, spots, new), kind, f"{spots[0].old} → {new}")


def _replaced(text: str, spots: Sequence[_Spot], new: str) -> str:
    parts, last = [], 0
    for spot in spots:
        parts += [text[last : spot.start], new]
        last = spot.end
    return "".join([*parts, text[last:]])


def _stands(word: str, text: str) -> bool:
    return re.search(rf"(?<![\w.,]){re.escape(word)}(?!\w)", text) is not None


def _article_fits(text: str, spot: _Spot, new: str) -> bool:
    """Whether a or an, where it stands before, is right for the new word too; by letters, as a rule of thumb."""
    if re.search(r"\ban?\s$", text[: spot.start], re.IGNORECASE) is None:
        return True
    return (spot.old[0].lower() in "aeiou8") == (new[0].lower() in "aeiou8")


def _language(text: str) -> str:
    """Return "en" or "de", whichever has more of its common words in a text; "" where neither has two."""
    words = re.findall(r"\w+", text.lower())
    counts = {language: sum(word in common for word in words) for language, common in COMMON.items()}
    best = max(counts, key=lambda language: counts[language])
    return best if counts[best] >= 2 else ""


_YEAR: Final = r"(?:1[5-9]|20)\d\d"
_FIGURE: Final = re.compile(r"(?<![\w.,:/–-])\d+(?:[.,]\d+)*(?![\w:/–-]|[.,]\d)")
_SHARE: Final = re.compile(r"\s?(?:%|percent\b|per cent\b|Prozent\b)")
_FULL_DATE: Final = re.compile(rf"(?<![\w.,-])(?:{_YEAR}-\d\d-\d\d|\d\d?\.\d\d?\.{_YEAR})(?![\w-])")
_CLOCK: Final = re.compile(r"(?<![\w.,:])(?:[01]?\d|2[0-3]):[0-5]\d(?![\w:])")
_DESIGNATION: Final = re.compile(r"(?<![\w.-])(?:[A-Z][A-Za-z]{0,4}|[a-z])-?[1-9]\d{0,2}(?![\w-]|\.\d)")


_NAMES: Final = "|".join(dict.fromkeys(month for months in MONTHS.values() for month in months))
_MONTH_AFTER: Final = re.compile(rf"(?:\.|st|nd|rd|th)?\s(?:of\s)?(?:{_NAMES})\b")
_MONTH_BEFORE: Final = re.compile(rf"\b(?:{_NAMES})\s$")


def _numbers(text: str, language: str) -> Iterator[_Spot]:
    """Find figures that are no year, clock, range or part of a name, and number words from two to twelve."""
    dates = [(spot.start, spot.end) for spot in _dates(text, language)]
    spots = [_Spot(found.start(), found[0], tuple(_figures(found[0], most)))
             for found in _FIGURE.finditer(text) if (most := _ceiling(text, found))]  # fmt: skip
    spots += _of_sets(text, [COUNTS[language]] if language else [])
    for spot in sorted(spots, key=lambda spot: spot.start):
        if not any(start < spot.end and spot.start < end for start, end in dates):
            yield spot


def _ceiling(text: str, found: re.Match[str]) -> float:
    """Return what a figure must stay below: 101 for a share, 24 for an hour, 29 for a day of a month; 0 leaves it."""
    before, after = text[: found.start()], text[found.end() :]
    if re.match(r"\.\s+[A-Z]", after) and re.search(r"(?:^|[.!?:]\s|\n)\s*$", before):
        return 0  # the number of an item of a list
    if _SHARE.match(after):
        return 101
    if re.match(r"\s?(?:Uhr|o'clock|o’clock|a\.?m\b|p\.?m\b|bis \d\d? Uhr)", after):
        return 24
    if _MONTH_AFTER.match(after) or _MONTH_BEFORE.search(before):
        return 29
    return float("inf")


def _figures(old: str, ceiling: float) -> Iterator[str]:
    """Yield numbers of the same form with another first digit, below a ceiling.

    1 has no others, because what is counted would have to become a plural; nor has 0, which is often no quantity.
    """
    if old in {"0", "1"}:
        return
    made = [digit + old[1:] for digit in "123456789"]
    if ceiling < 100:
        made = [f"{number}{old[len(re.split('[.,]', old)[0]) :]}" for number in range(2, int(ceiling))]
    elif ceiling == 101 and re.match(r"100\b", old):
        made = ["35", "60", "85"]
    for new in made:
        if new not in {old, "1"} and int(re.split(r"[.,]", new)[0]) < ceiling:
            yield new


def _dates(text: str, language: str) -> Iterator[_Spot]:
    """Find years, full dates (their year is changed), times of day, months and weekdays."""
    found: dict[int, _Spot] = {}
    for pattern, options in ((_FULL_DATE, _full_dates), (_CLOCK, _clocks), (_FIGURE, _years)):
        for match in pattern.finditer(text):
            made = tuple(options(match[0], text[match.end() :]))
            if made and not any(spot.start <= match.start() < spot.end for spot in found.values()):
                found[match.start()] = _Spot(match.start(), match[0], made)
    if language:
        for spot in _of_sets(text, [MONTHS[language], *WEEKDAYS[language]]):
            around = text[max(0, spot.start - 4) : spot.start] + text[spot.end : spot.end + 5]
            if spot.old not in {"March", "May"} or re.search(r"\d", around):
                found[spot.start] = spot
    yield from sorted(found.values(), key=lambda spot: spot.start)


def _years(old: str, after: str) -> Iterator[str]:
    """Yield other years: the last two digits swapped, or up to 15 years off; nothing where the number is a quantity."""
    if not re.fullmatch(_YEAR, old) or re.match(r"\s*[%€$]|\s(?!to\b|and\b|bis\b|und\b)[a-zäöüµ]+s\b", after):
        return
    swapped = old[:2] + old[3] + old[2]
    for new in dict.fromkeys([swapped, *(str(int(old) + step) for step in (-15, -12, -9, -6, -4, -2, 2, 3, 5, 8, 11))]):
        if new != old and re.fullmatch(_YEAR, new) and int(new) <= max(2030, int(old)):
            yield new


def _full_dates(old: str, _: str) -> Iterator[str]:
    year = re.search(_YEAR, old)
    if year is not None:
        # 29 February is not in every year
        steps = (-8, -4, 4) if re.search(r"02-29|29\.0?2\.", old) else (-7, -4, -3, -2, 2, 3)
        yield from (old[: year.start()] + str(int(year[0]) + step) + old[year.end() :] for step in steps)


def _clocks(old: str, _: str) -> Iterator[str]:
    hour, minute = old.split(":")
    for step in (-3, -2, 2, 3):
        if 0 <= int(hour) + step <= 23:
            yield f"{int(hour) + step:0{len(hour)}d}:{minute}"


def _entities(text: str, language: str) -> Iterator[_Spot]:
    """Find words of closed classes (countries, cities, animals, …) and designations such as CD4 or A320."""
    spots = _of_sets(text, ENTITIES[language] if language else [])
    taken = {spot.start for spot in spots}
    for found in _DESIGNATION.finditer(text):
        if found.start() not in taken:
            stem = found[0].rstrip("0123456789")
            number = found[0][len(stem) :]
            options = tuple(f"{stem}{digit}{number[1:]}" for digit in "123456789" if digit != number[0])
            spots.append(_Spot(found.start(), found[0], options))
    yield from sorted(spots, key=lambda spot: spot.start)


def _of_sets(text: str, sets: Iterable[Sequence[str]]) -> list[_Spot]:
    """Find words of sets, written as there or with a capital first; what lies within a longer word of a set is left."""
    members: dict[str, list[str]] = {}
    for words in sets:
        for word in words:
            others = members.setdefault(word, [])
            others += [each for each in words if each != word and each not in others]
    if not members:
        return []
    capitals = {word[0].upper() + word[1:]: [each[0].upper() + each[1:] for each in members[word]] for word in members}
    known = {**capitals, **members}
    longest = sorted(known, key=lambda word: (-len(word), word))
    pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest))})(?![\w'’-])")
    return [_Spot(found.start(), found[0], tuple(known[found[0]])) for found in pattern.finditer(text)]


_UNTURNED: Final[Mapping[str, str]] = MappingProxyType({
    "en": (
        "not no never hardly seldom rarely so also only thus therefore still I you we they he she it there"
        " this that these"
    ),
    "de": (
        "den ist hat sind wird werden nicht mit es einen ihren seinen keinen diesen damit dort oft meist jetzt sonst"
        " zuerst fast laut seit ständig endlich lediglich wenig einig ich dich mich sich"
    ),
})  # fmt: skip
"""Words before which no "not" can stand, or would say something else."""

_UNLESS: Final = {language: rf"(?!(?:{'|'.join(words.split())})\b)" for language, words in _UNTURNED.items()}
_INSERTED: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType({
    "en": re.compile(
        rf"\b(is|are|was|were|can|could|will|would|must|should|does|did)( ){_UNLESS['en']}([a-z]+)"
    ),
    "de": re.compile(
        r"\b(ist|sind|war|waren|wird|werden|wurde|wurden|kann|können|darf|dürfen|muss|müssen|soll|sollen)( )"
        r"(?=[a-zäöüß]+(?:t|bar|lich|ig|isch|los|en)\b|(?:für|im|in|ab|bis|nur|auf|an|am)\b)"
        rf"{_UNLESS['de']}([a-zäöüß]+)"
    ),
})  # fmt: skip
_REMOVED: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType({
    "en": re.compile(
        r"(?<!whether or )(?<!if )(?<!but )\b(is|are|was|were|can|could|will|would|must|should|has|have|had|may|might)"
        r"( not )(?!only\b|just\b|all\b|yet\b|even\b|necessarily\b)([a-z]+)"
    ),
    "de": re.compile(r"\b([a-zäöüß]+)( nicht )(?!nur\b|alle\b|mehr\b|einmal\b|zuletzt\b|zu\b)([a-zäöüß]+)"),
})  # fmt: skip
_SOME: Final = re.compile(r"\b(is|are|was|were|has|have|had|found|showed|shows|with|requires?)( no )([a-z]+)")
_DENIED: Final = re.compile(r"\b(?:no|none|nor|neither|never|not|kein\w*|nicht|nie)\b[^.,;:!?]*$", re.IGNORECASE)
"""A clause that denies already."""

_EIN: Final = re.compile(r"\bkein(en|em|es)?\b")


def _negations(text: str, language: str) -> Iterator[_Spot]:
    """Find statements that can be turned: by not, without not, by some for no, by a word that says the opposite."""
    if not language:
        return
    spots = [_Spot(found.start(), found[0], (f"{found[1]} {found[3]}",)) for found in _REMOVED[language].finditer(text)]
    negation = {"en": "not", "de": "nicht"}[language]
    for found in _INSERTED[language].finditer(text):
        if _DENIED.search(text[: found.start()]):
            continue
        new = f"{found[1]} {negation} {found[3]}".replace("can not", "cannot")
        spots.append(_Spot(found.start(), found[0], (new,)))
    if language == "en":
        no = (found for found in _SOME.finditer(text) if found[3] not in {"longer", "more", "less", "matter", "doubt"})
        spots += [_Spot(found.start(), found[0], (f"{found[1]} some {found[3]}",)) for found in no]
    else:
        spots += [_Spot(found.start(), found[0], (found[0][1:],)) for found in _EIN.finditer(text)]
    spots += _of_sets(text, OPPOSITES[language])
    yield from sorted(spots, key=lambda spot: spot.start)


_SPOTS: Final[Mapping[str, Callable[[str, str], Iterator[_Spot]]]] = MappingProxyType(
    {
        "number": _numbers,
        "date": _dates,
        "entity": _entities,
        "negation": _negations,
    }
)
