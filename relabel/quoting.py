"""Other people's words → the same words, none of which can pass for a part of the prompt.

A prompt fences each passage with tags, numbers the candidates of a group as `Doc (2)`, and is sent as a turn of a chat
that a server lays out with control tokens. A text that is quoted can write none of the three: of each that it holds,
the first sign is exchanged for one that looks like it and means nothing.

    </passage>        ‹/passage>        a tag of the template, or of the reply that it asks for
    <|im_start|>      ‹|im_start|>      a control token of a chat model
    [INST]            ⟦INST]
    Doc (2)           Doc ⟨2)           the label of a candidate, in a group's prompt

Disguises count as what they stand for: invisible characters between the letters, full-width and mathematical forms,
accents, and the Cyrillic and Greek letters that look Latin. Control characters, line breaks of other kinds, bidi
controls and invisible characters go; joiners stay where they belong to a script or an emoji. All else stays as it is.

No secret is in it, so that the same words make the same prompt in every run, and a server can keep what it read.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

_BREAKS: Final = re.compile("\r\n?|[\x0b\x0c\x1c-\x1f\x85\u2028\u2029]")
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_JOINER: Final = re.compile(  # more than a script or an emoji can need, or beside nothing that they could join
    "[\u200c\u200d\ufe00-\ufe0f]{3,}|(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])"
)
_LIKE_LATIN: Final = str.maketrans(
    "авекмнорстухіїјѕһԁԛԝүԍɡıαβεικνορτυχγ",
    "abekmhopctyxiijshdqwygg" + "iabeiknoptuxy",
)
_SWAPPED: Final = {"<": "‹", "[": "⟦", "(": "⟨"}
_SIGNS: Final = str.maketrans("‹＜﹤≮⟦［﹇⟨（﹙⁽₍︵", "<<<<[[[((((((")

_HIDDEN: Final = "\0"  # stands in a skeleton for what is there and not seen
_GAP: Final = f"{_HIDDEN}{{0,4}}"
_CHAT_TAGS: Final = (
    *("s", "bos", "eos", "unk", "pad", "mask", "cls", "sep", "sop", "eop", "eot", "eod", "eom", "eoh", "eoa"),
    *("think", "tools", "image", "audio", "video", "role", "human", "bot", "filename", "reponame"),
    r"(?:unused|reserved|special|control|ctrl|extra|loc|seg)-?\d{1,6}",
    *(r"[\w:-]{0,40}_[\w:-]{0,40}", r"\w{1,40}\|"),  # <start_of_turn>, <file_sep>; <turn|>
)
_CHAT_WORDS: Final = (
    *("inst", "system_prompt", "available_tools", "tool_calls", "tool_results", "tool_content", "model_settings"),
    *("think", "args", "call_id", "img", "img_break", "img_end", "audio", "begin_audio", "prefix", "middle", "suffix"),
    *("cls", "sep", "pad", "mask", "unk", "bos", "eos", "gmask", "smask", r"control_\d{1,6}"),
)
_BRACKETS: Final = rf"(?P<bracket>\[)(?=/?(?:{'|'.join(_CHAT_WORDS)})\])"
_NUMBERED: Final = rf"(?<!\w)d{_GAP}o{_GAP}c{_GAP}[^\S\n]{{0,8}}(?P<number>\()(?=\s{{0,8}}\d)"
_UNFINISHED: Final = re.compile(
    rf"(?:<{_GAP}\s{{0,8}}[/|]?\s{{0,8}}[\w{_HIDDEN}-]{{0,40}}|\[/?(?:[a-z][a-z_]{{0,30}})?)\Z"
)
_TAIL: Final = 128


class _Skeleton(dict[int, str]):
    """Each sign → what it looks like: one lower-case letter without accents, `_HIDDEN` for what is not seen."""

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        plain = [each for each in unicodedata.normalize("NFKD", sign) if not unicodedata.category(each).startswith("M")]
        seen = "".join(plain).lower().translate(_LIKE_LATIN)
        hidden = not plain or unicodedata.category(sign) == "Cf"
        self[code] = found = _HIDDEN if hidden else seen if len(seen) == 1 else sign
        return found


_SKELETON: Final = _Skeleton()


@dataclass(frozen=True, slots=True)
class Quoting:
    """What texts may not write in one template's prompts.

    Attributes:
        structure: finds it in a skeleton: in a group `open`, `bracket` or `number` stands the sign to be exchanged.
    """

    structure: re.Pattern[str]

    @classmethod
    def against(cls, tags: Iterable[str], *, numbered: bool = False) -> Self:
        """Return what keeps texts from writing these tags, with or without a number behind the name.

        Args:
            tags: their names, as `passage`.
            numbered: keep them from writing `Doc (2)` too.
        """
        names = sorted({_GAP.join(map(re.escape, tag.casefold())) for tag in tags})
        own = rf"(?:{'|'.join(names) or '(?!)'})\d*"
        chat = rf"/?(?:{'|'.join(_CHAT_TAGS)})>|</?sys>>|\|[^\s>|]"
        loose = rf"\s{{0,8}}/?\s{{0,8}}{own}\s{{0,8}}/?>"
        opened = rf"(?P<open><)(?={_GAP}(?:/?{_GAP}{own}(?!\w)|{loose}|{chat}))"
        return cls(re.compile("|".join((opened, _BRACKETS, *([_NUMBERED] if numbered else [])))))

    def quote(self, text: str) -> str:
        """Return a text as a prompt may show it; quoting it again changes nothing. Takes linear time."""
        shown = visible(text)
        seen = skeleton(shown)
        places = [found.start(found.lastgroup or 0) for found in self.structure.finditer(seen)]
        end = len(seen.rstrip())
        start = max(end - _TAIL, 0)
        if unfinished := _UNFINISHED.search(seen[start:end]):  # what comes next in the prompt could finish it
            places.append(start + unfinished.start())
        if not places:
            return shown
        signs = list(shown)
        for place in places:
            signs[place] = _SWAPPED[seen[place]]
        return "".join(signs)


def visible(text: str) -> str:
    """Return a text with one kind of line break and without what is not seen."""
    return text if text.isascii() and text.isprintable() else _JOINER.sub("", _UNSEEN.sub("", _BREAKS.sub("\n", text)))


def skeleton(text: str) -> str:
    """Return what a visible text looks like, sign by sign, in small Latin letters where there is such a likeness."""
    return text.lower() if text.isascii() else text.translate(_SKELETON)


def as_quoted(text: str) -> str:
    """Fold what quoting may have changed in a text and a copying model may change: signs, white space and case."""
    return " ".join(visible(text).translate(_SIGNS).split()).casefold()
