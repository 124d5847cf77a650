"""What lyrics call their sections, in the languages that songs are commonly written in.

Owns the one table from names to kinds, for the readers of a model's answer and for the song's form.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Literal

__all__ = ["SectionKind", "header_of", "section_kind"]

SectionKind = Literal["verse", "chorus", "bridge", "intro", "outro"]

_NAMES: dict[SectionKind, str] = {
    "chorus": """chorus|refrain|hook|estribillo|coro|refrão|refrao|estribilho|ritornello|inciso|kehrreim|kehrvers|
        refräng|omkvæd|omkved|refreng|refrein|refren|refrén|kertosäe|refrään|piedziedājums|priedainis|nakarat|kórus|refrem|
        припев|приспів|приспев|рефрен|ρεφρέν|ρεφραίν|επωδός|サビ|ラストサビ|さび|コーラス|リフレイン|副歌|合唱|迭句|후렴|코러스|
        لازمة|اللازمة|كورس|الكورس|ترجیع|ترجیع‌بند|همخوانی|פזמון|मुखड़ा|कोरस|स्थायी|ท่อนฮุก|ท่อนสร้อย|สร้อย|ท่อนคอรัส|
        điệp khúc|reff|korus|tornada""",
    "verse": """verse|strophe|strofe|strofa|strofă|estrofa|verso|couplet|vers|versículo|quadra|stanza|vers|strof|
        säkeistö|versszak|versszaka|zwrotka|sloka|kıta|bait|dörtlük|куплет|строфа|стих|στροφή|κουπλέ|aメロ|bメロ|ヴァース|
        主歌|正歌|导歌|導歌|절|벌스|1절|2절|مقطع|المقطع|بيت|בית|अंतरा|ท่อน|ท่อนแรก|ท่อนเวิร์ส|lời|đoạn|pre-chorus|prechorus|
        pre chorus|pre-refrain|pre-coro|pre-estribillo|pré-refrão|pré-refrain|pre-ritornello|vorrefrain|pre-kehrreim|
        предприпев|передприспів|предкуплет|프리코러스|プレコーラス|teil|parte|part|partie|часть|1番|2番|3番|一番|二番|三番""",
    "bridge": """bridge|middle eight|middle 8|puente|brücke|bruecke|pont|ponte|stick|brygga|bro|brug|most|híd|köprü|
        c-del|mellemspil|бридж|мост|переход|міст|γέφυρα|ブリッジ|cメロ|dメロ|大サビ|桥段|橋段|间奏|브릿지|브리지|جسر|الجسر|
        גשר|ท่อนบริดจ์|ท่อนแยก|jembatan|cầu nối|interludio|interlude|interlúdio|zwischenspiel""",
    "intro": """intro|introducción|introduction|introduzione|introdução|einleitung|vorspiel|prélude|preludio|inledning|
        johdanto|wstęp|úvod|giriş|bevezető|вступление|интро|вступ|εισαγωγή|イントロ|前奏|인트로|مقدمة|المقدمة|פתיחה|भूमिका""",
    "outro": """outro|coda|ending|end|tag|final|finale|cierre|salida|conclusión|conclusion|conclusione|schluss|ausklang|
        nachspiel|avslutning|lopetus|zakończenie|závěr|bitiş|befejezés|концовка|аутро|кода|завершение|кінцівка|επίλογος|
        アウトロ|エンディング|尾奏|尾声|尾聲|结尾|結尾|아웃트로|خاتمة|الخاتمة|סיום|encerramento|desfecho""",
}
"""Kind → its names, in lower case."""

_KINDS = {name.strip(): kind for kind, names in _NAMES.items() for name in names.split("|")}
_ORDERED = sorted(_KINDS, key=len, reverse=True)

_NUMBER = r"(?:\d{1,2}|[ivx]{1,4}|[一二三四五六七八九十]|[①-⑨]|[a-d])"
_ORDINALS = (
    r"(?:erste[rs]?|zweite[rs]?|dritte[rs]?|letzte[rs]?|first|second|third|final|last|primer[ao]?|segund[ao]|últim[ao]"
    r"|premier|deuxième|dernier|перв\w+|втор\w+|последн\w+|第)"
)
_EVERYDAY = frozenset(
    ("end", "ending", "tag", "final", "finale", "part", "parte", "partie", "teil", "most", "bro", "bait")
)
"""Names that may also be a line of lyrics: a header only in brackets or with a colon."""

_OPEN, _CLOSE = r"[\[(（【〔<«「『*#＊＃_\s]*", r"[\])）】〕>»」』*#＊＃_:：.。\-–—\s]*"


@functools.lru_cache(maxsize=512)
def section_kind(name: str) -> SectionKind | None:
    """Return the kind of a section by its name, such as chorus for "Estribillo 2" or "サビ"; None if it is unknown.

    The longest name that the text has as a word decides, so that "Pre-Chorus" is a verse. Scripts without spaces need
    no word boundary.
    """
    plain = " ".join(unicodedata.normalize("NFKC", name).lower().split())
    for known in _ORDERED:
        if re.search(rf"(?<![^\W\d_]){re.escape(known)}(?![^\W\d_])", plain) or (known in plain and _is_dense(known)):
            return _KINDS[known]
    return None


def header_of(line: str) -> str | None:
    """Return the section's name if the line is nothing else: "**Chorus:**", "(Estribillo 2)", "【サビ】"; or None."""
    text = unicodedata.normalize("NFKC", line).strip()
    bracketed = re.fullmatch(r"\W*[\[【〔](.{1,40}?)[\]】〕]\W*", text)
    if bracketed:
        return bracketed[1].strip()
    bare = re.sub(rf"^{_OPEN}|\s*\([^)]{{1,16}}\){_CLOSE}$|{_CLOSE}$", "", text)
    if not bare or len(bare) > 40:
        return None
    times = r"\s*(?:[x×]\s?\d|\d\s?[x×])$"
    number = rf"\s*[.:°ªº]?\s*(?:(?<![^\W\d_]){_NUMBER}|\d{{1,2}})$|^{_NUMBER}[.)]\s*|{times}"
    words = re.sub(rf"^{_ORDINALS}\s*|{number}", "", bare.lower()).strip(" .:-")
    marked = len(text) - len(bare) > 1 or text.endswith((":", "："))
    known = words if words in _KINDS else bare.lower()
    return bare if known in _KINDS and (marked or known not in _EVERYDAY) else None


def _is_dense(name: str) -> bool:
    """Return whether the name is in a script that writes no spaces, so that it may touch other letters."""
    return len(name) > 1 and all(ord(character) >= 0x0E00 for character in name if character.isalpha())
