"""Ask through OpenAI's Batch API: half the price, answers within a day, files in place of requests.

From outside, `OpenAIBatchEngine.answer` is an ordinary generator that may take a day. Inside, requests are pulled into
a file until it is full, the file becomes a batch, and batches are looked at until they have ended (`batch_work`); all
that must not be forgotten stands in the run directory (`batch_ledger`). So a run may be killed, or left, at any moment:
the same requests come again, and those that a batch has, or had, are not submitted again.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from relabel.engine_settings import OpenAIBatch
from relabel.engines.batch_feed import Feed, Leaving
from relabel.engines.batch_ledger import Ledger
from relabel.engines.batch_service import BatchService
from relabel.engines.batch_work import Work
from relabel.engines.clock import Clock
from relabel.engines.service import key_for
from relabel.errors import SettingsError
from relabel.protocols import Reply, Request


class OpenAIBatchEngine:
    """An engine that asks OpenAI's Batch API, and remembers in `folder` what it has submitted.

    Args:
        settings: whom to ask, and how.
        name: of the stage, for messages.
        folder: where the ledger and the files lie; made when first needed. None = this engine cannot be asked.
        clock: waits between the attempts of one call.
    """

    lasts: Literal[True] = True

    def __init__(self, settings: OpenAIBatch, name: str, folder: Path | None, *, clock: Clock | None = None) -> None:
        self._settings, self._name, self._folder, self._clock = settings, name, folder, clock or Clock()
        self._leaving = Leaving()
        self._told: Mapping[str, Any] = {"batches": []}
        self._vouched = False

    @property
    def identity(self) -> Mapping[str, Any]:
        """As of `OpenAIEngine`: a batch is another way to ask the same question, whose answer is paid for once."""
        return {"engine": "openai", **self._settings.answering}

    def report(self) -> Mapping[str, Any]:
        """Return the batches, as the service spoke of them last, and what was odd about their results."""
        return self._told

    def vouch(self) -> None:
        """Hear that the service answered such requests before: those that it rejects are then themselves at fault."""
        self._vouched = True

    def leave(self, *, at_once: bool) -> None:
        """Wait for nothing from now on: `answer` raises Detached where replies are still to come.

        Before that it takes what is finished and submits what it is given; `at_once`, it does neither.
        """
        self._leaving.begin(at_once=at_once)

    def answer(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Return a generator of one reply for every request, as batches end.

        Of a request that waits for a batch only what its reply must name is kept in memory: the request of a reply
        comes back without its messages. An exception of `requests` is raised when it comes; what is submitted goes on.

        Raises:
            SettingsError: at once, when the key is missing or the address holds a password.
            ServiceError: while iterating, when going on is pointless: a wrong key, no credit, no Batch API, a file that
                the service refuses, a service that has rejected every request.
            Detached: while iterating, after `leave`.
        """
        return self._replies(requests, key_for(self._settings))

    def _replies(self, requests: Iterable[Request], key: str) -> Iterator[Reply]:
        if self._folder is None:
            raise SettingsError(f"stage {self._name} keeps its batches in a run directory, and there is none here")
        with contextlib.ExitStack() as stack:
            ledger = stack.enter_context(contextlib.closing(Ledger(self._folder)))
            service = stack.enter_context(contextlib.closing(BatchService(self._settings, key, self._clock)))
            feed = stack.enter_context(contextlib.closing(Feed(requests, self._leaving)))
            work = Work(self._settings, self._name, ledger, service, lambda: self._vouched, self._hear)
            yield from work.replies(feed, self._leaving)

    def _hear(self, told: Mapping[str, Any]) -> None:
        self._told = told
