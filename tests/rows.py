"""Training files made up for tests that care how a run goes, not what the texts say."""

import json
import random
from pathlib import Path

WORDS = (
    "river bridge copper winter letter engine garden market orchard signal harbour lantern meadow pencil quarry ribbon "
    "saddle temple valley window anchor barrel candle dragon falcon guitar hammer island jacket kettle ladder mirror"
).split()


def training_file(path: Path, rows: int, *, negatives: int = 6, seed: int = 0) -> Path:
    """Write rows in Tevatron's form.

    Every seventh row stands twice under another id, so that the same things are asked more than once; some negatives
    are a copy of a positive, empty, or repeated.
    """
    dice = random.Random(seed)

    def passage(docid: str) -> dict[str, str]:
        return {"docid": docid, "title": dice.choice(["", docid]), "text": " ".join(dice.choices(WORDS, k=14))}

    lines = []
    for number in range(rows):
        good = [passage(f"p{number}-{i}") for i in range(dice.choice([1, 2]))]
        bad = [passage(f"n{number}-{i}") for i in range(negatives)]
        match dice.randrange(8):
            case 0:
                bad[0] |= {"title": "", "text": good[0]["text"]}
            case 1:
                bad[1]["text"] = " "
            case 2:
                bad[2] |= {"title": bad[0]["title"], "text": bad[0]["text"]}
        query = f"question {number}: {' '.join(dice.choices(WORDS, k=5))}"
        row = {"query_id": f"q{number}", "query": query, "positive_passages": good, "negative_passages": bad}
        lines.append(row | {"source": dice.choice(["left", "right"])})
        if number % 7 == 0:
            lines.append(lines[-1] | {"query_id": f"q{number}-again"})
    dice.shuffle(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path
