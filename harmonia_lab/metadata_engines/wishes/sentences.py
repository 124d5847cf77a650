"""Signs in sentences: where they end, what asks, what tells, what denies.

Owns the patterns and lists by which `reading.py` judges a sentence (not the words of music: `words.py`).
"""

from __future__ import annotations

import re

from harmonia_lab.metadata_engines.prompting.words import word_set

__all__ = [
    "BOUNDARY",
    "DETERMINERS",
    "ERRANDS",
    "NEGATORS",
    "NOT_PAST",
    "ONLY",
    "OWNERS",
    "PAST",
    "PLEASE",
    "REQUEST",
    "SEGMENT",
    "SENTENCE",
    "SOMEBODY",
    "SPEECH",
    "TOPIC",
    "TOPIC_WORDS",
    "UNNEGATED",
    "WORD",
]

SENTENCE = re.compile(r"(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)(?<!\b[ap]\.m)[.!?…。]+[\"”’»)]*(?=\s|$)|\n+")
"""Ends of sentences; not those of "Mr." and "a.m."."""

SEGMENT = re.compile(r"[,;()\[\]|—–=]|:(?=\s|$)|\s/\s|\s-\s")
"""What parts segments of a sentence."""

WORD = re.compile(r"\d+/\d+|\w+(?:['’]\w+)*|[&#♯♭+]")
"""Words and metres ("3/4")."""

TOPIC = word_set("about über sobre sur wherein regarding")
"""Words before what the song is about."""

BOUNDARY = word_set("for where who when that which because since to with as while für para pour")
"""Words before a purpose or a clause: "a jingle for a bakery"."""

DETERMINERS = word_set("a an the my our your his her their")
"""Articles and possessives."""

REQUEST = re.compile(
    r"(?:(?:so|and|but|also|then|ok|okay|hi|hello|hey|now|maybe|perhaps)\b,? ?)*"
    r"(?:please|pls|plz|kindly|bitte|por favor"
    r"|(?:can|could|would|will) (?:you|i|we|it|the)\b"
    r"|i(?:['’]d| would) (?:like|love|prefer|rather)|i(?:['’]m| am) (?:after|thinking|looking for|imagining)"
    r"|(?:i|we) (?:want|need|imagine|wish|don['’]t want|do not want)"
    r"|make|write|compose|create|generate|give me|give it|do (?:a|an|the|it|this)|set (?:it|this|to)"
    r"|turn (?:it|this)|sing (?:it|in|the)"
    r"|use|keep (?:it|the)|let (?:it|the|this)|put|add|avoid|leave out|don['’]t|do not"
    r"|play (?:it|this)|take it|slow it|speed it"
    r"|tell the story|fill|skip"
    r"|(?:the |its |my )?(?:song|music|tempo|key|mood|lyrics|vocals|style|genre|runtime|duration|length|text|words"
    r"|chorus|whole thing|meter|metre|time signature|beat|instruments?)"
    r" (?:should|must|has to|have to|needs?|ought|will)"
    r"|it(?:['’]s for| should| must| needs| has to)|this (?:one )?(?:is for|should|must)"
    r"|mach\b|kannst du|könntest du|schreib|ich (?:möchte|hätte|will|brauche)|es soll"
    r"|quiero|quisiera|escribe|haz|me gustaría|je (?:voudrais|veux|aimerais)|écris|fais)\b[ ,]*",
    re.IGNORECASE,
)
"""The beginning of a segment that asks for something."""

ERRANDS = word_set("use put add fill skip avoid leave don't do keep let take set turn make give play write")
"""Verbs of requests that stories use as well."""

PLEASE = re.compile(r"\b(?:please|pls|plz|bitte|por favor|thanks|s['’]il (?:vous|te) pla[iî]t)\b", re.IGNORECASE)
"""Words that make a sentence a request."""

SPEECH = re.compile(
    r"[\"“„«]|\b(?:said|says|cried|shouted|laughed|whispered|asked|told|replied|shouts|sagte|rief|dijo|dit)\b",
    re.IGNORECASE,
)
"""Signs that somebody in the story speaks."""

PAST = word_set("""
    was were had came went ran left sat lay fell rose took gave sold met knew found lost broke hung stood kept
    drove caught blew carried married spoke rang slept swam could did got grew held hid hit heard made
    paid saw shot shook sent spent swept taught thought threw told wept woke won wore played sings began
""")
"""Verbs of stories in the past, beside those that end in -ed."""

SOMEBODY = word_set("he she they we nobody everybody everyone somebody someone er sie il elle él ella")
"""Subjects of sentences that tell."""

OWNERS = word_set("my your his her its our their he she we they you who a an the")
"""Words that make the next ones a thing of the story."""

NOT_PAST = word_set("muted distorted sampled brushed fingerpicked drenched relaxed laid tuned whispered")
"""Words in -ed that describe sounds."""

NEGATORS = word_set("""
    no not without don't don’t never avoid leave skip instead ohne sin sans senza kein keine keinen neither nor
""")
"""Words that deny the next ones."""

UNNEGATED = word_set("just only but with")
"""Words that end a negation."""

ONLY = word_set("""
    only just solo nur seulement uniquement sólo solamente soltanto unaccompanied alone
""")
"""Words that leave out all other instruments."""

TOPIC_WORDS = re.compile(
    r"[\s,;:.!?()\[\]|/–—-]*"
    r"(?:(?:and|but|so|because|since|as|about|über|sobre|sur|it['’]s|it is|this is|that is) )*",
    re.IGNORECASE,
)
"""What stands between a wish and what the song is about."""
