"""Rule-made perturbation: one thing is said otherwise, nothing else, and the detail says what."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relabel.synthesis.perturbing import KINDS, perturb

SAMPLE = Path(__file__).parent.parent / "data" / "sample.jsonl"

PASSAGES = [
    passage["text"]
    for line in SAMPLE.read_text(encoding="utf-8").splitlines()
    for passage in json.loads(line)["positive_passages"]
]

SENTENCES = st.lists(
    st.sampled_from(
        [
            "The bridge was opened in 1987 and is 450 metres long.",
            "On 12 March 1931 the men of Paris were not pleased with 45 % of the 1,200 votes.",
            "It is closed on Monday until 15:30; from 2024-03-15 dogs can stay.",
            "CD4 increases in mice; no effect was found, and an Italian child had no fever.",
            "Die Bibliothek ist für Kinder geöffnet und das Buch ist nicht teuer.",
            "Am 9. Oktober kostet es in Berlin kein Geld, ab 19 Uhr sind es 18 Euro.",
            "1 0 1. 22.2.2 ½ ９ 1987er -3 x–4 100 %",
        ]
    ),
    min_size=1,
    max_size=5,
).map(" ".join)


def happened(text: str, variant: str, old: str, new: str) -> bool:
    """Whether a variant is the text with `new` in place of `old` somewhere, and everything else as it was."""
    either = f"(?:{re.escape(old)}|{re.escape(new)})"
    return old in text and re.fullmatch(either.join(map(re.escape, text.split(old))), variant) is not None


@given(
    text=st.one_of(st.text(), SENTENCES, st.sampled_from(PASSAGES)), dice=st.text(max_size=3), most=st.integers(0, 6)
)
def test_one_thing_changes_and_the_detail_says_which(text: str, dice: str, most: int) -> None:
    """Each variant differs from the text and the others, "old → new" is what happened, and nothing else happened."""
    made = perturb(text, dice=dice, most=most)
    assert len(made) <= most
    assert len({each.text for each in made} | {text}) == len(made) + 1
    for each in made:
        old, new = each.detail.split(" → ")
        assert each.kind in KINDS
        assert old != new
        assert happened(text, each.text, old, new)


@given(text=st.one_of(SENTENCES, st.sampled_from(PASSAGES)), dice=st.text(max_size=3))
def test_the_same_dice_give_the_same_variants(text: str, dice: str) -> None:
    """Nothing but text and dice decides, and the order of kinds does not matter."""
    assert perturb(text, dice=dice, most=4) == perturb(text, dice=dice, most=4, kinds=KINDS[::-1])


@given(text=SENTENCES, kind=st.sampled_from(KINDS))
def test_only_kinds_that_are_asked_for_are_made(text: str, kind: str) -> None:
    """A single kind is given alone."""
    assert {each.kind for each in perturb(text, dice="", kinds=[kind], most=20)} <= {kind}


@given(text=st.text(alphabet="abcxyz ,.;\n"))
def test_nothing_to_change_is_an_empty_list(text: str) -> None:
    """A text without figures, names and statements of a known language is left alone."""
    assert perturb(text, dice="any") == []


def test_dice_choose() -> None:
    """Other dice make another change."""
    text = "The tower was built in 1902 by 340 men from Madrid and is still the highest in the country."
    assert len({perturb(text, dice=str(number))[0].detail for number in range(40)}) > 10


def test_kinds_take_turns() -> None:
    """Four variants of a text that has all four kinds are of four kinds."""
    text = "The tower was built in 1902 by 340 men from Madrid and is closed to the public."
    assert sorted(each.kind for each in perturb(text, dice="x", most=4)) == sorted(KINDS)


@pytest.mark.parametrize(
    ("kind", "text", "pattern"),
    [
        ("number", "In the town there are 450 of the trees.", r"450 → [1-35-9]50"),
        ("number", "Of the votes 45 % went to the mayor.", r"45 → [1235-9]5"),
        ("number", "Of the votes 100 % went to the mayor.", r"100 → (35|60|85)"),
        ("number", "The team has three of the cups.", r"three → (two|[a-z]+)"),
        ("number", "Das Bad ist ab 7.30 Uhr zu.", r"7.30 → ([2-689]|1\d|2[0-3]).30"),
        ("number", "Das Bad ist ab 19 Uhr zu.", r"19 → ([2-9]|1\d|2[0-3])"),
        ("number", "On 13 March the fair is held.", r"13 → ([2-9]|1\d|2[0-8])"),
        ("date", "The bridge was opened in 1987.", r"1987 → (1978|19[7-9]\d)"),
        ("date", "The law is of 12 March and the rest is not.", r"March → [A-Z][a-z]+"),
        ("date", "Opens at 15:30 sharp.", r"15:30 → 1[2378]:30"),
        ("date", "Der Vertrag vom 29.02.2024 gilt.", r"29.02.2024 → 29.02.20(16|20|28)"),
        ("date", "Die Post ist montags zu und das ist gut.", r"montags → [a-z]+s"),
        ("entity", "The capital of France is in the north.", r"France → [A-Z][a-z]+"),
        ("entity", "Cells with CD4 divide.", r"CD4 → CD[1-35-9]"),
        ("negation", "The drug is effective in the elderly.", r"is effective → is not effective|effective → ineff.*"),
        ("negation", "The door is not locked by the guard.", r"is not locked → is locked"),
        ("negation", "There was no evidence of the effect.", r"was no evidence → was some evidence"),
        ("negation", "One can see it from the road.", r"can see → cannot see"),
        ("negation", "Das ist der Grund, und es gibt kein Bad.", r"kein → ein"),
        ("negation", "Das Bad ist für die Kinder geöffnet.", r"ist für → ist nicht für|geöffnet → geschlossen"),
    ],
)
def test_each_type_keeps_its_form(kind: str, text: str, pattern: str) -> None:
    """Figures, shares, hours, days, years, dates, names and statements become others that could stand there."""
    (made,) = perturb(text, dice="1", kinds=[kind])
    assert re.fullmatch(pattern, made.detail), made.detail


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("number", "The bridge was opened in 1987 by the king."),  # a year is no number
        ("number", "Pages 12-15 and 3/4 of the 1 thing."),  # ranges, fractions, one
        ("number", "of the rules\n4. Dogs must be on the lead."),  # the number of an item
        ("date", "It holds 1987 volumes and 1950 % of the rest."),  # a quantity is no year
        ("date", "They may march in the town and that is it."),
        ("entity", "The children's books of the town are of the best."),
        ("negation", "No fungus is involved in the decay of the fruit."),  # would deny twice
        ("negation", "Es kostet Geld."),  # too short to know the language
    ],
)
def test_what_is_no_such_thing_is_left(kind: str, text: str) -> None:
    """A rule would rather change nothing than make nonsense."""
    assert perturb(text, dice="1", kinds=[kind]) == []


def test_a_name_changes_wherever_it_stands() -> None:
    """The passage goes on speaking of one thing; a word that contains the name is another."""
    (made,) = perturb("Rome is the town. In Rome the Romes of Rome-like things.", dice="2", kinds=["entity"])
    new = made.detail.removeprefix("Rome → ")
    assert made.text == f"{new} is the town. In {new} the Romes of Rome-like things."


def test_what_stands_there_already_is_no_choice() -> None:
    """A passage on men and women has nobody else to speak of."""
    assert perturb("The men and the women of the north.", dice="3", kinds=["entity"]) == []


def test_articles_fit() -> None:
    """After "an" comes a vowel."""
    made = {perturb("This is an Italian of the town.", dice=str(n), kinds=["entity"])[0].text for n in range(30)}
    assert all(re.search(r"\ban [AEIOU]", text) for text in made)


def test_an_unknown_kind_is_named() -> None:
    """A kind that is none raises, and says which there are."""
    with pytest.raises(ValueError, match="'colour' is no kind of perturbation; there are number, date"):
        perturb("text", dice="", kinds=["colour"])


def test_most_passages_can_be_changed() -> None:
    """Of the sample's positives at least nine in ten have something to change."""
    changed = sum(bool(perturb(text, dice="4")) for text in PASSAGES)
    assert changed >= 0.9 * len(PASSAGES)
