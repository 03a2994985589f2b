"""What tokens cost: arithmetic to the picodollar, list prices, a user's own file, and the forecast made of them."""

from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage as Tokens
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as some
from pydantic import ValidationError
from rows import training_file

from relabel import api, building, config, engine_settings, forecast, sources
from relabel.engines.prices import price_of
from relabel.errors import SettingsError
from relabel.money import PICO, Bill, Price, Rates
from relabel.pricefile import PriceFile
from relabel.protocols import Message, Usage
from relabel.tokens import cached_tokens, tokens

DOLLARS = some.integers(0, 10**8).map(lambda micro: micro / 10**6)
"""US dollars per million tokens with at most six decimals."""

COUNTS = some.integers(0, 10**6)


def exactly(dollars: float) -> Fraction:
    """Return a price as it is written."""
    return Fraction(f"{dollars:.6f}")


@given(DOLLARS, DOLLARS, DOLLARS, some.lists(some.tuples(COUNTS, COUNTS, COUNTS), max_size=20))
def test_a_bill_is_exact(read: float, written: float, cached: float, replies: list[tuple[int, int, int]]) -> None:
    """A sum over replies is what exact fractions make of it, whatever the prices: nothing is rounded."""
    price = Price(read, written, cached)
    usages = [Usage(count, out, min(count, again)) for count, out, again in replies]
    picos = [price.pico(usage) for usage in usages]
    expected = sum(
        exactly(read) * (usage.tokens_in - usage.tokens_cached)
        + exactly(cached) * usage.tokens_cached
        + exactly(written) * usage.tokens_out
        for usage in usages
        if usage.tokens_in is not None and usage.tokens_cached is not None and usage.tokens_out is not None
    )
    assert Fraction(sum(pico or 0 for pico in picos), PICO) == expected / 10**6


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_no_kind_of_token_is_counted_twice(count: int, out: int, cached: int, stored: int) -> None:
    """Where all tokens cost the same, it does not matter which came from the cache, and which went into it."""
    cached = min(cached, count)
    price = Price(3.0, 3.0, 3.0)
    assert price.pico(Usage(count, out, cached, None, stored)) == (count + out) * 3 * 10**6


def test_a_long_prompt_has_its_own_price() -> None:
    """A tier holds for all tokens of a request whose prompt is longer; the last one that applies counts."""
    price = Price(1.0, 2.0, 0.5, tiers=((100, Rates(2.0, 4.0, 1.0)), (200, Rates(8.0, 8.0, 8.0))))
    assert [price.pico(Usage(count, 10)) for count in (100, 101, 201)] == [120 * 10**6, 242 * 10**6, 211 * 8 * 10**6]
    assert str(price).startswith("$1 in, $0.5 cached, $2 out per million tokens, a prompt of more than 100 tokens more")
    assert not Price(0.0, 0.0, 0.0, tiers=((100, Rates(2.0, 4.0, 1.0)),)).free
    assert Price(0.0, 0.0, 0.0).free


def test_bills_add_up_and_stay_unknown() -> None:
    """A sum of which one cost is unknown is unknown, until a price is given; a free reply needs no count."""
    one, other = (
        Bill(asked=1, counted=1, tokens_in=10, tokens_out=1, pico=7),
        Bill(2, counted=2, tokens_in=5, pico=None),
    )
    both = one + other
    assert (both.asked, both.tokens_in, both.pico, both.usd) == (3, 15, None, None)
    assert other.priced(Price(2.0, 0.0, 0.0)).pico == 10 * 10**6
    assert one.priced(Price(2.0, 0.0, 0.0)) == one
    assert (Bill(uncounted=1).usd, Bill(uncounted=1, guessed_pico=5).usd) == (0.0, None)


# --- list prices ---


@pytest.mark.parametrize("usage", [Usage(1000, 100, 0), Usage(300_000, 10, 200_000), Usage(5, 7, 5)])
@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4o-mini", "gpt-5.4", "gpt-4.1-mini", "gpt-4o-2024-05-13"])
@pytest.mark.parametrize("batch", [False, True])
def test_list_prices_are_the_packages(model: str, usage: Usage, *, batch: bool) -> None:
    """Tiers, cache and batches cost what genai-prices makes of the same tokens."""
    price = price_of(model, batch=batch)
    counts = Tokens(input_tokens=usage.tokens_in, output_tokens=usage.tokens_out, cache_read_tokens=usage.tokens_cached)
    found = calc_price(
        counts, model, provider_id="openai", genai_request_timestamp=datetime.now(UTC),
        price_context={"processing": "batch"} if batch else None,
    )  # fmt: skip
    assert price is not None
    assert (price.pico(usage) or 0) / PICO == pytest.approx(float(found.total_price))
    assert f"openai {found.model.id} on {datetime.now(UTC):%Y-%m-%d}" in price.origin


def test_a_batch_without_a_list_price_of_its_own_costs_half() -> None:
    """What is read and written; the price says so."""
    at_once, batch = price_of("gpt-3.5-turbo-1106"), price_of("gpt-3.5-turbo-1106", batch=True)
    openrouter = price_of("openai/gpt-4o-mini", "https://openrouter.ai/api/v1", batch=True)
    assert at_once is not None
    assert batch is not None
    assert (batch.input, batch.output) == (at_once.input / 2, at_once.output / 2)
    assert openrouter is not None
    assert openrouter.origin.startswith("half of the list price of openrouter")


# --- a file of prices ---

FILE = """\
gpt-4o-mini: {input: 1, output: 2, cached_input: 0.9}
ours:
  - {base_url: "https://llm.example.com/v1/", input: 3, output: 4, batch_discount: 0.25}
  - {input: 5, output: 6, batch_input: 1, batch_output: 2, tiers: [{above: 1000, input: 10, output: 12}]}
gratis: {input: 0, output: 0}
"""


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    """Write a file of prices."""
    path = tmp_path / "prices.yaml"
    path.write_text(FILE, "utf-8")
    return path


def test_a_cached_token_in_a_batch(tmp_path: Path) -> None:
    """A batch halves what is read and written; a cached token costs what it does, yet no more than any other."""
    path = tmp_path / "prices.yaml"
    path.write_text(
        "one: {input: 0.15, cached_input: 0.05, output: 0.6}\ntwo: {input: 1, cached_input: 0.9, output: 2}\n"
    )
    file = PriceFile.load(path)
    assert file.find("one", None, batch=True) == Price(0.075, 0.3, 0.05)
    assert file.find("two", None, batch=True) == Price(0.5, 1, 0.5)


def test_a_file_of_prices(prices: Path) -> None:
    """A price for a server goes before one for all; without a price for cached tokens, they cost like others."""
    file = PriceFile.load(prices)
    assert file.find("gpt-4o-mini", None) == Price(1, 2, 0.9)
    assert file.find("gpt-4o-mini", "https://openrouter.ai/api/v1", batch=True) == Price(0.5, 1, 0.5)
    assert file.find("ours", "https://LLM.example.com/v1") == Price(3, 4, 3)
    assert file.find("ours", "https://llm.example.com/v1", batch=True) == Price(2.25, 3, 2.25)
    assert file.find("ours", None) == Price(5, 6, 5, tiers=((1000, Rates(10, 12, 10)),))
    batch = file.find("ours", None, batch=True)
    assert batch == Price(1, 2, 1, tiers=((1000, Rates(5, 6, 5)),))
    assert batch is not None
    assert batch.origin == f"{prices}, ours, as a batch"
    assert file.find("another", None) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("m: {input: -1, output: 2}", "line 1: m.input: Input should be greater than or equal to 0"),
        ("m: {input: .nan, output: 2}", "line 1: m.input: Input should be a finite number"),
        ("m: {input: .inf, output: 2}", "line 1: m.input: Input should be a finite number"),
        ("a: {input: 1, output: 1}\nm:\n  input: 1\n  output: two", "line 4: m.output: Input should be a valid number"),
        ("m: {input: 1}", "line 1: m.output: Field required"),
        ("m:\n  input: 1\n  output: 1\n  cahed_input: 1", "line 4: m.cahed_input: there is no such field here"),
        ("m:\n- {input: 1, output: 1}\n- {input: 2, output: 2}", "line 3: m.1: this model has two prices"),
        ("m: {input: 1, output: 1, batch_discount: 1.5}", "line 1: m.batch_discount: Input should be less than or"),
        ("m: {input: 1, output: 1, base_url: 'http://me:secret@h/v1'}", "line 1: m.base_url: this holds a user name"),
        ("m: free", "line 1: m: fields are expected, {name: value, …}"),
        ("m: {input: 1, output: 1}\nm: {input: 1, output: 1}", "line 2: not YAML: 'm' stands twice"),
        ("m: 3", "line 1: m: fields are expected, {name: value, …}"),
        ("m: {input: 10000000000000.0, output: 1}", "line 1: m.input: Input should be less than or equal to 1000000"),
        ("m: {input: 0.00000015, output: 1}", "line 1: m.input: prices are in US dollars per million tokens"),
        ("m: {input: 1, output: 1, batch_output: 1.0e-7}", "line 1: m.batch_output: prices are in US dollars per mill"),
        (
            "m:\n  input: 1\n  output: 1\n  tiers: [{above: 9, input: 1, output: 1}, {above: 9, input: 2, output: 1}]",
            "line 1: m: two tiers are for prompts above 9 tokens",
        ),
        ("m: {input: 1, output: 1, base_url: 'http://h/v1?key=secret'}", "line 1: m.base_url: an address ends with it"),
        ("- m", "a file of prices is a mapping of models"),
        ("m: {input: 1", "line 1: not YAML"),
    ],
)
def test_what_is_wrong_with_a_file_of_prices_is_said(text: str, said: str, tmp_path: Path) -> None:
    """File, line and field; a password in an address is not repeated."""
    path = tmp_path / "prices.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError) as error:
        PriceFile.load(path)
    assert said in error.value.message
    assert "instance of" not in error.value.message
    assert "MODEL: {input: " in error.value.hint
    assert "secret" not in str(error.value)


def test_half_of_the_least_price_is_a_price(tmp_path: Path) -> None:
    """A discount may lead below what anybody may write."""
    path = tmp_path / "prices.yaml"
    path.write_text("m: {input: 0.0001, output: 0.0002, cached_input: 0}", "utf-8")
    assert PriceFile.load(path).find("m", None, batch=True) == Price(0.00005, 0.0001, 0.0)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is said, with the option that names another."""
    with pytest.raises(SettingsError, match="cannot read the prices"):
        PriceFile.load(tmp_path / "prices.yaml")


def test_which_price_counts(prices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's own, then the file's, then the list's; another server in the environment is not OpenAI."""
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)

    def batch_of(model: str, **settings: Any) -> engine_settings.OpenAIBatch:
        return engine_settings.OpenAIBatch(kind="openai_batch", model=model, **settings)

    own: dict[str, Any] = {"price": engine_settings.Price(input=7, output=8)}
    mini, listed = (
        engine_settings.OpenAI(model="gpt-4o-mini"),
        building.price(engine_settings.OpenAI(model="gpt-4o-mini")),
    )
    assert listed == Price(0.15, 0.6, 0.075)
    assert building.price(mini, str(prices)) == Price(1, 2, 0.9)
    assert building.price(mini.model_copy(update=own), str(prices)) == Price(7, 8, 7)
    for model in ("gpt-4o-mini", "ours"):
        batch = batch_of(model)
        expected = PriceFile.load(prices).find(model, None, batch=True)
        assert building.price(batch, str(prices)) == expected
    assert building.price(batch_of("gpt-4o-mini")) == Price(0.075, 0.3, 0.075)
    assert building.price(batch_of("gpt-4o-mini", **own)) == Price(7, 8, 7)  # as it stands there
    flex = engine_settings.OpenAI(model="gpt-5-mini", extra_body={"service_tier": "flex"})
    plain = building.price(engine_settings.OpenAI(model="gpt-5-mini"))
    cheaper = building.price(flex)
    assert plain is not None
    assert cheaper is not None
    assert cheaper.input < plain.input
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert building.price(mini) is None


@pytest.mark.parametrize(
    "price",
    [
        {"input": -1, "output": 1},
        {"input": float("nan"), "output": 1},
        {"input": 1},
        {"input": 1, "output": 1e13},
        {"input": 1.5e-7, "output": 6e-7},
        {"input": 1, "output": 1, "cache_write": 9e-5},
    ],
)
def test_a_price_in_a_config_is_checked(price: dict[str, float]) -> None:
    """Negative, no number, incomplete, more than a dollar for a token, that of one token."""
    with pytest.raises(ValidationError):
        engine_settings.Price.model_validate(price)


# --- before a run ---


def test_what_is_cached_is_what_the_prompt_before_begins_with() -> None:
    """From 1,024 tokens on, in steps of 128; another first message, or nothing before: nothing."""
    head, tail = Message("system", "s" * 400), Message("user", "u" * 8000)
    assert cached_tokens((head, tail), (head, Message("user", "u" * 5000 + "v"))) == 104 + 1250 - (104 + 1250) % 128
    assert cached_tokens((head, tail), (head, Message("user", "u" * 3600 + "v"))) == 0
    assert cached_tokens((head, tail), (Message("system", "t"), tail)) == 0
    assert cached_tokens((), (head, tail)) == 0
    assert cached_tokens((head, tail), (head, tail)) <= tokens((head, tail))


def test_a_forecast_says_what_it_is_made_of(prices: Path, tmp_path: Path) -> None:
    """Dollars at most with each price's origin, cached tokens apart, and when the cascade is worth it."""
    source = training_file(tmp_path / "train.jsonl", 3, negatives=4)
    engine = {"kind": "openai", "model": "gpt-4o-mini", "base_url": "http://127.0.0.1:9/v1"}
    stages = [
        {"judge": "llm", "name": name, "prompt": "relevance", "engine": engine | {"model": model}}
        for name, model in (("cheap", "gpt-4o-mini"), ("strong", "ours"))
    ]
    settings = config.Settings.model_validate({"stages": stages, "prices": str(prices)})
    found = forecast.check(sources.open_source(source), settings)
    cheap, strong = found.models
    assert cheap.price.endswith(f"{prices}, gpt-4o-mini")
    assert cheap.usd == pytest.approx((cheap.tokens_in + 2 * cheap.tokens_out) / 1e6)
    assert strong.usd == pytest.approx((5 * strong.tokens_in + 6 * strong.tokens_out) / 1e6)
    assert cheap.usd is not None
    assert cheap.usd_cached is not None
    assert cheap.usd_cached <= cheap.usd
    assert strong.usd is not None
    assert found.break_even == pytest.approx(1 - cheap.usd / strong.usd)
    unknown = forecast.check(sources.open_source(source), settings.model_copy(update={"prices": None}))
    assert ([stage.usd for stage in unknown.models], unknown.break_even) == ([None, None], None)


def test_the_path_of_a_price_file_is_relative_to_the_config(prices: Path, tmp_path: Path) -> None:
    """As every path in a config is; the option is relative to where it is typed, and goes before."""
    path = tmp_path / "cascade.yaml"
    path.write_text("prices: prices.yaml\nstages: [rules]\n", "utf-8")
    assert api.load_config(path).prices == str(prices.resolve())
    assert api.load_config(path, prices=tmp_path / "other.yaml").prices == str((tmp_path / "other.yaml").resolve())
