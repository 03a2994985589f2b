"""The calls of OpenAI's Batch API: files up and down, batches made, found and looked at.

Every call is made again as `service` has it, but one: a batch that is asked for twice is paid for twice, so that what
came of an unclear attempt is looked up, never tried again blindly.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from relabel.engine_settings import OpenAIBatch
from relabel.engines.clock import Clock
from relabel.engines.service import SHORTEST_SECRET, Service, Trouble, client_for
from relabel.errors import RunError, ServiceError
from relabel.protocols import Reply

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

ENDPOINT: Final = "/v1/chat/completions"
MARK: Final = "relabel"
"""The key of a batch's metadata under which its part's token stands."""

DAY: Final = 86_400.0
SLOWEST: Final = 100_000.0
"""Bytes in a second that a slow line still uploads, or a busy service takes in."""

_PAGE: Final = 100

Document = Mapping[str, Any]
"""A JSON object as the service sends it, whatever it holds, but without the key and without half characters."""


class Missing(Exception):  # noqa: N818 - told apart from what every other batch would suffer too
    """The service does not have what was looked for: a batch, or one of its files. Says so in one line."""


class BatchService:
    """One account's Batch API while it is used; called from one thread.

    Raises, from every call:
        Trouble: the service was tried as often as the settings say, and gave nothing that can be used.
        ServiceError: trying again is pointless.
        Missing: what was looked for is not there.
    """

    def __init__(self, settings: OpenAIBatch, key: str, clock: Clock) -> None:
        self._settings, self._runner = settings, asyncio.Runner()
        self._client: AsyncOpenAI = self._runner.run(_opened(settings, key))
        self._service = Service(settings, self._client, key, clock)
        self._secret = key.encode() if len(key) >= SHORTEST_SECRET else b""

    @property
    def where(self) -> str:
        """The service's address."""
        return self._service.where

    @property
    def heard(self) -> int:
        """How many answers came, of whatever kind."""
        return self._service.heard

    def close(self) -> None:
        """Let go of the connections."""
        self._runner.run(self._client.close())
        self._runner.close()

    def unreachable(self, trouble: Trouble) -> ServiceError:
        """Return what to say of a service that does not answer."""
        return self._service.ending(trouble.fault, trouble.detail)

    def upload(self, path: Path) -> str:
        """Upload a file of requests, in pieces; return its id."""
        patience = self._settings.timeout + path.stat().st_size / SLOWEST

        async def once() -> str:
            with path.open("rb") as file:
                create = self._client.files.with_raw_response.create
                sent = create(file=(path.name, file, "application/jsonl"), purpose="batch", timeout=patience)
                raw = await self._answer(sent, missing=self._no_batches())
            return _id(self._document(raw.content))

        return self._often(once)

    def create(self, file: str, token: str, part: int) -> Document:
        """Ask for a batch, once. After a Trouble nobody knows whether there is one: see `find`."""

        async def once() -> Document:
            raw = await self._answer(
                self._client.batches.with_raw_response.create(
                    input_file_id=file,
                    endpoint=ENDPOINT,
                    completion_window=self._settings.completion_window,  # type: ignore[arg-type]
                    metadata={MARK: token, "part": str(part)},
                ),
                missing=self._no_batches(),
            )
            batch = self._document(raw.content)
            _id(batch)
            return batch

        return self._runner.run(once())

    def find(self, token: str, since: float) -> Document | None:
        """Return the batch that was made for a part at about `since` or later (seconds since 1970); None = none."""
        after: str | None = None
        seen: set[str] = set()
        while True:
            page, more = self._page(after)
            for batch in page:
                if mapping(batch.get("metadata")).get(MARK) == token:
                    return batch
            made = [batch["created_at"] for batch in page if isinstance(batch.get("created_at"), int | float)]
            # newest first; a day more, as clocks differ
            if not page or not more or min(made, default=since) < since - DAY:
                return None
            after = _id(page[-1])
            if after in seen:  # a service that does not know `after` shows the same page for ever
                return None
            seen.add(after)

    def _page(self, after: str | None) -> tuple[list[Document], bool]:
        """Return a page of the account's batches, and whether there are more."""

        async def once() -> tuple[list[Document], bool]:
            options: dict[str, Any] = {"limit": _PAGE} | ({"after": after} if after else {})
            raw = await self._answer(self._client.batches.with_raw_response.list(**options), missing=self._no_batches())
            told = self._document(raw.content)
            listed = told.get("data")
            page = [mapping(batch) for batch in listed] if isinstance(listed, list) else []
            return page, bool(told.get("has_more", len(page) >= _PAGE))

        return self._often(once)

    def retrieve(self, batch: str) -> Document:
        """Return how a batch stands."""
        missing = Missing(f"{self.where} does not know the batch {batch}")

        async def once() -> Document:
            raw = await self._answer(self._client.batches.with_raw_response.retrieve(batch), missing=missing)
            return self._document(raw.content)

        return self._often(once)

    def download(self, file: str, path: Path) -> None:
        """Bring a result file to `path`, in pieces, under a temporary name first, without the key."""
        missing = Missing(f"{self.where} no longer has the file {file}, which holds answers that were paid for")

        async def fetch() -> None:
            async with self._client.files.with_streaming_response.content(file) as pieces:
                with _replacing(path) as write, _telling_of_the_line():
                    async for piece in self._without_key(pieces.iter_bytes()):
                        write(piece)

        async def once() -> None:
            await self._answer(fetch(), missing=missing)

        self._often(once)

    def trouble(self, status: int, body: object, prompts: Iterable[str]) -> Trouble | ServiceError:
        """Return what a status within a result means: the same as outside of a batch."""
        import httpx2
        import openai

        body = json.loads(_plain(json.dumps(body, ensure_ascii=False)))

        async def refused() -> None:
            response = httpx2.Response(status, request=httpx2.Request("POST", self.where))
            said = mapping(body).get("error", body)
            said = said if isinstance(said, dict | str) else None
            raise openai.APIStatusError(f"HTTP {status}", response=response, body=said)

        try:
            self._runner.run(self._service.answer(refused(), prompts))
        except (Trouble, ServiceError) as problem:
            return problem
        raise AssertionError("unreachable")

    def clean(self, text: str, prompts: Iterable[str] = ()) -> str:
        """Return the service's words as one short line without the key and without the prompts."""
        return self._service.clean(_plain(text), prompts)

    def cleaned(self, reply: Reply, prompts: Iterable[str]) -> Reply:
        """Return a reply without the key in any of its words."""
        return self._service.cleaned(reply, prompts)

    async def _without_key(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass on what comes, with *** for the key, which may lie across two pieces."""
        kept, rest = max(0, len(self._secret) - 1), b""
        async for piece in pieces:
            rest = (rest + piece).replace(self._secret, b"***") if self._secret else piece
            sure = max(0, len(rest) - kept)
            yield rest[:sure]
            rest = rest[sure:]
        yield rest

    def _document(self, content: bytes) -> Document:
        """Read a JSON object.

        Raises:
            Trouble: it is none, such as a page of a proxy.
        """
        try:
            words = _plain(json.dumps(json.loads(content), ensure_ascii=False))
            document = json.loads(self._service.without_key(words))
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            page = content.lstrip().startswith(b"<")
            came = "a web page came instead of JSON" if page else "what came is no JSON object"
            raise Trouble("nothing useful", came)
        return document

    def _no_batches(self) -> ServiceError:
        return ServiceError(
            f"{self.where} has no Batch API (HTTP 404)",
            hint="ask it with kind: openai in place of openai_batch, or correct base_url",
        )

    async def _answer(self, asking: Awaitable[T], *, missing: Exception) -> T:
        """Return what came; 404 speaks of what was looked for here, not of the model."""
        import openai

        async def found() -> T:
            try:
                return await asking
            except openai.NotFoundError:
                raise missing from None

        return await self._service.answer(found(), ())

    def _often(self, once: Callable[[], Awaitable[T]]) -> T:
        """Make a call that does no harm when it is made again."""

        async def tried() -> T:
            outcome: T = await self._service.retrying()(once)
            return outcome

        return self._runner.run(tried())


@contextmanager
def _replacing(path: Path) -> Iterator[Callable[[bytes], object]]:
    """Give what writes a file that takes the place of `path` when all went well.

    Raises:
        RunError: the disk is full, or the folder cannot be written. As it is, an OSError would pass for one of the
            network.
    """
    temporary = path.with_name(path.name + ".tmp")

    @contextmanager
    def told() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{path} cannot be written: {error.strerror or error}",
                hint="make room on the disk, or check the folder; then the same command goes on where it was",
            ) from error

    def write(piece: bytes) -> None:
        with told():
            file.write(piece)

    with told():
        file = temporary.open("wb")
    try:
        yield write
    finally:
        with told():
            file.close()
    with told():
        temporary.replace(path)


@contextmanager
def _telling_of_the_line() -> Iterator[None]:
    """Turn what the transport says of a line that breaks into what the openai package says elsewhere."""
    import httpx2

    try:
        yield
    except httpx2.TimeoutException as error:
        raise TimeoutError from error
    except httpx2.TransportError as error:
        raise ConnectionError from error


async def _opened(settings: OpenAIBatch, key: str) -> "AsyncOpenAI":
    return client_for(settings, key)


def _plain(text: str) -> str:
    """Return a text that can be written: with a question mark for half a character (a lone surrogate)."""
    return text.encode("utf-8", "replace").decode()


def _id(document: Document) -> str:
    found = document.get("id")
    if not isinstance(found, str) or not found:
        raise Trouble("nothing useful", "what came has no id")
    return found


def mapping(value: object) -> Document:
    """Return a JSON object as it is, and an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}
