"""Batches that cannot be taken in: which, why, since when; and when nobody waits for them any longer."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relabel.engines.batch_files import give_up
from relabel.engines.batch_ledger import Ledger, Part
from relabel.engines.batch_service import BatchService, Missing
from relabel.engines.service import Trouble
from relabel.errors import ServiceError

OUTAGE: Final = 3600.0
"""Seconds without a useful word from the service, or about one batch, after which nobody waits any longer."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Why a part cannot be taken in, since when (monotonic seconds), and whether another look will change nothing."""

    words: str
    since: float
    lasting: bool


class Troubles:
    """What keeps parts from being taken in, each on its own; kept for one execution.

    Args:
        name: of the stage, for messages.
        ledger: whose parts these are.
        service: where their batches are.
        oddities: what was survived is counted here.
    """

    def __init__(self, name: str, ledger: Ledger, service: BatchService, oddities: Counter[str]) -> None:
        self._name, self._ledger, self._service, self._oddities = name, ledger, service, oddities
        self._found: dict[int, _Found] = {}
        self._heard = time.monotonic()

    def __contains__(self, part: Part) -> bool:
        """Whether a part could not be taken in when it was looked at last."""
        return part.number in self._found

    def heard(self, part: Part | None = None) -> None:
        """Note that the service does its part: of a batch, or because nothing is asked of it."""
        self._heard = time.monotonic()
        if part is not None:
            self._found.pop(part.number, None)

    def lose(self, part: Part, missing: Missing) -> None:
        """Note that the service does not have a part's batch, or its file."""
        self._found[part.number] = _Found(str(missing), time.monotonic(), lasting=True)

    def bear_with(self, part: Part, trouble: Trouble) -> None:
        """Note that a part cannot be taken in for now.

        Raises:
            ServiceError: nobody was ever there, or nothing useful was heard of any batch for too long.
        """
        self.bear(trouble, lasting=False)
        now = time.monotonic()
        since = self._found[part.number].since if part in self else now
        lasting = not trouble.rule.retry or now - since > OUTAGE
        self._found[part.number] = _Found(self._service.clean(trouble.detail), since, lasting)

    def bear(self, trouble: Trouble, *, lasting: bool) -> None:
        """Go on after a call that failed as often as it was tried: batches do not mind. Not for ever, though.

        Raises:
            ServiceError: nobody was ever there, this is `lasting`, or it has lasted too long.
        """
        if trouble.unreachable and not self._service.heard:
            raise self._service.unreachable(trouble)
        if lasting or time.monotonic() - self._heard > OUTAGE:
            raise ServiceError(
                f"{self._service.where} does not do its part for stage {self._name}: {trouble.detail}",
                hint="batches under way go on there; type the same command again to come back to them",
            )
        self._oddities["calls that failed for a while"] += 1

    def keep_all(self, parts: Iterable[Part], *, leaving: bool) -> bool:
        """Whether none of the parts will be taken in by waiting for it, or by waiting for now."""
        return all(part in self and (leaving or self._found[part.number].lasting) for part in parts)

    def told(self, parts: Iterable[Part]) -> str:
        """Say which of the parts cannot be taken in, and why; "" where all can."""
        words = [
            f"{part.batch or 'a batch'} with {part.requests:,} requests cannot be taken in"
            f" ({self._found[part.number].words})"
            for part in parts
            if part in self
        ]
        return "; ".join(words[:3] + ([f"{len(words) - 3:,} more"] if len(words) > 3 else []))

    def ways_out(self, parts: Iterable[Part]) -> str:
        """Return the command that gives up those of the parts that cannot be taken in."""
        return give_up(*[self._ledger.mark(part.number) for part in parts if part in self])

    def ending(self, parts: Iterable[Part]) -> ServiceError:
        """Return what to say where nothing is left to wait for but these parts."""
        parts = list(parts)
        return ServiceError(
            f"stage {self._name} cannot go on: {self.told(parts)}",
            hint="see that key, project and base_url are those with which it was submitted, and type the same command"
            f" again. To give it up, type first: {self.ways_out(parts)} (then its requests are asked anew, and stand"
            " on the bill as possibly billed)",
        )
