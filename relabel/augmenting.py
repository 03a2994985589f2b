"""What becomes of accepted negatives: rows are filled, the training file is written, everything is counted."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from relabel.formats import open_writer, rows_of
from relabel.formats.endings import ending, is_csv, is_table
from relabel.records import Example
from relabel.rundir import json_line, replacing
from relabel.sources import Source
from relabel.synthesis.gate import REASONS
from relabel.synthesis.marks import MARK, is_synthetic
from relabel.synthesis.planning import content
from relabel.synthesis.settings import Settings
from relabel.synthesis.slots import OVER, UNUSED, Slot, Slots
from relabel.synthesis.using import Wants, chosen, filled, preference
from relabel.synthesisdir import LEDGER, NO_RECIPE, PREFERENCES, TRAINING

NOTES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType({
    MARK: MappingProxyType({"recipe": "", "generator": "", "judge": "", "difficulty": 0.0})
})  # fmt: skip
"""What a synthetic negative says of itself, for files whose columns have types."""

_JUDGED: Final = ("judged relevant", "judged partial", "repeated")


@dataclass(frozen=True, slots=True)
class Results:
    """The files that were written, and the figures about them."""

    files: Mapping[str, Path]
    statistics: Mapping[str, Any]


def write_results(
    source: Source, settings: Settings, wants: Wants, slots: Slots, folder: Path, *, preferences: bool, room: int | None
) -> Results:
    """Choose what is used, write the training file and the ledger; each under a temporary name, then renamed.

    Args:
        source: the input.
        settings: see there.
        wants: how many each row is to get.
        slots: judged.
        folder: where the files go.
        preferences: whether preference pairs are written too.
        room: how many the data set may get; None = any number.
    """
    _choose(source, settings, wants, slots, room)
    files = _files(source, folder, preferences=preferences)
    filled_rows = written_rows = negatives = made = 0
    with ExitStack() as stack:
        first = next(source.examples(lambda _: None), None) if is_csv(source.path) else None
        columns = list(rows_of(first.row, first.layout)[0]) if first else None
        like = source.path if is_table(source.path) else None
        training = stack.enter_context(
            open_writer(files["training"], source.format, columns=columns, like=like, notes=NOTES)
        )
        ledger = stack.enter_context(replacing(files["synthetic"]))
        pairs = stack.enter_context(replacing(files["preferences"])) if preferences else None
        for line in _lines(slots.of(-1), None):
            ledger.write(line)
        for example in source.examples(lambda _: None):
            found = slots.of(example.position)
            accepted = [slot for slot in found if slot.used]
            used, _ = chosen(accepted, len(accepted), settings.order)
            for out in filled(
                example, used, source.format, marked=not is_csv(source.path), share=settings.max_share.row
            ):
                written_rows += training.write(out)
            negatives += len(example.negatives) + len(used)
            made += sum(is_synthetic(each) for each in example.negatives) + len(used)
            filled_rows += bool(used)
            for line in _lines(found, example):
                ledger.write(line)
            for slot in used if pairs is not None else ():
                if pairs is not None:
                    pairs.write(json_line(preference(example, slot)))
    rows = {"filled": filled_rows, "written": written_rows}
    share = {"of_negatives": made / negatives if negatives else 0.0, "synthetic": made, "negatives": negatives}
    return Results(files, {"rows": rows, **_counted(slots), "share": share})


def _files(source: Source, folder: Path, *, preferences: bool) -> dict[str, Path]:
    """Name the files that are written; preference pairs of an earlier call that are not wanted now go."""
    files = {
        "training": folder / f"{TRAINING}{ending(source.path)}",
        "synthetic": folder / LEDGER,
        "preferences": folder / PREFERENCES,
    }
    if not preferences:
        files.pop("preferences").unlink(missing_ok=True)
    return files


def _choose(source: Source, settings: Settings, wants: Wants, slots: Slots, room: int | None) -> None:
    """Leave out what a row has no room for, then what the data set has none for."""
    slots.check()
    for example in source.examples(lambda _: None):
        accepted = [slot for slot in slots.of(example.position) if slot.end == "accepted"]
        if accepted:
            slots.leave(chosen(accepted, wants.full(example), settings.order)[1], UNUSED)
    rows = source.examples(lambda _: None)
    slots.cap(room, ((example.position, content(example, settings.seed)) for example in rows if wants.full(example)))


def _lines(found: Iterable[Slot], example: Example | None) -> Iterator[str]:
    """Yield a line of the ledger for each slot of a row."""
    for slot in found:
        told = {name: value for name, value in asdict(slot.gated.written).items() if value not in ("", None)}
        more = {"query_id": example.id} if example is not None else {}
        yield json_line({
            **told, **more, "id": slot.gated.id, "difficulty": slot.gated.difficulty, "end": slot.end,
            "reason": slot.reason, "why": slot.why, "judge": slot.judge,
            **({"used": slot.used, "left": slot.left} if slot.end == "accepted" else {}),
        })  # fmt: skip


def _counted(slots: Slots) -> dict[str, Any]:
    """Count slots: asked = accepted + refused by each reason + none by each; accepted = used + left out by each."""
    recipes: dict[str, dict[str, Any]] = {}
    for recipe, end, reason, unused, number in slots.counts():
        for name in ("", recipe or NO_RECIPE):
            _add(recipes.setdefault(name, _nothing()), end, reason, unused, number)
    whole = recipes.pop("", _nothing())
    return {
        "slots": whole,
        "recipes": recipes,
        "difficulty": dict(zip(("lowest", "q1", "median", "q3", "highest"), slots.difficulties(), strict=False)),
    }


def _nothing() -> dict[str, Any]:
    return {
        "asked": 0, "accepted": 0, "used": 0, "left": {UNUSED: 0, OVER: 0},
        "refused": dict.fromkeys((*REASONS, *_JUDGED), 0), "none": {},
    }  # fmt: skip


def _add(to: dict[str, Any], end: str, reason: str, unused: str, number: int) -> None:
    to["asked"] += number
    if end == "accepted":
        to["accepted"] += number
        if unused:
            to["left"][unused] += number
        else:
            to["used"] += number
    else:
        to[end][reason] = to[end].get(reason, 0) + number
