"""One judge, asked about the same pairs in several ways, and what it said.

All ways are asked in one go, so that a model is loaded once and a server kept busy: first every question is collected
without asking anybody, then what the store lacks is asked, then the replies are read.

    ways ─▶ questions ─▶ those without a stored reply ─▶ engine ─▶ store ─▶ judgments
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from relabel import config, engine_settings
from relabel.building import open_engine, price, template_of, window
from relabel.engines.budget import Meter
from relabel.engines.ray_cluster import Cluster
from relabel.engines.remembering import Memory, Remembering
from relabel.forecast import holds_reasons
from relabel.judges.llm import LLMJudge
from relabel.money import PICO
from relabel.prompts import Template
from relabel.protocols import Engine, Judge, Measures, Prepares, Reply, Request, Usage
from relabel.records import Case, Judgment, Label
from relabel.tokens import output_tokens, tokens

NO_RECORDING: Final = "no recording"

Key = tuple[int, int]
"""A pair of a sample: the number of its case, its place among the row's negatives."""

Ways = Mapping[str, tuple["Way | None", Sequence[Case]]]
"""Several ways to ask by name, each with the cases to ask about; None = as a run asks."""

Progress = Callable[[str, int, int], None]
"""Told (what, done, of how many)."""

Begin = Callable[[int, int], None]
"""Told (questions to ask, questions whose reply is stored) before anybody is asked."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to ask about pairs.

    Attributes:
        template: the question.
        group_size: most candidates in one prompt; a pair template has one.
        shuffle: whether the candidates of a prompt are shuffled.
        seed: of the shuffle.
        again: 0 = as a run asks; more = the same prompt once more, whose reply is not the stored one.
        temperature: in place of the engine's, for asking again.
    """

    template: Template
    group_size: int = 25
    shuffle: bool = True
    seed: int = 0
    again: int = 0
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class Bill:
    """What some questions cost.

    Attributes:
        requests: different questions.
        answered: those that have a reply.
        tokens_in: of the prompts.
        tokens_out: of the replies.
        estimated: how many of the questions the server did not count the tokens of, so that characters / 4 stand for
            them.
        usd: None where the price is unknown.
    """

    requests: int = 0
    answered: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    estimated: int = 0
    usd: float | None = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return a plain dict."""
        return asdict(self) | {"usd": None if self.usd is None else round(self.usd, 6)}


@dataclass(frozen=True, slots=True)
class Heard:
    """What a judge said when it was asked in one way.

    Attributes:
        words: by pair.
        places: where each pair stood in its prompt, from 0 (first) to 1 (last); only prompts with several.
        bill: what it cost, whoever paid it when.
    """

    words: Mapping[Key, Judgment]
    places: Mapping[Key, float] = field(default_factory=dict)
    bill: Bill = Bill()

    def label(self, key: Key) -> Label | None:
        """Return the label of a pair; None where there is none."""
        word = self.words.get(key)
        return word.label if word is not None else None

    @property
    def unrecorded(self) -> int:
        """Pairs that no recorded reply is about."""
        return sum(word.reason == NO_RECORDING for word in self.words.values())

    def counts(self) -> dict[str, Any]:
        """Return how many pairs got each label, and why others got none."""
        labels = Counter(word.label for word in self.words.values())
        none = Counter(word.reason for word in self.words.values() if word.label is None)
        return {label: labels[label] for label in ("relevant", "partial", "irrelevant")} | {
            "none": dict(sorted(none.items()))
        }


class _Desk:
    """An engine that hands out the replies that are there, and notes the questions that lack one."""

    def __init__(self, identity: Mapping[str, Any], known: Mapping[str, Reply]) -> None:
        self.identity = identity
        self.asked: dict[str, Request] = {}
        self._known = known

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer each question as it comes; what has no reply may have one later."""
        for request in requests:
            self.asked.setdefault(request.address, request)
            known = self._known.get(request.address)
            yield replace(known, request=request) if known else Reply(request, None, "not asked", retryable=True)


class Interview:
    """An LLM stage that can be asked in several ways.

    Args:
        name: the stage's.
        stage: its settings.
        store: where replies are kept and found; None = nowhere, for counting alone.
        folder: for the notes of engines.
        cluster: where the model runs, if not here.
        seed: of the shuffle, as in a run.
        progress: told how many of the questions are answered.
        begin: told how many there are, before anybody is asked; again if answers lead to further questions.
        prices: file of what models cost, if there is one.
    """

    def __init__(
        self,
        name: str,
        stage: config.LLM,
        store: Memory | None,
        folder: Path,
        *,
        seed: int = 0,
        cluster: Cluster | None = None,
        progress: Progress = lambda *_: None,
        begin: Begin = lambda *_: None,
        prices: str | None = None,
    ) -> None:
        self.name, self.stage, self.seed = name, stage, seed
        self._price = price(stage.engine, prices)
        self._store, self._folder, self._cluster, self._progress = store, folder, cluster, progress
        self._begin = begin
        self._engines: dict[tuple[int, float | None] | None, Engine] = {}
        self._known: dict[str, Reply] = {}
        self.asked = self.from_store = 0

    def way(self, template: Template | None = None) -> Way:
        """Return the way in which a run asks, with this template in place of its own."""
        template = template or template_of(self.stage)
        return Way(template, self.stage.group_size, self.stage.shuffle, self.seed)

    def _engine(self, way: Way) -> Engine:
        """Return who answers; another seed or temperature is another engine, made only where dice are thrown."""
        settings = self.stage.engine
        kind = None
        if way.again and not isinstance(settings, engine_settings.Scripted):
            temperature = settings.temperature if way.temperature is None else way.temperature
            if temperature:
                kind = (way.again, temperature)
                seed = None if settings.seed is None else settings.seed + way.again
                settings = settings.model_copy(update={"temperature": temperature, "seed": seed})
        if kind not in self._engines:
            self._engines[kind] = open_engine(settings, self.name, self._folder, self._cluster)
        return self._engines[kind]

    def _visit(self, way: Way, cases: Sequence[Case], *, fits: bool) -> tuple[list[Case], _Desk, LLMJudge]:
        """Have the judge ask all there is to ask, and read the replies that are there."""
        engine = self._engine(way)
        again = {"again": way.again} if way.again else {}  # another address: the stored reply is not the answer
        desk = _Desk(dict(engine.identity) | again, self._known)
        judge = LLMJudge(
            self.name,
            way.template,
            desk,
            group_size=way.group_size,
            shuffle=way.shuffle,
            seed=way.seed,
            measure=engine if fits and isinstance(engine, Measures) else None,
            window=window(self.stage.engine),
            rationale=self.stage.rationale == "all",
        )
        return list(judge.judge(cases)), desk, judge

    def forecast(self, ways: Ways) -> dict[str, Bill]:
        """Count what each way would ask, and estimate its tokens; `answered` = the store has the reply. Asks nobody."""
        bills = {}
        for name, (way, cases) in self._ways(ways):
            _, desk, _ = self._visit(way, cases, fits=False)
            self._stored(desk.asked)
            bills[name] = self._bill(way, desk)
        return bills

    def ask(self, ways: Ways) -> dict[str, Heard]:
        """Ask about all cases in all ways; return what was said in each.

        Raises:
            ServiceError: the service cannot go on; the store keeps what was answered.
            SettingsError: the model cannot be loaded.
        """
        lacking: dict[int, dict[str, Request]] = {}
        engines: dict[int, Engine] = {}
        for _, (way, cases) in self._ways(ways):
            engine = self._engine(way)
            engines[id(engine)] = engine
            asked = self._visit(way, cases, fits=True)[1].asked
            new = {address: request for address, request in asked.items() if address not in self._known}
            lacking.setdefault(id(engine), {}).update(new)
        total, done = sum(map(len, lacking.values())), 0
        stored = sum(self._stored(requests) for requests in lacking.values())
        self._begin(total - stored, stored)
        model = getattr(self.stage.engine, "model", "recorded replies")
        meter = Meter(f"{self.name}, for a comparison", model, self._price)  # apart from the stage's own bill
        for number, requests in lacking.items():
            engine = engines[number]
            remembering = Remembering(engine, self._store, meter=meter) if self._store is not None else None
            for reply in (remembering or engine).answer(iter(requests.values())):
                self._known[reply.request.address] = reply
                done += 1
                self._progress("questions", done, total)
            if remembering is not None:
                self.asked += remembering.spending.asked
                self.from_store += remembering.spending.from_store
        return {name: self._heard(way, cases) for name, (way, cases) in self._ways(ways)}

    def _stored(self, requests: Mapping[str, Request]) -> int:
        """Take the replies that the store holds; return how many."""
        store = self._store
        if store is None:
            return 0
        found = {address: reply for address, request in requests.items() if (reply := store.reply_to(request))}
        self._known |= found
        return len(found)

    def _ways(self, ways: Ways) -> Iterator[tuple[str, tuple[Way, Sequence[Case]]]]:
        for name, (way, cases) in ways.items():
            yield name, (way or self.way(), cases)

    def _heard(self, way: Way, cases: Sequence[Case]) -> Heard:
        judged, desk, judge = self._visit(way, cases, fits=True)
        words = {
            (case.number, pair.index): word
            for case in judged
            for pair, word in zip(case.pairs, case.judgments, strict=True)
        }
        places = {
            (case.number, pair.index): place / (len(group) - 1)
            for case in cases
            for group in judge.groups(case)
            if len(group) > 1
            for place, pair in enumerate(group)
        }
        return Heard(words, places, self._bill(way, desk))

    def _bill(self, way: Way, desk: _Desk) -> Bill:
        """Add up what the questions of one way cost: as the server counted, else estimated."""
        answered = came = went = estimated = pico = 0
        for address, request in desk.asked.items():
            reply = self._known.get(address)
            answered += reply is not None and not reply.retryable
            usage = reply.usage if reply is not None else None
            if usage is None or usage.tokens_in is None or usage.tokens_out is None:
                estimated += 1
                reasons = holds_reasons(way.template, self.stage)
                out = output_tokens(way.template.spec, len(request.candidate_ids), reasons=reasons)
                usage = Usage(tokens(request.messages), out)
            came, went = came + (usage.tokens_in or 0), went + (usage.tokens_out or 0)
            pico += (self._price.pico(usage) or 0) if self._price is not None else 0
        usd = None if self._price is None else pico / PICO
        return Bill(len(desk.asked), answered, came, went, estimated, usd)


class Direct:
    """A judge without a template (an embedding, a cross-encoder): it can be asked about other pairs, in no other way.

    Args:
        name: the stage's.
        judge: who is asked.
    """

    def __init__(self, name: str, judge: Judge) -> None:
        self.name = name
        self._judge = judge
        self.asked = self.from_store = 0

    def ask(self, ways: Ways) -> dict[str, Heard]:
        """Ask about all cases."""
        if isinstance(self._judge, Prepares):
            self._judge.prepare(case.example for _, cases in ways.values() for case in cases)
        heard = {}
        for name, (_, cases) in ways.items():
            words = {
                (case.number, pair.index): word
                for case in self._judge.judge(cases)
                for pair, word in zip(case.pairs, case.judgments, strict=True)
            }
            heard[name] = Heard(words)
        return heard
