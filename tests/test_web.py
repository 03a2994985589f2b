"""The parts of the audit page: marks, the list of pairs, and the desk."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relabel.concluding import candidate_key, query_key
from relabel.serving import Kept
from relabel.store import PersonLabel, Store
from relabel.web.desk import Desk, Said
from relabel.web.listing import Candidate, Listing, Question, Text, Word
from relabel.web.marking import MARKED, Marked, mark, vocabulary

STYLE = (Path(__file__).parents[1] / "relabel" / "web" / "static" / "style.css").read_text("utf-8")
SIGN = re.compile(r"⟨U\+([0-9A-F]{4,5})⟩")


def marks(text: str, query: str = "", other: str = "") -> list[tuple[str, str]]:
    """Return what is marked in a text, and as what."""
    return [(piece.text, piece.kind) for piece in mark(text, vocabulary(query), vocabulary(other)).pieces if piece.kind]


def shown(marked: Marked) -> str:
    """Return a marked text as it stands on the page, all of it."""
    return "".join([piece.text for piece in marked.pieces]) + "".join(marked.rest)


def candidate(place: int, query: str, text: str, *words: Word) -> Candidate:
    """Make a pair."""
    return Candidate(place, ascii(f"{query} {text}"), query_key(query), candidate_key("", text), Text("", text), words)


def question(query: str) -> Question:
    """Make what the pairs of a row have in common."""
    return Question(f"id of {query}", "nq", query, (Text("title", "known"),))


@pytest.fixture
def listing() -> Iterator[Listing]:
    """List three pairs of query a and one of b."""
    rows = [(question("a"), [candidate(i, "a", text) for i, text in enumerate("xyz", start=1)])]
    made = Listing.build([*rows, (question("b"), [candidate(4, "b", "x")])])
    yield made
    made.close()


def test_words_are_marked_by_where_else_they_stand() -> None:
    """Words of the query, of the other text and of both are told apart; endings and case do not matter."""
    found = marks("Replacing chains: oil the chain, not the brakes", "replace a chain", "chains need oil and brakes")
    assert found == [
        ("Replacing", "query"), ("chains", "both"), ("oil", "other"), ("chain", "both"), ("brakes", "other"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("the and with und der les", "the and with und der les", []),
        ("brakes D4 and D6", "fluid for D4", [("D4", "query")]),
        ("in 1999 or 199", "since 1999", [("1999", "query")]),
        ("自行车链条的保养", "链条保养", [("链条", "query"), ("保养", "query")]),
        ("油", "油", [("油", "query")]),
        ("Straße STRASSE", "strasse", [("Straße", "query"), ("STRASSE", "query")]),
        ("पानी की टंकी", "पानी", [("पानी", "query")]),
    ],
)
def test_marks_in_many_scripts(text: str, query: str, expected: list[tuple[str, str]]) -> None:
    """Small words are passed over, numbers compared whole, runs without spaces by pairs of characters."""
    assert marks(text, query) == expected


@given(st.text(), st.text(), st.text())
def test_no_character_is_lost(text: str, query: str, other: str) -> None:
    """Whatever is marked, the pieces are the text: signs spelled out can be read back."""
    pieces = mark(text, vocabulary(query), vocabulary(other)).pieces
    back = "".join(
        SIGN.sub(lambda found: chr(int(found[1], 16)), piece.text) if piece.kind == "sign" else piece.text
        for piece in pieces
    )
    assert back == text.replace("\r\n", "\n")


def test_signs_that_turn_or_hide_text_are_spelled_out() -> None:
    """Bidi controls, blanks without width, controls and halves of surrogate pairs are named; line feed and tab stay."""
    marked = mark("a\u202eb\u2066c\u200fd\x00e\x1bf\u200bg\ud800h\ti\nj")
    assert shown(marked) == (
        "a⟨U+202E⟩b⟨U+2066⟩c⟨U+200F⟩d⟨U+0000⟩e⟨U+001B⟩f⟨U+200B⟩g⟨U+D800⟩h\ti\nj"
    )  # fmt: skip
    assert {piece.kind for piece in marked.pieces} == {"", "sign"}


def test_a_long_text_is_marked_at_its_beginning_only() -> None:
    """Of a megabyte all is there, and nothing behind the first 20,000 characters is looked at."""
    text = "chain oil " * 100_000
    marked = mark(text, vocabulary("chain"), vocabulary("z " * MARKED + "oil"))
    assert shown(marked) == text
    assert {piece.text for piece in marked.pieces if piece.kind} == {"chain"}
    assert sum(len(piece.text) for piece in marked.pieces) <= MARKED
    assert max(map(len, marked.rest)) <= MARKED


def test_pairs_of_a_query_come_together_in_the_order_asked_for() -> None:
    """Rows with the same query are gathered at its first pair; a pair that stands in two rows is one."""
    rows = [
        (question("a"), [candidate(5, "a", "x"), candidate(2, "a", "y")]),
        (question("b"), [candidate(3, "b", "x")]),
        (question("a"), [candidate(4, "a", "z"), candidate(1, "a", "x")]),
        (question("c"), []),
    ]
    listing = Listing.build(rows)
    sheets = [listing.sheet(number) for number in range(1, listing.size + 1)]
    assert [(one.question.query, one.pair.shown.text) for one in sheets] == [
        ("a", "x"), ("a", "y"), ("a", "z"), ("b", "x"),
    ]  # fmt: skip
    assert [listing.named(one.pair.fingerprint) for one in sheets] == [1, 2, 3, 4]
    assert listing.addressed(query_key("b"), candidate_key("", "x")) == 4
    assert (listing.named("r0"), listing.addressed(query_key("b"), candidate_key("", "z"))) == (0, 0)
    with pytest.raises(LookupError):
        listing.sheet(5)
    listing.close()
    with pytest.raises(sqlite3.ProgrammingError):
        listing.sheet(1)


def test_a_pair_comes_back_as_it_was_listed() -> None:
    """Texts with anything in them, words of judges and probabilities make the way through the file."""
    pair = candidate(1, "q \ud800", "t\x00'\"", Word("strong", "relevant", 0.25), Word("weak", "no label (refused)"))
    asked = question("q \ud800")
    listing = Listing.build([(asked, [pair])])
    assert (listing.sheet(1).question, listing.sheet(1).pair) == (asked, pair)
    listing.close()


def test_reviewers_have_their_own_places(tmp_path: Path, listing: Listing) -> None:
    """Each reviewer's open pairs are those without a label of theirs, earlier ones last."""
    with Store(tmp_path) as store:
        desk = Desk(listing, Kept(store))
        desk.label(desk.reviewer("anna"), desk.sheet(2), "relevant", "")
        desk.reviewer("ben")
        assert [desk.next_open("anna", after) for after in range(5)] == [1, 3, 3, 4, 0]
        assert desk.next_open("ben") == 1
        assert (desk.progress("anna").done, desk.progress("anna").left, desk.progress("ben").done) == (1, 3, 0)
        assert list(desk.reviewers()) == ["anna"]


def test_undo_takes_steps_back_one_by_one(tmp_path: Path, listing: Listing) -> None:
    """A first label goes, a changed one becomes what it was with its note, a skip is come back to."""
    with Store(tmp_path) as store:
        desk = Desk(listing, Kept(store))
        first, second = desk.sheet(1), desk.sheet(2)
        desk.label("anna", first, "relevant", "sure")
        desk.label("anna", first, "partial", "")
        desk.skip("anna", second)
        desk.clear("anna", first)
        desk.label("ben", first, "irrelevant", "")
        assert [desk.undo("anna"), dict(desk.said(first))["anna"]] == [1, Said("partial")]
        assert [desk.undo("anna"), dict(desk.said(first))["anna"]] == [2, Said("partial")]
        assert [desk.undo("anna"), dict(desk.said(first))["anna"]] == [1, Said("relevant", "sure")]
        assert [desk.undo("anna"), dict(desk.said(first))] == [1, {"ben": Said("irrelevant")}]
        assert [desk.undo("anna"), desk.can_undo("anna"), desk.progress("anna").left] == [0, False, 4]


def test_what_is_in_the_store_counts_after_a_restart(tmp_path: Path, listing: Listing) -> None:
    """A new desk knows every label, those of a CSV too; labels of pairs that are not listed do not count."""
    with Store(tmp_path) as store:
        Desk(listing, Kept(store)).label("anna", listing.sheet(3), "partial", "a note")
        store.add_people([PersonLabel(query_key("b"), candidate_key("", text), "anna", "relevant") for text in "xw"])
    with Store(tmp_path) as store:
        desk = Desk(listing, Kept(store))
        assert desk.progress("anna").labels == {"relevant": 1, "partial": 1, "irrelevant": 0}
        assert desk.said(listing.sheet(3)) == {"anna": Said("partial", "a note")}
        assert desk.undo("anna") == 0


def test_names_are_known_again(tmp_path: Path, listing: Listing) -> None:
    """Case and blanks do not make another person; a name from a CSV is taken as it stands there."""
    with Store(tmp_path) as store:
        labels = [PersonLabel(b"q", b"c", name, "relevant") for name in ("Anna", "two  blanks", "ben", "BEN")]
        store.add_people(labels)
        desk = Desk(listing, Kept(store))
        found = [desk.reviewer(name) for name in (" anna ", "two  blanks", "ben", "BEN", "New  One", "new one")]
    assert found == ["Anna", "two  blanks", "ben", "BEN", "New One", "New One"]


@pytest.mark.parametrize("name", ["", " \n ", "a" * 61, "a\u202eb", "\x00", "a\u200bb"])
def test_names_that_cannot_be_seen_are_refused(tmp_path: Path, listing: Listing, name: str) -> None:
    """Empty, endless and invisible names are none."""
    with Store(tmp_path) as store, pytest.raises(ValueError, match="Write a name of 1 to 60"):
        Desk(listing, Kept(store)).reviewer(name)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_texts_have_contrast(scheme: str) -> None:
    """Every colour of text has a contrast of 4.5 and more to what it stands on, in both schemes (WCAG 2.2, 1.4.3)."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    assert len(blocks) == 2
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[scheme == "dark"]))
    grounds = ("page", "sheet", "soft", "query", "other", "both", "problem")
    pairs = [("ink", ground) for ground in grounds] + [("on-accent", "accent"), ("sign", "sheet")]
    pairs += [(text, ground) for text in ("quiet", "accent") for ground in ("page", "sheet", "soft")]
    assert {
        pair: contrast(*[colours[name] for name in pair])
        for pair in pairs
        if contrast(*[colours[n] for n in pair]) < 4.5
    } == {}
    for ground in ("page", "sheet"):
        assert contrast(colours["focus"], colours[ground]) >= 3


def contrast(one: str, other: str) -> float:
    """Return WCAG's contrast ratio of two colours."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)
