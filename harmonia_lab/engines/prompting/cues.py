"""Words of a story that point to a genre or a mood: a small, readable lexicon beside the language model's judgement.

Owns the lists. How much they count against the model's scores is decided, and measured, in `labels.py`. The words are
ours, chosen for settings, instruments and feelings; they are compared by stem.
"""

from __future__ import annotations

from collections.abc import Mapping

from harmonia_lab.engines.prompting.wording import stem

__all__ = ["GENRE_CUES", "MOODS_OF_GENRE", "MOOD_CUES"]


def _stems(words: str) -> frozenset[str]:
    return frozenset(stem(word) for word in words.split())


GENRE_CUES: Mapping[str, frozenset[str]] = {
    genre: _stems(words)
    for genre, words in {
        "pop": "party summer kiss crush phone dance heart birthday school weekend radio boyfriend girlfriend teenager lipstick selfie",
        "rock": "guitar loud scream shout engine motorbike motorcycle highway race stadium rebel fist rage riot drums leather fire band",
        "folk": "village barn fiddle harvest grandmother grandfather river mill shepherd orchard fisherman sailor lighthouse hills lamb"
        " bread letters meadow basket garden valley farm market campfire wooden apple",
        "country": "ranch cowboy truck pickup horse whiskey prairie saddle rodeo tractor porch boots county dusty texas tennessee"
        " nashville cattle barn trailer",
        "jazz": "saxophone trumpet club midnight cocktail smoky taxi harlem paris cabaret martini jazz swing piano hotel bar",
        "blues": "blues devil crossroads mississippi whiskey broke prison delta harmonica freight widow gin jail memphis chicago trouble",
        "soul": "church choir gospel wedding prayer mama preacher faith heaven amen congregation hallelujah detroit sunday",
        "electronic": "neon robot laser machine computer digital synth circuit data screen android signal cyber rave electric code"
        " satellite warehouse strobe",
        "house": "club dj bass floor disco beat warehouse party sunrise dancefloor strobe ibiza nightclub",
        "ambient": "silence quiet ice snow drift space orbit stars ocean whale sleep mist cloud glacier still moon float antarctica lake breath",
        "hip hop": "block bronx street hustle corner brooklyn court basketball rap compton police graffiti projects hood sneakers mic beatbox"
        " gym boxing boxer ghetto",
        "classical": "palace orchestra violin symphony ballet prince queen museum opera monk temple cathedral candle concert composer requiem",
        "indie": "mixtape tape apartment flat vinyl polaroid bicycle coffee cinema rooftop diary suburb nineteen library",
        "metal": "war blood demon hell skull chains grave black burn crush dragon witch steel scream death battle slaughter storm sword"
        " dungeon",
        "bossa nova": "rio beach brazil copacabana ipanema samba lisbon palm breeze hammock portuguese sand terrace caipirinha",
        "reggae": "jamaica jamaican island kingston caribbean rasta reggae dub coconut babylon zion",
        "waltz": "waltz ballroom vienna carousel gown prince carnival masquerade waltzed blossoms danube",
        "cinematic": "kingdom king army battle empire dragon ship desert hero quest forest ghost spy castle ruins planet storm galaxy"
        " knight bells hooded mystery spaceship legend shadow fog",
    }.items()
}

MOOD_CUES: Mapping[str, frozenset[str]] = {
    mood: _stems(words)
    for mood, words in {
        "joyful": "laugh laughter celebrate birthday feast harvest happy joy cheer smile sing wedding dance party merry festival delight",
        "hopeful": "hope spring rebuild tomorrow first cure healed again begin dream light bloom grow open new seed promise recover",
        "romantic": "love kiss lover married honeymoon bride romance embrace rose sweetheart valentine beloved waltz",
        "peaceful": "peace quiet garden sunrise temple still meadow snow lake asleep gentle silence breeze monk",
        "calm": "calm slow drift rest hammock breathe quiet soft evening still water shade tea float",
        "playful": "cat mice dog trick funny silly joke giggle chase toy clown tease monkey puppy circus prank play",
        "triumphant": "win won winner victory champion cup final crown gold medal beat triumph conquer crowd goal trophy summit",
        "energetic": "race jump run fast beat bass drums party speed engine laser jumping sweat festival sprint train boxing dance",
        "epic": "king army dragon knight battle sword empire kingdom storm hero ships mountain banner legend quest giant war thousand",
        "dreamy": "dream sleep cloud float stars moon drift glass silver lullaby sky whale wonder glow",
        "nostalgic": "remember memory grandfather grandmother childhood old photograph letters years summer youth once tape recall used"
        " attic album",
        "bittersweet": "goodbye leave farewell letters years last smile tears memory blossoms autumn moved sold station part",
        "melancholic": "rain alone empty gone autumn grey november faded tired lost lonely widow station forgotten cold",
        "sad": "died death cry tears funeral buried grave grief mourn lost hospital goodbye broken weep sorrow",
        "lonely": "alone lonely nobody empty silent stray solitary single night abandoned lost loneliness isolated hermit",
        "mysterious": "secret strange whisper door ghost forest sign vanish unknown bells fog mystery hidden hooded lantern shadow riddle",
        "tense": "footsteps knife follow chase guard bomb hide wire danger breath spy escape seconds panic afraid alarm locked hunt",
        "dark": "blood dark black shadow grave death dead witch demon night evil ruin burn curse scream devil hooded",
        "angry": "rage anger angry lie lied hate smash fist scream shout revenge betray fury riot burn fight break stole silence",
        "tender": "baby newborn mother hand hold gentle child lullaby soft care warm cradle daughter blanket hug tiny",
    }.items()
}

MOODS_OF_GENRE: Mapping[str, frozenset[str]] = {
    genre: frozenset(moods.split())
    for genre, moods in {
        "pop": "joyful hopeful playful energetic romantic",
        "rock": "energetic angry triumphant tense",
        "folk": "nostalgic bittersweet tender hopeful joyful melancholic",
        "country": "nostalgic bittersweet sad joyful hopeful",
        "jazz": "romantic lonely playful calm melancholic",
        "blues": "sad lonely melancholic",
        "soul": "romantic hopeful joyful tender",
        "electronic": "energetic dreamy tense joyful",
        "house": "energetic joyful",
        "ambient": "calm peaceful dreamy lonely mysterious",
        "hip hop": "triumphant angry energetic hopeful",
        "classical": "peaceful calm tender sad melancholic triumphant",
        "indie": "nostalgic bittersweet lonely dreamy melancholic",
        "metal": "angry dark tense epic",
        "bossa nova": "romantic calm peaceful",
        "reggae": "calm joyful peaceful",
        "waltz": "romantic tender nostalgic",
        "cinematic": "epic mysterious tense dark triumphant",
    }.items()
}
"""Which moods a genre is at home in: it tips the balance between genres that the story leaves open."""
