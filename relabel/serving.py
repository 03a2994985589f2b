"""The audit page over a finished run: which pairs are listed, and the run's store as what keeps the labels."""

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relabel.auditing import sample_of
from relabel.cascade import conclude
from relabel.concluding import Plan, Row, candidate_key, query_key
from relabel.errors import InputError, MissingPart, RunError, SettingsError, typed
from relabel.pipeline import concluded, findings, open_run
from relabel.records import Finding, Label
from relabel.store import PersonLabel, Store
from relabel.tables import read_table
from relabel.web.app import AuditPage, Keys
from relabel.web.desk import Desk, Said
from relabel.web.listing import Candidate, Listing, Question, Text, Word

if TYPE_CHECKING:
    from starlette.applications import Starlette

LISTED: Final = 20
"""Unknown pairs that a message names."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What the page is when it can be opened: its address, with the token, how many pairs, what was labelled so far."""

    address: str
    pairs: int
    labelled: Mapping[str, int]


def serve(
    folder: Path,
    *,
    everything: bool = False,
    sample: str = "",
    table: Path | None = None,
    show_judges: bool = False,
    port: int = 0,
    source: Path | None = None,
    ready: Callable[[Serving], None] = lambda _: None,
) -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C; every label is in the store when the browser gets its answer.

    Args:
        folder: a finished run. It is locked meanwhile.
        everything: list all judged pairs, not only those that the judges flagged, left open or contradicted.
        sample: list the pairs of this sample of the run, in its order.
        table: list the pairs of this CSV, in its order, by its column `pair`.
        show_judges: show the judges' and other people's words of pairs that the reviewer has not labelled.
        port: where to listen; 0 = any that is free.
        source: where the input is now, if it was moved.
        ready: told when the page can be opened.

    Raises:
        MissingPart: starlette, uvicorn or python-multipart is not installed.
        RunError: no finished run, in use by another process, no such sample, or the port is taken.
        InputError: nothing to label, or pairs that are not of this run.
        SettingsError: more than one of `everything`, `sample` and `table`.
    """
    _check_parts()
    chosen = _chosen(folder, everything=everything, sample=sample, table=table)
    with _listening(port) as listening, open_run(folder, path=source) as (plan, store):
        listing = list_pairs(plan, store, chosen, everything=everything)
        with contextlib.closing(listing):
            desk = Desk(listing, Kept(store))
            keys, at = Keys(), listening.getsockname()[1]
            page = AuditPage(desk, str(folder), keys=keys, port=at, blind=not show_judges)
            labelled = {name: progress.done for name, progress in desk.reviewers().items()}
            listening.listen()  # who opens the address at once is let in as soon as there is somebody to answer
            ready(Serving(f"http://127.0.0.1:{at}/?token={keys.token}", listing.size, labelled))
            _answer(page.app(), listening)


def _check_parts() -> None:
    from importlib.util import find_spec

    for package, module in (
        ("starlette", "starlette"),
        ("uvicorn", "uvicorn"),
        ("python-multipart", "python_multipart"),
    ):
        if find_spec(module) is None:
            raise MissingPart(package, "serve")


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """Take the port before a long run is read; nobody else can reach it."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise RunError(f"port {port} cannot be used: {reason}", hint="any that is free: --port 0") from error
        yield listening


def _answer(app: "Starlette", listening: socket.socket) -> None:
    """Answer until somebody ends it."""
    import uvicorn

    config = uvicorn.Config(
        app, loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None, log_level="error",
        access_log=False, proxy_headers=False, server_header=False, timeout_graceful_shutdown=2,
    )  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt):  # the way in which it is meant to end
        uvicorn.Server(config).run(sockets=[listening])


class Kept:
    """People's labels in the store of a run."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def reviewers(self) -> list[str]:
        """Return everybody who ever labelled."""
        return self._store.reviewers()

    def said_by(self, reviewer: str) -> Iterator[tuple[bytes, bytes, Label]]:
        """Return all labels of a reviewer."""
        return self._store.labels_by(reviewer)

    def said_of(self, query: bytes, candidate: bytes) -> dict[str, Said]:
        """Return what people said of a pair."""
        said = self._store.people_of(query, candidate).items()
        return {reviewer: Said(label, note) for reviewer, (label, note) in said}

    def keep(self, query: bytes, candidate: bytes, reviewer: str, said: Said) -> None:
        """Keep a label; it is committed when this returns."""
        self._store.add_people([PersonLabel(query, candidate, reviewer, said.label, said.note)])

    def forget(self, query: bytes, candidate: bytes, reviewer: str) -> None:
        """Take a label back."""
        self._store.remove_people(query, candidate, reviewer)


# -- which pairs -------------------------------------------------------------------------------------------


def list_pairs(plan: Plan, store: Store, chosen: Mapping[str, int] | None = None, *, everything: bool) -> Listing:
    """List the pairs of a run that are to be labelled; pairs that are void (copies, empty texts) never are.

    Listed is what the judges flagged, left undecided or contradicted, whatever people have said of it since: the list
    stays the same as labels come in, and a second reviewer sees what the first one saw.

    Args:
        plan: the run's.
        store: the run's.
        chosen: the fingerprints to list, each with its place in the order; None = not by name.
        everything: list all.

    Raises:
        InputError: nothing is to be listed, or something of `chosen` is not in the run.
    """
    missing = set(chosen or ())

    def rows() -> Iterator[tuple[Question, list[Candidate]]]:
        place = 0
        for row in concluded(plan, store, lambda _: None):
            listed = []
            for finding in _findings(plan, row, everything=everything or chosen is not None):
                missing.discard(finding.fingerprint)
                if chosen is None or finding.fingerprint in chosen:
                    place += 1
                    listed.append(_candidate(finding, place if chosen is None else chosen[finding.fingerprint]))
            if listed:
                yield _question(finding), listed

    listing = Listing.build(rows())
    if missing or not listing.size:
        listing.close()
        raise _unlisted(missing, chosen)
    return listing


def _unlisted(missing: set[str], chosen: Mapping[str, int] | None) -> InputError:
    if chosen is None:
        return InputError("there is no pair to label: the judges flagged none", hint="every pair: --all")
    named = ", ".join(name[:80] for name in sorted(missing, key=lambda name: chosen[name])[:LISTED])
    more = f" and {len(missing) - LISTED:,} more" if len(missing) > LISTED else ""
    return InputError(
        f"{len(missing):,} of {len(chosen):,} pairs are not in this run, or void there: {named}{more}",
        hint="take the pairs from this run: relabel audit export, or relabel audit sample",
    )


def _findings(plan: Plan, row: Row, *, everything: bool) -> Iterator[Finding]:
    """Yield the pairs of a row by what the judges alone say, but for void ones."""
    one, case = row
    if one.trail is None:
        return
    alone = tuple([conclude(plan.stages, one.trail, i) for i in range(len(case.pairs))])
    for finding in findings(plan, replace(one, verdicts=alone), case, everything=everything):
        if finding.verdict.outcome != "void":
            yield finding


def _question(finding: Finding) -> Question:
    reference = tuple([Text(passage.title, passage.text) for passage in finding.reference])
    return Question(finding.example.id, finding.example.source, finding.example.query, reference)


def _candidate(finding: Finding, place: int) -> Candidate:
    passage = finding.candidate
    words = [
        Word(stage, word.label or f"no label ({word.reason})", word.probability)
        for stage, word in finding.words.items()
    ]
    return Candidate(
        place, finding.fingerprint, query_key(finding.example.query), candidate_key(passage.title, passage.text),
        Text(passage.title, passage.text), tuple(words),
    )  # fmt: skip


def _chosen(folder: Path, *, everything: bool, sample: str, table: Path | None) -> dict[str, int] | None:
    """Return the fingerprints that were asked for by name, each with its place; None = not by name."""
    if everything + bool(sample) + (table is not None) > 1:
        raise SettingsError("--all, --sample and --csv say different things", hint="give one of them")
    if sample:
        names = [row.pair for row in sample_of(folder, sample).rows]
    elif table is not None:
        names = _tabled(folder, table)
    else:
        return None
    if not names:
        raise InputError(f"{table or sample}: names no pair", hint="every pair of the run: --all")
    return {name: place for place, name in reversed(list(enumerate(names)))}


def _tabled(folder: Path, path: Path) -> list[str]:
    there, rows = read_table(path, ("pair",))
    if not there:
        raise InputError(
            f"{path}: no column pair", hint=f"take a file of: {typed('audit', 'export', folder, '-o', 'pairs.csv')}"
        )
    return [cells["pair"].strip() for _, cells in rows if cells["pair"].strip()]
