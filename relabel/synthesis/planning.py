"""Which row is to get how many passages, by which recipes: a function of its content, the settings and the seed.

    row ─▶ how many it may use ─▶ how many are asked for ─▶ dealt among the recipes by weight ─▶ orders

Where a row stands in the file plays no part, nor what became of other rows: a resumed run orders the same.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import Final

from relabel.errors import SettingsError
from relabel.records import Example, Passage, chance, digest
from relabel.synthesis.marks import is_synthetic
from relabel.synthesis.recipes import RULES, Asked, Recipe, load_recipe
from relabel.synthesis.settings import Settings

NO_POSITIVE: Final = "no positive"
NO_TWIN: Final = "no mined negative"

_UNSPACED: Final = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
"""Letters of scripts that put no blanks between words (Thai, Lao, Kana, Han)."""
_FEWEST: Final = 5


@dataclass(frozen=True, slots=True)
class Order:
    """Passages that one request, or one text that is changed by rule, shall bring.

    Attributes:
        recipe: None where a passage is changed by rule, or where none of the recipes is for such a row.
        name: of the recipe.
        count: how many passages.
        asked: what the request shows and wants.
        slots: what the passages are called in the request, each once in a row and recipe; recordings are found by it.
        source: the positive that is changed by rule, or the mined negative that is mirrored.
        failure: why nobody can be asked; "" where somebody can.
    """

    recipe: Recipe | None
    name: str
    count: int
    asked: Asked | None = None
    slots: tuple[str, ...] = ()
    source: Passage | None = None
    failure: str = ""


def open_recipes(settings: Settings) -> Mapping[str, Recipe]:
    """Load the recipes in use, by what the settings call them.

    Raises:
        TemplateError: one cannot be used, or writes no passages.
        SettingsError: two go by one name.
    """
    recipes = {name: load_recipe(name, "write") for name in settings.asks}
    names = [recipe.name for recipe in recipes.values()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingsError(f"two recipes call themselves {twice!r}", hint="give one of the files another `name:`")
    return MappingProxyType(recipes)


def wanted(example: Example, settings: Settings) -> int:
    """Return how many synthetic negatives a row may use: fewer than `below` lacks, plus `add`, within its share.

    With m mined ones and at most the share s, m · s / (1 − s), less those that it holds already and that say so. A row
    without mined ones gets none, unless `alone`.
    """
    made = sum(is_synthetic(each) for each in example.negatives)
    mined = len(example.negatives) - made
    want = max(0, settings.below - len(example.negatives)) + settings.add
    share = settings.max_share.row
    if not mined:
        return want if settings.alone else 0
    return want if share >= 1 else max(0, min(want, math.floor(mined * share / (1 - share) + 1e-9) - made))


def content(example: Example, seed: int) -> str:
    """Return what the dice know of a row: a digest of its texts and the seed, not its place nor its ids."""
    texts = [part for each in (*example.positives, *example.negatives) for part in (each.title, each.text)]
    return digest(str(seed), example.query, str(len(example.positives)), *texts).hex()


def plan(example: Example, settings: Settings, recipes: Mapping[str, Recipe]) -> list[Order]:
    """Return what is ordered for a row; its counts sum to `oversample` times what it may use, rounded up.

    Args:
        example: the row.
        settings: weights, numbers and seed.
        recipes: those in use, see `open_recipes`.
    """
    count = math.ceil(wanted(example, settings) * settings.oversample - 1e-9)
    if not count:
        return []
    key = content(example, settings.seed)
    weights = {name: weight for name, weight in settings.recipes.items() if weight}
    lacks = {name: _lack(recipes.get(name), example) for name in weights}
    able = {name: weight for name, weight in weights.items() if not lacks[name]}
    orders: list[Order] = []
    for name, share in _dealt(able or weights, count, key).items():
        recipe = recipes.get(name)
        called = recipe.name if recipe is not None else RULES
        if lacks[name]:
            orders.append(Order(None, called, share, failure=lacks[name]))
        elif recipe is None:
            orders += _by_rule(example, settings, share, key)
        else:
            orders += _by_model(recipe, example, settings, share, key)
    return orders


def shown(recipe: Recipe, example: Example, settings: Settings) -> Asked | None:
    """Return what a recipe's first request for a row would show; None where the row lacks it, see `Order.failure`."""
    if recipe.kind == "query":
        known = _texts(example.positives)[:1]
        drawn = {name: values[0] for name, values in recipe.vary.items()}
        return Asked(recipe.form(settings.queries), reference=tuple(known), drawn=drawn) if known else None
    if _lack(recipe, example):
        return None
    return next(_by_model(recipe, example, settings, settings.at_once, example.query)).asked


def _lack(recipe: Recipe | None, example: Example) -> str:
    """Say what of a row is not there that a recipe shows; None is the recipe that changes a positive by rule."""
    if (recipe is None or recipe.reference) and not _texts(example.positives):
        return NO_POSITIVE
    return NO_TWIN if recipe is not None and recipe.twin and not _texts(example.negatives) else ""


def _texts(passages: Sequence[Passage]) -> list[Passage]:
    return [each for each in passages if each.text.strip()]


def _dealt(weights: Mapping[str, float], count: int, key: str) -> dict[str, int]:
    """Deal places by weight: each recipe gets its share, rounded up or down by the dice (systematic sampling)."""
    bounds = list(accumulate(weights.values()))
    start = chance("deal", key)
    names = list(weights)
    dealt = dict.fromkeys(names, 0)
    for place in range(count):
        point = (place + start) / count * bounds[-1]
        found = next((i for i, bound in enumerate(bounds) if point < bound), len(names) - 1)
        dealt[names[found]] += 1
    return {name: share for name, share in dealt.items() if share}


def _shuffled(passages: Sequence[Passage], *parts: str) -> list[Passage]:
    """Return passages in an order that depends on their texts and the dice alone; equal ones once."""
    distinct = {digest(each.title, each.text): each for each in _texts(passages)}
    return [distinct[key] for key in sorted(distinct, key=lambda key: chance("shuffle", key.hex(), *parts))]


def _by_rule(example: Example, settings: Settings, count: int, key: str) -> Iterator[Order]:
    """Divide passages that are changed by rule among the positives that would be shown."""
    sources = _shuffled(example.positives[: settings.reference], key) or _texts(example.positives)[:1]
    for number, source in enumerate(sources):
        share = count // len(sources) + (number < count % len(sources))
        if share:
            yield Order(None, RULES, share, source=source)


def _by_model(recipe: Recipe, example: Example, settings: Settings, count: int, key: str) -> Iterator[Order]:
    """Divide passages that a model writes into requests."""
    most = settings.at_once if recipe.several else 1
    twins = _shuffled(example.negatives, key, recipe.name) if recipe.twin else []
    models = _texts(example.negatives) or _texts(example.positives)
    reference = tuple(example.positives[: settings.reference]) if recipe.reference else ()
    for number, begin in enumerate(range(0, count, most)):
        share = min(most, count - begin)
        twin = twins[number % len(twins)] if twins else None
        drawn = {
            name: values[int(chance("vary", key, recipe.name, name, str(number)) * len(values))]
            for name, values in recipe.vary.items()
        }
        # as long as the passages that it will stand among: else length alone tells it from them
        model = twin or (models and models[int(chance("words", key, recipe.name, str(number)) * len(models))])
        titled = bool(twin.title) if twin else 2 * sum(bool(each.title) for each in models) > len(models)
        turn = 1 + (number // len(twins) if twins else number)
        asked = Asked(
            recipe.form(share, titled=titled), example.query, reference, twin, words_of(model.text if model else ""),
            turn, MappingProxyType(drawn),
        )  # fmt: skip
        yield Order(recipe, recipe.name, share, asked, _slots(begin, share, twin, turn), twin)


def _slots(begin: int, count: int, twin: Passage | None, turn: int) -> tuple[str, ...]:
    """Name the passages of a request: by number within row and recipe, a twin by the passage that it mirrors."""
    if twin is not None and count == 1:
        return (twin.id if turn == 1 else f"{twin.id}:{turn}",)
    return tuple(str(begin + i) for i in range(1, count + 1))


def words_of(text: str) -> int:
    """Return how long a text is in words, 5 at the least; two letters count as one where no blanks divide words."""
    return max(_FEWEST, len(_UNSPACED.sub(" ", text).split()) + len(_UNSPACED.findall(text)) // 2)
