"""Arrows go down only: who may import whom, for every module, wherever in it the import stands."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "relabel"

FLOORS = {
    "records": 0, "errors": 0, "protocols": 0, "spelling": 0,
    "accounting": 1, "agreement": 1, "bootstrap": 1, "bounds": 1, "calibration": 1, "cascade": 1, "certain": 1,
    "coefficients": 1, "copies": 1, "dawid_skene": 1, "diagnostics": 1, "estimates": 1, "inferring": 1, "policy": 1,
    "pooling": 1, "probes": 1, "quoting": 1, "raters": 1, "reliability": 1, "replies": 1, "reviewers": 1, "sampling": 1,
    "template_language": 1, "turns": 1, "yamltext": 1, "engine_settings": 1, "money": 1, "tokens": 1,
    "mining.candidates": 1, "mining.filters": 1, "mining.likeness": 1, "mining.samplers": 1,
    "mining.strategies": 1, "mining.detection": 1, "mining.searching": 1, "mining.fusion": 1, "mining.figures": 1,
    "mining.tallies": 1, "formats.corpora.base": 1, "template_parts": 1, "synthesis.written": 1, "synthesis.forms": 1,
    "synthesis.marks": 1,
    "synthesis.artefacts": 1, "synthesis.contrasts": 1, "synthesis.features": 1, "synthesis.perturbing": 1,
    "synthesis.ranks": 1, "synthesis.separability": 1, "synthesis.trials": 1,
    "prompts": 2, "config": 2, "tables": 2, "selection": 2, "pricefile": 2, "store_file": 2,
    "mining": 3, "formats": 3, "judges": 3, "engines": 3, "store": 3, "audit": 3, "rundir": 3, "corpus": 3, "pools": 3,
    "retrievers": 3, "reporting": 3, "web": 3, "synthesis": 3,
    "stages": 4, "building": 4, "pipeline": 4, "forecast": 4, "runs": 4, "converting": 4, "concluding": 4, "refill": 4,
    "billing": 4, "authors": 4, "questioning": 4, "evaluating": 4, "separating": 4,
    "recipe": 4, "material": 4, "seeking": 4, "choosing": 4, "minerun": 4, "rehearsal": 4,
    "shards": 4, "sources": 4, "merging": 4, "filtering": 4, "pairs": 4, "shaping": 4, "adapting": 4, "gold": 4,
    "asking": 4, "auditing": 4, "calibrating": 4, "comparing": 4, "diagnosing": 4, "gleaning": 4, "interview": 4,
    "labelled": 4, "explaining": 4, "evenness": 4, "promised": 4, "reportrun": 4, "serving": 4, "symptoms": 4,
    "augmenting": 4, "families": 4, "foreseeing": 4, "synthesizing": 4, "synthesisdir": 4,
    "synthesisbill": 4, "synthesisreport": 4,
    "api": 5, "screen": 5, "screen_mined": 5, "cli": 5, "cli_mining": 5, "options": 5, "__init__": 5, "__main__": 5,
    "hard_negatives": 5, "screen_stats": 5, "cli_trust": 5, "screen_trust": 5, "screen_money": 5, "api_trust": 5,
    "stopping": 5, "api_synthesis": 5, "cli_synthesis": 5, "screen_synthesis": 5,
}  # fmt: skip
"""Every room of the package and its floor; a folder is one room, but for those of its modules that stand here too.
A new module fails the test until it stands here."""

NEIGHBOURLY = frozenset({0, 1, 4, 5})
"""Floors on which a module may import its neighbours, as long as there is no cycle."""

HEAVY = (
    "torch", "openai", "sentence_transformers", "pandas", "datasets", "ray", "vllm", "matplotlib", "numpy",
    "bm25s", "Stemmer",
)  # fmt: skip


def name_of(path: Path, package: Path) -> str:
    """Name a file as a module below the package: `formats/bge.py` is `formats.bge`, `formats/__init__.py` `formats`."""
    parts = list(path.relative_to(package).with_suffix("").parts)
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def imports_of(source: str, module: str, known: frozenset[str]) -> Iterator[str]:
    """Yield the modules of the package that a module imports: inside functions and for type checkers too."""
    here = ["relabel", *([] if module == "__init__" else module.split("."))]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] + ([node.module] if node.module else []) if node.level else []
            start = ".".join(base) if node.level else node.module or ""
            found = [f"{start}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in found:
            if name == "relabel" or name.startswith("relabel."):
                yield longest(name.removeprefix("relabel").removeprefix("."), known)


def longest(name: str, known: frozenset[str]) -> str:
    """Return the module that a dotted name leads to: `records.Case` is in `records`, a name of the root in it."""
    parts = name.split(".")
    while parts and ".".join(parts) not in known:
        parts.pop()
    return ".".join(parts) or "__init__"


def graph_of(package: Path) -> dict[str, set[str]]:
    """Return for every module of the package those that it imports."""
    paths = {name_of(path, package): path for path in package.rglob("*.py")}
    known = frozenset(paths)
    return {
        name: set(imports_of(path.read_text(encoding="utf-8"), name, known)) - {name} for name, path in paths.items()
    }


def faults(graph: Mapping[str, set[str]]) -> list[str]:
    """List everything that is wrong with a graph of imports, by the table above."""
    found = [f"{name}: not in the table" for name in sorted(graph) if room(name) not in FLOORS]
    if found:
        return found
    for name, targets in sorted(graph.items()):
        for target in sorted(targets):
            above, below = floor(name), floor(target)
            if room(name) == room(target) and below <= above:
                continue
            if below > above:
                found.append(f"{name} (floor {above}) imports {target} (floor {below})")
            elif below == above and above not in NEIGHBOURLY:
                found.append(f"{name} and {target} are both on floor {above}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"cycle: {' → '.join(error.args[1])}")
    return found


def room(name: str) -> str:
    """Return the room that a module lies in."""
    return name.partition(".")[0]


def floor(name: str) -> int:
    """Return the floor of a module: its own, or that of its room."""
    return FLOORS.get(name, FLOORS[room(name)])


def test_arrows_go_down_only() -> None:
    """No module imports from above, no edge room another, nothing goes round, and the table is complete."""
    assert faults(graph_of(PACKAGE)) == []


def test_the_table_lists_nothing_that_is_gone() -> None:
    """Every room and module of the table is there."""
    there = {part for name in graph_of(PACKAGE) for part in (name, room(name))}
    assert sorted(set(FLOORS) - there) == []


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"records.py": "from relabel.policy import edit"}, "records (floor 0) imports policy (floor 1)"),
        ({"records.py": "def f():\n    from relabel import policy"}, "records (floor 0) imports policy (floor 1)"),
        ({"records.py": "if TYPE_CHECKING:\n    from .policy import edit"}, "records (floor 0) imports policy"),
        ({"audit.py": "import relabel.store"}, "audit and store are both on floor 3"),
        ({"judges/llm.py": "from relabel.engines.openai import X"}, "judges.llm and engines.openai are both"),
        ({"judges/llm.py": "from ..engines import openai"}, "judges.llm and engines.openai are both"),
        ({"config.py": "from relabel.prompts import Template"}, "config and prompts are both on floor 2"),
        ({"store.py": "from relabel import Anything"}, "store (floor 3) imports __init__ (floor 5)"),
        ({"runs.py": "import relabel.pipeline", "pipeline.py": "from relabel import runs"}, "cycle: "),
        ({"judges/llm.py": "from relabel.judges import rules", "judges/rules.py": "from . import llm"}, "cycle: "),
        (
            {"mining/filters.py": "from relabel.mining import search", "mining/search.py": ""},
            "mining.filters (floor 1) ",
        ),
        ({"utils.py": ""}, "utils: not in the table"),
        ({"pages/page.py": ""}, "pages.page: not in the table"),
    ],
)
def test_each_kind_of_fault_is_found(tmp_path: Path, files: dict[str, str], words: str) -> None:
    """The test above can fail: it sees every way to write an import, and every fault there is."""
    rest = ("policy.py", "store.py", "prompts.py", "engines/openai.py", "judges/rules.py", "__init__.py")
    for name, source in {**dict.fromkeys(rest, ""), **files}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source, encoding="utf-8")
    (fault,) = faults(graph_of(tmp_path))
    assert fault.startswith(words)


def test_the_door_opens_without_the_heavy_packages() -> None:
    """Importing the command line loads nothing that takes seconds, so that --help is quick."""
    code = f"import sys, relabel.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
