"""A collection in memory, for tests of what consumes one."""

from collections.abc import Iterator, Sequence

from relabel.mining.searching import Asked
from relabel.records import digest


class Texts:
    """Passages and queries from lists; the last `beyond` passages are positives that the corpus lacks."""

    def __init__(self, passages: Sequence[str], queries: Sequence[str], beyond: int = 0) -> None:
        self._passages = list(passages)
        self._asked = [Asked(number, f"q{number}", text, ()) for number, text in enumerate(queries)]
        self.passages, self.queries = len(passages), len(queries)
        self.documents = self.passages - beyond
        self.fingerprint = digest(*passages).hex()

    def texts(self, first: int = 0, last: int | None = None) -> Iterator[str]:
        """Yield passages."""
        return iter(self._passages[first:last])

    def asked(self, first: int = 0, last: int | None = None) -> Iterator[Asked]:
        """Yield queries."""
        return iter(self._asked[first:last])


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody how far it is."""
    del what, done, total
