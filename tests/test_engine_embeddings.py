"""The embeddings endpoint against a real server that misbehaves, over a real socket."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from clocks import Skipping
from collections_of import Texts, silent
from server import Body, FakeServer, Plan, embeddings, refuse
from starlette.responses import JSONResponse, Response

from relabel.engines import embeddings as embeddings_module
from relabel.engines.clock import Clock
from relabel.engines.embeddings import EmbeddingEndpoint, EndpointSettings
from relabel.errors import ServiceError, SettingsError
from relabel.mining.embeddings import Embeddings, EmbeddingSettings
from relabel.records import chance

if TYPE_CHECKING:
    from relabel.protocols import Encodes

np: Any = pytest.importorskip("numpy")

KEY = "sk-quite-secret-0123456789"
TEXTS = [f"passage number {number} about bees" for number in range(20)]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give every test a key; afterwards no thread of an endpoint may be left."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("relabel-")] == []


@pytest.fixture(scope="module")
def shared() -> Iterator[FakeServer]:
    """One server for the module: starting one for each test is slow."""
    with FakeServer() as server:
        yield server


@pytest.fixture
def server(shared: FakeServer) -> FakeServer:
    """Give the server, behaving well and with nothing counted."""
    shared.embed, shared.plan, shared.latency = good, Plan(), 0.0
    shared.asked.clear()
    shared.bodies.clear()
    shared.most_at_once = 0
    return shared


def good(body: Body) -> Response:
    """Answer as it should be."""
    return JSONResponse(embeddings(body))


def vector(text: str) -> Any:
    """Return the unit vector that the server has for a text."""
    raw = np.array([chance("embedding", text, str(axis)) - 0.5 for axis in range(8)])
    return raw / np.linalg.norm(raw)


CLOCK = Skipping()


@pytest.fixture
def endpoint(server: FakeServer) -> Iterator[Callable[..., EmbeddingEndpoint]]:
    """Return what makes endpoints that are quick to give up; they are released in the end."""
    made: list[EmbeddingEndpoint] = []
    CLOCK.waits.clear()

    def make(*, clock: Clock = CLOCK, **settings: Any) -> EmbeddingEndpoint:
        quick: dict[str, Any] = {"max_retries": 2, "timeout": 5.0, "batch_size": 6, "base_url": server.url}
        made.append(EmbeddingEndpoint(EndpointSettings("fake", **(quick | settings)), clock=clock))
        return made[-1]

    yield make
    for each in made:
        each.release()


Make = Callable[..., EmbeddingEndpoint]


def test_texts_become_unit_vectors_in_their_order(server: FakeServer, endpoint: Make) -> None:
    """Batches are sent side by side and joined in order; prompts go in front; tokens are counted."""
    server.latency = 0.05
    tested: Encodes = endpoint(query_prompt="query: ", document_prompt="passage: ", concurrency=3)
    vectors = tested.encode("document", TEXTS)
    assert vectors.dtype == np.float32
    assert vectors == pytest.approx(np.array([vector(f"passage: {text}") for text in TEXTS]), abs=1e-6)
    assert tested.encode("query", ["bees?"])[0] == pytest.approx(vector("query: bees?"), abs=1e-6)
    assert sorted(len(body["input"]) for body in server.bodies) == [1, 2, 6, 6, 6]
    assert {(body["model"], body["encoding_format"], "dimensions" in body) for body in server.bodies} == {
        ("fake", "float", False)
    }
    assert server.most_at_once == 3
    assert endpoint().report() == {"requests": 0, "tokens": 0}
    assert isinstance(tested, EmbeddingEndpoint)
    assert tested.report() == {"requests": 5, "tokens": 20 * 6 + 2}


def test_settings_are_sent_and_change_the_fingerprint(server: FakeServer, endpoint: Make) -> None:
    """Dimensions and other fields arrive; what changes vectors changes the fingerprint, limits and addresses do not."""
    vectors = endpoint(dimensions=4, extra_body={"truncate_prompt_tokens": -1}).encode("query", ["", "a long text"])
    assert vectors.shape == (2, 4)
    assert (server.bodies[0]["dimensions"], server.bodies[0]["truncate_prompt_tokens"]) == (4, -1)
    assert server.bodies[0]["input"] == [" ", "a long text"]
    endpoint(max_characters=6).encode("query", ["a long text"])
    assert server.bodies[1]["input"] == ["a long"]
    other: list[dict[str, Any]] = [
        {"revision": "2"},
        {"dimensions": 4},
        {"query_prompt": "q"},
        {"document_prompt": "q"},
        {"max_characters": 9},
        {"extra_body": {"a": 1}},
    ]
    assert len({endpoint(**settings).fingerprint for settings in [{}, *other]}) == 7
    same = endpoint(base_url="http://127.0.0.1:9/v1", batch_size=1, concurrency=1, max_retries=0, timeout=1)
    assert same.fingerprint == endpoint().fingerprint


def reordered(body: Body) -> Response:
    """Answer in another order."""
    whole = embeddings(body)
    return JSONResponse(whole | {"data": whole["data"][::-1]})


def packed(body: Body) -> Response:
    """Answer in base64, without usage and without an index."""
    data = [
        {"embedding": base64.b64encode(np.array(entry["embedding"], dtype="<f4").tobytes()).decode()}
        for entry in embeddings(body)["data"]
    ]
    return JSONResponse({"data": data})


@pytest.mark.parametrize("form", [reordered, packed])
def test_other_forms_are_read(server: FakeServer, endpoint: Make, form: Callable[[Body], Response]) -> None:
    """The index decides the order, and base64 is read as numbers are."""
    server.embed = form
    assert endpoint().encode("query", TEXTS) == pytest.approx(np.array([vector(text) for text in TEXTS]), abs=1e-6)


@pytest.mark.parametrize("kind", ["rate limit", "rate limit ms", "error", "page", "hang", "cut", "reset"])
def test_what_passes_is_tried_again(server: FakeServer, endpoint: Make, kind: str) -> None:
    """A limit, an error of the server, silence and a lost connection cost another attempt, and no vector."""
    tested = endpoint(timeout=0.5)
    tested.encode("query", ["hello"])
    server.plan = Plan(0.7, (kind,), clears_after=2)
    assert tested.encode("query", TEXTS) == pytest.approx(np.array([vector(text) for text in TEXTS]), abs=1e-6)
    assert server.total > 5
    if kind == "rate limit":
        assert CLOCK.waits.count(1.0) > 1


def altered(**changes: Any) -> Callable[[Body], Response]:
    """Return what answers with another first embedding."""

    def answer(body: Body) -> Response:
        whole = embeddings(body)
        whole["data"][0] |= changes
        # starlette writes no NaN, Python's own encoder does
        return Response(json.dumps(whole), media_type="application/json")

    return answer


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (lambda body: JSONResponse(embeddings(body | {"input": body["input"][1:]})), "5 embeddings came for 6 texts"),
        (altered(index=1), "or some twice"),
        (altered(embedding=[float("nan")] * 8), "no finite number"),
        (altered(embedding=[1e39] * 8), "no finite number"),
        (altered(embedding=[1.0]), "differ in size"),
        (altered(embedding="&&"), "no embeddings"),
        (altered(embedding=None), "differ in size"),
        (altered(embedding=["a"]), "no embeddings"),
        (lambda _: JSONResponse({"error": {"message": "busy"}}), "no embeddings"),
        (lambda _: JSONResponse([1]), "no embeddings"),
        (lambda _: Response("<html>"), "no embeddings"),
    ],
)
def test_answers_that_cannot_be_used(
    server: FakeServer, endpoint: Make, form: Callable[[Body], Response], words: str
) -> None:
    """A wrong count, doubles, values that are no numbers: asked again, then one clear message."""
    server.embed = form
    with pytest.raises(ServiceError) as caught:
        endpoint(max_retries=1).encode("query", TEXTS[:6])
    assert words in caught.value.message
    assert server.total == 2


@pytest.mark.parametrize(
    ("kind", "words", "hint"),
    [
        ("key", "does not accept the key in OPENAI_API_KEY", "export OPENAI_API_KEY"),
        ("model", "does not serve the model 'fake'", "/models lists the models"),
        ("no credit", "no more credit", "add credit"),
        ("rate limit", "gives no embeddings: HTTP 429", "same command again"),
        ("error", "gives no embeddings: HTTP 500", "same command again"),
    ],
)
def test_what_ends_a_run(server: FakeServer, endpoint: Make, kind: str, words: str, hint: str) -> None:
    """A wrong key, an unknown model, no credit: said at once, with the next thing to type and never with the key."""
    server.plan = Plan(1.0, (kind,), clears_after=99)
    with pytest.raises(ServiceError) as caught:
        endpoint(api_key_env="OPENAI_API_KEY").encode("query", TEXTS[:3])
    assert words in caught.value.message
    assert hint in caught.value.hint
    assert KEY not in str(caught.value)
    if kind == "rate limit":  # refused for ten minutes, in skipped time
        assert server.total > 3
    else:
        assert server.total == (3 if kind == "error" else 1)


def test_no_server_and_no_key(endpoint: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address where nothing listens is said at once, and so is a missing key; nothing is left open."""
    with pytest.raises(ServiceError, match="does not answer"):
        endpoint(base_url="http://127.0.0.1:9/v1").encode("query", ["a"])
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(SettingsError, match="OPENAI_API_KEY holds no key"):
        endpoint(base_url=None).encode("query", ["a"])


def test_the_key_goes_only_where_it_was_meant_to_go(server: FakeServer, endpoint: Make) -> None:
    """Another server than OpenAI gets the key only when it is named."""
    server.plan = Plan(1.0, ("key",))
    with pytest.raises(ServiceError, match="wants a key, and none is sent"):
        endpoint().encode("query", ["a"])


def at_most(texts: int, characters: int) -> Callable[[Body], Response]:
    """Return what answers no more texts, and none that is longer."""

    def answer(body: Body) -> Response:
        if any(len(text) > characters for text in body["input"]):
            return refuse(400, "This model's maximum context length is 10 tokens.", code=400)
        if len(body["input"]) > texts:
            return refuse(422, f"batch size {len(body['input'])} > maximum allowed batch size {texts}")
        return good(body)

    return answer


def test_a_batch_too_large_is_halved(server: FakeServer, endpoint: Make) -> None:
    """Whatever a server's limit for a request is, all texts get through."""
    server.embed = at_most(3, 1000)
    vectors = endpoint(batch_size=20).encode("query", TEXTS)
    assert vectors == pytest.approx(np.array([vector(text) for text in TEXTS]), abs=1e-6)


def test_an_answer_too_large_is_asked_for_in_halves(
    server: FakeServer, endpoint: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer of more bytes than there is room for may be that of too many texts; one text alone is given up."""
    monkeypatch.setattr(embeddings_module, "LARGEST", 1000)
    monkeypatch.setattr(embeddings_module, "ROOM", 100)
    found = endpoint(batch_size=16).encode("query", [str(number) for number in range(16)])
    assert found.shape[0] == 16
    assert {len(body["input"]) for body in server.bodies} > {16}
    monkeypatch.setattr(embeddings_module, "LARGEST", 10)
    with pytest.raises(ServiceError, match="gives no embeddings: the answer has more than 100 bytes"):
        endpoint(batch_size=1).encode("query", ["a"])


@pytest.mark.parametrize("count", [-1, 10**10, 10**400], ids=["negative", "10", "400"])
def test_a_count_beyond_all_models_is_none(server: FakeServer, endpoint: Make, count: int) -> None:
    """The vectors are taken, the count is not."""
    server.embed = lambda body: JSONResponse(embeddings(body) | {"usage": {"total_tokens": count}})
    made = endpoint()
    assert made.encode("query", ["a"]).shape == (1, 8)
    assert made.report() == {"requests": 1, "tokens": 0}


def test_a_text_too_long_is_named(server: FakeServer, endpoint: Make) -> None:
    """The message shows how the text begins and says how to cut it; cut, it passes."""
    server.embed = at_most(99, 60)
    texts = [*TEXTS[:4], "The quick brown fox jumps over the lazy dog, again and again. " * 9, *TEXTS[4:]]
    with pytest.raises(ServiceError) as caught:
        endpoint().encode("query", texts)
    assert "text that begins 'The quick brown fox" in caught.value.message
    assert "max_characters" in caught.value.hint
    assert endpoint(max_characters=60).encode("query", texts).shape == (21, 8)


def test_every_request_rejected_names_the_setting(server: FakeServer, endpoint: Make) -> None:
    """A server that knows a field not is quoted."""
    server.embed = lambda _: refuse(400, "Unknown field dimensions")
    with pytest.raises(ServiceError, match="Unknown field dimensions") as caught:
        endpoint(dimensions=4).encode("query", TEXTS)
    assert "dimensions" in caught.value.hint
    server.embed = lambda body: JSONResponse(embeddings({"input": body["input"]}))
    with pytest.raises(ServiceError, match="gives 8 dimensions, not the 4 asked for"):
        endpoint(dimensions=4).encode("query", TEXTS)


def test_the_rate_holds_across_calls(server: FakeServer, endpoint: Make) -> None:
    """No more requests a minute than set, also when texts come in many calls."""
    tested, started = endpoint(clock=Clock(), requests_per_minute=600), time.monotonic()
    for text in TEXTS[:14]:
        tested.encode("query", [text])
    assert server.total == 14
    assert time.monotonic() - started > 0.3  # ten at once, then ten a second


def test_nothing_is_paid_twice(server: FakeServer, endpoint: Make, tmp_path: Path) -> None:
    """What a window brought is on disk: after an error only the rest is asked for."""
    texts, settings = Texts(TEXTS, ["bees?"]), EmbeddingSettings(window=6, batch_size=None)
    server.embed = lambda body: good(body) if TEXTS[12] not in body["input"] else refuse(401, "key expired")
    with pytest.raises(ServiceError):
        Embeddings(endpoint(), tmp_path, settings).prepare(texts, silent)
    server.embed = good
    vectors = Embeddings(endpoint(), tmp_path, settings)
    vectors.prepare(texts, silent)
    assert sorted(server.asked.values()) == [1, 1, 1, 1, 2]
    assert vectors.documents(0, 20) == pytest.approx(np.array([vector(text) for text in TEXTS]), abs=1e-6)
