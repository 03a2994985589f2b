"""What a synthesis took: writing and judging, read from their stores, whoever writes and judges now.

Settings may change between two executions in one folder: what was paid under the old ones is paid, and counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relabel import billing, config
from relabel.authors import told_bill
from relabel.building import price
from relabel.engines.budget import Limits
from relabel.money import NOTHING, PICO, Amount, Bill, Price
from relabel.synthesis.settings import Settings
from relabel.synthesis.writing import WRITING
from relabel.synthesisdir import JUDGING, Writer


@dataclass(frozen=True, slots=True)
class Books:
    """What was paid in a folder, in all executions; read anew at each call, while no store is open.

    Attributes:
        folder: of the synthesis.
        settings: whose engine's price is known.
        judge: the cascade, likewise.
        limits: of writing and judging together.
        own: a writer of the caller's, who knows what it took.
    """

    folder: Path
    settings: Settings
    judge: config.Settings
    limits: Limits
    own: Writer | None = None

    def check(self) -> None:
        """Refuse a limit in dollars where nobody knows what was spent before.

        Raises:
            SettingsError: that is so.
        """
        for whole in (self._written(), self._judged()):
            billing.check_known(self.limits, billing.total(whole))

    def left_to_write(self) -> Limits:
        """Return the limits of those who write: judging counts towards them."""
        return self._beside("judging", billing.total(self._judged()))

    def left_to_judge(self) -> Limits:
        """Return the limits of those who judge: writing counts towards them."""
        own = self._own()
        return self._beside("writing", billing.total(self._written()) + Bill(tokens_in=own.tokens, pico=own.pico))

    def writing(self) -> dict[str, Any]:
        """Return what writing took, as it stands in run.json; dollars are None where a price is unknown."""
        whole, own = self._written(), self._own()
        if not whole:
            return {"usd": own.pico / PICO, "tokens": own.tokens}
        told = told_bill(WRITING, self._price(), self.limits, whole)
        return told | {"usd": None if told["usd"] is None else told["usd"] + own.pico / PICO}

    def judging(self, reckoned: Mapping[str, Any]) -> dict[str, Any]:
        """Return what judging took, as it stands in run.json.

        Args:
            reckoned: what the run that judged says of it; empty where no model was asked now.
        """
        whole = self._judged()
        if not (whole or reckoned):
            return {}
        others = [
            {"stage": name, "executions": number} | billing.told_bill(bill) for name, (bill, number) in whole.items()
        ]
        limits = {"usd": self.limits.usd, "tokens": self.limits.tokens}
        told = {"limits": limits, "stages": [], "others": others}
        return {**(reckoned or told), "usd": billing.total(whole).usd}

    def _beside(self, name: str, bill: Bill) -> Limits:
        return replace(self.limits, beside={name: bill} if bill != Bill() else {})

    def _own(self) -> Amount:
        return self.own.spent() if self.own is not None else NOTHING

    def _price(self) -> Price | None:
        engine = self.settings.engine
        return price(engine, self.settings.prices) if engine is not None else None

    def _written(self) -> billing.Bills:
        return billing.billed_in(self.folder / WRITING, {WRITING: self._price()}, self.settings.generator)

    def _judged(self) -> billing.Bills:
        return billing.billed_in(self.folder / JUDGING, billing.prices_of(self.judge))
