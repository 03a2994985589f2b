"""A dry run of a synthesis: rows and slots are counted, and what would be asked and paid at most; nothing is spent."""

from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from relabel import forecast
from relabel.authors import foresee as foresee_writing
from relabel.families import warnings_of
from relabel.forecast import Forecast, StageForecast
from relabel.formats import FORMATS, open_writer
from relabel.records import Example, Passage
from relabel.sources import Source, open_source
from relabel.synthesis.settings import Settings
from relabel.synthesis.slots import Slots, open_slots
from relabel.synthesisdir import CANDIDATES, Writer
from relabel.synthesizing import Asked, candidate_row, cascade, look, no_room, passage_of, stray_lines, take_in


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a synthesis would do at most.

    Attributes:
        asked: what the input holds and wants.
        wanted: of what rows want, what the data set may have.
        slots: asked for.
        origin: where they come from, in words.
        writing: what those who write would be asked; None where nobody is.
        judging: what the judges would be asked if every slot passed the gate; None where there is none.
        stand_in: what the judging was estimated with, in words.
        warnings: as of a synthesis, as far as they are known before.
    """

    asked: Asked
    wanted: int
    slots: int
    origin: str
    writing: StageForecast | None
    judging: Forecast | None
    stand_in: str
    warnings: tuple[str, ...]


def foresee(source: Source, settings: Settings, writer: Writer | None = None) -> Foreseen:
    """Count what a synthesis would ask at most; spends nothing and leaves nothing.

    `writer` is one of one's own, in place of the one that the settings name.

    Errors: as `synthesize`, as far as they show before anybody is asked.
    """
    judge = cascade(settings)
    asked = look(source, settings, None)
    with TemporaryDirectory(prefix="relabel-") as name, open_slots(Path(name) / "slots.sqlite") as slots:
        if settings.written is not None:
            take_in(source, settings, asked, slots, None, lambda *_: None)
        file, number = Path(name) / CANDIDATES, 0
        with open_writer(file, FORMATS["tevatron"]) as rows:
            for example in source.examples(lambda _: None):
                negatives = _stand_ins(example, asked, slots, written=settings.written is not None)
                number += len(negatives)
                if negatives:
                    rows.write(candidate_row(example, negatives))
        judging = forecast.check(open_source(file, format="tevatron"), judge) if number else None
        generators = slots.generators() if settings.written is not None else [settings.generator]
        warnings = (*warnings_of(judge, generators), *stray_lines(settings, slots), *no_room(source, settings, asked))
    given = settings.written is not None
    due = (example for example in source.examples(lambda _: None) if asked.wants.of(example))
    writing = None
    if not given:
        writing = writer.forecast(due) if writer is not None else foresee_writing(settings, due)
    return Foreseen(
        asked,
        sum(asked.wants.of(example) for example in source.examples(lambda _: None)),
        number,
        f"written before, in {settings.written}" if given else "to be written",
        writing,
        judging,
        "at most, all of them" if given else "at most, as if passages as long as the mined ones filled every slot",
        warnings,
    )


def _stand_ins(example: Example, asked: Asked, slots: Slots, *, written: bool) -> tuple[Passage, ...]:
    """Return what a row's slots are taken to hold: what was written, else texts of the row, over and over."""
    if written:
        return tuple([passage_of(slot) for slot in slots.of(example.position) if not slot.end])
    texts = islice(cycle(example.negatives or example.positives), asked.wants.slots(example))
    return tuple([replace(passage, id=f"slot-{number}", item=None) for number, passage in enumerate(texts)])
