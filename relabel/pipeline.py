"""The story of a run: read → judge by stages → conclude → edit → refill → write.

Judging fills the store; everything after it is a pure reading of input and store, so that `apply` with another policy
asks nobody, and a resumed run writes the same bytes as an unbroken one.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from relabel import audit, billing, config, pools
from relabel.accounting import Account, Concluded
from relabel.building import Opened, open_cluster, open_judges
from relabel.cascade import open_case
from relabel.certain import MostCertain
from relabel.concluding import Plan, Row, conclude_all
from relabel.engines.batch_ledger import BATCH_FOLDER, forget_failures
from relabel.engines.budget import Limits
from relabel.errors import BudgetReached, Detached, InputError, RelabelError, RunError, SettingsError, typed
from relabel.explaining import explain_all
from relabel.formats import Reject, Seams, get_format, open_writer, rows_of
from relabel.formats.endings import ending, is_csv, is_table
from relabel.pools import CandidatePool
from relabel.protocols import Judge, Leaves, Prepares
from relabel.records import NOTHING, Case, Example, Finding, Listed, fingerprint
from relabel.refill import open_reserve, refill_all, refilled
from relabel.rundir import change_to_json, json_line, read_json, replacing, sha256_of, versions, write_json
from relabel.shards import Shard
from relabel.sources import Source, Survey, survey
from relabel.stages import Station, Watch, judge_all
from relabel.store import OWN, Store
from relabel.store_file import STORE

_LISTED: Final[Mapping[str, Listed]] = {
    "false negative": "flagged", "partial": "flagged", "undecided": "undecided",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run or an `apply` leaves behind.

    `certain` holds the most certain false negatives, most certain first; `spending` the replies and tokens of
    this execution by stage; `bill` what was estimated and paid, in all executions, see `billing.reckon`.
    """

    folder: Path
    files: Mapping[str, Path]
    statistics: Mapping[str, Any]
    certain: tuple[Finding, ...]
    spending: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    windowed: int = 0
    bill: Mapping[str, Any] = field(default_factory=dict)

    @property
    def undecided(self) -> int:
        """Pairs about which nobody had a final word."""
        return int(self.statistics["verdicts"]["undecided"])


def run(
    source: Source,
    settings: config.Settings,
    folder: Path,
    *,
    judges: Mapping[str, Judge] | None = None,
    watch: Watch = lambda *_: None,
    begin: Callable[[Survey, Sequence[Opened]], None] = lambda *_: None,
    limits: Limits | None = None,
    detach: bool = False,
) -> Summary:
    """Do the main job; called again after a crash it goes on where it was.

    Args:
        source: the input.
        settings: the cascade and the policy.
        folder: the run directory; a new one is made, an old one is continued.
        judges: judges of one's own, in place of those that the settings name, by the stage's name.
        watch: told about progress, from other threads.
        begin: told what the survey found and whom the run will ask, before anybody is asked.
        limits: what the run may spend, all its executions together.
        detach: do not wait for batches.

    Raises:
        BudgetReached: the next question would exceed a limit; what was answered is kept, and nothing is written.
        Detached: with `detach`, where batches are under way in the end; everything else is done that could be.
    """
    started, begun, limits = time.time(), time.monotonic(), limits or Limits()
    source = replace(source, source_field=source.source_field or settings.source_field)
    policy = settings.policy.policy()
    seen = survey(source, policy)
    check_folder(folder)
    replaces = _replaced(folder, source, seen.sha256)
    with Store(folder) as store, open_cluster(settings, folder / "cache") as cluster:
        budget = billing.open_budget(settings, store, limits, own=judges or {})
        opened = open_judges(settings, store, folder / "cache", own=judges or {}, cluster=cluster, budget=budget)
        numbers = tuple(store.judge_id(each.fingerprint, each.provenance) for each in opened)
        plan = Plan.of(source, settings, numbers, seen.sha256, _pool_digest(settings, folder))
        beside = None if plan.pool else pools.beside(source.path)
        begin(replace(seen, pool=plan.pool, unused_pool=beside, replaces=replaces), opened)
        for each in opened:
            if isinstance(each.judge, Prepares):
                each.judge.prepare(_watched(_judged_examples(plan), f"{each.name}: preparing", watch))
        stations = [
            Station(stage, each.judge, number)
            for stage, each, number in zip(plan.stages, opened, plan.numbers, strict=True)
        ]
        if detach:
            _detach(settings, opened)
        try:
            judge_all(_cases(plan), stations, store, settings.seed, watch)
            refill_all(plan, stations, store, watch)
            explain_all(plan, opened, lambda: _cases(plan), store, watch)
        except BudgetReached as error:
            raise billing.reached(plan, store, seen.pairs, limits) from error
        except Detached:
            write_json(folder / "run.json", execution(Summary(folder, {}, {}, (), **_taken(opened, begun)), started))
            raise
        summary = replace(write_results(plan, store, folder), **_taken(opened, begun))
        _check_unchanged(plan)
        reckoned = billing.reckon(plan, store, summary.statistics, summary.spending, limits)
        summary = replace(summary, bill=reckoned)
        write_json(folder / "run.json", execution(summary, started))
        loaded = _loaded_before(folder)
        stages_told = [
            loaded.get(each.fingerprint, {}) | each.told(number)
            for each, number in zip(opened, plan.numbers, strict=True)
        ]
        write_json(folder / "manifest.json", manifest_of(plan, stages_told, summary.files))
        forget_failures(folder / BATCH_FOLDER)
    return summary


def _detach(settings: config.Settings, opened: Sequence[Opened]) -> None:
    """Have no judge wait for batches; refused where there can be none."""
    if not any(isinstance(stage, config.LLM) and stage.engine.kind == "openai_batch" for stage in settings.stages):
        raise SettingsError(
            "there is nothing to leave: no stage asks by batches",
            hint="set a stage's engine to kind: openai_batch, or leave --detach out",
        )
    for each in opened:
        if isinstance(each.judge, Leaves):
            each.judge.leave(at_once=False)


def _taken(opened: Sequence[Opened], begun: float) -> dict[str, Any]:
    """Return what this execution took so far, by the names that `Summary` has."""
    return {
        "spending": {each.name: each.spending() for each in opened if each.engine},
        "seconds": time.monotonic() - begun,
        "windowed": sum(each.windowed for each in opened),
    }


def _check_unchanged(plan: Plan) -> None:
    """Refuse results of an input that was another as it was read for the last time than for the first."""
    path = plan.source.path
    if not path.exists() or sha256_of(path) != plan.sha256:
        raise InputError(
            f"{path} has changed while this run read it: what was written is of neither state",
            hint="let the file be, and type the same command again: what is answered is not asked again",
        )


def _pool_digest(settings: config.Settings, folder: Path) -> str:
    """Return the digest of the candidates that rows are refilled from; a pool that cannot be used is refused here."""
    if settings.pool is None:
        return ""
    with CandidatePool(Path(settings.pool), folder / "cache" / "pool") as pool:
        return pool.sha256


def _loaded_before(folder: Path) -> dict[str, dict[str, Any]]:
    """Return, by judge, what an earlier execution of this run really loaded: this one may find all in the store."""
    try:
        told = read_json(folder, "manifest.json")["stages"]
        return {stage["fingerprint"]: {"loaded": stage["loaded"]} for stage in told if "loaded" in stage}
    except (RelabelError, KeyError, TypeError):  # none, or nothing that can be read
        return {}


def check_folder(folder: Path) -> None:
    """Refuse a folder in which something else lies than what a run leaves there."""
    if folder.is_dir() and not (folder / STORE).exists() and {each.name for each in folder.iterdir()} - OWN:
        raise RunError(f"{folder} holds other files, and no run of relabel", hint="name another run directory: -o")


def check_begun(folder: Path) -> None:
    """Refuse a folder in which there is no run to go on with.

    Raises:
        RunError: nothing of a run is there.
    """
    if not any((folder / name).exists() for name in (STORE, BATCH_FOLDER)):
        raise RunError(
            f"{folder} holds no run to go on with",
            hint="name the run directory: -o; or leave --resume out to begin one",
        )


def _replaced(folder: Path, source: Source, sha256: str) -> Path | None:
    """Return the other input whose results lie in the folder, if such do.

    Raises:
        RunError: they are those of another part of an input.
    """
    try:
        known = plan_of(folder, read_json(folder, "manifest.json"))
    except RelabelError:  # nothing that can be read: it is written anew
        return None
    if known.source.shard != source.shard:
        parts = [f"shard {part}" if part else "the whole input" for part in (known.source.shard, source.shard)]
        raise RunError(f"{folder} holds a run over {parts[0]}, not {parts[1]}", hint="name another run directory: -o")
    same = known.sha256 == sha256 or known.source.path.resolve() == source.path.resolve()
    return None if same else known.source.path


def apply(
    folder: Path, *, settings: config.Settings | None = None, actions: str | None = None, path: Path | None = None
) -> Summary:
    """Decide and write again from what the store holds; asks nobody. The run goes on under what is chosen here.

    Args:
        folder: a run directory that was finished once.
        settings: take policy and routing (thresholds, escalation, samples) from here, in place of those in force.
        actions: preset of actions, in place of the policy's.
        path: where the input is now, if it was moved.

    Raises:
        RunError: no finished run is there, or its input is gone or another.
        SettingsError: the settings' judges are not those that the run asked, or no actions are called so.
    """
    manifest = read_json(folder, "manifest.json")
    with open_run(folder, path=path) as (old, store):
        chosen = settings or old.settings
        if settings is not None:
            _same_judges(settings, manifest, store, folder)
            chosen = chosen.model_copy(update={"pool": chosen.pool or old.settings.pool})
        if actions is not None:
            config.preset(actions)  # refuses a name that is none
            chosen = chosen.model_copy(update={"policy": chosen.policy.model_copy(update={"actions": actions})})
        pool = old.pool_sha256 if settings is None else _pool_digest(chosen, folder)
        plan = Plan.of(old.source, chosen, old.numbers, old.sha256, pool)
        summary = write_results(plan, store, folder)
        merged = manifest.get("merged_from", ())
        write_json(folder / "manifest.json", manifest_of(plan, manifest["stages"], summary.files, merged))
        return summary


def _same_judges(settings: config.Settings, manifest: Mapping[str, Any], store: Store, folder: Path) -> None:
    """Refuse settings whose judges are not those that the run asked: their words are not in the store."""
    told = manifest["stages"]
    opened = open_judges(settings, store, folder / "cache", own={})
    if [each.name for each in opened] != [stage["name"] for stage in told]:
        raise SettingsError(
            f"the config's stages are {', '.join(each.name for each in opened)}, the run's"
            f" {', '.join(stage['name'] for stage in told)}",
            hint="another cascade has to be asked: relabel run",
        )
    for each, stage in zip(opened, told, strict=True):
        if "own" not in stage and each.fingerprint != stage["fingerprint"]:
            raise SettingsError(
                f"the judge of stage {each.name} is not the one that this run asked",
                hint="apply changes policy, final, settle, escalate and sample;"
                " another judge has to be asked: relabel run",
            )


@contextmanager
def open_run(folder: Path, *, path: Path | None = None) -> Iterator[tuple[Plan, Store]]:
    """Open a finished run: its plan, checked against the input as it is now, and its store."""
    plan = plan_of(folder, read_json(folder, "manifest.json"), path=path)
    again = typed("run", plan.source.path, "-o", folder)
    if plan.source.shard:
        again += f" --shard {plan.source.shard}"
    check_input(plan, hint=f"judge what is new: {again}, with the config of that run")
    if not (folder / STORE).is_file():
        raise RunError(
            f"{folder / STORE} is missing: nobody's words are left",
            hint=f"bring it back, or ask again: {again}, with the config of that run",
        )
    with Store(folder) as store:
        yield plan, store


def plan_of(folder: Path, manifest: Mapping[str, Any], *, path: Path | None = None) -> Plan:
    """Read a run's plan out of its manifest; nothing is checked against the input.

    Raises:
        RunError: the manifest is not one that this relabel writes.
    """
    try:
        settings = config.Settings.model_validate(manifest["settings"])
        told = manifest["input"]
        shard = Shard.read(told["shard"]) if told.get("shard") else None
        where = path or Path(told["path"])
        source = Source(where, get_format(told["format"]), told["on_error"], told["source_field"], shard)
        numbers = tuple(stage["number"] for stage in manifest["stages"])
        return Plan.of(source, settings, numbers, told["sha256"], told["pool"] if settings.pool else "")
    except (AttributeError, KeyError, TypeError, ValueError, SettingsError) as error:
        raise RunError(
            f"{folder / 'manifest.json'} is not what this relabel writes", hint=typed("run", "INPUT", "-o", folder)
        ) from error


def check_input(plan: Plan, *, hint: str) -> None:
    """Refuse an input that is gone, or another than the plan was made for; then `hint` says what to do."""
    where = plan.source.path
    if not where.exists():
        raise RunError(f"the input {where} is no longer there", hint="say where it is: --input FILE")
    if sha256_of(where) != plan.sha256:
        raise RunError(f"{where} is not the file that this run read (its content differs)", hint=hint)


# -- judging -------------------------------------------------------------------------------------------


def _judged_examples(plan: Plan) -> Iterator[Example]:
    return (example for example in plan.source.examples() if not plan.policy.exempts(example.source))


def _watched(examples: Iterator[Example], stage: str, watch: Watch) -> Iterator[Example]:
    for example in examples:
        yield example
        watch(stage, 0, len(example.negatives))


def _cases(plan: Plan) -> Iterator[Case]:
    for number, example in enumerate(_judged_examples(plan)):
        if example.negatives:
            yield open_case(number, example, plan.reference)


# -- concluding: pure readings of input and store --------------------------------------------------------


def concluded(plan: Plan, store: Store, on_reject: Callable[[Reject], None]) -> Iterator[Row]:
    """Walk every example of the input through cascade, policy and pool by what the store holds."""
    with open_reserve(plan, store.folder / "cache") as reserve:
        examples = plan.source.examples(on_reject)
        if reserve is None:
            yield from conclude_all(plan, store, examples, plan.holds)
        else:
            lenient = conclude_all(plan, store, examples, replace(plan.holds, emptied=True))
            yield from refilled(plan, store, reserve, lenient)


def findings(plan: Plan, one: Concluded, case: Case, *, everything: bool = False) -> Iterator[Finding]:
    """Yield the pairs of one example that a person should look at, or all of them."""
    if one.trail is None:
        return
    for i, (pair, verdict, action) in enumerate(zip(case.pairs, one.verdicts, one.edited.actions, strict=True)):
        listed = _LISTED.get(verdict.outcome) or ("contradicted" if verdict.contradicted else None)
        if listed or everything:
            words = {
                stage.name: word
                for stage, said in zip(plan.stages, one.trail.words, strict=True)
                if (word := said[i]) is not None
            }
            voices = one.people[i] if one.people else None
            people, notes = (voices.said, voices.notes) if voices else (NOTHING, NOTHING)
            yield Finding(
                one.example, case.reference, pair.candidate, verdict, action, listed or "judged", words,
                fingerprint(case, pair), people, notes,
            )  # fmt: skip


def cleaned_path(path: Path, folder: Path) -> Path:
    """Return where the cleaned file of an input goes: the same kind of file, however the input's name spells it."""
    return folder / f"cleaned{ending(path)}"


def write_results(plan: Plan, store: Store, folder: Path) -> Summary:
    """Write cleaned file, audit CSV, ledger, rejects and statistics; each under a temporary name, then renamed."""
    files = {
        "cleaned": cleaned_path(plan.source.path, folder),
        "flagged": folder / "flagged.csv",
        "changes": folder / "changes.jsonl",
        "rejects": folder / "rejects.jsonl",
        "below": folder / "below_min_negatives.jsonl",
        "statistics": folder / "statistics.json",
    }
    if plan.source.path.resolve() in [file.resolve() for file in files.values()]:
        raise InputError(f"{plan.source.path} would be overwritten", hint="use another run directory: -o")
    account = Account(
        plan.stages,
        seed=plan.seed,
        min_negatives=plan.policy.min_negatives,
        people=store.has_people(),
        pool=plan.pool is not None,
    )
    best, seams = MostCertain(), Seams()
    with ExitStack() as stack:
        rejects = stack.enter_context(replacing(files["rejects"]))
        changes = stack.enter_context(replacing(files["changes"]))
        below = stack.enter_context(replacing(files["below"]))
        whole = replace(plan.source, shard=None)  # its first row is of any shard
        first = next(whole.examples(), None) if is_csv(whole.path) else None
        columns = list(rows_of(first.row, first.layout)[0]) if first else None
        like = whole.path if is_table(whole.path) else None
        cleaned = stack.enter_context(open_writer(files["cleaned"], plan.source.format, columns=columns, like=like))

        def reject(row: Reject) -> None:
            account.reject()
            rejects.write(json_line(asdict(row)))

        def decided() -> Iterator[Finding]:
            for one, case in concluded(plan, store, reject):
                left = account.add(one)
                if left is not None:
                    told = {"position": one.example.position, "example_id": one.example.id, "negatives": left}
                    below.write(json_line(told))
                for change in one.edited.changes:
                    changes.write(json_line(change_to_json(change)))
                if one.edited.example is not None:
                    seams.wrote(one.edited.example, cleaned.write(one.edited.example))
                for finding in findings(plan, one, case):
                    best.add(finding)
                    yield finding

        kept = audit.set_aside(files["flagged"], lambda path: store.imported(sha256_of(path)))
        audit.write_findings(decided(), files["flagged"], [stage.name for stage in plan.stages])
    statistics = account.statistics() | ({"seams": seams.found} if seams.found else {})
    write_json(files["statistics"], statistics)
    if kept is not None:
        files["labelled"] = kept
    return Summary(folder, files, statistics, best.found())


# -- provenance ------------------------------------------------------------------------------------------


def manifest_of(
    plan: Plan, stages: Sequence[Mapping[str, Any]], files: Mapping[str, Path], merged: Sequence[str] = ()
) -> dict[str, Any]:
    """Say what was done with what, and what came of it: everything that a colleague needs to do it again.

    `merged` names the folders of the shards that were put together, if that is how the run came about.
    """
    source = plan.source
    return {
        "input": {
            "path": str(source.path.resolve()),
            "sha256": plan.sha256,
            "format": source.format.name,
            "on_error": source.on_error,
            "source_field": source.source_field,
            "shard": str(source.shard) if source.shard else None,
            **({"pool": plan.pool_sha256} if plan.pool else {}),
        },
        **({"merged_from": list(merged)} if merged else {}),
        "settings": plan.settings.model_dump(mode="json"),
        "stages": list(stages),
        "seed": plan.seed,
        "files": {
            path.name: sha256_of(path) for name, path in files.items() if name in ("cleaned", "changes", "rejects")
        },
        "versions": versions(),
    }


def execution(summary: Summary, started: float) -> dict[str, Any]:
    """Say what this execution took: all that may differ between two runs with the same results."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(summary.seconds, 3),
        "spending": summary.spending,
        **({"bill": summary.bill} if summary.bill else {}),
        "passages_longer_than_the_model_reads": summary.windowed,
        "versions": versions(),
    }
