"""What the formats share that keep a row's positives in one list and its negatives in another.

Lists that run parallel to a list of passages (`pos_scores` beside `pos`) are known by their prefix. An entry moves
with its passage: it is taken apart into `Passage.beside` and put together again from there.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, ClassVar

from relabel.errors import RowError
from relabel.formats.base import IDS, Effects, Sides, alike, entry, example_of, filled_text, kind, present
from relabel.formats.carrying import PLACE, other_fields
from relabel.records import NOTHING, Example, Passage


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two lists: its key, and how the keys of its parallel lists begin."""

    key: str
    prefix: str

    def parallel(self, row: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the parallel lists as (what follows the prefix, key)."""
        return [
            (key[len(self.prefix) :], key)
            for key, value in row.items()
            if key.startswith(self.prefix) and isinstance(value, list)
        ]


class TwoLists(ABC):
    """A format of two lists; a subclass says how one passage stands in them."""

    __slots__ = ()

    name: ClassVar[str]
    shape: ClassVar[str]
    effects: ClassVar[Effects]
    flat: ClassVar[bool] = False
    holds_promotions: ClassVar[bool] = True
    holds_emptied: ClassVar[bool] = True
    holds_more: ClassVar[bool] = True
    query_field: ClassVar[str] = "query"
    positive: ClassVar[Side]
    negative: ClassVar[Side]

    @abstractmethod
    def passage(self, item: Any, beside: Mapping[str, Any]) -> Passage:
        """Build a passage from what stood in the list and beside it."""

    @abstractmethod
    def _item(self, passage: Passage, known: Any) -> Any:
        """Return what a passage from elsewhere is in a list that holds `known`."""

    @abstractmethod
    def _fresh(self, example: Example) -> dict[str, Any]:
        """Return a new row's own fields, parallel lists apart, for an example of another format."""

    def _negatives(self, row: Mapping[str, Any]) -> tuple[Passage, ...]:
        return self._passages(row, self.negative)

    def _sides(self, example: Example) -> list[tuple[Side, Sequence[Passage]]]:
        """Return the lists of a row, each with the passages that belong into it."""
        return [(self.positive, example.positives), (self.negative, example.negatives)]

    def _absent(self, passage: Passage, name: str) -> Any:  # noqa: ARG002 - a subclass may know better than null
        """Return what a passage brings to a parallel list of the side it was promoted to, if it brought nothing."""
        return None

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether either list is there."""
        return self.positive.key in row or self.negative.key in row

    def parse(
        self, row: Mapping[str, Any], *, position: int, line: int, path: str = "", source_field: str | None = None
    ) -> Example:
        """Read one row; see `Format.parse`."""
        return example_of(
            self.name, row, self._read, position=position, line=line, path=path, source_field=source_field
        )

    def _read(self, row: Mapping[str, Any]) -> Sides:
        query = filled_text(row, self.query_field)
        return query, self._positives(row), self._negatives(row)

    def render(self, example: Example) -> list[dict[str, Any]]:
        """Return one row; see `Format.render`. Parallel lists of another format of two lists keep their names."""
        sides = self._sides(example)
        if example.layout != self.name:
            row = self._fresh(example)
            for side, passages in sides:
                for name in dict.fromkeys(chain.from_iterable(passage.beside for passage in passages)):
                    if name not in IDS and not name.startswith(PLACE):
                        row[side.prefix + name] = [passage.beside.get(name) for passage in passages]
            return [row | {key: value for key, value in other_fields(example, self.name).items() if key not in row}]
        row = dict(example.row)
        for side, passages in sides:
            row[side.key] = [passage.item for passage in passages]
            for name, _ in side.parallel(row):
                row[side.prefix + name] = [
                    passage.beside[name] if name in passage.beside else self._absent(passage, name)
                    for passage in passages
                ]
        return [row]

    def place(self, example: Example, passage: Passage) -> tuple[int, Passage]:
        """Return where another passage goes, the end, and as what; see `Format.place`."""
        row = example.row
        known = (row.get(self.negative.key) or row[self.positive.key])[0]
        beside = {name: entry(name, passage, next(iter(row[key]), None)) for name, key in self.negative.parallel(row)}
        return len(example.negatives), self.passage(self._item(passage, known), beside or NOTHING)

    def twins(self, keys: Sequence[str]) -> list[tuple[str, str]]:
        """Return the columns into which a promotion moves something, each with the one that it comes out of."""
        (into, rise), (out_of, fall) = ((side.key, side.prefix) for side in (self.positive, self.negative))
        parallel = [(key, fall + key.removeprefix(rise)) for key in keys if key.startswith(rise)]
        return [(into, out_of), *[pair for pair in parallel if pair[1] in keys]]

    def _positives(self, row: Mapping[str, Any]) -> tuple[Passage, ...]:
        passages = self._passages(row, self.positive)
        key = self.positive.key
        if not passages:
            raise RowError(
                "is an empty list: negatives are judged against a known positive",
                field=key,
                hint="Add a positive, or take the row out.",
            )
        for index, passage in enumerate(passages):
            if not passage.full_text.strip():
                raise RowError("is empty", field=f"{key}[{index}]", hint="Write the passage's text, or take it out.")
        return passages

    def _passages(self, row: Mapping[str, Any], side: Side) -> tuple[Passage, ...]:
        items = present(row, side.key)
        if not isinstance(items, list):
            raise RowError(
                f"is {kind(items)}, not a list", field=side.key, hint=f'Write a list, even of one: "{side.key}": […].'
            )
        build, beside_each = self.passage, besides(row, side.key, side.parallel(row), len(items))
        passages: list[Passage] = []
        try:
            for item, beside in zip(items, beside_each, strict=False):
                passages.append(build(item, beside))
        except RowError as error:
            field = f"{side.key}[{len(passages)}]" + (f".{error.field}" if error.field else "")
            raise RowError(error.problem, field=field, hint=error.hint) from None
        return tuple(passages)


def context(passage: Passage, known: Mapping[str, Any], id_keys: Sequence[str]) -> dict[str, Any]:
    """Return an object for a passage from elsewhere with those of the fields of another that it has something for.

    Without a field for the title, the title goes in front of the text.
    """
    key = next((name for name in id_keys if known.get(name) is not None), "")
    own = {"title": passage.title, "text": passage.text if "title" in known else passage.full_text}
    ids = {key: alike(passage.id, known.get(key))}
    score = entry("score", passage)
    return {
        name: (own | ids).get(name, score)
        for name in known
        if name in own or name == key or (name == "score" and score is not None)
    }


def besides(
    row: Mapping[str, Any], key: str, lists: Sequence[tuple[str, str]], count: int
) -> Iterable[Mapping[str, Any]]:
    """Return for each of `count` passages what stands at its place in the parallel lists.

    Args:
        row: the row.
        key: of the list of passages.
        lists: (what an entry is called, key of the list).
        count: how many passages there are.

    Raises:
        RowError: a list is longer or shorter.
    """
    if not lists:
        return repeat(NOTHING)
    for _, name in lists:
        if len(row[name]) != count:
            raise RowError(
                f"has {len(row[name])} entries where {key!r} has {count}",
                field=name,
                hint=f"Give {name!r} one entry per passage, or another name if it is not parallel to {key!r}.",
            )
    names = [name for name, _ in lists]
    return [dict(zip(names, values, strict=True)) for values in zip(*(row[name] for _, name in lists), strict=True)]
