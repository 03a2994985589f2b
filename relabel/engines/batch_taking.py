"""What batches come back with: into the ledger first, then to whoever asks, or, as it is paid for, to the store."""

import json
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from relabel.engine_settings import OpenAIBatch
from relabel.engines.batch_ledger import Entry, Ledger, Part
from relabel.engines.batch_results import BROKEN, Read, completion_in
from relabel.engines.batch_service import BatchService, Document, mapping
from relabel.engines.completions import read_completion
from relabel.engines.openai import FEWEST, advice
from relabel.engines.service import Trouble
from relabel.errors import RelabelError, RunError, ServiceError
from relabel.protocols import Message, Reply, Request

ENDED: Final = {
    "completed": "the batch came back without it",
    "expired": "the batch expired before its turn",
    "cancelled": "the batch was cancelled before its turn",
    "failed": "the batch failed before its turn",
}
"""Statuses with which a batch gives back what it has; what to say of a request that it does not give back."""

LOOKS: Final = 10
"""How often a batch is looked at that has ended and given fewer answers than the service counts: its files may be late,
or came damaged."""

_BYTES_PER_TOKEN: Final = 4

_MOST: Final = 10**9
"""No batch has so many requests: a larger count is nonsense."""


class Taking:
    """The way from a batch that has ended to replies.

    Args:
        settings: of the engine.
        name: of the stage, for messages.
        ledger: what was submitted.
        service: the Batch API.
        waiting: who asks for what, by address; those who get a reply are taken out.
        again: gets the addresses of `waiting` that have to be submitted again.
        oddities: what was odd is counted here, by kind.
    """

    def __init__(
        self,
        settings: OpenAIBatch,
        name: str,
        ledger: Ledger,
        service: BatchService,
        waiting: dict[str, tuple[Request, ...]],
        again: deque[str],
        oddities: Counter[str],
    ) -> None:
        self._settings, self._name, self._ledger, self._service = settings, name, ledger, service
        self._waiting, self._again, self._oddities = waiting, again, oddities
        self._handed: list[int] = []  # parts

    def collect(self, part: Part, batch: Document, status: str, *, vouched: bool) -> Iterator[Reply]:
        """Take in what a batch gives back, unless answers are missing that may yet come.

        Raises:
            ServiceError: what every other request would suffer too; what came is handed over before.
        """
        asked = {entry.address: entry for entry in self._ledger.entries(part.number)}
        read = self._read(part, batch, asked)
        silent = len(asked) - len(read.results)
        completed = count(mapping(batch.get("request_counts")).get("completed"))
        if completed is not None:
            owed = max(0, completed - read.answered)
        else:
            owed = silent if status == "completed" or read.oddities[BROKEN] else 0
        if owed and silent and part.looks + 1 < LOOKS:
            self._ledger.note(part.number, looks=part.looks + 1)
            return
        self._ledger.settle(part.number, read.results.values(), self._most, ENDED[status], owed)
        every = read.rejected == len(asked) >= FEWEST
        if every and not vouched and not self._ledger.answered():
            self._ledger.note(part.number, state="ended")
            self._ledger.forget()
            problem = f"{self._service.where} rejects every request of stage {self._name} ({read.said})"
            raise ServiceError(problem, hint=advice(self._settings, read.said))
        self._oddities += read.oddities
        self._oddities[f"requests that a batch gave back without an answer ({status})"] += len(asked) - read.answered
        self._oddities["answers that the service counts and did not give"] += min(owed, silent)
        yield from self.hand_over(part.number)
        if read.hopeless is not None:
            raise read.hopeless

    @property
    def _most(self) -> int:
        return self._settings.max_retries + 1

    def _read(self, part: Part, batch: Document, asked: Mapping[str, Entry]) -> Read:
        """Bring a batch's files here and read them."""
        read = Read()
        for kind in ("output", "errors"):
            file = batch.get("output_file_id" if kind == "output" else "error_file_id")
            if isinstance(file, str) and file:
                path = self._ledger.path(part.number, "output" if kind == "output" else "errors")
                self._service.download(file, path)
                read.add_file(path, kind, asked, self._meaning, self._service.clean)
        return read

    def _meaning(self, entry: Entry, status: int, body: object) -> Trouble | ServiceError:
        return self._service.trouble(status, body, self._prompts(entry))

    def hand_over(self, part: int) -> Iterator[Reply]:
        """Hand over what came of a collected part: to who asks, else to the store and the bill alone."""
        useless: list[tuple[str, str, str]] = []
        billed: list[str] = []
        try:
            for entry in self._ledger.entries(part):
                for reply in self._replies(entry):
                    if entry.outcome == "answered" and reply.retryable:
                        useless.append((reply.failure, reply.detail, entry.address))
                    if entry.unsure:
                        billed.append(entry.address)
                    yield reply
        finally:  # also where nobody takes the next one: what was taken is not billed again
            self._ledger.hand_over(useless, billed)
        self._handed.append(part)

    def confirm(self) -> None:
        """Note that what was handed over is kept.

        Some time after it was: should the process be killed before the store has it on the disk, it is handed over
        once more, and the store knows what it has.
        """
        for part in self._handed:
            self._ledger.note(part, state="ended")
        if self._handed:
            self._ledger.tidy()
        self._handed.clear()

    def _replies(self, entry: Entry) -> Iterator[Reply]:
        """Yield what came of a request: for everybody who asks, or for nobody, where it belongs on the bill."""
        if entry.outcome == "again":
            if entry.unsure:
                yield self._for_nobody(entry)
            if entry.address in self._waiting:
                self._again.append(entry.address)
            return
        askers = self._waiting.pop(entry.address, ())
        for place, request in enumerate(askers):
            reply = self.reply(request, entry)
            yield replace(reply, unsure=entry.unsure) if place == 0 and entry.unsure else reply
        if not askers and (entry.outcome == "answered" or entry.unsure):
            yield self._for_nobody(entry)

    def reply(self, request: Request, entry: Entry) -> Reply:
        """Make the reply to a request of which the ledger knows what came of it; what was useless is billed already.

        Raises:
            RunError: the file with the answer is not what it was.
        """
        if entry.outcome != "answered":
            return Reply(request, None, failure=entry.failure or "failed", detail=entry.detail, retryable=True)
        path = self._ledger.path(entry.part, "output" if entry.kind == "output" else "errors")
        body = completion_in(self._ledger.reply(entry), path)
        reply = read_completion(request, body, constrained=bool(_about(entry).get("constrained")))
        prompts = [turn.content for turn in request.messages] if reply.detail else []
        if reply.detail and not prompts:
            with suppress(RunError):  # the requests of what was handed over once are no longer there
                prompts = self._prompts(entry)
        return self._service.cleaned(reply, prompts)

    def _for_nobody(self, entry: Entry) -> Reply:
        """Make a reply that nobody asks for any more; with the prompt where what it took has to be estimated."""
        about = _about(entry)
        request = Request(
            entry.address, (), choices=tuple(about.get("choices", ())), judge=about.get("judge", ""),
            template=about.get("template", ""), query_id=about.get("query_id", ""),
            candidate_ids=tuple(about.get("candidate_ids", ())),
        )  # fmt: skip
        reply = replace(self.reply(request, entry), unasked=True)
        if entry.unsure:
            reply = replace(reply, unsure=entry.unsure)
        if reply.usage.tokens_in is None or reply.usage.tokens_out is None:
            with suppress(RelabelError):
                reply = replace(reply, request=replace(request, messages=turns_in(self._ledger.line(entry))))
        return reply

    def _prompts(self, entry: Entry) -> list[str]:
        return [turn.content for turn in turns_in(self._ledger.line(entry))]


def about(request: Request, settings: OpenAIBatch) -> str:
    """Return what is needed to read the answer to a request that nobody asks for any more; JSON."""
    told: dict[str, Any] = {
        "judge": request.judge,
        "template": request.template,
        "query_id": request.query_id,
        "candidate_ids": request.candidate_ids,
        "choices": request.choices,
        "constrained": settings.choices == "structured",
    }
    return json.dumps({name: value for name, value in told.items() if value})


def _about(entry: Entry) -> Mapping[str, Any]:
    return mapping(json.loads(entry.about or "{}"))


def turns_in(line: bytes) -> tuple[Message, ...]:
    """Return the prompt in a request's line."""
    return tuple([Message(turn["role"], turn["content"]) for turn in json.loads(line)["body"]["messages"]])


def prompt_tokens(messages: tuple[Message, ...]) -> int:
    """Estimate the tokens of a prompt from its bytes, which holds for other scripts too; 4 for each message's frame.

    Raises:
        UnicodeEncodeError: it holds half of a surrogate pair.
    """
    return sum(len(message.content.encode()) // _BYTES_PER_TOKEN + 4 for message in messages)


def count(value: object) -> int | None:
    """Read a count of requests; None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST else None
