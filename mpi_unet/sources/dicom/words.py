r"""What people write into descriptions of heart studies: rest, stress, planes, corrections, in five languages.

A *table* maps a name to patterns. Before a pattern is looked for, a text is brought into one form: small letters, no
accents, ``RestAC`` as two words, everything but letters and digits a blank. A pattern must cover whole words; a digit
beside it does not count. Where one pattern covers a part of what another one covers, the longer one counts: ``no ac``
is not ``ac``.

A word with a denial before it ("no stress", "ohne Belastung") says nothing that can be relied on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from mpi_unet.errors import CohortError, listing

__all__ = ["PATTERNS", "UNCLEAR", "Table", "check_patterns", "names_in", "plain_words"]

Table = Mapping[str, Sequence[str]]
"""Name to the patterns that stand for it."""

UNCLEAR = "?"
"""Stands among the names in a text when a denial makes it unclear."""

DENIALS = r"no|non|not|without|ohne|keine?|sans|sin|senza|pre"

PATTERNS: Mapping[str, Table] = MappingProxyType(
    {
        "acquisition": {
            "rest": ["rest(ing)?", "rst", "rgate", "ruhe[a-z]*", "repos", "reposo", "riposo", "repouso"],
            "stress": [
                "stress(ed)?",
                "str(s|ss)?",
                "sgate",
                "belastung[a-z]*",
                "effort",
                "esfuerzo",
                "ejercicio",
                "esforco",
                "sforzo",
                "exercise",
                "exer",
                "ergometr[a-z]*",
                "treadmill",
                "bruce",
                "adenos[a-z]*",
                "dobutami[a-z]*",
                "d[iy]p[iy]ridamol[a-z]*",
                "persantin[a-z]*",
                "regadenos[a-z]*",
                "lexiscan",
                "rapiscan",
                "vasodilat[a-z]*",
                "pharmacolog[a-z]*",
            ],
            "redistribution": ["redist[a-z]*", "umverteilung[a-z]*"],
        },
        "plane": {
            "short_axis": [
                "sa",
                "sax",
                "short( ?ax(is|es)?)?",
                "kurz[a-z]* ?achs[a-z]*",
                "petit axe",
                "eje corto",
                "asse corto",
            ],
            "horizontal_long_axis": [
                "hla",
                "hlax",
                "h(or[a-z]*)? ?long ?ax(is|es)?",
                "horizontal[a-z]* lang[a-z]* ?achs[a-z]*",
                "(grand axe|eje largo) horizontal",
                "asse lungo orizzontale",
            ],
            "vertical_long_axis": [
                "vla",
                "vlax",
                "v(ert[a-z]*)? ?long ?ax(is|es)?",
                "vertikale? lang[a-z]* ?achs[a-z]*",
                "(grand axe|eje largo) vertical",
                "asse lungo verticale",
            ],
            "long_axis": ["lax", "long ?ax(is|es)?", "lang[a-z]* ?achs[a-z]*", "grand axe", "eje largo", "asse lungo"],
            "transaxial": ["trans ?axial[a-z]*", "trans ?vers[a-z]*", "axial[a-z]*", "tra", "trans"],
            "coronal": ["coronal[a-z]*", "koronar[a-z]*", "frontal[a-z]*"],
            "sagittal": ["sagit+al[a-z]*", "sag"],
            "reoriented": ["reor[a-z]*", "reformat[a-z]*", "obl(iques?)?", "oblicu[a-z]*", "obliqu[a-z]*"],
        },
        "attenuation_corrected": {
            "yes": [
                "ac",
                "ac ?sc",
                "attc?",
                "ct ?ac",
                "irac",
                "ac ?rr",
                "atten[a-z]* corr[a-z]*",
                "schwae?chungskorr[a-z]*",
                "correct[a-z]* (de l |d )attenuation",
                "correccion de atenuacion",
                "correzione (dell |di )attenuazione",
            ],
            "no": [
                "nac",
                "nc",
                "(no|non|without|ohne|sans|sin|senza) ?ac",
                "(no|non|not|without) atten[a-z]*( corr[a-z]*)?",
                "irnc",
                "uncorr[a-z]*",
                "(no|non|not) corr[a-z]*",
                "unkorr[a-z]*",
                "ohne schwae?chungskorr[a-z]*",
                "sans correct[a-z]*( (de l |d )attenuation)?",
                "sin correccion( de atenuacion)?",
                "senza correzione( (dell |di )attenuazione)?",
            ],
        },
        "left_out": {
            "an attenuation map": ["(mu|u) ?map[a-z]*", "atten[a-z]* map[a-z]*", "transmission[a-z]*"],
            "another organ": [
                "bones?",
                "knochen[a-z]*",
                "skelett?[a-z]*",
                "skeletal",
                "oss(euse?|ea)",
                "hueso",
                "brain",
                "hirn[a-z]*",
                "cerebr[a-z]*",
                "datscan",
                "lungs?",
                "lungen[a-z]*",
                "pulmon[a-z]*",
                "poumons?",
                "polmon[a-z]*",
                "v ?q",
                "ventila[a-z]*",
                "technegas",
                "aerosol[a-z]*",
                "paratiroid[a-z]*",
                "tiroid[a-z]*",
                "parathyr[a-z]*",
                "thyro?id[a-z]*",
                "(neben)?schilddrue?se[a-z]*",
                "renal",
                "kidneys?",
                "niere[a-z]*",
                "liver",
                "hepat[a-z]*",
                "octreo[a-z]*",
                "sentinel[a-z]*",
            ],
        },
        "heart": {
            "heart": [
                "heart",
                "card(?!iolite|iogen)[a-z]*",
                "myo(?!view)[a-z]*",
                "mio[a-z]*",
                "mpi",
                "mps",
                "herz[a-z]*",
                "coeur",
                "corazon",
                "cuore",
                "coronary",
                "ventric[a-z]*",
                "lv",
                "vg",
                "vi",
            ],
        },
        "iterative": {
            "iterative": [
                "osem[a-z]*",
                "mlem",
                "iter[a-z]*",
                "evolution",
                "flash ?3d",
                "astonish",
                "ir",
                "irac",
                "irnc",
            ]
        },
    }
)
"""What is looked for by default, in the words of English, German, French, Spanish and Italian descriptions."""


def plain_words(text: str) -> str:
    r"""A text in the form in which patterns are looked for.

    Example:
        >>> plain_words("ReconRest_SA; Schw\xe4chungskorrektur")
        'recon rest sa schwachungskorrektur'
    """
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    text = unicodedata.normalize("NFKD", text)
    text = "".join(letter for letter in text if not unicodedata.combining(letter))
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def names_in(text: str, table: Table) -> set[str]:
    """The names of a table whose patterns stand in a text; `UNCLEAR` among them when one of them is denied.

    Args:
        text: As written by people.
        table: Name to patterns.

    Example:
        >>> table = {"rest": ["rest", "ruhe"], "stress": ["stress"]}
        >>> names_in("REST_gated", table), sorted(names_in("rest/stress", table)), names_in("restored", table)
        ({'rest'}, ['rest', 'stress'], set())
        >>> sorted(names_in("no stress", table))
        ['?', 'stress']
    """
    words = plain_words(text)
    found: list[tuple[int, int, str]] = []
    for name, patterns in table.items():
        for pattern in patterns:
            whole = re.compile(rf"(?<![a-z])(?:{pattern})(?![a-z])")
            found += [(*match.span(), name) for match in whole.finditer(words) if match.group()]
    names = {name for start, end, name in found if not any(_covers(other, (start, end, name)) for other in found)}
    if any(re.search(rf"(?<![a-z])(?:{DENIALS}) $", words[:start]) for start, _, name in found if name in names):
        names.add(UNCLEAR)
    return names


def check_patterns(patterns: Mapping[str, Table]) -> None:
    """Check a table of patterns that a user gave.

    Raises:
        CohortError: A table is not known, or a pattern is no regular expression; all of them in one error.
    """
    problems = [
        f"source.patterns.{table}: no such table; there are {', '.join(PATTERNS)}"
        for table in patterns
        if table not in PATTERNS
    ]
    for table, names in patterns.items():
        for name, expressions in names.items():
            for expression in expressions:
                try:
                    re.compile(expression)
                except re.error as error:
                    problems.append(
                        f"source.patterns.{table}.{name}: {expression!r} is no regular expression ({error})"
                    )
    if problems:
        raise CohortError(f"These patterns cannot be used:\n{listing(problems)}\nCorrect them")


def _covers(other: tuple[int, int, str], one: tuple[int, int, str]) -> bool:
    """Whether a longer match of another name holds this one."""
    is_longer = other[1] - other[0] > one[1] - one[0]
    return other[2] != one[2] and other[0] <= one[0] and one[1] <= other[1] and is_longer
