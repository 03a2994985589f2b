"""Queries for those who have passages and none: passage → query by a model → a row whose positive is the passage.

The rows have no negatives: these are mined, or written by the other recipes with `alone: true`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from relabel.errors import SettingsError, TemplateError
from relabel.protocols import Request
from relabel.records import Passage, chance, digest
from relabel.synthesis.recipes import Asked, Recipe, load_recipe
from relabel.synthesis.settings import Settings
from relabel.synthesis.writing import TOO_LONG, Correspondence

QUERIES: Final = "queries"
"""What this writing is called among the stages of a run."""


@dataclass(frozen=True, slots=True)
class Question:
    """One query that was asked for: its text, or why there is none.

    Attributes:
        passage: that it is for.
        query: "" where `failure` says why there is none.
        failure: "refused", "unreadable", "cut off", "failed", "missing", "too long", …
        generator: the model.
        detail: what the dice chose of what the recipe varies.
        probability: that the model gave it among several, in [0, 1].
        reply: address of the raw reply.
    """

    passage: Passage
    query: str = ""
    failure: str = ""
    generator: str = ""
    detail: str = ""
    probability: float | None = None
    reply: str = ""

    def row(self) -> Mapping[str, Any]:
        """Return a training row in Tevatron's form, without negatives; its id depends on query and passage alone."""
        passage = self.passage
        name = digest(self.query, passage.title, passage.text, size=8).hex()
        positive = {"docid": passage.id, "title": passage.title, "text": passage.text}
        told = {"generator": self.generator, "detail": self.detail}
        return {
            "query_id": f"synthetic-{name}", "query": self.query, "positive_passages": [positive],
            "negative_passages": [], "synthetic": told,
        }  # fmt: skip


class QueryWriter:
    """Who writes queries for passages.

    Args:
        settings: recipe, how many for a passage, and seed.
        recipe: of kind `query`, see `open_recipe`.
        post: how the engine is asked.
    """

    def __init__(self, settings: Settings, recipe: Recipe, post: Correspondence) -> None:
        self._settings, self._recipe, self._post = settings, recipe, post

    def ask(self, passages: Iterable[Passage]) -> None:
        """Have all queries written; memory does not grow with the passages. Empty passages are left out.

        Raises:
            ServiceError: the service cannot go on; the store keeps what was answered, and the same call goes on there.
            BudgetReached: likewise, where a limit is met.
        """
        self._post.ask(
            request for each in passages for asked in self._asked(each) if (request := self._request(each, asked))
        )

    def written(self, passage: Passage) -> Iterator[Question]:
        """Yield one entry for each query that was asked for, in the requests' order; asks nobody."""
        for asked in self._asked(passage):
            request = self._request(passage, asked)
            blank = Question(passage, generator=self._settings.generator)
            detail = "; ".join(f"{name}: {value}" for name, value in asked.drawn.items())
            if request is None:
                yield from [replace(blank, failure=TOO_LONG)] * asked.form.count
                continue
            for draft in self._post.drafts(asked.form, request):
                yield replace(
                    blank, query=draft.text, failure=draft.failure, detail="" if draft.failure else detail,
                    probability=draft.probability, reply=request.address,
                )  # fmt: skip

    def _asked(self, passage: Passage) -> Iterator[Asked]:
        if not passage.text.strip():
            return
        recipe, count = self._recipe, self._settings.queries
        most = count if recipe.several else 1
        for turn, begin in enumerate(range(0, count, most), start=1):
            drawn = {
                name: values[int(chance(str(self._settings.seed), name, passage.text, str(turn)) * len(values))]
                for name, values in recipe.vary.items()
            }
            form = recipe.form(min(most, count - begin))
            yield Asked(form, reference=(passage,), turn=turn, drawn=MappingProxyType(drawn))

    def _request(self, passage: Passage, asked: Asked) -> Request | None:
        begin = (asked.turn - 1) * asked.form.count
        slots = tuple(str(begin + i) for i in range(1, asked.form.count + 1))
        try:
            return self._post.request(self._recipe, asked, passage.id, slots)
        except TemplateError:
            return None


def open_recipe(settings: Settings) -> Recipe:
    """Load the recipe that writes queries.

    Raises:
        TemplateError: it cannot be used, or writes no queries.
        SettingsError: nobody is named who could.
    """
    recipe = load_recipe(settings.query, "query")
    if settings.engine is None:
        raise SettingsError(
            "queries are written by a model, and none is named", hint="write engine: {…} into a file: -c"
        )
    return recipe
