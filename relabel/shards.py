"""Which rows of an input are one machine's part, where several judge it."""

import re
from dataclasses import dataclass
from typing import Final, Self

from relabel.copies import normalise
from relabel.errors import SettingsError
from relabel.records import digest

_FORM: Final = re.compile(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*")


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `number` of the `of` parts of an input, counted from 1.

    A row's part follows from its query alone, in the form by which the rules judge knows a query again: whatever looks
    across the rows of a query finds them all in one part, in whatever order the file holds them.
    """

    number: int
    of: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what one types: "2/8".

        Raises:
            SettingsError: it has another form, or there is no such part.
        """
        found = _FORM.fullmatch(text)
        number, of = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= of:
            raise SettingsError(
                f"{text!r} is no shard: it takes the shard, from 1 to how many there are, and how many there are",
                hint="as in --shard 2/8; in a Slurm array of 1-8: --shard ${SLURM_ARRAY_TASK_ID}/8",
            )
        return cls(number, of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def label(self) -> str:
        """What names its folder: "2-of-8"."""
        return f"{self.number}-of-{self.of}"

    def holds(self, query: str) -> bool:
        """Whether rows of this query are in it."""
        return int.from_bytes(digest("shard", normalise(query), size=8), "big") % self.of == self.number - 1
