"""The JSONL of BGE and FlagEmbedding: two lists of texts, with scores and ids beside them."""

from collections.abc import Mapping
from typing import Any, ClassVar

from relabel.errors import RowError
from relabel.formats.base import Effects, content_id, identifier, kind
from relabel.formats.twolists import Side, TwoLists
from relabel.records import Example, Passage


class Bge(TwoLists):
    """`{"query", "pos": [text], "neg": [text]}`, with lists named `pos_…` and `neg_…` parallel to the texts.

    Ids come from `pos_id`/`neg_id` (or `…_ids`) and `query_id` where they are. There is no title: a row made from
    another format has the title in front of the text, and the ids in `pos_id` and `neg_id`.
    """

    __slots__ = ()

    name: ClassVar[str] = "bge"
    shape: ClassVar[str] = "query, pos [text], neg [text]"
    effects: ClassVar[Effects] = Effects(
        promote="The text moves from neg to the end of pos, its score and other neg_… entries to the pos_… lists of "
        "the same name; a pos_… list that neg has no match for gets null, and no list is invented.",
        drop="The text leaves neg and its entries leave every neg_… list; the rest of the row stays.",
        emptied="The row stays with an empty neg, from which FlagEmbedding's trainer cannot sample.",
    )
    positive: ClassVar[Side] = Side("pos", "pos_")
    negative: ClassVar[Side] = Side("neg", "neg_")

    def passage(self, item: Any, beside: Mapping[str, Any]) -> Passage:
        """Build a passage from its text; without an id beside it, its id is a digest."""
        if not isinstance(item, str):
            raise RowError(f"is {kind(item)}, not text", hint="Write every passage as text between quotes.")
        known = identifier(beside.get("id", beside.get("ids")), "id") if beside else ""
        return Passage(known or content_id("", item), item, "", item, beside)

    def _item(self, passage: Passage, known: Any) -> Any:  # noqa: ARG002 - texts have one shape
        return passage.full_text

    def _fresh(self, example: Example) -> dict[str, Any]:
        return {
            "query": example.query,
            self.positive.key: [passage.full_text for passage in example.positives],
            self.negative.key: [passage.full_text for passage in example.negatives],
            "pos_id": [passage.id for passage in example.positives],
            "neg_id": [passage.id for passage in example.negatives],
        }
