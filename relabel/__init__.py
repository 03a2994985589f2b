"""Find the false negatives among mined hard negatives, relabel them, and write clean training data.

    import relabel

    done = relabel.run("train.jsonl")              # rules, then a packaged embedding model
    done = relabel.run("train.jsonl", "cascade.yaml", output="runs/first")
    print(done.statistics["verdicts"], done.files["cleaned"])

Everything is imported when it is first used, so that `import relabel` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from relabel.adapting import Adapted, adapt_hard_negatives
    from relabel.api import (
        apply,
        audit_export,
        audit_import,
        check,
        convert,
        filter_negatives,
        flips,
        load_config,
        merge,
        mine,
        read,
        rebuild,
        refresh,
        rehearse_mining,
        run,
        show,
        stats,
    )
    from relabel.api_synthesis import evaluate_synthesis, rehearse_synthesis, separate, synthesize, write_queries
    from relabel.api_trust import (
        audit_estimate,
        audit_sample,
        audit_serve,
        calibrate,
        compare_prompts,
        diagnose,
        rehearse_compare_prompts,
        rehearse_diagnose,
        report,
    )
    from relabel.comparing import Comparison
    from relabel.config import Settings
    from relabel.diagnosing import Diagnosis
    from relabel.diagnostics import Diagnostic
    from relabel.errors import (
        InputError,
        MissingPart,
        RelabelError,
        RowError,
        RunError,
        ServiceError,
        SettingsError,
        TemplateError,
    )
    from relabel.forecast import Forecast
    from relabel.hard_negatives import mine_hard_negatives
    from relabel.minerun import Mined
    from relabel.pipeline import Summary
    from relabel.promised import Calibration
    from relabel.prompts import Template, list_templates, load_template
    from relabel.protocols import Engine, Judge, Reply, Request
    from relabel.records import Case, Change, Example, Finding, Judgment, Pair, Passage, Verdict

_HOME: Final = {
    "adapting": ("Adapted", "adapt_hard_negatives"),
    "api": (
        "apply", "audit_export", "audit_import", "check", "convert", "filter_negatives", "flips", "load_config",
        "merge", "mine", "read", "rebuild", "refresh", "rehearse_mining", "run", "show", "stats",
    ),
    "api_trust": (
        "audit_estimate", "audit_sample", "audit_serve", "calibrate", "compare_prompts", "diagnose",
        "rehearse_compare_prompts", "rehearse_diagnose", "report",
    ),
    "api_synthesis": ("evaluate_synthesis", "rehearse_synthesis", "separate", "synthesize", "write_queries"),
    "promised": ("Calibration",),
    "comparing": ("Comparison",),
    "config": ("Settings",),
    "diagnosing": ("Diagnosis",),
    "diagnostics": ("Diagnostic",),
    "errors": (
        "InputError", "MissingPart", "RelabelError", "RowError", "RunError", "ServiceError", "SettingsError",
        "TemplateError",
    ),
    "forecast": ("Forecast",),
    "hard_negatives": ("mine_hard_negatives",),
    "minerun": ("Mined",),
    "pipeline": ("Summary",),
    "prompts": ("Template", "list_templates", "load_template"),
    "protocols": ("Engine", "Judge", "Reply", "Request"),
    "records": ("Case", "Change", "Example", "Finding", "Judgment", "Pair", "Passage", "Verdict"),
}  # fmt: skip
_WHERE: Final = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "Adapted", "Calibration", "Case", "Change", "Comparison", "Diagnosis", "Diagnostic", "Engine", "Example",
    "Finding", "Forecast", "InputError", "Judge", "Judgment", "Mined", "MissingPart", "Pair", "Passage",
    "RelabelError", "Reply", "Request", "RowError", "RunError", "ServiceError", "Settings", "SettingsError",
    "Summary", "Template", "TemplateError", "Verdict", "adapt_hard_negatives", "apply", "audit_estimate",
    "audit_export", "audit_import", "audit_sample", "audit_serve", "calibrate", "check", "compare_prompts", "convert",
    "diagnose", "evaluate_synthesis", "filter_negatives", "flips", "list_templates", "load_config", "load_template",
    "merge", "mine", "mine_hard_negatives", "read", "rebuild", "refresh", "rehearse_compare_prompts",
    "rehearse_diagnose", "rehearse_mining", "rehearse_synthesis", "report", "run", "separate", "show", "stats",
    "synthesize", "write_queries",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _WHERE:
        raise AttributeError(f"module 'relabel' has no attribute {name!r}")
    return getattr(import_module(f"relabel.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
