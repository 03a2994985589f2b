"""How far can one judge be believed? The same pairs asked in several ways, and questions whose answer is known.

    part        what is asked                                            what it shows
    probe       a held-out positive, and that of another query           a lean towards yes or no
    lists       the same pairs alone, 5 and 25 a prompt, in two orders   labels that hang on company and place
    swap        candidate as reference, known positive as candidate      labels that contradict each other
    leaning     nothing further                                          a taste for long or echoing texts
    repeat      the same prompt once more                                chance
    templates   other wordings                                           labels that hang on the wording

That models lean towards "no" in binary decisions: Yu et al., NAACL 2025 (arXiv 2408.00137).
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from relabel import config, engine_settings
from relabel.asking import Rehearsed, finding, pairs_of, sitting, sitting_direct, size_of, stage_of
from relabel.cascade import open_case
from relabel.diagnostics import Diagnostic
from relabel.errors import SettingsError
from relabel.interview import NO_RECORDING, Begin, Direct, Heard, Interview, Key, Progress, Way
from relabel.labelled import Labels
from relabel.probes import Probe, probes, swapped
from relabel.prompts import Template, list_templates, load_template
from relabel.records import Case, Example, Judgment, Label, Pair, majority
from relabel.rundir import replacing, sha256_of, versions, write_json
from relabel.sources import Source
from relabel.symptoms import (
    Answers,
    absent,
    listed,
    of_leaning,
    of_lists,
    of_places,
    of_probe,
    of_repeat,
    of_swap,
    of_templates,
)

PARTS: Final = ("probe", "lists", "swap", "leaning", "repeat", "templates")
SIZES: Final = (5, 25)
"""Candidates in a prompt, beside one alone."""

DIAGNOSTICS: Final = "diagnostics.json"
EXECUTION: Final = "diagnostics_run.json"
_UNRECORDED: Final = Judgment(None, NO_RECORDING)
_ABLE: Final = (config.LLM, config.Embedding, config.CrossEncoder)

Ways = dict[str, tuple[Way | None, Sequence[Case]]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall be found out.

    Attributes:
        queries: how many, chosen by the settings' seed.
        parts: of `PARTS`.
        paraphrases: templates (names or files) that ask for the same in other words; () = the other shipped ones.
        temperature: at which the same prompt is asked again; None = as the engine is set.
    """

    queries: int = 50
    parts: tuple[str, ...] = PARTS
    paraphrases: tuple[str, ...] = ()
    temperature: float | None = None

    def __post_init__(self) -> None:
        """Refuse a part that there is not, and a temperature that cannot be."""
        if self.temperature is not None and not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise SettingsError(f"a temperature of {self.temperature:g}", hint="0 or more, such as 0.7")
        if unknown := sorted(set(self.parts) - set(PARTS)):
            raise SettingsError(f"there is no part {unknown[0]!r}", hint=f"choose of {', '.join(PARTS)}")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found out about one judge.

    Attributes:
        judge: the stage's name.
        template: of an LLM, the name of its prompt; "" for others.
        queries: of the sample.
        pairs: of the sample.
        figures: in the order of `PARTS`; one that could not be had has no value and says why.
        none: pairs without a label by reason, as a run would ask.
        asked: questions asked in this execution.
        from_store: questions whose reply was stored.
        files: by purpose, as written.
    """

    judge: str
    template: str
    queries: int
    pairs: int
    figures: tuple[Diagnostic, ...]
    none: Mapping[str, int]
    asked: int
    from_store: int
    files: Mapping[str, Path]


def diagnose(
    source: Source,
    settings: config.Settings,
    folder: Path,
    wanted: Wanted,
    *,
    stage: str | None = None,
    gold: Labels | None = None,
    progress: Progress = lambda *_: None,
    begin: Begin = lambda *_: None,
) -> Diagnosis:
    """Ask one stage's judge in several ways; write `diagnostics.json`, a list of figures.

    Replies are kept in the folder's store: what this or `relabel run` asked there before is not asked again.

    Args:
        source: the input.
        settings: the cascade.
        folder: where replies and figures go; may be a run directory.
        wanted: how many queries, and which parts.
        stage: name of an LLM, embedding or cross-encoder stage; without, the first LLM, or else the first of these.
        gold: people's labels, by which a judge's leaning can be told from the truth's.
        progress: told how many questions are answered.
        begin: told how many there are, before anybody is asked; again before the swapped ones.

    Raises:
        SettingsError: no such stage, or a template that does not load.
        InputError: no row with negatives, or labels about none of the pairs.
        ServiceError: the service cannot go on; the store keeps what was answered.
    """
    place = _place(settings, stage)
    chosen = settings.stages[place]
    if isinstance(chosen, config.LLM):
        with sitting(source, settings, place, wanted.queries, folder, progress=progress, begin=begin) as (
            interview,
            cases,
        ):
            exam = _Exam.of(chosen, cases, settings, wanted, interview)
            found = _examined(exam, interview, gold, folder)
    else:
        with sitting_direct(source, settings, place, wanted.queries, folder) as (direct, cases):
            exam = _Exam.of(chosen, cases, settings, wanted)
            found = _examined(exam, direct, gold, folder)
    _write(found, source, settings, wanted)
    return found


def rehearse(
    source: Source, settings: config.Settings, folder: Path, wanted: Wanted, *, stage: str | None = None
) -> Rehearsed:
    """Count what `diagnose` would ask, and estimate what it costs. Asks nobody. Args and errors: see `diagnose`."""
    place = _place(settings, stage)
    chosen = settings.stages[place]
    if not isinstance(chosen, config.LLM):
        raise SettingsError(
            f"stage {settings.names[place]!r} runs here and costs nothing by the token", hint="leave out --dry-run"
        )
    with sitting(source, settings, place, wanted.queries, folder, dry=True) as (interview, cases):
        exam = _Exam.of(chosen, cases, settings, wanted, interview)
        ways = exam.ways()
        notes = ["a question that belongs to two lines is counted in both, asked and paid once"]
        if "swap" in wanted.parts and exam.shows:
            ways["swap, at most"] = exam.swap(list(exam.pairs))
            notes.append("swap: asked of the pairs that the judge calls relevant, and nobody knows yet how many")
        bills = interview.forecast(ways)
    return Rehearsed(settings.names[place], *size_of(cases), bills, tuple(notes))


def _place(settings: config.Settings, stage: str | None) -> int:
    llm = stage is None and any(isinstance(each, config.LLM) for each in settings.stages)
    return stage_of(settings, stage, kinds=(config.LLM,) if llm else _ABLE)


# -- what is asked -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Exam:
    """A judge, the sample, and all the ways in which the one is asked about the other."""

    stage: config.AnyStage
    pairs: Mapping[Key, tuple[Case, Pair]]
    cases: Sequence[Case]
    wanted: Wanted
    reference: int
    seed: int
    base: Way | None
    probe: Sequence[Probe] = field(default=())

    @classmethod
    def of(
        cls,
        stage: config.AnyStage,
        cases: Sequence[Case],
        settings: config.Settings,
        wanted: Wanted,
        interview: Interview | None = None,
    ) -> "_Exam":
        """Lay out the questions; `interview` is there where the judge is an LLM."""
        pairs = {key: (case, pair) for key, case, pair in pairs_of(cases)}
        base = interview.way() if interview is not None else None
        exam = cls(stage, pairs, cases, wanted, settings.reference, settings.seed, base)
        rows = [case.example for case in cases]
        made = probes(rows, seed=settings.seed, shows=exam.shows, requires=exam.requires)
        return replace(exam, probe=made)

    @property
    def shows(self) -> bool:
        """Whether the judge is shown known positives."""
        if self.base is not None:
            return self.base.template.reference != "none"
        if isinstance(self.stage, config.CrossEncoder):
            return any(rule is not None and rule.by != "score" for rule in (self.stage.flag, self.stage.ask))
        return True

    @property
    def requires(self) -> bool:
        """Whether it must be shown one."""
        return self.shows if self.base is None else self.base.template.reference == "required"

    @property
    def grouped(self) -> bool:
        """Whether it is asked about several candidates at a time."""
        return self.base is not None and self.base.template.spec.kind == "group"

    @property
    def recorded(self) -> bool:
        """Whether its replies are recorded ones."""
        return isinstance(self.stage, config.LLM) and isinstance(self.stage.engine, engine_settings.Scripted)

    @property
    def sizes(self) -> list[int]:
        """How many candidates are asked about in one prompt; more than the longest list would be the same again."""
        longest = max(len(case.pairs) for case in self.cases)
        return [size for before, size in zip((1, *SIZES), SIZES, strict=False) if longest > before]

    def ways(self) -> Ways:
        """Return all that is asked before an answer is known, by name; "base" is as a run asks."""
        parts, base = self.wanted.parts, self.base
        ways: Ways = {"base": (base, self.cases)}
        if "probe" in parts and self.probe:
            ways["probe"] = self._alone(), self._opened([probe.example for probe in self.probe])
        if base is None:
            return ways
        if "lists" in parts and self.grouped:
            ways["alone"] = self._alone(), self.cases
            for size in self.sizes:
                for order in (1, 2):
                    way = replace(base, group_size=size, shuffle=True, seed=base.seed + order - 1)
                    ways[listed(size, order)] = way, self.cases
        if "repeat" in parts and not self.recorded:
            ways["again"] = replace(base, again=1, temperature=self.wanted.temperature), self.cases
        if "templates" in parts:
            ways |= {
                f"template {name}": (replace(base, template=other), self.cases)
                for name, other in self.paraphrases().items()
            }
        return ways

    def swap(self, keys: Sequence[Key]) -> tuple[Way | None, Sequence[Case]]:
        """Ask the other way round about some pairs."""
        asked = [self.pairs[key] for key in keys]
        return self._alone(), self._opened([swapped(case.example, pair.candidate) for case, pair in asked])

    def paraphrases(self) -> dict[str, Template]:
        """Return the other wordings by name, or by file where two have one name."""
        if self.base is None:
            return {}
        names = self.wanted.paraphrases or list_templates()
        found: dict[str, Template] = {}
        for name in names:
            template = load_template(name)
            if template.fingerprint != self.base.template.fingerprint:
                taken = template.name in (*found, self.base.template.name)
                found[template.path if taken else template.name] = template
        return found

    def _alone(self) -> Way | None:
        return replace(self.base, group_size=1) if self.base is not None else None

    def _opened(self, examples: Sequence[Example]) -> list[Case]:
        return [open_case(number, example, self.reference) for number, example in enumerate(examples)]


# -- what comes of it --------------------------------------------------------------------------------------


def _examined(exam: _Exam, judge: Interview | Direct, gold: Labels | None, folder: Path) -> Diagnosis:
    heard = _own(judge.ask(exam.ways()))
    flagged = [key for key in exam.pairs if heard["base"].label(key) == "relevant"]
    if "swap" in exam.wanted.parts and exam.shows and flagged:
        heard |= _own(judge.ask({"swap": exam.swap(flagged)}))
    people: dict[Key, Label] = {}
    for key, (case, pair) in exam.pairs.items() if gold is not None else ():
        label = majority(gold.of(finding(case, pair)).values()) if gold is not None else None
        if label is not None:
            people[key] = label
    if gold is not None:
        gold.check()
    answers = Answers(exam.pairs, heard, people, exam.seed)
    readers: dict[str, Callable[[], list[Diagnostic]]] = {
        "probe": lambda: of_probe(answers, exam.probe),
        "lists": lambda: _lists(exam, answers),
        "swap": lambda: _swap(exam, answers, flagged),
        "leaning": lambda: of_leaning(answers),
        "repeat": lambda: _repeat(exam, answers),
        "templates": lambda: _templates(exam, answers),
    }
    figures = [figure for part in PARTS if part in exam.wanted.parts for figure in readers[part]()]
    return Diagnosis(
        judge=judge.name,
        template=exam.base.template.name if exam.base is not None else "",
        queries=size_of(exam.cases)[0],
        pairs=len(exam.pairs),
        figures=tuple(figures),
        none=heard["base"].counts()["none"],
        asked=judge.asked,
        from_store=judge.from_store,
        files={"diagnostics": folder / DIAGNOSTICS, "execution": folder / EXECUTION},
    )


def _own(heard: Mapping[str, Heard]) -> dict[str, Heard]:
    """Take a recorded reply about a larger group for no answer, but where a run would have taken it for one."""
    return {
        name: said
        if name == "base"
        else replace(
            said,
            words={key: _UNRECORDED if word.evidence == "replayed" else word for key, word in said.words.items()},
        )
        for name, said in heard.items()
    }


def _lists(exam: _Exam, answers: Answers) -> list[Diagnostic]:
    if not exam.grouped:
        return [absent("lists", "order and number in a prompt", "does not apply: it is asked about one at a time")]
    if not exam.sizes:
        return [absent("lists", "order and number in a prompt", "no row has two candidates to ask about")]
    ways = [listed(exam.sizes[-1], order) for order in (1, 2)]
    # a recording may by chance stand in the order asked for: too few to tell a place by
    if 2 * min(len(answers.said(way)) for way in ways) >= len(answers.said("base")):
        return [*of_lists(answers, exam.sizes), *of_places(answers, ways)]
    as_run = "" if exam.base is not None and exam.base.shuffle else "in the input's order: place and rank are one"
    return [*of_lists(answers, exam.sizes), *of_places(answers, ["base"], note=as_run)]


def _swap(exam: _Exam, answers: Answers, flagged: Sequence[Key]) -> list[Diagnostic]:
    name = "swap consistency"
    if not exam.shows:
        return [absent("swap", name, "does not apply: the judge is not shown the reference")]
    if not flagged:
        return [absent("swap", name, "no pair was called relevant")]
    return of_swap(answers, flagged)


def _repeat(exam: _Exam, answers: Answers) -> list[Diagnostic]:
    name = "labels that change when asked again"
    if exam.recorded:
        return [absent("repeat", name, "recorded replies do not change")]
    if exam.base is None:
        return [absent("repeat", name, "does not apply: this judge throws no dice")]
    engine = exam.stage.engine if isinstance(exam.stage, config.LLM) else None
    own = getattr(engine, "temperature", None)
    warmth = own if exam.wanted.temperature is None else exam.wanted.temperature
    return of_repeat(answers, f"temperature {'of the server' if warmth is None else f'{warmth:g}'}")


def _templates(exam: _Exam, answers: Answers) -> list[Diagnostic]:
    if exam.base is None:
        return [absent("templates", "other wordings", "does not apply: this judge has no prompt")]
    return of_templates(answers, list(exam.paraphrases()), exam.base.template.name)


def _write(found: Diagnosis, source: Source, settings: config.Settings, wanted: Wanted) -> None:
    """Write the figures as one plain list, and beside it what they were made of."""
    with replacing(found.files["diagnostics"]) as file:
        told = [{"judge": found.judge, "template": found.template, **each.to_json()} for each in found.figures]
        file.write(json.dumps(told, ensure_ascii=False, indent=1) + "\n")
    stage = settings.stages[settings.names.index(found.judge)]
    write_json(
        found.files["execution"],
        {
            "input": {"path": str(source.path.resolve()), "sha256": sha256_of(source.path)},
            "judge": {"name": found.judge, **stage.model_dump(mode="json", exclude={"name"})},
            "seed": settings.seed,
            "reference": settings.reference,
            "wanted": asdict(wanted),
            "queries": found.queries,
            "pairs": found.pairs,
            "none": found.none,
            "asked": found.asked,
            "from_store": found.from_store,
            "versions": versions(),
        },
    )
