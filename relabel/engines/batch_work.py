"""How requests become batches and batches become replies: one execution of a stage that asks by batches.

    written → uploaded → creating → submitted → collected → ended

A file of requests is `written`, then `uploaded`. From before a batch is asked for until its id is heard it is
`creating`: should that be cut short, the batch is looked for by its token, and asked for again only when it is not
there after several looks. `submitted` batches are looked at every `poll_seconds`, each on its own: one that is lost or
damaged keeps no other from being taken in. Of one that is `collected`, each request is answered, has failed, or is to
be submitted again; the ledger knows which before anybody is told. When all is told, and billed, it has `ended`.
"""

import json
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from relabel.engine_settings import OpenAIBatch
from relabel.engines.batch_feed import Feed, Leaving
from relabel.engines.batch_files import Draft
from relabel.engines.batch_ledger import Ledger, Part
from relabel.engines.batch_service import ENDPOINT, BatchService, Document, Missing, mapping
from relabel.engines.batch_taking import ENDED, Taking, about, count, prompt_tokens, turns_in
from relabel.engines.batch_troubles import Troubles
from relabel.engines.completions import completion_body
from relabel.engines.openai import advice
from relabel.engines.service import Trouble
from relabel.errors import Detached, ServiceError
from relabel.protocols import Reply, Request

UNDER_WAY: Final = frozenset({"validating", "in_progress", "finalizing", "cancelling"})
SETTLED: Final = frozenset({"answered", "useless", "failed"})
"""Outcomes that are replies."""

FULL_QUEUE: Final = "token_limit_exceeded"
NO_CREDIT: Final = frozenset({"billing_hard_limit_reached", "insufficient_quota"})
"""Codes of a batch that failed."""

FINDS: Final = 5
"""How often, `poll_seconds` apart, a batch is looked for of which nobody heard, before another is asked for."""

ENOUGH: Final = 3
"""Batches in a row about which the service says nothing: then it is the service, and the others wait as well."""

LINGER: Final = 1.0
"""Seconds for which a file that is not full waits for more requests, or `poll_seconds` if these are more."""


class Work:
    """One execution; used once, by one thread.

    Args:
        settings: limits, and what is asked.
        name: of the stage, for messages.
        ledger: what was submitted, by this execution and those before.
        service: the Batch API.
        vouched: whether the service is known to answer such requests.
        tell: hears how the batches stand, as plain JSON, whenever that is known anew.
    """

    def __init__(
        self,
        settings: OpenAIBatch,
        name: str,
        ledger: Ledger,
        service: BatchService,
        vouched: Callable[[], bool],
        tell: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._settings, self._name, self._ledger, self._service = settings, name, ledger, service
        self._vouched, self._tell = vouched, tell
        self._waiting: dict[str, tuple[Request, ...]] = {}  # by address; without messages
        self._again: deque[str] = deque()  # of those, the ones to be submitted again
        self._own: set[int] = set()  # parts that this execution wrote
        self._limit = settings.max_enqueued_tokens
        self._draft = self._new_draft()
        self._held = False  # parts are written that are not submitted
        self._troubled = False  # a submission failed since the last round: none is tried before the next
        self._full = False  # the service said that its queue is
        self._refusals = self._creations = 0  # in a row, and in vain
        self._passed = 0  # requests that come again another time
        self._oddities: Counter[str] = Counter()
        self._taken = time.monotonic()
        self._next = 0.0
        self._troubles = Troubles(name, ledger, service, self._oddities)
        self._taking = Taking(settings, name, ledger, service, self._waiting, self._again, self._oddities)

    def replies(self, requests: Feed, leave: Leaving) -> Iterator[Reply]:
        """Yield a reply for every request, as batches end.

        Raises:
            ServiceError: going on is pointless.
            Detached: somebody wanted to leave, and replies are still to come.
        """
        for part in self._ledger.parts("written", "uploaded"):  # whoever still wants their requests will ask again
            self._ledger.drop(part.number)
        for number in self._ledger.given_up():
            self._ledger.give_up(number)
        try:
            yield from self._until_all_is_answered(requests, leave)
        except (ServiceError, Detached):
            self._taking.confirm()
            raise
        else:
            self._taking.confirm()
        finally:
            self._draft.discard()
            self._report()

    def _until_all_is_answered(self, requests: Feed, leave: Leaving) -> Iterator[Reply]:
        for part in self._ledger.parts("collected"):
            yield from self._taking.hand_over(part.number)
        yield from self._round(leave)
        requests.begin()  # what has come back is in the store by now, and takes no room in a budget
        while not leave.at_once:
            yield from self._fill(requests, leave)
            self._submit(leave)
            if leave.asked and self._held:
                yield from self._pass_over(requests, leave)
            if requests.ended and not self._waiting and not self._passed:
                return
            self._check_troubles(requests, leave)
            if leave.asked and self._handed_over(requests):
                break
            if self._held or (requests.ended and not self._again):
                leave.wait(self._next - time.monotonic())
            if time.monotonic() >= self._next and not leave.at_once:
                yield from self._round(leave)
        raise self._detached()

    # -- requests into files -----------------------------------------------------------------------------

    def _fill(self, requests: Feed, leave: Leaving) -> Iterator[Reply]:
        """Write requests until a file is full, none is left or the time of the next round has come."""
        while not self._held and not leave.at_once and (left := self._next - time.monotonic()) > 0:
            if self._again:
                self._write_again(self._again.popleft())
            elif requests.ended:
                break
            elif (request := requests.get(left)) is not None:
                self._taken = time.monotonic()
                yield from self._take(request)
        if len(self._draft) and not self._again and not leave.at_once and self._silent(requests):
            self._close_draft()

    def _silent(self, requests: Feed) -> bool:
        """Whether no further request is to be expected, or none has come for a while."""
        idle = time.monotonic() - self._taken >= max(LINGER, self._settings.poll_seconds)
        return requests.ended or idle

    def _take(self, request: Request) -> Iterator[Reply]:
        """Answer a request by what the ledger knows, have it wait for its batch, or write it."""
        address = request.address
        if address in self._waiting:
            self._waiting[address] += (replace(request, messages=()),)
            return
        entry = self._ledger.find(address)
        if entry is not None and entry.outcome in SETTLED:
            yield self._taking.reply(request, entry)
            return
        if entry is None or entry.outcome == "again":
            try:
                line, tokens = self._line(request), prompt_tokens(request.messages)
            except UnicodeEncodeError:
                detail = "the prompt holds half a character (a lone surrogate), which cannot be sent"
                yield Reply(request, None, failure="failed", detail=detail, retryable=True)
                return
            if len(line) > self._settings.max_file_bytes:
                detail = f"the request has {len(line):,} bytes, more than a file may have"
                yield Reply(request, None, failure="too long", detail=detail, retryable=True)
                return
            self._write(address, line, tokens, entry.attempts + 1 if entry else 1, about(request, self._settings))
        self._waiting[address] = (replace(request, messages=()),)

    def _pass_over(self, requests: Feed, leave: Leaving) -> Iterator[Reply]:
        """Let the stages before come to their end: what cannot be submitted now comes again another time."""
        while not requests.ended and not leave.at_once:
            request = requests.get(self._settings.poll_seconds)
            if request is None:
                continue
            entry = self._ledger.find(request.address)
            if entry is not None and entry.outcome in SETTLED:
                yield self._taking.reply(request, entry)
            else:
                self._passed += 1

    def _line(self, request: Request) -> bytes:
        mode = self._settings.choices
        body = completion_body(
            request, self._settings.sampling, logprobs=mode != "text", structured=mode == "structured"
        )
        row = {"custom_id": request.address, "method": "POST", "url": ENDPOINT, "body": body}
        return json.dumps(row).encode() + b"\n"  # ASCII: there are readers that take U+2028 for the end of a line

    def _write_again(self, address: str) -> None:
        """Write a request that waits, from the file in which it was submitted before."""
        entry = self._ledger.find(address)
        if entry is not None and entry.outcome == "again":
            line = self._ledger.line(entry)
            self._write(address, line, prompt_tokens(turns_in(line)), entry.attempts + 1, entry.about)

    def _write(self, address: str, line: bytes, tokens: int, attempts: int, told: str) -> None:
        if not self._draft.takes(len(line), tokens):
            self._close_draft()
        self._draft.add(address, line, tokens, attempts, told)
        if self._draft.full:
            self._close_draft()

    def _new_draft(self) -> Draft:
        return Draft(self._ledger.folder, self._settings.max_requests, self._settings.max_file_bytes, self._limit)

    def _close_draft(self) -> None:
        self._own.add(self._ledger.close_draft(self._draft))
        self._draft, self._held = self._new_draft(), True

    # -- files into batches ------------------------------------------------------------------------------

    def _submit(self, leave: Leaving) -> None:
        """Submit the files that are written, as far as the queue has room."""
        if not self._held or self._troubled:
            return
        for part in self._ledger.parts("written", "uploaded"):
            if leave.at_once or not self._has_room(part):
                break
            try:
                self._submit_part(part)
            except Trouble as trouble:
                self._troubled = True
                self._troubles.bear(trouble, lasting=not trouble.rule.retry or leave.asked)
                break
        self._held = bool(self._ledger.parts("written", "uploaded"))
        self._report()

    def _has_room(self, part: Part) -> bool:
        enqueued = sum(other.tokens for other in self._enqueued())
        if not enqueued:
            return True
        return not self._full and (self._limit is None or enqueued + part.tokens <= self._limit)

    def _enqueued(self) -> list[Part]:
        """Return the parts that take room in the queue: not those of whose batches nothing is heard."""
        return [part for part in self._ledger.parts("creating", "submitted") if part not in self._troubles]

    def _submit_part(self, part: Part) -> None:
        file = part.file
        if part.state == "written":
            file = self._service.upload(self._ledger.path(part.number, "requests"))
            self._ledger.note(part.number, state="uploaded", file=file)
        self._ledger.note(part.number, state="creating", tried=time.time(), looks=0)
        try:
            batch = self._service.create(file, part.token, part.number)
        except ServiceError:
            self._ledger.note(part.number, state="uploaded")
            raise
        except Trouble as trouble:
            self._ledger.note(part.number, tried=time.time())  # it may have taken long, and be there still later
            self._creations += 1
            if not trouble.rule.retry or self._creations > self._settings.max_retries:
                if not trouble.rule.retry:  # and so there is no batch
                    self._ledger.drop(part.number)
                raise ServiceError(
                    f"{self._service.where} does not take a batch of stage {self._name}: {trouble.detail}",
                    hint="correct what it complains of, then type the same command again",
                ) from None
            raise
        self._adopt(part, batch)

    def _adopt(self, part: Part, batch: Document) -> None:
        """Note the batch that a part became."""
        self._creations = 0
        status = str(batch.get("status") or "validating")[:40]
        self._ledger.note(
            part.number, state="submitted", batch=batch["id"], submitted=time.time(), status=status, looks=0
        )

    def _resolve(self, part: Part) -> None:
        """Find out what came of an attempt to make a batch that was cut short."""
        waited = time.time() - part.tried
        if waited < 0:  # the clock was set back
            self._ledger.note(part.number, tried=time.time())
        batch = self._service.find(part.token, min(part.tried, time.time()))
        if batch is not None and isinstance(batch.get("id"), str):
            self._adopt(part, batch)
        elif part.looks + 1 < FINDS or waited < (FINDS - 1) * self._settings.poll_seconds:
            self._ledger.note(part.number, looks=part.looks + 1)  # it may still be on its way
        elif part.number in self._own:
            self._ledger.note(part.number, state="uploaded")
            self._held = True
        else:
            self._dissolve(part)

    def _dissolve(self, part: Part) -> None:
        """Submit a part's requests in other files; of another execution's, those that are still wanted."""
        self._ledger.dissolve(part.number)
        for entry in self._ledger.entries(part.number):
            if entry.outcome == "again" and entry.address in self._waiting:
                self._again.append(entry.address)

    # -- batches into replies ----------------------------------------------------------------------------

    def _round(self, leave: Leaving) -> Iterator[Reply]:
        """Look at every batch that is under way, and for those that may be; those in trouble last.

        Raises:
            ServiceError: what ends the run, once all batches were looked at.
        """
        self._taking.confirm()
        problem: ServiceError | None = None
        in_vain = 0
        parts = self._ledger.parts("submitted", "creating")
        for part in sorted(parts, key=self._troubles.__contains__):
            if leave.at_once or in_vain == ENOUGH:
                break
            try:
                yield from self._bring_on(part)
            except Missing as missing:
                self._troubles.lose(part, missing)
            except Trouble as trouble:
                in_vain += 1
                self._troubles.bear_with(part, trouble)
            except ServiceError as error:
                problem = problem or error
            else:
                in_vain = 0
                self._troubles.heard(part)
        self._next = time.monotonic() + self._settings.poll_seconds
        self._troubled = False
        self._report()
        if problem is not None:
            raise problem
        if not parts:
            self._troubles.heard()

    def _bring_on(self, part: Part) -> Iterator[Reply]:
        if part.state == "creating":
            self._resolve(part)
        else:
            yield from self._look(part)

    def _check_troubles(self, requests: Feed, leave: Leaving) -> None:
        """End where there is nothing left to wait for but batches that cannot be taken in.

        Raises:
            ServiceError: names them, and how to give them up.
        """
        parts = self._ledger.parts("submitted", "creating")
        busy = not self._silent(requests) or self._again or len(self._draft) or self._held
        if parts and self._waiting and not busy and self._troubles.keep_all(parts, leaving=leave.asked):
            raise self._troubles.ending(parts)

    def _look(self, part: Part) -> Iterator[Reply]:
        batch = self._service.retrieve(part.batch)
        status, counts = str(batch.get("status") or "")[:40], mapping(batch.get("request_counts"))
        completed, failed = count(counts.get("completed")) or 0, count(counts.get("failed")) or 0
        if (status, completed, failed) != (part.status, part.completed, part.failed):
            self._ledger.note(part.number, status=status, completed=completed, failed=failed)
        if status == "failed" and not completed and not batch.get("output_file_id"):
            self._refused(part, batch)
        elif status in ENDED:
            self._full, self._refusals = False, 0
            yield from self._taking.collect(part, batch, status, vouched=self._vouched())
        elif status not in UNDER_WAY:
            self._oddities[f"batches with the unknown status {status!r}, taken for under way"] += 1

    def _refused(self, part: Part, batch: Document) -> None:
        """Make the best of a batch that failed as a whole, unpaid: submit it later where only the queue is full."""
        listed = mapping(batch.get("errors")).get("data")
        errors = [mapping(error) for error in listed] if isinstance(listed, list) else []
        codes = {str(error.get("code")) for error in errors}
        if FULL_QUEUE in codes:
            self._wait_for_room(part, " ".join(str(error.get("message")) for error in errors))
            return
        self._ledger.drop(part.number)
        said = [
            f"{error.get('code')}: {error.get('message')}" + (f" (line {error['line']})" if error.get("line") else "")
            for error in errors[:3]
        ]
        more = f"; and {len(errors) - 3:,} more" if len(errors) > 3 else ""
        words = self._service.clean("; ".join(said) or "it does not say why") + more
        remedy = advice(self._settings, words) or "correct what it complains of"
        if codes & NO_CREDIT:
            remedy = "add credit"
        raise ServiceError(
            f"{self._service.where} refused a batch of stage {self._name} as a whole ({words})",
            hint=f"nothing of it was paid; {remedy}, then type the same command again: what is answered is not asked"
            " again",
        )

    def _wait_for_room(self, part: Part, said: str) -> None:
        """Submit a part again when the queue has room, in smaller files where it never has so much."""
        alone = not any(other.number != part.number for other in self._enqueued())
        named = re.search(r"limit:?\s*(\d[\d,]{0,14})", said, re.IGNORECASE)
        if named is not None:
            self._limit = min(int(named[1].replace(",", "")), self._limit or part.tokens)
        elif alone:
            self._limit = max(1, part.tokens // 2)
        self._full = True
        self._refusals += alone
        if self._limit is not None and part.tokens > self._limit and part.requests > 1:
            self._dissolve(part)
        elif self._refusals > self._settings.max_retries:
            self._ledger.drop(part.number)
            raise ServiceError(
                f"the batch queue of {self._service.where} is full, and not with batches of stage {self._name}"
                f" ({self._service.clean(said)})",
                hint="wait until others' batches have ended, then type the same command again",
            )
        else:
            self._ledger.note_refused(part.number)
            self._held = True
        if not len(self._draft):
            self._draft = self._new_draft()

    # -- leaving, and telling ----------------------------------------------------------------------------

    def _handed_over(self, requests: Feed) -> bool:
        """Whether everything that can be submitted now is."""
        written = self._held or (not self._again and not len(self._draft))
        sought = [part for part in self._ledger.parts("creating") if part not in self._troubles]
        return requests.ended and written and not sought

    def _detached(self) -> Detached:
        parts = self._ledger.parts("submitted", "creating")
        done, asked = sum(part.completed + part.failed for part in parts), sum(part.requests for part in parts)
        batches = "1 batch is" if len(parts) == 1 else f"{len(parts):,} batches are"
        more = "; the other requests wait until its queue has room" if self._held else ""
        if troubled := self._troubles.told(parts):
            more += f"; {troubled}; to give that up: {self._troubles.ways_out(parts)}"
        return Detached(f"stage {self._name}: {batches} under way, {done:,} of {asked:,} requests finished{more}")

    def _report(self) -> None:
        batches = [
            {
                "part": part.number,
                "id": part.batch,
                "status": part.status,
                "requests": part.requests,
                "completed": part.completed,
                "failed": part.failed,
                "submitted": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(part.submitted)),
                "taken_in": part.state in {"collected", "ended"},
            }
            for part in self._ledger.parts()
            if part.batch
        ]
        oddities = {kind: count for kind, count in self._oddities.items() if count}
        self._tell({"batches": batches} | ({"oddities": oddities} if oddities else {}))
