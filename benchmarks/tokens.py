"""Count the tokens that RLHN's prompt and ours are billed for on RLHN's own judged sample, and what a cascade saves.

50 queries with 1,000 negatives, judged by gpt-4o-mini (stage 1) and, where that flagged one, by gpt-4o (stage 2); the
recorded replies are at hand. Every prompt is rendered and counted; no model is asked. What is written back is the same
recorded verdict in the form that each prompt asks for, and where reasons are asked for, the recorded lines of reason:
of all documents in RLHN's reply, of the flagged ones in ours.

  RLHN's prompt   its published layout: instructions, question, all positives, documents, in one message. The words are
                  not repeated here; they count as many tokens as they have (o200k_base)
  rlhn, verdict   relabel's group prompts, with and without reasons, at most three positives
  relevance       relabel's pair prompt: one token comes back

"cached" follows OpenAI's rule for models before GPT-5.6: a prompt of 1,024 tokens or more is served from the cache as
far as an earlier one began alike, in whole steps of 128 and from 1,024 on. Nothing is thought to be evicted, and every
request to find what the one before left: the most that a cache can do.

Dollars are list prices of genai-prices, without batch discount. The published table is RLHN's (arXiv 2505.16967, Tables
1 and 2); its dollars are estimates with 2,048 tokens for each reply. Recomputed from it are the rates: a cascade costs
c1 + s·c2 a query, the strong judge alone c2, where s is the share of queries that go up. What flagged pairs alone would
save there carries the sample's ratios of dollars over to it: 25 queries of a set, so take it as the order of magnitude.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from relabel import sources
from relabel.cascade import open_case
from relabel.engines.prices import price_of
from relabel.errors import RelabelError
from relabel.judges.llm import LLMJudge
from relabel.money import PICO, Price
from relabel.prompts import load_template
from relabel.protocols import Message, Reply, Request
from relabel.records import NOTHING, Case, Judgment, Label, Pair
from relabel.replies import Answer, read_reply

MINI: Final = "gpt-4o-mini"
STRONG: Final = "gpt-4o"
SETS: Final = {"msmarco_passage": "MS MARCO", "fiqa": "FiQA"}
INSTRUCTIONS: Final = {MINI: 592, STRONG: 621}
"""Tokens of RLHN's published instructions before the question, by o200k_base (rlhn/prompts.py at fa28a16c)."""

WHOLE: Final = "RLHN's prompt, whole queries"

FRAME, END = 4, 3
"""Tokens that the chat format puts around a message and at the end of a prompt, as OpenAI's cookbook counts them."""

LEAST, STEP = 1024, 128
"""OpenAI's cache: the shortest prompt and beginning, and the step."""

SOURCE: Final = """\
The folder holds the four JSONL files of judged rows that RLHN's authors publish beside their code
(https://github.com/castorini/rlhn, Apache-2.0; texts: MS MARCO and FiQA), see rlhn_sample.py. tiktoken's vocabulary
o200k_base is downloaded on first use, or found in the folder that TIKTOKEN_CACHE_DIR names; without it a token is four
characters, and the table says so.
"""


@dataclass(frozen=True, slots=True)
class Published:
    """A row of RLHN's Tables 1 and 2: queries, those that stage 1 flagged, dollars of both stages, saving in %."""

    queries: int
    flagged: int
    first: float
    second: float
    saving: int

    def saves(self, first: float = 1.0, second: float = 1.0) -> float:
        """Return what the cascade saves of the strong judge alone, its stages at these shares of their dollars."""
        alone = self.second / self.flagged * self.queries
        return 1 - (self.first * first + self.second * second) / alone


PUBLISHED: Final = {
    "MS MARCO": Published(485_823, 391_965, 180.40, 2431.98, 13),
    "HotpotQA": Published(84_516, 11_268, 43.35, 97.26, 81),
    "NQ": Published(58_568, 32_184, 37.41, 345.08, 39),
    "FEVER": Published(29_096, 7_764, 22.67, 103.99, 67),
    "SCIDOCS-RR": Published(12_655, 2_068, 9.07, 24.81, 78),
    "FiQA": Published(5_500, 3_632, 3.60, 40.17, 28),
}
TOTAL_SAVING: Final = 33

KNOWN: Final = {WHOLE: (189.0, 48.0), "verdict": (177.0, 1.65)}
"""Tokens in and out for each pair at stage 1 by o200k_base, to within 5 %."""


class Counter:
    """Texts → tokens: o200k_base where its vocabulary is at hand, else four characters a token."""

    def __init__(self, *, characters: bool = False) -> None:
        self._encode: Callable[[str], Sequence[int]] = _fours
        self.name = "characters / 4"
        if not characters:
            try:
                import tiktoken

                self._encode, self.name = tiktoken.get_encoding("o200k_base").encode_ordinary, "o200k_base"
            except Exception:  # noqa: BLE001, S110 - not installed, no network, no vocabulary: all the same here
                pass

    def ids(self, text: str) -> list[int]:
        """Return a text's tokens; equal tokens, equal numbers."""
        return list(self._encode(text))

    def prompt(self, messages: Iterable[Message]) -> list[int]:
        """Return a prompt's tokens, those of the chat format among them."""
        return [token for each in messages for token in (*[-1] * FRAME, *self.ids(each.content))] + [-1] * END


def _fours(text: str) -> list[int]:
    return [hash(text[start : start + 4]) for start in range(0, len(text), 4)]


class OpenAICache:
    """What OpenAI's prompt cache serves as long as nothing is evicted."""

    def __init__(self) -> None:
        self._known: set[tuple[int, int]] = set()

    def served(self, tokens: Sequence[int]) -> int:
        """Return how many tokens of a prompt come from the cache, and keep the prompt there."""
        if len(tokens) < LEAST:
            return 0
        known, chain, alike = 0, 0, True
        for end in range(STEP, len(tokens) + 1, STEP):
            chain = hash((chain, *tokens[end - STEP : end]))
            alike = alike and (end, chain) in self._known
            known += STEP * alike
            self._known.add((end, chain))
        return known if known >= LEAST else 0


@dataclass(slots=True)
class Bill:
    """What some requests are billed: tokens, and how many pairs they judge."""

    requests: int = 0
    pairs: int = 0
    tokens_in: int = 0
    cached: int = 0
    tokens_out: float = 0
    _cache: OpenAICache = field(default_factory=OpenAICache)

    def add(self, prompt: Sequence[int], out: float, pairs: int) -> None:
        """Take in one request."""
        self.requests += 1
        self.pairs += pairs
        self.tokens_in += len(prompt)
        self.cached += self._cache.served(prompt)
        self.tokens_out += out

    def usd(self, price: Price) -> float:
        """Return US dollars."""
        return price.rates(0).pico(self.tokens_in, round(self.tokens_out), self.cached, 0) / PICO


class Nobody:
    """An engine that is never asked."""

    identity = NOTHING

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer nothing."""
        del requests
        return iter(())


@dataclass(frozen=True, slots=True)
class Row:
    """A judged query: both judges' recorded replies and what they say; None where the strong one was not asked."""

    case: Case
    first: str
    second: str | None
    by_first: tuple[Answer, ...]
    by_second: tuple[Answer, ...]

    @property
    def flagged(self) -> list[int]:
        """The places of the pairs that the first judge did not call irrelevant."""
        return [place for place, answer in enumerate(self.by_first) if answer.label != "irrelevant"]


def load(data: Path) -> dict[str, list[Row]]:
    """Read the sample, by data set."""
    spec = load_template("rlhn").spec
    found: dict[str, list[Row]] = {}
    for name, title in SETS.items():
        replies = {row["query_id"]: row["response"] for row in _lines(data / f"{name}.stage_2.{STRONG}.jsonl")}
        first = data / f"{name}.stage_1.{MINI}.jsonl"
        for number, example in enumerate(sources.open_source(first).examples()):
            case = open_case(number, example, 3)
            candidates = [pair.candidate for pair in case.pairs]
            own, strong = str(example.row["response"]), replies.get(example.id)
            read = read_reply(spec, strong, candidates) if strong is not None else ()
            found.setdefault(title, []).append(Row(case, own, strong, read_reply(spec, own, candidates), read))
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# --- what is sent and what comes back -----------------------------------------------------------------------


def theirs(counter: Counter, model: str, case: Case, places: Sequence[int]) -> list[int]:
    """Return the tokens of RLHN's prompt about some pairs of a query, in its published layout."""
    known = "\n\n".join(f"P(0): {passage.text}" for passage in case.example.positives)
    asked = "\n\n".join(f"Doc ({n}): {case.pairs[place].candidate.text}" for n, place in enumerate(places, start=1))
    shown = {"question": case.example.query, "ground_truth": known, "documents": asked}
    told = "\n".join(part for tag, text in shown.items() for part in (f"<{tag}>", text, f"</{tag}>"))
    return [-1] * (FRAME - 1) + [-2] * INSTRUCTIONS[model] + counter.ids(told) + [-1] * (END + 1)


def verdict(labels: Sequence[Label | None], reasons: Sequence[str] = ()) -> str:
    """Write a verdict in the group prompts' form, after the reasons if there are any."""

    def listed(label: Label) -> str:
        return ", ".join(f"Doc ({number})" for number, said in enumerate(labels, start=1) if said == label)

    thought = "\n".join(["<thinking>", *reasons, "</thinking>", ""]) if reasons else ""
    lists = f"<better>[{listed('relevant')}]</better>\n<worse>[{listed('partial')}]</worse>"
    return f"{thought}<verdict>\n{lists}\n</verdict>"


@dataclass(frozen=True, slots=True)
class Asking:
    """Ways to ask about the sample, each as a bill."""

    counter: Counter
    rows: Sequence[Row]

    def out(self, text: str) -> int:
        """Return the tokens of a reply."""
        return len(self.counter.ids(text))

    def rlhn_first(self) -> Bill:
        """RLHN's first stage: every query, whole."""
        bill = Bill()
        for row in self.rows:
            every = range(len(row.case.pairs))
            bill.add(theirs(self.counter, MINI, row.case, every), self.out(row.first), len(every))
        return bill

    def rlhn_second(self, *, alone: bool = False, pairs: bool = False) -> Bill:
        """RLHN's second stage: queries that went up, whole; or all queries; or only the flagged pairs of each.

        The reply to a query that did not go up is taken to be as long, a document, as those that are recorded; a reply
        about the flagged pairs holds their recorded lines and the verdict.
        """
        bill, up = Bill(), [row for row in self.rows if row.second is not None]
        recorded = sum(self.out(row.second or "") for row in up) / max(1, sum(len(row.case.pairs) for row in up))
        for row in self.rows if alone else up:
            every = row.flagged if pairs else range(len(row.case.pairs))
            said = self.out(row.second) if row.second is not None else recorded * len(every)
            if pairs:
                answers = [row.by_second[place] for place in every]
                said = self.out(verdict([each.label for each in answers], [each.rationale for each in answers]))
            bill.add(theirs(self.counter, STRONG, row.case, every), said, len(every))
        return bill

    def ours(
        self, prompt: str, *, up: bool = False, pairs: bool = False, strong: bool = False, why: bool = False
    ) -> Bill:
        """One of relabel's prompts.

        Args:
            prompt: the template.
            up: only the queries that went up.
            pairs: only the pairs that were flagged.
            strong: what comes back is the strong judge's word, where there is one.
            why: each flagged pair is asked about once more.
        """
        bill, judge = Bill(), LLMJudge("m", load_template(prompt), Nobody(), shuffle=False)
        for row in self.rows:
            if up and row.second is None:
                continue
            answers = row.by_second if strong and row.by_second else row.by_first
            places = row.flagged if pairs else list(range(len(row.case.pairs)))
            chosen = tuple([row.case.pairs[place] for place in places])
            said = {row.case.pairs[place].key: answers[place] for place in places}
            for group in self._groups(judge, row.case, chosen):
                request = judge.request(row.case, group)
                text = self._reply(prompt, [said[pair.key] for pair in group])
                bill.add(self.counter.prompt(request.messages), self.out(text), len(group))
            found = [(pair, said[pair.key]) for pair in chosen if said[pair.key].label in ("relevant", "partial")]
            for part in judge.whys(row.case, [(pair, Judgment(each.label)) for pair, each in found]) if why else ():
                lines = [f"Doc (1): {said[pair.key].rationale}" for pair, _ in part]
                bill.add(self.counter.prompt(judge.why(row.case, part).messages), self.out("\n".join(lines)), 0)
        return bill

    def _groups(self, judge: LLMJudge, case: Case, pairs: tuple[Pair, ...]) -> list[tuple[Pair, ...]]:
        return judge.groups(Case(case.number, case.example, case.reference, case.key, case.row, pairs))

    def _reply(self, prompt: str, answers: Sequence[Answer]) -> str:
        if prompt == "relevance":
            return "Yes" if answers[0].label == "relevant" else "No"
        flagged = [each for each in answers if each.label in ("relevant", "partial")]
        reasons = [f"Doc (1): {each.rationale}" for each in flagged] if prompt == "rlhn" else []
        return verdict([each.label for each in answers], reasons)


# --- tables ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """One way to ask, who is asked, and the bill; `share` = dollars as a share of the first line's."""

    name: str
    bill: Bill
    usd: float
    share: float


def lines(ways: Sequence[tuple[str, Bill]], price: Price) -> list[Line]:
    """Put prices to bills."""
    first = ways[0][1].usd(price)
    return [Line(name, bill, bill.usd(price), bill.usd(price) / first) for name, bill in ways]


def first_stage(asking: Asking, price: Price) -> list[Line]:
    """Every pair of the sample, by the cheap model."""
    return lines(
        [
            (WHOLE, asking.rlhn_first()),
            ("rlhn, reasons of possible answers", asking.ours("rlhn")),
            ("verdict", asking.ours("verdict")),
            ("verdict, then why of flagged pairs", asking.ours("verdict", why=True)),
            ("relevance, pair by pair", asking.ours("relevance")),
        ],
        price,
    )


def second_stage(asking: Asking, price: Price) -> list[Line]:
    """What goes up, by the strong model; first the strong model alone."""
    return lines(
        [
            ("RLHN's prompt, all queries: alone", asking.rlhn_second(alone=True)),
            (WHOLE, asking.rlhn_second()),
            ("RLHN's prompt, flagged pairs", asking.rlhn_second(pairs=True)),
            ("verdict, all queries: alone", asking.ours("verdict", strong=True)),
            ("verdict, whole queries", asking.ours("verdict", up=True, strong=True)),
            ("verdict, flagged pairs", asking.ours("verdict", up=True, pairs=True, strong=True)),
            ("rlhn, flagged pairs", asking.ours("rlhn", up=True, pairs=True, strong=True)),
            ("verdict, flagged pairs, then why", asking.ours("verdict", up=True, pairs=True, strong=True, why=True)),
            ("relevance, flagged pairs", asking.ours("relevance", up=True, pairs=True, strong=True)),
        ],
        price,
    )


def print_lines(title: str, found: Sequence[Line]) -> None:
    """Print the ways to ask one model."""
    print(
        f"\n{title:<38}{'requests':>9}{'pairs':>7}{'in':>9}{'cached':>8}{'out':>9}{'in/pair':>9}{'out/pair':>9}{'$':>9}{'':>7}"
    )
    for line in found:
        bill = line.bill
        print(
            f"{line.name:<38}{bill.requests:>9,}{bill.pairs:>7,}{bill.tokens_in:>9,}{bill.cached:>8,}{bill.tokens_out:>9,.0f}"
            f"{bill.tokens_in / bill.pairs:>9.1f}{bill.tokens_out / bill.pairs:>9.1f}{line.usd:>9.4f}{line.share:>7.2f}"
        )


def dollars(found: Sequence[Line]) -> dict[str, float]:
    """Return dollars by name of the way."""
    return {line.name: line.usd for line in found}


def print_savings(firsts: Mapping[str, Sequence[Line]], seconds: Mapping[str, Sequence[Line]]) -> None:
    """Print what cascades save on each part of the sample, and on RLHN's own table with the sample's ratios."""
    columns = f"{'RLHN':>9}{'flagged pairs':>16}{'verdict':>10}{'verdict, flagged pairs':>25}"
    print(f"\n{'saved of gpt-4o alone, RLHN-prompted':<38}{columns}")
    shares: dict[str, tuple[float, float, float]] = {}
    for name, found in firsts.items():
        cheap, dear = dollars(found), dollars(seconds[name])
        alone, own = dear["RLHN's prompt, all queries: alone"], cheap[WHOLE]
        up, part, best = (dear[way] for way in (WHOLE, "RLHN's prompt, flagged pairs", "verdict, flagged pairs"))
        saved = [own + up, own + part, cheap["verdict"] + dear["verdict, whole queries"], cheap["verdict"] + best]
        shares[name] = cheap["verdict"] / own, part / up, best / up
        print(f"{f'the sample, {name}':<38}{_row(*[1 - usd / alone for usd in saved])}")
    for name, row in PUBLISHED.items():
        share = shares.get(name)
        more = (row.saves(1, share[1]), None, row.saves(share[0], share[2])) if share else (None,) * 3
        print(f"{f'published, {name} ({row.flagged / row.queries:.1%} go up)':<38}{_row(row.saves(), *more)}")
    print(f"{'published, all':<38}{_row(total())}")


def _row(*figures: float | None) -> str:
    widths = (9, 16, 10, 25)
    cells = ["–" if each is None else f"{each:.0%}" for each in figures]
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=False))


def total() -> float:
    """Return what RLHN's cascade saves over all its data sets."""
    alone = sum(row.second / row.flagged * row.queries for row in PUBLISHED.values())
    return 1 - sum(row.first + row.second for row in PUBLISHED.values()) / alone


def misses(first: Sequence[Line], second: Sequence[Line], *, exact: bool) -> list[str]:
    """Say which known figures are not met; with `exact` tokens those of tokens too."""
    bills = {line.name: line.bill for line in second}
    whole, flagged = bills["verdict, whole queries"], bills["verdict, flagged pairs"]
    found = {
        f"{name}: RLHN's cascade saves {row.saving} %": round(100 * row.saves()) == row.saving
        for name, row in PUBLISHED.items()
    }
    found[f"RLHN's cascade saves {TOTAL_SAVING} % in all"] = round(100 * total()) == TOTAL_SAVING
    found["50 queries, 1,000 pairs"] = (first[0].bill.requests, first[0].bill.pairs) == (50, 1000)
    found["36 queries with 730 pairs go up"] = (whole.requests, whole.pairs) == (36, 730)
    found["150 of these pairs are flagged"] = (flagged.requests, flagged.pairs) == (36, 150)
    share = flagged.tokens_in / whole.tokens_in
    found[f"flagged pairs take 55k of 144k input tokens (here {share:.2f})"] = abs(share - 55 / 144) <= 0.05
    for line in first if exact else ():
        if line.name in KNOWN:
            known, bill = KNOWN[line.name], line.bill
            here = bill.tokens_in / bill.pairs, bill.tokens_out / bill.pairs
            told = f"{line.name}: {known[0]} + {known[1]} tokens a pair (here {here[0]:.1f} + {here[1]:.1f})"
            found[told] = all(abs(a / b - 1) <= 0.05 for a, b in zip(here, known, strict=True))
    return [figure for figure, met in found.items() if not met]


def main() -> int:
    """Print the tables; 0 when all known figures are met, 1 when not, 2 without the data."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=SOURCE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="RLHN's judged sample, see below")
    parser.add_argument("--characters", action="store_true", help="count four characters as a token")
    options = parser.parse_args()
    wanted = [
        options.data / f"{name}.{file}.jsonl" for name in SETS for file in (f"stage_1.{MINI}", f"stage_2.{STRONG}")
    ]
    if missing := [path for path in wanted if not path.is_file()]:
        print(f"{missing[0]} is not there; see --help for where to get the data", file=sys.stderr)
        return 2
    cheap, dear = price_of(MINI), price_of(STRONG)
    if cheap is None or dear is None:
        print("genai-prices lists no price for gpt-4o-mini or gpt-4o", file=sys.stderr)
        return 2
    try:
        rows, counter = load(options.data), Counter(characters=options.characters)
    except RelabelError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    parts = rows | {"both": [row for own in rows.values() for row in own]}
    asked = {name: Asking(counter, part) for name, part in parts.items()}
    firsts = {name: first_stage(asking, cheap) for name, asking in asked.items()}
    seconds = {name: second_stage(asking, dear) for name, asking in asked.items()}
    print(f"tokens: {counter.name}; dollars: list prices, {MINI} {cheap.input:g} + {cheap.output:g}, ", end="")
    print(f"{STRONG} {dear.input:g} + {dear.output:g} per million tokens")
    print_lines(f"{MINI}, every pair", firsts["both"])
    print_lines(f"{STRONG}, what goes up", seconds["both"])
    print_savings(firsts, seconds)
    wrong = misses(firsts["both"], seconds["both"], exact=counter.name == "o200k_base")
    for figure in wrong:
        print(f"≠ {figure}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
