"""Words that exclude one another, by language: what a rule puts in a word's place so that the passage says otherwise.

Every line is one set of words of one type and one form, so that any of them fits where another stood.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

MONTHS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "en": (
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
        "December",
    ),
    "de": (
        "Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November",
        "Dezember",
    ),
})  # fmt: skip

WEEKDAYS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = MappingProxyType({
    "en": (
        ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
        ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays"),
    ),
    "de": (
        ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
        ("montags", "dienstags", "mittwochs", "donnerstags", "freitags", "samstags", "sonntags"),
    ),
})  # fmt: skip

COUNTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "en": ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    "de": ("zwei", "drei", "vier", "fünf", "sechs", "sieben", "neun", "zehn", "elf", "zwölf"),  # "acht" is care, too
})  # fmt: skip

ENTITIES: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = MappingProxyType({
    "en": (
        ("France", "Germany", "Italy", "Spain", "Sweden", "Poland", "Japan", "China", "India", "Brazil", "Canada",
         "Mexico", "Australia", "Egypt", "Kenya", "Norway", "Denmark", "Finland", "Greece", "Turkey", "Portugal",
         "Austria", "Hungary", "Ireland", "Scotland", "England", "Argentina", "Chile", "Peru", "Vietnam", "Thailand"),
        ("French", "German", "Italian", "Spanish", "Swedish", "Polish", "Japanese", "Chinese", "Indian", "Brazilian",
         "Canadian", "Mexican", "Australian", "Egyptian", "Norwegian", "Danish", "Finnish", "Greek", "Turkish",
         "Portuguese", "Austrian", "Hungarian", "Irish", "Scottish"),
        ("Paris", "Berlin", "Rome", "Madrid", "Vienna", "London", "Dublin", "Prague", "Tokyo", "Beijing", "Chicago",
         "Boston", "Toronto", "Sydney", "Munich", "Hamburg", "Zurich", "Milan", "Lisbon", "Oslo", "Stockholm",
         "Copenhagen", "Helsinki", "Athens", "Warsaw", "Budapest", "Moscow", "Cairo", "Brussels", "Amsterdam"),
        ("Europe", "Africa", "Asia", "North America", "South America"),
        ("European", "African", "Asian"),
        ("northern", "southern", "eastern", "western"),
        ("men", "women"), ("man", "woman"), ("male", "female"), ("males", "females"), ("boys", "girls"),
        ("boy", "girl"), ("husband", "wife"), ("father", "mother"), ("brother", "sister"), ("maternal", "paternal"),
        ("mice", "rats", "rabbits", "pigs", "monkeys", "zebrafish"), ("mouse", "rat", "rabbit", "monkey"),
        ("murine", "bovine", "porcine", "feline", "canine"),
        ("children", "adults"), ("pediatric", "geriatric"), ("newborns", "adolescents", "pensioners"),
        ("liver", "kidney", "lung", "brain", "spleen", "pancreas"), ("hepatic", "renal", "pulmonary", "cardiac"),
        ("breast cancer", "lung cancer", "colon cancer", "prostate cancer", "liver cancer"),
        ("bacteria", "viruses", "fungi"), ("bacterial", "viral", "fungal"), ("DNA", "RNA"),
        ("oxygen", "nitrogen", "hydrogen", "helium"), ("iron", "zinc", "copper", "calcium", "magnesium"),
        ("gold", "silver", "bronze"), ("dollars", "euros", "pounds"), ("kilometres", "miles"), ("kilograms", "pounds"),
        ("grams", "milligrams"), ("metres", "feet"), ("seconds", "minutes", "hours", "days", "weeks", "months"),
        ("red", "blue", "green", "yellow"), ("black", "white"),
        ("dogs", "cats", "horses", "sheep"), ("dog", "cat", "horse"), ("wheat", "rice", "barley", "maize"),
        ("morning", "evening"), ("spring", "summer", "autumn", "winter"),
    ),
    "de": (
        ("Frankreich", "Deutschland", "Italien", "Spanien", "Schweden", "Polen", "Japan", "China", "Indien",
         "Brasilien", "Kanada", "Mexiko", "Australien", "Ägypten", "Kenia", "Norwegen", "Dänemark", "Finnland",
         "Griechenland", "Portugal", "Österreich", "Ungarn", "Irland", "Schottland"),
        ("Paris", "Berlin", "Rom", "Madrid", "Wien", "London", "Dublin", "Prag", "Tokio", "Peking", "München",
         "Hamburg", "Köln", "Leipzig", "Dresden", "Bremen", "Stuttgart", "Hannover", "Nürnberg", "Zürich", "Basel",
         "Bern", "Mailand", "Lissabon", "Oslo", "Stockholm", "Helsinki", "Athen", "Warschau", "Budapest", "Moskau"),
        ("Europa", "Afrika", "Asien", "Nordamerika", "Südamerika"),
        ("Norden", "Süden", "Osten", "Westen"),
        ("Männer", "Frauen"), ("Kinder", "Erwachsene"), ("Kindern", "Erwachsenen"),
        ("Mutter", "Tante", "Schwester"), ("Vater", "Onkel", "Bruder"), ("Hunde", "Katzen", "Pferde", "Schafe"),
        ("Bakterien", "Viren", "Pilze"), ("Sauerstoff", "Stickstoff", "Wasserstoff"),
        ("Weizen", "Roggen", "Hafer"), ("Eisen", "Zink", "Kupfer"), ("Euro", "Dollar", "Franken"),
        ("Sekunden", "Minuten", "Stunden", "Tage", "Wochen", "Monate"), ("Kilometer", "Meter", "Zentimeter"),
        ("Gramm", "Kilogramm"), ("links", "rechts"), ("morgens", "mittags", "abends"), ("rot", "blau", "grün", "gelb"),
        ("Frühling", "Sommer", "Herbst", "Winter"),
    ),
})  # fmt: skip

OPPOSITES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = MappingProxyType({
    "en": (
        ("increase", "decrease"), ("increases", "decreases"), ("increased", "decreased"), ("increasing", "decreasing"),
        ("higher", "lower"), ("highest", "lowest"), ("larger", "smaller"), ("largest", "smallest"),
        ("longer", "shorter"), ("better", "worse"), ("faster", "slower"), ("older", "younger"), ("before", "after"),
        ("more", "less"), ("positive", "negative"), ("positively", "negatively"),
        ("promotes", "inhibits"), ("promoted", "inhibited"), ("promote", "inhibit"), ("activates", "suppresses"),
        ("activated", "suppressed"), ("upregulated", "downregulated"), ("up-regulated", "down-regulated"),
        ("allowed", "forbidden"), ("permitted", "prohibited"), ("includes", "excludes"), ("included", "excluded"),
        ("always", "never"), ("significant", "insignificant"), ("effective", "ineffective"),
        ("sufficient", "insufficient"), ("necessary", "unnecessary"), ("dependent", "independent"),
        ("safe", "unsafe"), ("reduces", "raises"), ("reduced", "raised"), ("gain", "loss"), ("gained", "lost"),
    ),
    "de": (
        ("mehr", "weniger"), ("höher", "niedriger"), ("größer", "kleiner"), ("länger", "kürzer"),
        ("besser", "schlechter"), ("schneller", "langsamer"), ("älter", "jünger"), ("steigt", "sinkt"),
        ("steigen", "sinken"), ("erlaubt", "verboten"), ("geöffnet", "geschlossen"), ("kostenlos", "kostenpflichtig"),
        ("immer", "nie"), ("möglich", "unmöglich"), ("innerhalb", "außerhalb"),
        ("inklusive", "exklusive"), ("nötig", "unnötig"), ("zulässig", "unzulässig"), ("gültig", "ungültig"),
    ),
})  # fmt: skip

COMMON: Final[Mapping[str, frozenset[str]]] = MappingProxyType({
    "en": frozenset({
        "the", "of", "and", "to", "in", "is", "that", "for", "was", "with", "as", "are", "by", "this", "from", "be",
        "were", "which", "or", "an", "have", "it",
    }),
    "de": frozenset({
        "der", "die", "und", "das", "den", "von", "zu", "mit", "ist", "des", "sich", "auf", "dem", "nicht", "ein",
        "eine", "als", "auch", "es", "im", "für",
    }),
})  # fmt: skip
"""The words of each language that no long text goes without."""
