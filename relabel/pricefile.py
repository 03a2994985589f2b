"""A user's own list of prices: one YAML file → what a model costs, at whichever server.

    gpt-4o-mini: {input: 0.15, cached_input: 0.075, output: 0.60}
    our-model:
      - {base_url: "https://llm.example.com/v1", input: 0.05, output: 0.20, batch_discount: 0.3}
      - {input: 0.10, output: 0.40, batch_input: 0.04, batch_output: 0.15}

US dollars per million tokens. A price with a `base_url` is for that server alone, and goes before one without.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from pydantic import Field, ValidationError, field_validator

from relabel.engine_settings import Dollars, check_address
from relabel.engine_settings import Price as Written
from relabel.errors import SettingsError
from relabel.money import Price, Rates
from relabel.yamltext import problems, read_yaml

HINT: Final = "a line of it reads: MODEL: {input: 0.15, cached_input: 0.075, output: 0.60}  (US $ per million tokens)"


class Listed(Written):
    """A model's price, and what a batch of requests costs: so many dollars, or so much less (half, unless told)."""

    base_url: str | None = None
    batch_input: Dollars | None = None
    batch_output: Dollars | None = None
    batch_discount: float = Field(default=0.5, ge=0, le=1)

    @field_validator("base_url")
    @classmethod
    def _an_address(cls, base_url: str | None) -> str | None:
        if base_url is not None:
            check_address(base_url)
        return base_url

    def of_batch(self) -> Written:
        """Return the price within a batch; a token from the cache costs what it did, yet no more than others."""
        left = 1 - self.batch_discount
        read = self.input * left if self.batch_input is None else self.batch_input
        return Written.model_construct(  # half of the least price is a price
            input=read,
            output=self.output * left if self.batch_output is None else self.batch_output,
            cached_input=None if self.cached_input is None else min(self.cached_input, read),
            cache_write=None if self.cache_write is None else self.cache_write * left,
            tiers=[
                tier.model_copy(
                    update={
                        "input": tier.input * left,
                        "output": tier.output * left,
                        "cached_input": None
                        if tier.cached_input is None
                        else min(tier.cached_input, tier.input * left),
                    }
                )
                for tier in self.tiers
            ],
        )


@dataclass(frozen=True, slots=True)
class PriceFile:
    """The prices of a file, by model."""

    name: str
    models: Mapping[str, tuple[Listed, ...]]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file of prices.

        Raises:
            SettingsError: with every problem of the file, each with its line and field.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"cannot read the prices in {path}: {error}",
                hint="name another file: `prices:` in the settings, or --prices FILE where there is that option",
            ) from error
        data, tree = read_yaml(text, str(path), hint=HINT)
        if not isinstance(data, dict):
            raise SettingsError(f"{path}: a file of prices is a mapping of models", hint=HINT)
        models: dict[str, tuple[Listed, ...]] = {}
        errors: list[dict[str, Any]] = []
        for model, told in data.items():
            models[str(model)] = tuple(_entries(str(model), told, errors))
        if errors:
            raise SettingsError("\n".join(problems(errors, tree, str(path), frozenset())), hint=HINT)
        return cls(str(path), models)

    def find(self, model: str, base_url: str | None, *, batch: bool = False) -> Price | None:
        """Return what a model costs at a server, None where the file does not say."""
        known = {_plain(each.base_url): each for each in self.models.get(model, ())}
        listed = known.get(_plain(base_url)) or known.get("")
        if listed is None:
            return None
        origin = f"{self.name}, {model}"
        return price_as_written(listed.of_batch() if batch else listed, f"{origin}, as a batch" if batch else origin)


def _entries(model: str, told: Any, errors: list[dict[str, Any]]) -> Iterator[Listed]:
    """Yield the prices of one model, one for each server; what is wrong with them is added to `errors`."""
    seen: set[str] = set()
    for place, entry in enumerate(told) if isinstance(told, list) else [(None, told)]:
        where = (model,) if place is None else (model, place)
        try:
            listed = Listed.model_validate(entry)
        except ValidationError as error:
            errors += [{**each, "loc": (*where, *each["loc"])} for each in error.errors()]
            continue
        if (server := _plain(listed.base_url)) in seen:
            errors.append({"type": "twice", "loc": where, "msg": "this model has two prices at the same base_url"})
        seen.add(server)
        yield listed


def _plain(base_url: str | None) -> str:
    return (base_url or "").rstrip("/").casefold()


def price_as_written(written: Written, origin: str) -> Price:
    """Return the price that somebody wrote: without a price of its own, a token from the cache costs like any other."""

    def cached(each: Any) -> float:
        return float(each.input if each.cached_input is None else each.cached_input)

    tiers = sorted(written.tiers, key=lambda tier: tier.above)
    return Price(
        written.input,
        written.output,
        cached(written),
        written.cache_write,
        tiers=tuple((tier.above, Rates(tier.input, tier.output, cached(tier))) for tier in tiers),
        origin=origin,
    )
