"""The words that wishes are made of: tempo, mood, genre, instruments, voice, humour, audience, and what stands between.

Owns the tables (not figures, keys and languages: `figures.py`, nor when a word is a wish: `reading.py`). Italian tempo
terms in the usual order of handbooks (largo, adagio, andante, allegro, presto). Genres are those of
`music.genres.nearest_genre`; instruments those of `protocol.vocabulary`, and well-known others that no engine here has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from harmonia_lab.protocol.vocabulary import INSTRUMENTS, MOODS

__all__ = ["FILLERS", "FOREIGN_GLUE", "GLUE", "HEADS", "OTHER_GENRES", "OTHER_INSTRUMENTS", "LULLABY", "PHRASES", "SLOW_SONGS", "Phrase"]


class Phrase(NamedTuple):
    """field, value: as in a `Wish`. plain: a word of everyday language, which alone proves nothing. noun: it can be
    what is asked for ("a waltz"), not only describe it ("slow")."""

    field: str
    value: str
    plain: bool
    noun: bool


def _table(field: str, rows: str, *, plain: bool = False, noun: bool = False) -> dict[str, Phrase]:
    """rows: lines such as "value: phrase, phrase"; a line without a colon is a list of values."""
    found = {}
    for row in filter(None, map(str.strip, rows.splitlines())):
        value, colon, phrases = row.partition(": ")
        for phrase in (phrases if colon else row).split(", "):
            found[phrase] = Phrase(field, value if colon else phrase, plain, noun)
    return found


_TEMPO = """
very slow: very slow, really slow, extremely slow, very slowly, muy lenta, muy lento, très lente, très lent, sehr langsam
slow: slow, slower, slow tempo, low tempo, slow jam, slow it down, langsam, langsames, langsamer, langsame, lento, lenta, lent, lente
moderate: mid-tempo, mid tempo, midtempo, medium tempo, moderate, moderate tempo, moderately fast, medium
fast: fast, faster, quick, uptempo, up-tempo, up tempo, high tempo, fast-paced, quick tempo, schnell, schnelles, schneller, schnelle, rápida, rápido, rapide, speedy
very fast: very fast, really fast, super fast, extremely fast, blistering, breakneck, sehr schnell, muy rápido, muy rápida, très rapide
not fast: not too fast, not so fast, not fast, nothing fast, do not hurry, don't hurry, don't rush, no rush, unhurried
not slow: not too slow, not so slow, not slow, nothing slow
"""
_ITALIAN = """
very slow: largo, grave, larghissimo, molto lento, molto adagio
slow: adagio, larghetto, lentamente
moderate: andante, andantino, moderato, andante con moto, allegretto
fast: allegro, vivace, allegro con brio
very fast: presto, prestissimo, vivacissimo
"""
_MOODS = """
joyful: happy, cheerful, joyful, joyous, merry, jolly, feel-good, glad, fröhlich, fröhliches, lustvoll, alegre, joyeuse, joyeux, gioioso, allegra
hopeful: hopeful, uplifting, optimistic, encouraging
romantic: romantic, romantisch, romántica, romantique
peaceful: peaceful, serene, tranquil, meditative, meditation, friedlich
calm: calm, relaxing, relaxed, chill, soothing, mellow, calming, ruhig, ruhiges, tranquila, calme, laid-back, laid back
playful: playful, quirky, whimsical, mischievous
triumphant: triumphant, victorious, heroic
energetic: energetic, upbeat, high-energy, high energy, energetisch
epic: epic, grandiose, majestic
dreamy: dreamy, ethereal, verträumt, dreamlike
nostalgic: nostalgic, wistful, nostálgica, nostalgique, nostalgisch
bittersweet: bittersweet
melancholic: melancholic, melancholy, melancólica, mélancolique, melancholisch, pensive
sad: sad, mournful, sorrowful, heartbreaking, sadder, traurig, trauriges, triste, tearful
lonely: lonely
mysterious: mysterious, spooky, eerie, haunting, creepy
tense: tense, suspenseful, nervous
dark: dark, gloomy, sinister, ominous, brooding
angry: angry, aggressive, furious
tender: tender, gentle, zärtlich
"""
_HUMOUR = """
funny: funny, humorous, silly, comic, comical, comedy, hilarious, goofy, witty, parody, make me laugh, make him giggle, make her giggle, make them laugh, humour, humor, joke song, lustig, lustige, lustiges, witzig, divertida, divertido, graciosa, drôle, rigolote, buffo
"""
_AUDIENCE = """
child: children, children's, for children, kids, kid, for a kid, kids', kid's, for kids, toddlers, toddler, preschoolers, babies, for a child, nursery rhyme, nursery, kindergarten, second graders, first graders, kid-friendly, child-friendly, infantil, kinder, kinderlied, pour enfants, enfants, para niños, bedtime, newborn
"""
_GENRES_SURE = """
rock: punk, pop punk, grunge, indie rock anthem, folk rock, soft rock, garage rock, hard rock, prog rock, progressive rock, post-rock, post rock, post punk, post-punk, gothic rock, goth rock, surf rock, yacht rock, classic rock, rock and roll, rock'n'roll, rockabilly, rock ballad, power ballad, rocklied, rocksong, punk rock, pop rock, alternative rock, stoner rock, psychedelic rock
metal: thrash metal, heavy metal, death metal, black metal, doom metal, power metal, metalcore, thrash, nu metal, djent, folk metal, symphonic metal
folk: folk rock ballad, celtic, celtic folk, indie folk, sea shanty, shanty, singer-songwriter, irish folk, folk song, folklore, world music, klezmer folk, americana folk, acoustic folk, folksong, volkslied, medieval
country: country ballad, bluegrass, americana, honky tonk, honky-tonk, alt-country, alt country, outlaw country, country song, country music, country tune, country rock
jazz: jazz, bebop, big band, ragtime, dixieland, acid jazz, smooth jazz, swing jazz, gypsy jazz, jazz ballad, free jazz, lounge jazz, new orleans jazz, cool jazz
blues: delta blues, twelve-bar blues, 12-bar blues, chicago blues, electric blues, boogie-woogie, blues rock song
soul: r&b, rnb, motown, gospel, neo-soul, neo soul, doo-wop, doo wop, funk, soul song, soul music, rhythm and blues
electronic: synthwave, synthpop, synth-pop, synth pop, edm, electronica, electronic, dubstep, drum and bass, drum & bass, dnb, chiptune, happy hardcore, vaporwave, retrowave, electropop, electro, breakbeat, downtempo, idm, 8-bit, future bass
house: techno, deep house, tech house, trance, disco, melodic techno, minimal techno, house music, club music, eurodance, progressive house, house track, dance music, nu-disco
hip hop: hip hop, hip-hop, hiphop, boom bap, trap beat, trip hop, trip-hop, lofi, lo-fi, lofi hip hop, lo-fi hip hop, drill beat, trap music, phonk
ambient: dark ambient, ambient music, drone ambient, new age, new-age
classical: opera, sonata, concerto, neoclassical, neo-classical, baroque, chamber music, indian classical, classical music, string quartet piece, symphony, opera aria, aria, requiem
indie: indie rock, shoegaze, dream pop, dreampop, bedroom pop, chillwave, emo
bossa nova: bossa nova, bossa, samba, salsa, tango, rumba, latin jazz, mpb
reggae: reggae, reggaeton, ska, dancehall, rocksteady, calypso
waltz: waltz, valse, vals, walzer, valzer, jazz waltz
cinematic: cinematic, orchestral, film score, soundtrack, trailer music, film music, movie score, orchestral trailer music
pop: k-pop, kpop, j-pop, jpop, city pop, indie pop, teen pop, power pop, pop song, pop track, pop ballad, popsong
"""
_LULLABIES = "lullaby, wiegenlied, schlaflied, berceuse, canción de cuna, ninna nanna"
_BALLADS = "ballad, balada, ballade, slow jam"
LULLABY = "lullaby"
"""A genre only where no other is named."""

SLOW_SONGS = frozenset("ballad balada ballade lullaby wiegenlied schlaflied berceuse cuna".split())
"""Songs that are slow by their nature."""

_GENRES_PLAIN = """
rock, folk, country, soul, house, ambient, classical, indie, metal, pop, blues
hip hop: trap, rap beat
folk: shanties, reel, jig music
jazz: swing
ambient: drone
"""
_IDIOMS = (
    "happy ending, happy endings, happy birthday, folk tale, folk tales, rock climber, rock bottom, soul mate, country house, "
    "swing set, trap door, rap sheet, bad rap, organ donor, second fiddle, slow cooker, fast food, fast asleep, fast lane, "
    "quick question, funny bone, dark chocolate, old folk, old folks, heavy metals, jazz hands, jazz club, house of cards, "
    "no time, pop up, rock star, rock stars, drum roll, baby blues, no strings attached"
)
"""Phrases of words of music that are none."""

OTHER_GENRES: Mapping[str, str] = {
    "flamenco": "folk", "polka": "folk", "mariachi": "folk", "afrobeat": "soul", "gregorian chant": "ambient",
    "cumbia": "bossa nova", "bollywood": "pop", "fado": "folk", "klezmer": "folk", "barbershop": "jazz",
    "mazurka": "waltz", "zydeco": "country", "bhangra": "electronic", "schlager": "pop", "merengue": "bossa nova",
    "bachata": "bossa nova", "gamelan": "ambient", "raï": "pop", "enka": "folk", "qawwali": "folk",
}  # fmt: skip
"""Genres that no engine here has, each with the one that is played instead."""

OTHER_INSTRUMENTS: Mapping[str, str] = {
    "ukulele": "nylon guitar", "mandolin": "nylon guitar", "lute": "nylon guitar", "oud": "nylon guitar",
    "bouzouki": "nylon guitar", "balalaika": "nylon guitar", "cavaquinho": "nylon guitar", "charango": "nylon guitar",
    "guitarrón": "nylon guitar", "bandura": "harp", "pipa": "banjo", "koto": "harp", "guzheng": "harp", "shamisen": "banjo",
    "erhu": "violin", "viola": "cello", "tanpura": "synth pad", "sarod": "sitar", "monochord": "sitar", "zither": "harp",
    "kora": "harp", "dulcimer": "harp", "hammered dulcimer": "harp", "lyre": "harp", "cimbalom": "harpsichord",
    "theremin": "synth lead", "bagpipes": "oboe", "bagpipe": "oboe", "hurdy-gurdy": "accordion", "bandoneon": "accordion",
    "bandoneón": "accordion", "concertina": "accordion", "harmonium": "organ", "melodica": "harmonica",
    "tin whistle": "flute", "recorder": "flute", "piccolo": "flute", "ocarina": "pan flute", "shakuhachi": "pan flute",
    "duduk": "clarinet", "bassoon": "clarinet", "english horn": "oboe", "cor anglais": "oboe", "kazoo": "harmonica",
    "tuba": "trombone", "bugle": "trumpet", "cornet": "trumpet", "flugelhorn": "trumpet", "didgeridoo": "synth bass",
    "xylophone": "marimba", "glockenspiel": "music box", "celesta": "music box", "steel drums": "marimba",
    "steelpan": "marimba", "tubular bells": "vibraphone", "bells": "music box", "sleigh bells": "music box",
    "handbells": "music box", "slide guitar": "electric guitar", "steel guitar": "electric guitar",
    "pedal steel": "electric guitar", "lap steel": "electric guitar", "shaker": "", "tambourine": "", "claps": "",
    "congas": "", "bongos": "", "tabla": "", "djembe": "", "bodhrán": "", "cajon": "", "cajón": "", "taiko": "", "talking drum": "", "timpani": "",
    "castanets": "", "maracas": "", "cowbell": "", "triangle": "", "gong": "", "turntables": "",
}  # fmt: skip
"""Instruments that no engine here has, each with the nearest one that there is; empty: percussion, for which drums play."""

_INSTRUMENT_PHRASES = """
acoustic guitar: guitar, guitars, acoustic guitars, fingerpicked guitar, guitare, guitarra, gitarre, chitarra, steel-string guitar, akustikgitarre, guitarra acústica
nylon guitar: nylon-string guitar, classical guitar, spanish guitar, guitarra española, flamenco guitar, nylon guitars
electric guitar: electric guitars, wah guitar, clean guitar, e-gitarre, guitarra eléctrica, guitare électrique, twangy guitar, electric guitar solo
distorted guitar: distorted guitars, loud guitars, heavy guitars, overdriven guitars, crunchy guitars, fuzz guitar, distortion guitar, verzerrte gitarre, verzerrte gitarren, guitare saturée
piano: pianos, klavier, pianoforte, grand piano, upright piano
electric piano: rhodes, wurlitzer, keyboard, keyboards, e-piano
harpsichord: cembalo, clavecín, clavecin
music box: spieluhr
organ: hammond, hammond organ, pipe organ, church organ, orgel, órgano, orgue, organs
accordion: akkordeon, acordeón, accordéon, accordions
harmonica: mundharmonika, armónica, blues harp
violin: fiddle, violins, fiddles, geige, violín, violon, violino
cello: cellos, violoncello, violonchelo, violoncelle, celli, chelo
double bass: upright bass, contrabass, kontrabass, contrabajo, contrebasse, standup bass, acoustic bass
bass guitar: bass, slap bass, electric bass, e-bass, bajo
synth bass: moog bass, synth basses, sub bass, 303 bass
harp: harfe, arpa, harpe, harps
strings: string section, string quartet, streicher, cuerdas, cordes, archi, orchestra, string orchestra
choir: choirs, chor, coro, chorale, children's choir, male choir, women's choir
trumpet: trumpets, trompete, trompeta, trompetas, trompette, tromba, muted trumpet
trombone: trombones, posaune
french horn: french horns
brass: horns, horn section, brass section, low brass, brass band, bläser, metales, cuivres
saxophone: sax, saxophones, saxes, saxofon, saxofón, tenor sax, alto sax
oboe: oboes
clarinet: clarinets, klarinette, clarinete, clarinette
flute: flutes, flöte, flauta, flûte, flauto
pan flute: panpipes, pan pipes, panflöte
synth lead: lead synth
synth pad: pads, pad, synth, synths, synthesizer, synthesizers, synthesiser, analog synths, synth pads, analog synth
banjo: banjos
drums: drum, percussion, drum kit, drumset, drum set, schlagzeug, trommeln, batería, batterie, snare, tambores, percussions
brush kit: brushes, brushed drums, soft brushes
drum machine: 808, 808s, drum machines, 808 drums
marimba: marimbas
vibraphone: vibes, vibraphon
sitar: sitars
kalimba: kalimbas, thumb piano
"""
_PERCUSSION_PHRASES = """
claps: handclaps, hand claps, clapping
congas: conga
bongos: bongo
taiko: taikos, taiko drums
bodhrán: bodhran
"""
_VOICES = """
female: female voice, female vocal, female vocals, female singer, female lead vocal, female lead, female soprano, female vocal chops, female whisper vocals, soprano, girl group vocals, sung by a woman, women's voices, woman's voice, frauenstimme, voz femenina, voix féminine, female choir voice, female-fronted
male: male voice, male vocal, male vocals, male singer, male lead, male tenor, male voices, tenor voice, baritone voice, baritone guy, baritone, tenor, sung by a man, man's voice, men's voices, männerstimme, voz masculina, voix masculine, four guys
child: kids singing, children singing, child's voice, children's voices, kids' voices
duet: duet, duett, dúo, dueto
rap: rap, rapped, rapping, rap song
spoken: spoken word, spoken, narrated
a cappella: a cappella, acapella, a capella, acappella
instrumental: instrumental, instrumentals, instrumentale, no vocals, no vocal, no singing, no lyrics, no words, no voice, no voices, without vocals, without lyrics, without words, without singing, without voice, no singer, just music, ohne gesang, ohne text, sin voz, sin letra, sans paroles, sans voix, senza voce, no vox
"""

HEADS = frozenset(
    "song songs tune track piece music ballad jingle beat beats version anthem theme number lullaby soundtrack score "
    "melody composition arrangement groove jam rhyme rap hymn march dirge lament fanfare sting intro loop ditty bop ad "
    "lied stück letra canción cancion tema balada chanson morceau canzone brano lyrics lyric duet mood tempo key genre style "
    "instruments duration length instrumental sound reel minuet jig dance chorus carol serenade nocturne berceuse opera "
    "wiegenlied melodie level video reel outro underscore vibe".split()
)
"""What one asks for: with words of the tables before it, it begins a wish. Lower case."""

FILLERS = frozenset(
    "soft loud heavy warm bright deep raw smooth catchy gritty hypnotic dramatic passionate lively bouncy light positive "
    "corporate sparse sunny groovy worn jazzy bluesy acoustic unplugged organic analog vintage retro modern classic "
    "old-school old school lush big tight low high simple easy minimal driving rhythmic melodic lilting tuned reverb "
    "drenched muted distorted clean crunchy twangy weepy bassy liquid vinyl crackle samples sampled loopable club party "
    "festival double kick drop walls sound sounding offbeat hats hat shuffle feel slide groove vibe rhythm section "
    "chords chord arpeggios arpeggiated arpeggio melody riff riffs solo solos loop beat beats tones tone notes note "
    "harmony harmonies vocals vocal voice voices lead singer singing sung sing words lyrics text trio duo quartet band "
    "player plays play playing played style type kind genre key tempo bpm time signature meter metre scale mode length "
    "long short duration runtime seconds minutes minute second tops exactly about around approximately roughly "
    "background live studio lo hi late night happy-go-lucky seventies sixties eighties nineties 60s 70s 80s 90s 1980s "
    "1990s 50s autotune electric instruments instrument ensemble end ending start intro outro build builds buildup fade "
    "stuff feeling mood moods atmosphere atmospheric otherworldly nordic western eastern wild hollow twang airy dreamlike "
    "whispered whisper breathy descending ascending run runs keeps steady pulse pace breathing long-held held half-time "
    "halftime four-on-the-floor floor campfire dance nice fun new traditional world modern contemporary straight odd "
    "begin begins first then love wedding christmas birthday sweet last lasts lasting enough raga lead comforting bombastic "
    "marching slow-burning lullaby groovy funky jangly fuzzy punchy rich full quiet subtle leise kind-of".split()
)
"""Words that describe music without being a wish that we can follow. Lower case."""

GLUE = frozenset(
    "a an the in with and or of for at by on to from as is be but no not without only just solo very really quite so "
    "nothing else some any lots lot plus & + x my it its it's this that like something anything please pls plz thanks "
    "thank you style-wise over under i i'd i'll want would love like need prefer make made write give me us can could "
    "should must have has do don't does use using add keep let put set sing play all also too more most less than much "
    "bit little maybe perhaps ideally around approx ca c one two three four main please! featuring feat ft w/ into "
    "between if possible possibly through mostly mainly entirely whole thing both set create compose generate may might "
    "need needs will shall avoid leave out hear rather there here go goes get though instead ".split()
)
FOREIGN_GLUE = frozenset(
    "ein eine einen einer ein es soll das der die den dem und mit auf in ohne nur bitte als für werden wird im zu sehr "
    "etwa lang leise mach machen kannst du takt text sprache "
    "una un uno en con sin y por favor para la el los las de del que sea muy solo sólo letra quiero quisiera unas unos "
    "escribe canción alegre "
    "une un en avec sans et s'il vous plaît pour la le les des du au à très seulement paroles je voudrais environ "
    "il lo con senza e per in solo".split()
)


PHRASES: dict[str, Phrase] = {
    **_table("mood", ", ".join(MOODS), plain=True),
    **_table("mood", _MOODS, plain=True),
    **_table("tempo", _TEMPO, plain=True),
    **_table("tempo", _ITALIAN, plain=True, noun=True),
    **_table("humour", _HUMOUR, plain=True),
    **_table("audience", _AUDIENCE, plain=True),
    **_table("instruments", ", ".join(INSTRUMENTS), plain=True, noun=True),
    **_table("instruments", _INSTRUMENT_PHRASES, plain=True, noun=True),
    **{name: Phrase("instruments", name, True, True) for name in OTHER_INSTRUMENTS},
    **{f"{name}s": Phrase("instruments", name, True, True) for name in OTHER_INSTRUMENTS if name[-1] != "s"},
    **_table("genre", _GENRES_PLAIN, plain=True, noun=True),
    **_table("genre", _GENRES_SURE, noun=True),
    **{name: Phrase("genre", name, False, True) for name in OTHER_GENRES},
    **_table("instruments", _PERCUSSION_PHRASES, plain=True, noun=True),
    **_table("voice", _VOICES, noun=True),
    **{name: Phrase("tempo", "slow", True, True) for name in _BALLADS.split(", ")},
    **{name: Phrase("genre", LULLABY, False, True) for name in _LULLABIES.split(", ")},
    **{phrase: Phrase("", "", True, False) for phrase in _IDIOMS.split(", ")},
}
"""Phrase in lower case → its meaning."""
