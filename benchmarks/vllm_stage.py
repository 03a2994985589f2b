"""What the vLLM stage costs beside a bare `LLM.chat`, what prompt order saves, and whether memory grows.

Speed: the stage (render, feed, parse, store) and `LLM.chat` on exactly the same prompts, alternating in one process on
one loaded model, the prefix cache emptied before each. Order: the shipped template, which shows the reference first,
the same with the candidate first, and the first with each query's other questions held back until its leader has been
answered; prompt tokens computed, by vLLM's own counters. Memory: peak of the driving process, each size in a process
of its own, on made-up pairs.

Any model that vLLM serves: --model FOLDER. Two small ones: python benchmarks/small_models.py FOLDER. The pairs are
those of the sample in data/, unless --data gives another training file.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from relabel import engine_settings, sources
from relabel.cascade import Stage, open_case
from relabel.engines.remembering import Remembering
from relabel.engines.vllm import VLLMEngine, conversation, sampling
from relabel.engines.vllm_loading import arguments
from relabel.judges.llm import LLMJudge
from relabel.prompts import Template, load_template
from relabel.records import Case, Example, Passage
from relabel.stages import Station, judge_all
from relabel.store import Store

HERE = Path(__file__).parent
NEEDED = 0.97
"""Least throughput of the stage over that of the bare call."""

GROWTH = 1.05
"""Most that the peak may be at ten times the prompts, as a ratio."""

FIRST, LAST = "{% for passage in reference %}", "<document>"


def candidate_first(folder: Path) -> Path:
    """Write the template `relevance` with its candidate before the reference."""
    text = load_template("relevance").content
    start, end = text.index(FIRST), text.index(LAST)
    path = folder / "candidate_first.md"
    path.write_text(f"{text[:start]}{text[end:].rstrip()}\n\n{text[start:end]}".rstrip() + "\n", encoding="utf-8")
    return path


def cases(path: Path, pairs: int) -> list[Case]:
    """Return the first cases of a training file that together hold at least `pairs` pairs (0 = all)."""
    found: list[Case] = []
    for number, example in enumerate(sources.open_source(path).examples()):
        if example.negatives:
            found.append(open_case(number, example, 3))
        if pairs and sum(len(case.pairs) for case in found) >= pairs:
            break
    return found


def made_up(pairs: int, negatives: int = 20) -> Iterator[Case]:
    """Yield cases of short made-up texts, one by one."""
    for row in range(pairs // negatives):
        shown = tuple(
            Passage(f"{row}-{i}", f"Passage {i} of row {row} tells of thing {row * i}.") for i in range(negatives)
        )
        known = (Passage(f"{row}-p", f"Row {row} is about thing {row}."),)
        yield open_case(row, Example(str(row), f"what is thing {row}?", known, shown), 3)


def stage(llm: Any, settings: engine_settings.VLLM, template: Template, asked: Iterable[Case]) -> float:
    """Judge all cases with a store of their own; return the seconds."""
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as store:
        judge = LLMJudge("local", template, Remembering(VLLMEngine(settings, llm=llm), store))
        number = store.judge_id("benchmark", {})
        began = time.perf_counter()
        judge_all(asked, [Station(Stage("local"), judge, number)], store, 0, lambda *_: None)
        return time.perf_counter() - began


def bare(llm: Any, settings: engine_settings.VLLM, template: Template, asked: Iterable[Case]) -> tuple[float, int]:
    """Ask the same by one call of `LLM.chat`; return the seconds of the call and how many prompts it had."""
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    judge = LLMJudge("local", template, VLLMEngine(settings, llm=llm))
    every = [judge.request(case, group) for case in asked for group in judge.groups(case)]
    requests = list({request.address: request for request in every}.values())  # a stage asks the same thing once
    params = sampling(requests[0], settings)
    grammar = StructuredOutputsParams(**params.pop("structured_outputs"))
    began = time.perf_counter()
    llm.chat(
        [conversation(request) for request in requests],
        SamplingParams(**params, structured_outputs=grammar),
        use_tqdm=False,
    )
    return time.perf_counter() - began, len(requests)


def leaders_alone(llm: Any, settings: engine_settings.VLLM, template: Template, asked: Iterable[Case]) -> None:
    """Ask about one candidate of every case, and about the others only when all of these have been answered."""
    whole = list(asked)
    for part in (slice(0, 1), slice(1, None)):
        bare(llm, settings, template, [replace(case, pairs=case.pairs[part]) for case in whole])


def computed(
    ask: Callable[..., object], llm: Any, settings: engine_settings.VLLM, template: Template, asked: Iterable[Case]
) -> tuple[int, int]:
    """Return vLLM's own count of the prompt tokens of a way to ask, and of those that came from its cache."""
    llm.reset_prefix_cache()
    before = counters(llm)
    ask(llm, settings, template, asked)
    after = counters(llm)
    return after[0] - before[0], after[1] - before[1]


def counters(llm: Any) -> tuple[int, int]:
    """Return vLLM's own counts since it was loaded: prompt tokens, and tokens found in the prefix cache."""
    counted = {metric.name: metric.value for metric in llm.get_metrics() if hasattr(metric, "value")}
    return int(counted["vllm:prompt_tokens"]), int(counted["vllm:prefix_cache_hits"])


def compare(options: argparse.Namespace, settings: engine_settings.VLLM) -> bool:
    """Print the tables of speed and of order; return whether the demands hold."""
    from vllm import LLM

    llm = LLM(**arguments(settings))
    asked = cases(options.data, options.pairs)
    template = load_template("relevance")
    bare(llm, settings, template, asked)  # warms up
    ratios = []
    print(f"{'alternation':<14}{'LLM.chat':>14}{'the stage':>14}{'ratio':>8}   prompts a second")
    for turn in range(options.alternations):
        llm.reset_prefix_cache()
        seconds, prompts = bare(llm, settings, template, asked)
        llm.reset_prefix_cache()
        ours = stage(llm, settings, template, asked)
        ratios.append(seconds / ours)
        print(f"{turn + 1:<14}{prompts / seconds:>14.1f}{prompts / ours:>14.1f}{seconds / ours:>8.3f}")
    median = statistics.median(ratios)
    print(f"{'median':<14}{'':>28}{median:>8.3f}   at least {NEEDED}: {_word(holds=median >= NEEDED)}\n")
    with tempfile.TemporaryDirectory() as folder:
        other = load_template(candidate_first(Path(folder)))
        print(f"{'order':<20}{'prompt tokens':>15}{'from the cache':>16}{'computed':>12}")
        left = []
        ways = (
            ("reference first", stage, template),
            ("candidate first", stage, other),
            ("followers held back", leaders_alone, template),
        )
        for name, ask, order in ways:
            tokens, cached = computed(ask, llm, settings, order, asked)
            left.append(tokens - cached)
            print(f"{name:<20}{tokens:>15,}{cached:>16,}{tokens - cached:>12,}")
    print(f"computed, candidate first over reference first: {left[1] / left[0]:.2f}\n")
    llm.llm_engine.engine_core.shutdown()
    return median >= NEEDED


def memory(settings: engine_settings.VLLM, pairs: int) -> None:
    """Print the peak memory of this process in MB after judging so many made-up pairs."""
    from vllm import LLM

    llm = LLM(**arguments(settings))
    stage(llm, settings, load_template("relevance"), made_up(pairs))
    llm.llm_engine.engine_core.shutdown()
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def grows(options: argparse.Namespace) -> bool:
    """Print the table of memory; return whether the demand holds."""
    peaks = []
    print(f"{'prompts':<14}{'peak MB':>10}")
    for pairs in options.sizes:
        command = [sys.executable, __file__, "--model", options.model, "--dtype", options.dtype, "--memory", str(pairs)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout.splitlines()[-1]))
        print(f"{pairs:<14,}{peaks[-1]:>10.0f}")
    ratio = peaks[-1] / peaks[0]
    print(f"ratio {ratio:.3f}, at most {GROWTH}: {_word(holds=ratio <= GROWTH)}")
    return ratio <= GROWTH


def _word(*, holds: bool) -> str:
    return "holds" if holds else "FAILS"


def main() -> None:
    """Print the tables; exit with 1 where a demand fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or name of a model")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--data", type=Path, default=HERE.parent / "data" / "sample.jsonl", help="training file")
    parser.add_argument("--pairs", type=int, default=0, help="use so many of its pairs (0 = all)")
    parser.add_argument("--alternations", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[], help="prompts whose peaks of memory are compared")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    settings = engine_settings.VLLM(
        kind="vllm", model=options.model, dtype=options.dtype, max_model_len=2048, max_tokens=64, enforce_eager=True
    )
    if options.memory:
        memory(settings, options.memory)
        return
    held = compare(options, settings)
    if options.sizes:
        held = grows(options) and held
    sys.exit(int(not held))


if __name__ == "__main__":
    main()
