"""Finished shards of one input → one ordinary run over the whole. Asks nobody."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relabel.billing import reckon
from relabel.concluding import Plan
from relabel.engines.budget import Limits
from relabel.errors import RunError, typed
from relabel.pipeline import (
    Summary,
    check_folder,
    check_input,
    execution,
    manifest_of,
    plan_of,
    write_results,
)  # fmt: skip
from relabel.rundir import read_json, write_json
from relabel.shards import Shard
from relabel.store import Store
from relabel.store_file import STORE


@dataclass(frozen=True, slots=True)
class _Part:
    """A finished shard. `told` is what its manifest says of the stages' judges, `run` its run.json."""

    folder: Path
    shard: Shard
    plan: Plan
    told: Sequence[Mapping[str, Any]]
    run: Mapping[str, Any]

    def traits(self) -> dict[str, Any]:
        """Return what all shards of a run have in common; where their servers are is not among it."""
        plan = self.plan
        return {
            "input": plan.sha256,
            "pool": plan.pool_sha256,
            "format, --on-error or source_field": (
                plan.source.format.name, plan.source.on_error, plan.source.source_field
            ),
            "judges": [(stage["name"], stage["fingerprint"]) for stage in self.told],
            "final, escalate or sample": plan.stages,
            "policy": plan.policy,
            "reference": plan.reference,
            "seed": plan.seed,
            "number of shards": self.shard.of,
        }  # fmt: skip


def merge(folders: Sequence[Path], output: Path, *, path: Path | None = None) -> Summary:
    """Put finished shards together: one store of all that was said, and the results over the whole input.

    The files are those that one run over the whole would have written, byte for byte, given the same words of the
    judges; run.json sums up what the shards' executions took, seconds too. Called again it does the same again.

    Args:
        folders: the run directory of every shard of one input, in any order.
        output: the run directory to make.
        path: where the input is now, if it was moved.

    Raises:
        RunError: a shard is missing, given twice, not finished, or of another input, config or number of shards; or the
            output folder holds something else.
    """
    started = time.time()
    parts = sorted((_open(folder, path) for folder in folders), key=lambda part: part.shard.number)
    _check(parts)
    first = parts[0]
    check_input(first.plan, hint="say where the input of the shards is: --input FILE")
    _check_output(output, parts)
    with Store(output) as store:
        for part in parts:
            with Store(part.folder) as other:
                store.absorb(other)
        told = [
            {**stage, **_loaded(parts, index), "number": store.judge_id(stage["fingerprint"], stage)}
            for index, stage in enumerate(first.told)
        ]
        whole = replace(first.plan.source, shard=None)
        plan = replace(first.plan, source=whole, numbers=tuple(stage["number"] for stage in told))
        spending = _spending([part.run for part in parts])
        summary = write_results(plan, store, output)
        summary = replace(
            summary,
            spending=spending,
            bill=reckon(plan, store, summary.statistics, spending, Limits()),
            seconds=sum(part.run["seconds"] for part in parts),
            windowed=sum(part.run["passages_longer_than_the_model_reads"] for part in parts),
        )
        write_json(output / "run.json", execution(summary, started))
        merged = [str(part.folder.resolve()) for part in parts]
        write_json(output / "manifest.json", manifest_of(plan, told, summary.files, merged))
    return summary


def _open(folder: Path, path: Path | None) -> _Part:
    """Read what a shard's folder says of it."""
    if not (folder / "manifest.json").is_file():
        raise RunError(
            f"{folder} holds no finished shard",
            hint=f"finish it first: {typed('run', 'INPUT', '-o', folder)} --shard …, with the config of the others",
        )
    manifest = read_json(folder, "manifest.json")
    plan = plan_of(folder, manifest, path=path)
    if plan.source.shard is None:
        raise RunError(f"{folder} holds a run over the whole input, and no shard", hint="take it out of the list")
    if not (folder / STORE).is_file():
        raise RunError(f"{folder / STORE} is missing: nobody's words are left", hint="bring it back, or run it again")
    return _Part(folder, plan.source.shard, plan, manifest["stages"], read_json(folder, "run.json"))


def _check(parts: Sequence[_Part]) -> None:
    """Refuse what is not every shard of one run, once each."""
    if not parts:
        raise RunError("there is nothing to merge", hint="name the run directories of all shards")
    first = parts[0]
    for part in parts:
        common = first.traits()
        others = [trait for trait, value in part.traits().items() if value != common[trait]]
        if others:
            raise RunError(
                f"{part.folder} and {first.folder} are not shards of one run; what differs: {', '.join(others)}",
                hint="what belongs together was run over the same file, with the same config and options",
            )
    folders: dict[int, Path] = {}
    for part in parts:
        if twin := folders.get(part.shard.number):
            raise RunError(f"shard {part.shard} is given twice: {twin}, {part.folder}", hint="take one out of the list")
        folders[part.shard.number] = part.folder
    missing = [str(Shard(number, first.shard.of)) for number in range(1, first.shard.of + 1) if number not in folders]
    if missing:
        raise RunError(
            f"{len(missing)} of {first.shard.of} shards are missing: {', '.join(missing)}",
            hint=f"name their run directories too; what was never run: relabel run INPUT --shard {missing[0]},"
            " with the config of the others",
        )


def _check_output(output: Path, parts: Sequence[_Part]) -> None:
    """Refuse an output folder that holds more than an earlier merge of these shards."""
    hint = "name another folder: -o"
    if output.resolve() in [part.folder.resolve() for part in parts]:
        raise RunError(f"{output} is one of the shards", hint=hint)
    check_folder(output)
    if (output / "manifest.json").is_file():
        manifest = read_json(output, "manifest.json")
        judges = [stage["fingerprint"] for stage in manifest["stages"]]
        same = plan_of(output, manifest).sha256 == parts[0].plan.sha256
        same = same and judges == [stage["fingerprint"] for stage in parts[0].told]
        if not manifest.get("merged_from") or not same:
            raise RunError(f"{output} holds another run", hint=hint)
    elif (output / STORE).is_file() and _judges(output) - {each for part in parts for each in _judges(part.folder)}:
        raise RunError(f"{output} holds another run, which is not finished", hint=hint)


def _judges(folder: Path) -> set[str]:
    with Store(folder) as store:
        return set(store.judges())


def _loaded(parts: Sequence[_Part], stage: int) -> dict[str, Any]:
    """Return what the shards really loaded for a stage: once if it was the same, else all there was."""
    found: list[Any] = []
    for part in parts:
        loaded = part.told[stage].get("loaded")
        if loaded is not None and loaded not in found:
            found.append(loaded)
    return {"loaded": found[0] if len(found) == 1 else found} if found else {}


def _spending(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add up what was spent, stage by stage; a sum of which one part is unknown (None) is unknown.

    What is no number stays in the shards' own run.json.
    """
    total: dict[str, dict[str, Any]] = {}
    for run in runs:
        for stage, spent in run["spending"].items():
            known = total.setdefault(stage, {})
            for name, amount in spent.items():
                if amount is None or isinstance(amount, int | float):
                    before = known.get(name, 0)
                    known[name] = None if amount is None or before is None else before + amount
    return total
