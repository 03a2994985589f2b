"""DPR's JSON: a question with its contexts, positive, hard negative and negative."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

from relabel.errors import RowError
from relabel.formats.base import Effects, content_id, identifier, kind
from relabel.formats.carrying import PLACE
from relabel.formats.twolists import Side, TwoLists, context
from relabel.records import Example, Passage

_LIST: Final = f"{PLACE}list"
_OTHERS: Final = Side("negative_ctxs", "negative_ctxs_")
_IDS: Final = ("passage_id", "psg_id", "id")
_TEXT_HINT: Final = "Write the context as an object with 'title', 'text' and 'passage_id'."


class Dpr(TwoLists):
    """`{"question", "answers", "positive_ctxs": [{"title", "text", "passage_id", …}], "hard_negative_ctxs", …}`.

    `negative_ctxs` are negatives like `hard_negative_ctxs`, and come after them; either list may be missing. Ids are
    `passage_id`, or `psg_id`, `id`.
    """

    __slots__ = ()

    name: ClassVar[str] = "dpr"
    shape: ClassVar[str] = "question, positive_ctxs [{title, text, passage_id}], hard_negative_ctxs, negative_ctxs"
    effects: ClassVar[Effects] = Effects(
        promote="The context moves whole, its scores with it, from its list to the end of positive_ctxs.",
        drop="The context leaves hard_negative_ctxs or negative_ctxs; the rest of the row stays.",
        emptied="The row stays with empty lists of negatives, which DPR's trainer takes.",
    )
    query_field: ClassVar[str] = "question"
    positive: ClassVar[Side] = Side("positive_ctxs", "positive_ctxs_")
    negative: ClassVar[Side] = Side("hard_negative_ctxs", "hard_negative_ctxs_")

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """Whether the question and its positives are there."""
        return self.query_field in row and self.positive.key in row

    def passage(self, item: Any, beside: Mapping[str, Any]) -> Passage:
        """Build a passage from its object; a missing or null title is none, a missing id becomes a digest."""
        if not isinstance(item, dict):
            raise RowError(f"is {kind(item)}, not an object", hint=_TEXT_HINT)
        text, title = item.get("text"), item.get("title")
        if not isinstance(text, str):
            problem = "is missing" if "text" not in item else f"is {kind(text)}, not text"
            raise RowError(problem, field="text", hint=_TEXT_HINT)
        if title is not None and not isinstance(title, str):
            raise RowError(f"is {kind(title)}, not text", field="title", hint=_TEXT_HINT)
        key = next((name for name in _IDS if item.get(name) is not None), "")
        known = identifier(item.get(key), key)
        return Passage(known or content_id(title or "", text), text, title or "", item, beside)

    def place(self, example: Example, passage: Passage) -> tuple[int, Passage]:
        """Return where another context goes: to the end of hard_negative_ctxs, before the others."""
        end, new = super().place(example, passage)
        if self.negative.key not in example.row:  # the row has negative_ctxs alone
            return end, replace(new, beside={**new.beside, _LIST: _OTHERS.key})
        return sum(_LIST not in each.beside for each in example.negatives), new

    def _item(self, passage: Passage, known: Any) -> Any:
        return context(passage, known, _IDS)

    def _negatives(self, row: Mapping[str, Any]) -> tuple[Passage, ...]:
        if _OTHERS.key not in row:
            return self._passages(row, self.negative)
        hard = self._passages(row, self.negative) if self.negative.key in row else ()
        others = self._passages(row, _OTHERS)
        return (*hard, *(replace(passage, beside={**passage.beside, _LIST: _OTHERS.key}) for passage in others))

    def _sides(self, example: Example) -> list[tuple[Side, Sequence[Passage]]]:
        if example.layout != self.name:
            return super()._sides(example)
        sides = (
            (self.positive, example.positives),
            (self.negative, [passage for passage in example.negatives if _LIST not in passage.beside]),
            (_OTHERS, [passage for passage in example.negatives if _LIST in passage.beside]),
        )
        return [(side, passages) for side, passages in sides if side.key in example.row]

    def _fresh(self, example: Example) -> dict[str, Any]:
        return {
            "question": example.query,
            "answers": example.row.get("answers", []),
            self.positive.key: [_item(passage) for passage in example.positives],
            self.negative.key: [_item(passage) for passage in example.negatives],
            _OTHERS.key: [],
        }


def _item(passage: Passage) -> dict[str, str]:
    return {"title": passage.title, "text": passage.text, "passage_id": passage.id}
