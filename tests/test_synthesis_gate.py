"""What the cheap checks of written passages refuse and let pass, and how hard they call a passage."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relabel.protocols import Role
from relabel.records import Example, Passage
from relabel.synthesis import gate as reasons
from relabel.synthesis.gate import Gate, Gated
from relabel.synthesis.languages import language_of
from relabel.synthesis.likeness import changed_on_purpose, contained, count_words, grams, jaccard, open_twins
from relabel.synthesis.settings import Gate as Limits
from relabel.synthesis.written import Written

if TYPE_CHECKING:
    from numpy.typing import NDArray

ANSWER = (
    "The ferry to the island leaves from pier 4 at 9.30 in the morning, and the crossing takes about two hours when"
    " the sea is calm. Tickets are sold on board and at the office."
)
MINED = (
    "From the mainland there are buses to the harbour every half hour, which stop in front of the old customs house"
    " and at the station. They do not run on the first of May."
)
GOOD = (
    "The island has a small museum about the history of its lighthouse, which is open from Tuesday to Sunday. The"
    " climb to the lamp takes ten minutes, and children go up for free."
)
GERMAN = (
    "Das Museum der Insel ist nur von Dienstag bis Sonntag offen, und es zeigt die Geschichte des Leuchtturms, der auf"
    " dem Hügel steht und den man mit Kindern besteigen kann."
)
QUERY = "when does the ferry to the island leave"
ROW = Example("q", QUERY, (Passage("p", ANSWER),), (Passage("n", MINED),))
TEXT_ALONE = Limits(near=None, easy=None)


class Table:
    """Vectors that somebody wrote down: of each text its cosines with two directions."""

    def __init__(self, vectors: Mapping[str, tuple[float, float]]) -> None:
        self._vectors = vectors

    def get(self, role: Role, text: str) -> "NDArray[np.float32]":
        """Return the vector of a text, made to unit length by a third direction that is its own."""
        del role
        first, second = self._vectors[text]
        rest = max(0.0, 1 - first**2 - second**2) ** 0.5
        own = [0.0] * len(self._vectors)
        own[list(self._vectors).index(text)] = rest
        return np.array([[first, second, *own]], dtype=np.float32)


def look(
    folder: Path,
    *texts: str,
    limits: Limits = TEXT_ALONE,
    row: Example = ROW,
    vectors: Table | None = None,
    **more: Any,
) -> list[Gated]:
    """Hold texts against a row; `more` are fields of what was written."""
    with open_twins(folder / "twins.sqlite") as twins:
        return list(Gate(limits, twins, vectors).look(row, [Written(0, "r", text, **more) for text in texts]))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD, ""),
        (" \n", reasons.EMPTY),
        ("The ferry leaves in the morning.", reasons.SHORT),
        (f"{GOOD} {GOOD.replace('museum', 'school')} {GOOD.replace('lamp', 'roof')}", reasons.LONG),
        (GERMAN, reasons.LANGUAGE),
        (f"{QUERY}? {QUERY}! The ferry, when does it leave, to the island? {QUERY}.", reasons.QUERY_COPY),
        (ANSWER.upper().replace(",", " -"), reasons.COPY),
        (ANSWER[:130], reasons.COPY),
        (f"{ANSWER} Have a nice day, all of you!", reasons.COPY),
        (MINED.replace("half hour", "full hour"), reasons.NEAR_MINED),
    ],
)  # fmt: skip
def test_each_reason(tmp_path: Path, text: str, reason: str) -> None:
    """By the text alone each kind of bad passage is refused for its own reason, and a good one passes."""
    (gated,) = look(tmp_path, text)
    assert gated.reason == reason
    assert gated.passed == (not reason)


def test_a_twin_is_refused_and_the_first_stays(tmp_path: Path) -> None:
    """Of two nearly equal passages the first one passes, in one row and in two."""
    other = GOOD.replace("ten minutes", "ten minute")
    assert [each.reason for each in look(tmp_path, GOOD, other)] == ["", reasons.NEAR_SYNTHETIC]
    with open_twins(tmp_path / "twins.sqlite") as twins:
        gate = Gate(TEXT_ALONE, twins, None)
        row = Example("r", "another question", ROW.positives, ROW.negatives, position=1)
        found = [
            next(gate.look(each, [Written(each.position, "r", text)])) for each, text in ((ROW, GOOD), (row, other))
        ]
    assert [each.reason for each in found] == ["", reasons.NEAR_SYNTHETIC]


def test_a_refused_one_has_no_twins(tmp_path: Path) -> None:
    """What was refused does not stand in the way of what comes after it."""
    short = "The museum is open."
    assert [each.reason for each in look(tmp_path, short, short)] == [reasons.SHORT] * 2


def test_positives_of_other_rows_are_copies_too(tmp_path: Path) -> None:
    """What the same query has as a positive in another row is no negative here."""
    from relabel.copies import marks_of

    with open_twins(tmp_path / "twins.sqlite") as twins:
        siblings = set(marks_of(Passage("s", GOOD)).known)
        (gated,) = Gate(TEXT_ALONE, twins, None).look(ROW, [Written(0, "r", GOOD)], siblings)
    assert gated.reason == reasons.COPY


def test_a_stated_change_makes_a_near_copy_pass(tmp_path: Path) -> None:
    """A counterfactual is a near-copy on purpose: it passes if the stated change is there, and is counted."""
    changed = ANSWER.replace("pier 4", "pier 7")
    with open_twins(tmp_path / "twins.sqlite") as twins:
        gate = Gate(TEXT_ALONE, twins, None)
        written = [Written(0, "rules", changed, detail="number: 4 → 7"), Written(0, "r", changed.replace("7", "8"))]
        assert [each.reason for each in gate.look(ROW, written)] == ["", reasons.COPY]
        assert gate.counted["changed on purpose"] == 1
    (lie,) = look(tmp_path, ANSWER.replace("calm", "still"), detail="4 → 7")
    assert lie.reason == reasons.COPY


def test_by_vectors(tmp_path: Path) -> None:
    """Near-copies by cosine, too easy by the row's mined negatives, and difficulty by the best positive."""
    near, easy, hard = (
        GOOD.replace("museum", each) for each in ("garden of statues", "old school for boys", "theatre")
    )
    vectors = Table(
        {QUERY: (1, 0), ANSWER: (0.8, 0.6), MINED: (0.4, 0), near: (0.7, 0.71), easy: (0.3, 0), hard: (0.6, 0)}
    )
    limits = Limits(twin=None)
    found = [look(tmp_path, text, limits=limits, vectors=vectors)[0] for text in (near, easy, hard)]
    assert [each.reason for each in found] == [reasons.NEAR_POSITIVE, reasons.EASY, ""]
    assert [each.difficulty for each in found] == [0.875, 0.375, 0.75]


def test_what_cannot_be_told_passes_and_is_counted(tmp_path: Path) -> None:
    """A text without a language, and a row without mined negatives, stop nobody."""
    row = Example("q", QUERY, ROW.positives, ())
    names = (
        "Alkan Bax Cui Ades Berg Bergman Dvorak Elgar Fibich Grieg Holst Ives Janacek Kodaly Ligeti Mahler Nono Orff"
    )
    vectors = Table({QUERY: (1, 0), ANSWER: (0.8, 0.6), names: (0.1, 0)})
    with open_twins(tmp_path / "twins.sqlite") as twins:
        gate = Gate(Limits(), twins, vectors)
        (gated,) = gate.look(row, [Written(0, "r", names)])
    assert gated.passed
    assert (gate.counted["language not told"], gate.counted["easiness not known"]) == (1, 1)


def test_a_length_that_the_row_has_is_never_wrong(tmp_path: Path) -> None:
    """A mirror of the row's shortest passage may be as short as that one."""
    row = Example("q", QUERY, ROW.positives, (*ROW.negatives, Passage("s", "Buses go twice an hour.")))
    assert [each.reason for each in look(tmp_path, "Trams go thrice a day.", "Go.", row=row)] == ["", reasons.SHORT]


def test_what_has_no_text_is_not_looked_at(tmp_path: Path) -> None:
    """A failure is no passage: it gets no id and no reason."""
    (gated,) = look(tmp_path, "", failure="refused")
    assert (gated.id, gated.reason, gated.passed) == ("", "", False)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The committee said that it would not be there until the end of the week.", "en"),
        ("Der Ausschuss sagte, dass er bis zum Ende der Woche nicht mehr da sein werde.", "de"),
        ("Le comité a dit que ce ne serait pas avant la fin de la semaine, dans tous les cas.", "fr"),
        ("Комитет сказал, что он не будет там до конца недели, и это было всё.", "ru"),
        ("委員会は今週末まで結論を出さないと述べた。", "ja"),
        ("委员会表示本周末之前不会得出结论。", "cjk"),
        ("Η επιτροπή είπε ότι δεν θα είναι εκεί μέχρι το τέλος της εβδομάδας.", "greek"),
        ("CR2032 7 Nm 18 ml", ""),
        ("", ""),
    ],
)
def test_languages(text: str, language: str) -> None:
    """Languages of one script are told by their stop words, others by the script; what says nothing is not told."""
    pytest.importorskip("bm25s")
    assert language_of(text) == language


def test_words_where_no_spaces_are() -> None:
    """Words are counted by spaces, and where none are written by signs."""
    assert count_words("two words, 3") == 3
    assert count_words("今日は good") == 4


def test_changes_that_are_and_are_not_there() -> None:
    """A change counts if the new is here alone and the old is there; kinds before and others beside it are fine."""
    assert changed_on_purpose("1987 → 1978", "built in 1978", "built in 1987")
    assert changed_on_purpose("tone: dry; date: 1987 → 1978", "built in 1978", "built in 1987")
    assert not changed_on_purpose("1987 → 1978", "built in 1978, not 1987", "built in 1978")
    assert not changed_on_purpose("1987 → 1987", "built in 1987", "built in 1987")
    assert not changed_on_purpose("violates the year", "built in 1978", "built in 1987")


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_shares_of_text(one: str, other: str) -> None:
    """Containment and Jaccard lie in [0, 1], are 1 for a text and itself, and Jaccard is the smaller."""
    left, right = grams(one), grams(other)
    assert jaccard(left, left) == contained(left, left) == 1
    assert 0 <= jaccard(left, right) <= min(contained(left, right), contained(right, left)) <= 1


def test_near_twins_are_found_among_many(tmp_path: Path) -> None:
    """Among 400 texts the near-copy is found, with its exact Jaccard index; a text that is none finds no high one."""
    dice = np.random.default_rng(0)
    words = [f"w{number:03}" for number in range(300)]
    texts = [" ".join(dice.choice(words, 40)) for _ in range(400)]
    with open_twins(tmp_path / "twins.sqlite") as twins:
        for text in texts:
            twins.note(text)
        share, found = twins.nearest(texts[123] + " more")
        assert found == texts[123]
        assert share == jaccard(grams(texts[123]), grams(texts[123] + " more")) > 0.9
        assert twins.nearest(" ".join(dice.choice(words, 40)))[0] < 0.5
    assert not (tmp_path / "twins.sqlite").exists()
