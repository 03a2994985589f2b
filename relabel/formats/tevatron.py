"""Tevatron's and RLHN's JSONL: passages with docid, title and text in two lists."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from relabel.errors import RowError
from relabel.formats.base import Effects, content_id, identifier, kind
from relabel.formats.twolists import Side, TwoLists, context
from relabel.records import Example, Passage

_TEXT_HINT: Final = "Write the passage as an object with 'docid', 'title' and 'text'."


class Tevatron(TwoLists):
    """`{"query_id", "query", "positive_passages": [{"docid", "title", "text"}], "negative_passages": […]}`.

    Lists named `positive_passage_…` and `negative_passage_…` (RLHN's `…_ids`) run parallel to the passages.
    """

    __slots__ = ()

    name: ClassVar[str] = "tevatron"
    shape: ClassVar[str] = "query, positive_passages [{docid, title, text}], negative_passages [{docid, title, text}]"
    effects: ClassVar[Effects] = Effects(
        promote="The passage moves whole, with its entries in parallel lists such as negative_passage_ids, from "
        "negative_passages to the end of positive_passages.",
        drop="The passage and its entries in parallel lists leave negative_passages; the rest of the row stays.",
        emptied="The row stays with an empty negative_passages, from which Tevatron's trainer cannot sample.",
    )
    positive: ClassVar[Side] = Side("positive_passages", "positive_passage_")
    negative: ClassVar[Side] = Side("negative_passages", "negative_passage_")

    def passage(self, item: Any, beside: Mapping[str, Any]) -> Passage:
        """Build a passage from its object; a missing or null title is none, a missing docid becomes a digest."""
        if not isinstance(item, dict):
            raise RowError(f"is {kind(item)}, not an object", hint=_TEXT_HINT)
        text, title = item.get("text"), item.get("title")
        if not isinstance(text, str):
            problem = "is missing" if "text" not in item else f"is {kind(text)}, not text"
            raise RowError(problem, field="text", hint=_TEXT_HINT)
        if title is None:
            title = ""
        elif not isinstance(title, str):
            raise RowError(f"is {kind(title)}, not text", field="title", hint=_TEXT_HINT)
        docid = identifier(item.get("docid"), "docid") or content_id(title, text)
        return Passage(docid, text, title, item, beside)

    def _item(self, passage: Passage, known: Any) -> Any:
        return context(passage, known, ("docid",))

    def _fresh(self, example: Example) -> dict[str, Any]:
        known = example.row.get("query_id")
        return {
            "query_id": example.id if known in (None, "") else known,
            "query": example.query,
            self.positive.key: [_item(passage) for passage in example.positives],
            self.negative.key: [_item(passage) for passage in example.negatives],
        }

    def _absent(self, passage: Passage, name: str) -> Any:
        """A list of ids needs no null: the passage knows its docid."""
        return passage.item.get("docid", passage.id) if name in {"id", "ids"} else None


def _item(passage: Passage) -> dict[str, str]:
    return {"docid": passage.id, "title": passage.title, "text": passage.text}
