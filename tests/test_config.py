"""What may be written in a config, and that each mistake is named with its line."""

import re
from pathlib import Path

import pytest

from relabel import config, engine_settings
from relabel.cascade import ALL_FINAL, Cuts, Settle, Stage
from relabel.errors import SettingsError
from relabel.policy import PRESETS

LLM = "stages:\n  - judge: llm\n    engine: {kind: scripted, replies: r.jsonl}\n"
ENGINE = "stages:\n  - judge: llm\n    engine:\n      model: m\n      kind: openai{}\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("stages:\n  - judge: rules\n    colour: red\n", "line 3: stages.0.colour: there is no such field here"),
        ("stages:\n  - rules\nsource_feild: x\n", "line 3: source_feild: there is no such field here"),
        ("stages:\n  - rules\npolicy:\n  min: 3\n", "line 4: policy.min: there is no such field here"),
        (LLM + "    model: x\n", "line 4: stages.0.model: there is no such field here"),
        ("stages:\n  - rules\nseed: 1.5\n", "line 3: seed: Input should be a valid integer"),
        ("stages:\n  - rules\nseed: '1'\n", "line 3: seed: Input should be a valid integer"),
        ("stages:\n  - rules\nreference: true\n", "line 3: reference: Input should be a valid integer"),
        ("stages:\n  - rules\nreference: 0\n", "line 3: reference: Input should be greater than or equal to 1"),
        ("stages: rules\n", "line 1: stages: Input should be a valid list"),
        ("stages: []\n", "line 1: stages: List should have at least 1 item"),
        ("stages:\n  - 5\n", "line 2: stages.0: Input should be a valid dictionary"),
        ("stages:\n  - rules\n  - judge: oracle\n", "line 3: stages.1: Input tag 'oracle' found using 'judge'"),
        ("stages:\n  - judge: rules\n    sample: 2\n", "line 3: stages.0.sample: Input should be less than or equal"),
        ("stages:\n  - judge: rules\n    escalate: all\n", "line 3: stages.0.escalate: Input should be 'pair' or"),
        ("stages:\n  - judge: rules\n    final: [relevant, perhaps]\n", "line 3: stages.0.final.1: Input should be 'r"),
        ("stages:\n  - judge: rules\n    final:\n      perhaps: 0.5\n", "line 4: stages.0.final.perhaps: Input should"),
        (
            "stages:\n  - judge: rules\n    final: {relevant: 1.5}\n",
            "line 3: stages.0.final.relevant: Input should be l",
        ),
        ("stages:\n  - judge: llm\n", "line 2: stages.0.engine: Field required"),
        ("stages:\n  - judge: llm\n    engine: {kind: openai}\n", "line 3: stages.0.engine.model: Field required"),
        ("stages:\n  - judge: llm\n    engine: {kind: telnet}\n", "line 3: stages.0.engine: Input tag 'telnet'"),
        ("stages:\n  - judge: embedding\n    flag: {by: cosin, at: 1}\n", "line 3: stages.0.flag.by: Input should be"),
        ("stages:\n  - rules\n  - rules\n", "line 1: two stages are called rules; give each its own `name`"),
        ("stages:\n  - judge: rules\n    name: human\n", "line 1: the name 'human' is kept for people's labels"),
        ("stages:\n  - rules\npolicy:\n  actions: relable\n", "line 4: policy.actions: Input should be 'relabel', 'dr"),
        (
            "stages:\n  - rules\npolicy:\n  actions:\n    relevant: promot\n",
            "line 5: policy.actions.relevant: Input should be 'promote', 'drop', 'keep', 'ask' or 'remove'",
        ),
        (
            "stages:\n  - rules\npolicy:\n  actions:\n    undecided: promote\n",
            "line 3: policy: undecided: promote would turn no verdict into a label; use keep or ask",
        ),
        (
            "stages:\n  - rules\npolicy:\n  actions: {irrelevant: drop}\n",
            "line 3: policy: irrelevant: drop would move a true negative; use keep or ask",
        ),
        (
            ENGINE.format("\n      extra_body:\n        x: 2024-01-01"),
            "line 7: stages.0.engine.extra_body.x: JSON, in which it is sent, has no such value",
        ),
        (ENGINE.format("\n      extra_body: {x: [.nan]}"), "line 6: stages.0.engine.extra_body.x: JSON, in which"),
        (ENGINE.format("\n      extra_body: {x: !!binary aGFsbG8=}"), "line 6: stages.0.engine.extra_body.x: JSON, in"),
        (ENGINE.format('\n      extra_body: {x: "\\ud800"}'), "line 6: stages.0.engine.extra_body.x: JSON, in which"),
        (ENGINE.format("\n      temperature: .inf"), "line 6: stages.0.engine.temperature: Input should be a finite"),
        (ENGINE.format("\n      timeout: .inf"), "line 6: stages.0.engine.timeout: Input should be a finite number"),
        (
            ENGINE.format("\n      max_tokens: 1000000000000000"),
            "line 6: stages.0.engine.max_tokens: Input should be le",
        ),
        (ENGINE.format("\n      base_url: http://a..b/v1"), "line 6: stages.0.engine.base_url: this is no address"),
        (ENGINE.format("\n      base_url: http:///v1"), "line 6: stages.0.engine.base_url: this is no address such as"),
        (
            ENGINE.format("\n      price: {input: 10000000000000.0, output: 1}"),
            "line 6: stages.0.engine.price.input: Input should be less than or equal to 1000000",
        ),
        (
            ENGINE.format("\n      price: {input: 0.00000015, output: 0.6}"),
            "line 6: stages.0.engine.price.input: prices are in US dollars per million tokens, 0 or at least 0.0001",
        ),
        (
            ENGINE.format("_batch\n      completion_window: 2d"),
            "line 6: stages.0.engine.completion_window: OpenAI knows none but 24h",
        ),
        (ENGINE.format("_batch\n      completion_window: soon"), "line 6: stages.0.engine.completion_window: String"),
        (
            ENGINE.format("_batch\n      poll_seconds: .inf"),
            "line 6: stages.0.engine.poll_seconds: Input should be a f",
        ),
        ("stages: [rules\n", "line 2: not YAML: expected ',' or ']'"),
    ],
)
def test_each_mistake_is_named_with_its_line(text: str, problem: str) -> None:
    """One mistake, one line of message, with the line of the file and what may stand there."""
    with pytest.raises(SettingsError) as caught:
        config.parse(text, "cascade.yaml")
    assert caught.value.message.startswith(f"cascade.yaml, {problem}")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["", "rules\n", "- rules\n", "5\n"])
def test_a_config_is_a_mapping(text: str) -> None:
    """A file that is something else says how a config begins."""
    with pytest.raises(SettingsError, match="a config is a mapping that begins with `stages:`"):
        config.parse(text)


def test_all_mistakes_are_named_at_once() -> None:
    """Nobody mends a config one run at a time."""
    with pytest.raises(SettingsError) as caught:
        config.parse("stages:\n  - judge: rules\n    sample: 2\n    escalate: all\nseed: x\ncolour: red\n")
    assert sorted(line.split(":")[1].strip() for line in caught.value.message.splitlines()) == [
        "colour", "seed", "stages.0.escalate", "stages.0.sample",
    ]  # fmt: skip


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b""])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    """A missing file, and one that is no text, are errors of the user's that name the file."""
    path = tmp_path / "cascade.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"cascade\.yaml"):
        config.load(path)


def test_who_is_final_by_default() -> None:
    """Rules and people always, the last judge always, and of other judges only "irrelevant"."""
    chosen = config.parse(
        "stages:\n  - judge: human\n    labels: l.csv\n  - rules\n  - judge: embedding\n"
        "  - judge: rules\n    name: last\n"
    )
    assert [stage.final for stage in chosen.routing()] == [ALL_FINAL, ALL_FINAL, {"irrelevant": 0.0}, ALL_FINAL]


def test_what_is_final_as_written() -> None:
    """A list means always, a mapping from a probability on, an empty one never."""
    chosen = config.parse(
        "stages:\n  - judge: rules\n    name: a\n    final: [partial]\n    escalate: query\n    sample: 0.5\n"
        "  - judge: rules\n    name: b\n    final: {relevant: 0.9}\n  - judge: rules\n    name: c\n    final: []\n"
    )
    assert chosen.routing() == (
        Stage("a", {"partial": 0.0}, "query", 0.5), Stage("b", {"relevant": 0.9}), Stage("c", {}),
    )  # fmt: skip


def test_a_table_fills_up_with_the_preset() -> None:
    """What a table of actions leaves out is as in `relabel`."""
    chosen = config.parse("stages: [rules]\npolicy:\n  actions: {partial: keep}\n")
    assert chosen.policy.policy().table == {**PRESETS["relabel"], "partial": "keep"}


def test_paths_are_relative_to_the_config(tmp_path: Path) -> None:
    """Labels, recordings and templates are found wherever the command is typed."""
    (tmp_path / "mine.md").write_text("x")
    (tmp_path / "c.yaml").write_text(
        "stages:\n  - judge: human\n    labels: l.csv\n"
        "  - judge: llm\n    prompt: ./mine.md\n    engine: {kind: scripted, replies: r.jsonl}\n"
    )
    human, llm = config.load(tmp_path / "c.yaml").stages
    assert isinstance(human, config.Human)
    assert isinstance(llm, config.LLM)
    assert isinstance(llm.engine, engine_settings.Scripted)
    assert [Path(human.labels), Path(llm.prompt), Path(llm.engine.replies)] == [
        tmp_path / name for name in ("l.csv", "mine.md", "r.jsonl")
    ]


def test_another_prompt_needs_a_model(tmp_path: Path) -> None:
    """`prompt` replaces the template of every LLM stage; a cascade without one refuses it."""
    (tmp_path / "c.yaml").write_text(LLM)
    (stage,) = config.load(tmp_path / "c.yaml", prompt="umbrela").stages
    assert isinstance(stage, config.LLM)
    assert stage.prompt == "umbrela"
    with pytest.raises(SettingsError, match="this one has none"):
        config.load(None, prompt="umbrela")


def test_settings_survive_the_manifest() -> None:
    """What a manifest keeps of the settings is read back equal, thresholds and engines too."""
    text = LLM + (
        "  - judge: embedding\n    final: {irrelevant: 0.0}\n    ask: null\n"
        "  - judge: llm\n    name: b\n    engine: {kind: openai, model: m, price: {input: 1, output: 2}}\n"
        "policy:\n  actions: {partial: keep}\n  exempt: [a]\nseed: 3\n"
    )
    chosen = config.parse(text)
    assert config.Settings.model_validate(chosen.model_dump(mode="json")) == chosen


LLM_STAGE = "  - {{judge: llm, name: {}, prompt: relevance, engine: {{kind: openai, model: m, base_url: '{}'{}}}}}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stages:\n  - rules\n  - {judge: human, labels: l.csv}\n", "a human stage comes first"),
        ("stages:\n  - {judge: rules, name: ../../evil}\n", "line 2"),
        ("stages: [rules]\nseed: 1\nseed: 2\n", "line 3: not YAML: 'seed' stands twice"),
        ("stages: [rules]\npolicy: {actions: {relevent: drop}}\n", "did you mean 'relevant'"),
        ("stages: [rules]\npolicy: {actions: {'rulez:relevant': drop}}\n", "names no stage"),
        (
            "stages:\n" + LLM_STAGE.format("a", "http://one/v1", "") + LLM_STAGE.format("b", "http://two/v1", ""),
            "tell the two by `revision`",
        ),
    ],
)
def test_what_could_not_work_is_refused(text: str, said: str) -> None:
    """Names that leave the run directory, keys that nothing looks up, servers that replies could not tell apart."""
    with pytest.raises(SettingsError, match=re.escape(said)):
        config.parse(text)


def test_another_service_may_have_another_window() -> None:
    """Only OpenAI knows no other than a day."""
    told = config.parse(ENGINE.format("_batch\n      base_url: http://host/v1\n      completion_window: 7d"))
    [stage] = told.stages
    assert isinstance(stage, config.LLM)
    assert isinstance(stage.engine, engine_settings.OpenAIBatch)
    assert stage.engine.completion_window == "7d"


def test_two_servers_with_different_revisions_are_two() -> None:
    """The revision tells two servers of one model apart."""
    two = LLM_STAGE.format("a", "http://one/v1", "") + LLM_STAGE.format("b", "http://two/v1", ", revision: two")
    assert len(config.parse("stages:\n" + two).stages) == 2


def test_a_prompt_beside_the_config_is_found(tmp_path: Path) -> None:
    """A template named by file stands where the config stands, whatever the folder of the command."""
    (tmp_path / "mine.md").write_text("x", "utf-8")
    (tmp_path / "c.yaml").write_text(
        "stages:\n  - {judge: llm, prompt: mine.md, engine: {kind: scripted, replies: r.jsonl}}\n", "utf-8"
    )
    stage = config.load(tmp_path / "c.yaml").stages[0]
    assert isinstance(stage, config.LLM)
    assert stage.prompt == str(tmp_path / "mine.md")


def test_what_a_number_settles() -> None:
    """Thresholds, for all and for single sources; `final` is out of force."""
    chosen = config.parse(
        "stages:\n  - judge: embedding\n    settle:\n      by: score\n      relevant: 1.12\n      irrelevant: 0.31\n"
        "      sources:\n        fiqa: {partial: 0.9}\n"
    )
    (stage,) = chosen.routing()
    assert stage.settle == Settle("score", Cuts(1.12, None, 0.31), {"fiqa": Cuts(partial=0.9)})


@pytest.mark.parametrize(
    ("settle", "words"),
    [
        ("{relevant: 1}", "by: Field required"),
        ("{by: guess}", "by: Input should be"),
        ("{by: score, relevant: 1, partial: 2}", "`partial` is above `relevant`"),
        ("{by: score, relevant: 1, irrelevant: 1}", "`irrelevant` has to be below"),
        ("{by: score, irrelevant: .nan}", "irrelevant: Input should be a finite number"),
        ("{by: score}\n    final: []", "`settle` stands in place of `final`"),
    ],
)
def test_thresholds_that_cannot_be(settle: str, words: str) -> None:
    """Each mistake is named."""
    with pytest.raises(SettingsError, match=re.escape(words)):
        config.parse(f"stages:\n  - judge: embedding\n    settle: {settle}\n")
