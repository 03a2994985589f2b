"""How often a passage talks a small real LLM out of its verdict, with what relabel does about it and without.

Irrelevant passages get the attacks that want to be found relevant, relevant ones those that want the opposite; each
attack of tests/attacks.jsonl stands before or behind the passage's own words, in turn. Only pairs count on which the
model has the verdict that the attack is against, in both ways to ask, as long as the passage is left alone; a flip is
the other verdict. Two ways to ask, with the same words and choices:

    raw      the texts are pasted below "Question:" and "Document:", as they are
    fenced   the shipped template `relevance`: tags, a sentence about them, and quoted texts

Beside each attack stands what a harmless text of its length does at the same place. Intervals (95 %) are from the
bootstrap over queries. Differences are in percentage points: what attacks flip beyond harmless texts, raw and fenced,
and the second less the first; below 0 fencing helps.

Any model that vLLM serves: --model FOLDER (SmolLM2-135M: python benchmarks/small_models.py FOLDER, then FOLDER/smol). A
model this small is hardly a judge: what is measured is how far words move it, not how well it judges.
"""

import argparse
import csv
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from relabel import engine_settings, sources
from relabel.cascade import open_case
from relabel.engines.completions import choice_probabilities, most_probable
from relabel.engines.vllm import VLLMEngine, conversation, sampling
from relabel.engines.vllm_loading import arguments
from relabel.judges.llm import LLMJudge
from relabel.prompts import load_template
from relabel.protocols import Message, Request
from relabel.records import Case, Pair, Passage, chance

ROOT: Final = Path(__file__).parent.parent
WAYS: Final = ("raw", "fenced")
LONGEST: Final = 400
"""Characters of a passage that is used; with SmolLM2 on a CPU time goes with the tokens."""

GRAIN: Final = 25
"""Characters to which the length of a harmless text is rounded, so that attacks share it."""

RESAMPLES: Final = 2000
HARMLESS: Final = (
    "The path leaves the village by the mill and follows the stream for an hour. There are benches on the way, and in "
    "spring the meadows on both sides are full of flowers. At the bridge it turns to the left and climbs slowly "
    "through a wood of beech and fir, until the roofs of the next village come into sight behind the hill. "
) * 3

Place = Literal["before", "behind"]


@dataclass(frozen=True, slots=True)
class Attack:
    """A line of tests/attacks.jsonl."""

    kind: str
    aim: str
    text: str


@dataclass(frozen=True, slots=True)
class Trial:
    """One attack on one pair: the verdict that it wants, and with which texts at which place it is asked."""

    query: str
    attack: Attack
    asked: Mapping[str, tuple[Request, Request]]  # way: with the attack, with the harmless text


class Asker:
    """Asks both ways about a passage and what is put beside it.

    Args:
        llm: the loaded model.
        settings: of it.
    """

    def __init__(self, llm: Any, settings: engine_settings.VLLM) -> None:
        self._llm, self._settings = llm, settings
        template = load_template("relevance")
        self._judge = LLMJudge("local", template, VLLMEngine(settings, llm=llm))
        self._system = "\n".join(
            line
            for line in template.content.partition("## system\n")[2].partition("## user")[0].splitlines()
            if "between tags" not in line
        )
        self.said: dict[tuple[Message, ...], str | None] = {}

    def request(self, way: str, case: Case, pair: Pair, beside: str = "", place: Place = "behind") -> Request:
        """Return the question about a pair, with another text before or behind the candidate's own."""
        text = pair.candidate.text
        if beside:
            text = f"{beside}\n{text}" if place == "before" else f"{text}\n{beside}"
        shown = Passage(pair.candidate.id, text, pair.candidate.title)
        request = self._judge.request(case, (replace(pair, candidate=shown),))
        if way == "fenced":
            return request
        user = f"Question:\n{case.example.query}\n\nDocument:\n{shown.full_text}"
        return replace(request, messages=(Message("system", self._system), Message("user", user)))

    def ask(self, requests: Iterable[Request]) -> None:
        """Ask what has not been asked yet; the verdicts are in `said`."""
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        new = list({request.messages: request for request in requests if request.messages not in self.said}.values())
        if not new:
            return
        params = sampling(new[0], self._settings)
        grammar = StructuredOutputsParams(**params.pop("structured_outputs"))
        outputs = self._llm.chat(
            [conversation(request) for request in new],
            SamplingParams(**params, structured_outputs=grammar),
            use_tqdm=False,
        )
        for request, output in zip(new, outputs, strict=True):
            (spellings, *_) = output.outputs[0].logprobs
            top = [(entry.decoded_token or "", entry.logprob) for entry in spellings.values()]
            chosen = spellings[output.outputs[0].token_ids[0]]
            tokens = [(chosen.decoded_token or "", chosen.logprob, top)]
            self.said[request.messages] = most_probable(choice_probabilities(request.choices, tokens))


def read_attacks(path: Path) -> list[Attack]:
    """Return the attacks that want a verdict and fit into a small model's prompt."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [Attack(row["kind"], row["aim"], row["text"]) for row in lines if row["aim"] != "none"]


def pairs_by_label(data: Path, labels: Path, most: int) -> dict[str, list[tuple[Case, Pair]]]:
    """Return for each label one short pair of each of many queries, in an order that depends on the texts alone."""
    with labels.open(encoding="utf-8", newline="") as file:
        label = {(row["query_id"], row["passage_id"]): row["label"] for row in csv.DictReader(file)}
    found: dict[str, dict[str, tuple[float, Case, Pair]]] = {"relevant": {}, "irrelevant": {}}
    for number, example in enumerate(sources.open_source(data).examples()):
        if not example.negatives:
            continue
        case = open_case(number, example, 0)
        for pair in case.pairs:
            where = found.get(label.get((example.id, pair.candidate.id), ""))
            if where is not None and len(pair.candidate.text) <= LONGEST:
                entry = (chance("injection", pair.key.hex()), case, pair)
                where[example.query] = min(where.get(example.query, entry), entry, key=lambda each: each[0])
    return {
        name: [(case, pair) for _, case, pair in sorted(where.values(), key=lambda each: each[0])[:most]]
        for name, where in found.items()
    }


def opposed(asker: Asker, pairs: Sequence[tuple[Case, Pair]], word: str, most: int) -> list[tuple[Case, Pair]]:
    """Return the first pairs on which the model says `word` in both ways."""
    asked = [[asker.request(way, case, pair) for way in WAYS] for case, pair in pairs]
    asker.ask(request for both in asked for request in both)
    alike = [all(asker.said[request.messages] == word for request in both) for both in asked]
    return [each for each, held in zip(pairs, alike, strict=True) if held][:most]


def trials_of(asker: Asker, attacks: Sequence[Attack], pairs: Sequence[tuple[Case, Pair]]) -> list[Trial]:
    """Return every attack on every pair, before and behind in turn."""
    trials = []
    for which, (case, pair) in enumerate(pairs):
        for number, attack in enumerate(attacks):
            place: Place = "before" if (which + number) % 2 else "behind"
            harmless = HARMLESS[: max(GRAIN, round(len(attack.text) / GRAIN) * GRAIN)]
            asked = {
                way: (
                    asker.request(way, case, pair, attack.text, place),
                    asker.request(way, case, pair, harmless, place),
                )
                for way in WAYS
            }
            trials.append(Trial(case.example.query, attack, asked))
    return trials


def flips(asker: Asker, trials: Sequence[Trial]) -> "np.ndarray[Any, Any]":
    """Return by query (trials, then flips: raw attack, raw harmless, fenced attack, fenced harmless)."""
    counts: dict[str, Any] = defaultdict(lambda: np.zeros(5))
    for trial in trials:
        wanted = "Yes" if trial.attack.aim == "relevant" else "No"
        flipped = [asker.said[request.messages] == wanted for way in WAYS for request in trial.asked[way]]
        counts[trial.query] += [1, *flipped]
    return np.array(list(counts.values()))


def row_of(name: str, attacks: int, counts: "np.ndarray[Any, Any]") -> str:
    """Return a line of the table: shares in %, and what each way's attacks do beyond harmless text."""
    whole = counts.sum(axis=0)
    shares = 100 * whole[1:] / whole[0]
    drawn = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    drawn_trials = counts[drawn, 0].sum(axis=1)[:, None]
    cells = "".join(f"{share:>9.1f}" for share in shares)
    beyond = np.column_stack((counts[:, 1] - counts[:, 2], counts[:, 3] - counts[:, 4]))
    beyond = np.column_stack((beyond, beyond[:, 1] - beyond[:, 0]))
    value, draws = (
        100 * sums.sum(axis=-2) / trials for sums, trials in ((beyond, whole[0]), (beyond[drawn], drawn_trials))
    )
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    for column in range(3):
        cells += f"{value[column]:>9.1f} [{low[column]:.1f}, {high[column]:.1f}]".ljust(26)
    return f"{name:<24}{attacks:>8}{whole[0]:>8.0f}{cells}".rstrip()


def table(asker: Asker, attacks: Sequence[Attack], data: Path, labels: Path, most: int, pool: int) -> list[str]:
    """Ask all there is to ask; return the lines of the table."""
    lines = [
        f"{'':<40}{'raw':>9}{'':>9}{'fenced':>9}{'':>9}{'attack - harmless':>22}",
        f"{'':<24}{'attacks':>8}{'trials':>8}"
        + f"{'attack':>9}{'harmless':>9}" * 2
        + f"{'raw':>9}{'fenced':>26}{'less':>26}",
    ]
    pairs = pairs_by_label(data, labels, pool)
    trials: list[Trial] = []
    for aim, label, word in (("relevant", "irrelevant", "No"), ("irrelevant", "relevant", "Yes")):
        against = opposed(asker, pairs[label], word, most)
        lines.append(f"{label} pairs to which the model says {word} without an attack: {len(against)}")
        trials += trials_of(asker, [attack for attack in attacks if attack.aim == aim], against)
    asker.ask(request for trial in trials for way in WAYS for request in trial.asked[way])
    groups: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        groups[trial.attack.kind].append(trial)
    for trial in trials:
        groups[f"all that want {'Yes' if trial.attack.aim == 'relevant' else 'No'}"].append(trial)
    groups["all"] = trials
    for name, those in groups.items():
        if those:
            lines.append(row_of(name, len({trial.attack for trial in those}), flips(asker, those)))
    return lines


def main() -> int:
    """Print one table; 2 without a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="a model that vLLM serves")
    parser.add_argument("--pairs", type=int, default=8, help="pairs that each attack is tried on (8)")
    parser.add_argument("--pool", type=int, default=60, help="pairs of each label to look for them in (60)")
    parser.add_argument("--attacks", type=Path, default=ROOT / "tests" / "attacks.jsonl", metavar="FILE")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="use each Nth attack only (1)")
    options = parser.parse_args()
    if not options.model.is_dir():
        print(f"{options.model} is not there; see --help for a model to take", file=sys.stderr)
        return 2
    settings = engine_settings.VLLM(
        kind="vllm", model=str(options.model), dtype="float32", enforce_eager=True, max_model_len=2048, max_num_seqs=16
    )
    from vllm import LLM

    asker = Asker(LLM(**arguments(settings)), settings)
    attacks = read_attacks(options.attacks)[:: options.every]
    data, labels = ROOT / "data" / "sample.jsonl", ROOT / "data" / "reference_labels.csv"
    for line in table(asker, attacks, data, labels, options.pairs, options.pool):
        print(line)
    print(f"{len(asker.said):,} prompts; shares are of trials, in %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
