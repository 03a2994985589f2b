from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from relabel.judges.fitting import FLOOR, STEP, fit, shortened
from relabel.protocols import Message, Request
from relabel.records import Passage

TEXTS = st.lists(st.text("ab \n", max_size=1500), max_size=3)


def render(reference: Sequence[Passage], candidates: Sequence[Passage]) -> Request:
    """Show everything, one passage a message."""
    shown = [*(("reference", each) for each in reference), *(("candidate", each) for each in candidates)]
    return Request("00", tuple(Message(role, each.text) for role, each in shown))


def size(request: Request) -> int:
    """Count what is shown, a character a token."""
    return sum(len(message.content) for message in request.messages)


def parts(request: Request, role: str) -> list[str]:
    """Return the texts that are shown as references or as candidates."""
    return [message.content for message in request.messages if message.role == role]


@given(TEXTS, TEXTS.filter(bool), st.integers(0, 4000))
def test_what_comes_back_fits_and_candidates_go_first(known: list[str], asked: list[str], limit: int) -> None:
    """It fits or is None; references are whole unless every candidate is at the floor; None only where the floor is."""
    reference, candidates = ([Passage("", text) for text in texts] for texts in (known, asked))
    found = fit(reference, candidates, render, lambda request: size(request) - limit)
    least = render([shortened(p, FLOOR) for p in reference], [shortened(p, FLOOR) for p in candidates])
    if found is None:
        assert size(least) > limit
        return
    assert size(found.request) <= limit
    shown = parts(found.request, "candidate")
    cut = [found.cuts(reference, passage) for passage in candidates]
    if parts(found.request, "reference") != known:
        assert shown == parts(least, "candidate")
        assert all(cut)
    else:
        assert cut == [a != b for a, b in zip(shown, asked, strict=True)]


def test_as_much_as_fits_is_kept() -> None:
    """Two long candidates share the room to within one step; the short one stays whole."""
    candidates = [Passage("", "x" * 2000), Passage("", "y" * 900), Passage("", "short")]
    found = fit([Passage("", "known")], candidates, render, lambda request: size(request) - 1500)
    assert found is not None
    assert parts(found.request, "candidate")[2] == "short"
    assert 1500 - size(found.request) <= 2 * STEP + 4


def test_a_text_is_cut_at_a_word_and_marked() -> None:
    """Words stay whole, a word longer than a step is cut, id and title stay."""
    assert shortened(Passage("7", "one two three", "Title"), 9) == Passage("7", "one two …", "Title")
    assert shortened(Passage("", "one two three"), 7).text == "one two …"
    assert shortened(Passage("", "z" * 300), 200).text == "z" * 200 + " …"
    assert shortened(Passage("", "as it is"), 8).text == "as it is"
