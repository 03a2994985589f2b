"""Who is asked next, and whose word is final: pure functions over judgments.

A cheap-first cascade is data: each stage says which of its answers are final, and from which probability on, or what
its number settles, whatever its word (`Settle`, as `relabel calibrate` chooses it). Everything else goes up. RLHN's
"any flag sends the whole query up" is `escalate="query"`; asking every judge about every pair is a stage without final
answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from relabel.records import LABELS, VOID_REASONS, Case, Example, Judgment, Label, Outcome, Pair, Verdict, chance, digest

Why = Literal["", "open", "query", "sampled"]
"""Why a stage is asked about a pair: not (""), it is open, its whole query went up, as a second opinion."""

OPEN: Final = -1

OUTCOMES: Final[Mapping[Label, Outcome]] = {
    "relevant": "false negative",
    "partial": "partial",
    "irrelevant": "true negative",
}

ALL_FINAL: Final[Mapping[Label, float]] = dict.fromkeys(LABELS, 0.0)

By = Literal["score", "probability", "word"]
"""A judge's number: its score; the probability that the pair is relevant, of judges with two labels; or its word as a
grade."""

GRADES: Final[Mapping[Label, float]] = {"relevant": 2.0, "partial": 1.0, "irrelevant": 0.0}


@dataclass(frozen=True, slots=True)
class Cuts:
    """From which number on a judge settles what; None = it never settles that.

    Attributes:
        relevant: at or above it a pair is a false negative.
        partial: at or above it, and below `relevant`, partial.
        irrelevant: at or below it a true negative.
    """

    relevant: float | None = None
    partial: float | None = None
    irrelevant: float | None = None

    def label_of(self, number: float) -> Label | None:
        """Return what a number settles; None where the pair goes up."""
        if self.relevant is not None and number >= self.relevant:
            return "relevant"
        if self.partial is not None and number >= self.partial:
            return "partial"
        if self.irrelevant is not None and number <= self.irrelevant:
            return "irrelevant"
        return None


@dataclass(frozen=True, slots=True)
class Settle:
    """What a judge's number settles, whatever its word.

    Attributes:
        by: which number.
        cuts: the thresholds.
        sources: thresholds of their own for these sources, in place of `cuts`.
    """

    by: By
    cuts: Cuts
    sources: Mapping[str, Cuts] = field(default_factory=dict)

    def label_of(self, judgment: Judgment, source: str) -> Label | None:
        """Return what a judgment settles; None where it has no number, or one that settles nothing."""
        number = number_of(judgment, self.by)
        return None if number is None else self.sources.get(source, self.cuts).label_of(number)

    def evidence(self, label: Label, source: str) -> str:
        """Say by which threshold a label was settled. The number itself stays out: equal findings are one kind."""
        cut = getattr(self.sources.get(source, self.cuts), label)
        return f"{self.by} {'≤' if label == 'irrelevant' else '≥'} {cut:g}"


def number_of(judgment: Judgment, by: By) -> float | None:
    """Return a judgment's number, higher = more likely relevant; None where it has none.

    A judge that found a score has one beside no word too ("in the ask band"). `probability` is that of relevance: p
    beside "relevant", 1 − p beside "irrelevant". Beside "partial" there is none: how sure a judge is of that says
    nothing about relevant against the rest.
    """
    if by == "score":
        return judgment.score
    if judgment.label is None:
        return None
    if by == "word":
        return GRADES[judgment.label]
    if judgment.probability is None or judgment.label == "partial":
        return None
    return 1 - judgment.probability if judgment.label == "irrelevant" else judgment.probability


@dataclass(frozen=True, slots=True)
class Stage:
    """The routing of one stage.

    Attributes:
        name: unique within the cascade.
        final: the labels whose word is final here, each with the probability in [0, 1] from which on it is (0 =
            always; above 0 a judgment without a probability is never final).
        escalate: "pair" sends up the pairs that are not settled; "query" sends up every pair that this stage was
            asked about as soon as one of them is not settled (RLHN, arXiv 2505.16967).
        sample: share in [0, 1] of the settled pairs that goes up all the same, as a second opinion that changes
            no verdict. Without it the next judge only ever sees this one's doubts.
        settle: what its number settles, in place of `final`.
    """

    name: str
    final: Mapping[Label, float] = field(default_factory=lambda: ALL_FINAL)
    escalate: Literal["pair", "query"] = "pair"
    sample: float = 0.0
    settle: Settle | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the pairs of one case stand: `settled[i]` is the index of the stage whose word holds, or OPEN.

    `due[i]` says why the next stage is asked about pair i.
    """

    settled: tuple[int, ...]
    due: tuple[Why, ...]


@dataclass(frozen=True, slots=True)
class Trail:
    """The whole way of one case: for each stage, why each pair was due and what the stage said of it."""

    due: tuple[tuple[Why, ...], ...]
    words: tuple[tuple[Judgment | None, ...], ...]
    settled: tuple[int, ...]
    source: str = ""


def open_case(number: int, example: Example, reference_limit: int) -> Case:
    """Make the case of an example: its first positives as reference, one pair for each negative."""
    reference = example.positives[:reference_limit]
    key = digest(example.query, *[part for passage in reference for part in (passage.title, passage.text)])
    seen: dict[bytes, int] = {}
    pairs = []
    for index, candidate in enumerate(example.negatives):
        content = digest(candidate.title, candidate.text)
        turn = seen[content] = seen.get(content, 0) + 1
        pairs.append(Pair(index, candidate, content if turn == 1 else digest(content.hex(), str(turn))))
    return Case(number, example, reference, key, key + _rest(example, pairs), tuple(pairs))


def _rest(example: Example, pairs: Sequence[Pair]) -> bytes:
    """Digest what a judge may look at besides the query, the reference and the pair in question.

    A group prompt shows the other negatives, the rules compare with every positive, people name ids: of the same pair
    in another row a judge may say something else.
    """
    positives = [part for passage in example.positives for part in (passage.id, passage.title, passage.text)]
    keys = b"".join([pair.key for pair in pairs])
    ids = [pair.candidate.id for pair in pairs]
    return digest(example.id, str(len(example.positives)), *positives, keys.hex(), *ids, size=8)


def settles(stage: Stage, judgment: Judgment, source: str = "") -> bool:
    """Say whether this judgment ends the way of a pair of this source at this stage."""
    if stage.settle is not None:
        return judgment.reason in VOID_REASONS or stage.settle.label_of(judgment, source) is not None
    if judgment.label is None:
        return judgment.reason in VOID_REASONS
    needed = stage.final.get(judgment.label)
    if needed is None:
        return False
    return needed <= 0 or (judgment.probability is not None and judgment.probability >= needed)


def start(case: Case) -> Standing:
    """Return the standing before anybody is asked: every pair open and due."""
    due: Why = "open"
    return Standing((OPEN,) * len(case.pairs), (due,) * len(case.pairs))


def step(
    stages: Sequence[Stage], index: int, case: Case, standing: Standing, words: Sequence[Judgment | None], seed: int
) -> Standing:
    """Move a case past stage `index`, given what that stage said (None where it was not asked or not reached)."""
    stage = stages[index]
    settled = list(standing.settled)
    for i, (why, word) in enumerate(zip(standing.due, words, strict=True)):
        if why in ("", "sampled"):
            continue
        if word is not None and settles(stage, word, case.example.source):
            settled[i] = index
        elif word is None or word.label is not None or why == "open":
            settled[i] = OPEN
    if index + 1 == len(stages):
        nobody: Why = ""
        return Standing(tuple(settled), (nobody,) * len(settled))
    everyone = stage.escalate == "query" and any(
        why in ("open", "query") and now == OPEN for why, now in zip(standing.due, settled, strict=True)
    )
    due = tuple(
        ""
        if word is not None and word.reason in VOID_REASONS  # there is nothing to ask anybody about
        else _next(stage, index, case, i, now=settled[i], why=why, everyone=everyone, seed=seed)
        for i, (why, word) in enumerate(zip(standing.due, words, strict=True))
    )
    return Standing(tuple(settled), due)


def _next(stage: Stage, index: int, case: Case, i: int, *, now: int, why: Why, everyone: bool, seed: int) -> Why:
    """Say why the stage after `index` is asked about pair i, if it is."""
    if now == OPEN:
        return "open"
    if why in ("open", "query"):
        if everyone:
            return "query"
        if now == index and stage.sample > 0:
            dice = chance("sample", str(seed), stage.name, case.key.hex(), case.pairs[i].key.hex())
            return "sampled" if dice < stage.sample else ""
    return ""


def follow(stages: Sequence[Stage], case: Case, said: Sequence[Mapping[bytes, Judgment]], seed: int) -> Trail:
    """Walk a case through all stages by what was said (one mapping from pair key for each stage).

    Words that a stage was not due to say under these settings are left out: another threshold or another
    second stage reads the same store.
    """
    standing = start(case)
    all_due, all_words = [], []
    for index, known in enumerate(said):
        words = tuple(known.get(pair.key) if why else None for pair, why in zip(case.pairs, standing.due, strict=True))
        all_due.append(standing.due)
        all_words.append(words)
        standing = step(stages, index, case, standing, words, seed)
    return Trail(tuple(all_due), tuple(all_words), standing.settled, case.example.source)


def conclude(stages: Sequence[Stage], trail: Trail, i: int, person: Judgment | None = None) -> Verdict:
    """Conclude about pair i. A person's word is final; nobody's word is "undecided", never "irrelevant".

    What is void stays void, whoever labelled its text elsewhere in the row; and where a person agrees with a
    stage, that stage's finding ("copy of a positive") stands beside their word.
    """
    contradicted = _contradiction(stages, trail, i)
    at = trail.settled[i]
    word = trail.words[at][i] if at != OPEN else None
    label, evidence = settled_as(stages[at], word, trail.source) if word is not None else (None, "")
    if person is not None and (word is None or label is not None):
        return _verdict(person, person.label, "human", contradicted, evidence if label == person.label else "")
    if word is not None:
        return _verdict(word, label, stages[at].name, contradicted, evidence)
    last = next((words[i] for words in reversed(trail.words) if words[i] is not None), None)
    missing = any(why[i] and words[i] is None for why, words in zip(trail.due, trail.words, strict=True))
    evidence = "not asked" if last is None or missing else (last.reason or f"{last.label}, not certain enough")
    return Verdict("undecided", evidence=evidence, judgment=last)


def settled_as(stage: Stage, word: Judgment, source: str) -> tuple[Label | None, str]:
    """Return as what a word settles the pair, and the finding: by its number where the stage settles by it."""
    if stage.settle is None or word.reason in VOID_REASONS:
        return word.label, word.evidence
    label = stage.settle.label_of(word, source)
    return label, stage.settle.evidence(label, source) if label else ""


def _verdict(word: Judgment, label: Label | None, stage: str, contradicted: str, evidence: str = "") -> Verdict:
    if label is None:
        outcome: Outcome = "void" if word.reason in VOID_REASONS else "undecided"
        return Verdict(outcome, stage, word.reason, word, contradicted)
    return Verdict(OUTCOMES[label], stage, evidence or word.evidence or label, word, contradicted)


def _contradiction(stages: Sequence[Stage], trail: Trail, i: int) -> str:
    """Name the judge that was asked for a second opinion on pair i and gave another label."""
    for index in range(1, len(stages)):
        if trail.due[index][i] == "sampled":
            at = trail.settled[i]
            first, second = trail.words[at][i], trail.words[index][i]
            said = settled_as(stages[at], first, trail.source)[0] if first else None
            if said and second and second.label is not None and said != second.label:
                return stages[index].name
    return ""
