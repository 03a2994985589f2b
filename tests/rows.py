"""Training files made up for tests that care how a run goes, not what the texts say."""

import json
import random
from pathlib import Path

SYLLABLES = ("ba", "do", "fi", "ga", "ke", "lu", "mo", "ni", "po", "ra", "se", "tu")


def training_file(path: Path, rows: int, *, negatives: int = 6, twins: bool = True, seed: int = 0) -> Path:
    """Write rows in Tevatron's form.

    With `twins`, every seventh row stands there again under another id, so that the same things are asked twice; some
    negatives are a copy of a positive, empty, or repeated. Two negatives a row at the least.
    """
    dice = random.Random(seed)

    def words(count: int) -> str:
        return " ".join("".join(dice.choices(SYLLABLES, k=3)) for _ in range(count))

    def passage(docid: str) -> dict[str, str]:
        return {"docid": docid, "title": dice.choice(["", docid]), "text": words(6)}

    lines = []
    for number in range(rows):
        good = [passage(f"p{number}-{i}") for i in range(dice.choice([1, 2]))]
        bad = [passage(f"n{number}-{i}") for i in range(negatives)]
        match dice.randrange(10):
            case 0:
                bad[0] |= {"title": "", "text": good[0]["text"]}
            case 1:
                bad[1]["text"] = " "
            case 2:
                bad[-1] |= {"title": bad[0]["title"], "text": bad[0]["text"]}
        query = f"question {number}: {words(3)}"
        row = {"query_id": f"q{number}", "query": query, "positive_passages": good, "negative_passages": bad}
        lines.append(row | {"source": dice.choice(["left", "right"])})
        if twins and number % 7 == 0:
            lines.append(lines[-1] | {"query_id": f"q{number}-again"})
    dice.shuffle(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path
