import pytest

from harmonia_lab.music.moods import suggest_features
from harmonia_lab.protocol.models import Instrument, SongMetadata
from harmonia_lab.protocol.vocabulary import INSTRUMENTS

LYRICS = """[Verse 1]
The lighthouse keeper counts the waves tonight
And every boat is calling out to him
He holds a candle up against the dark
He knows the sea will bring his daughter in

[Chorus]
Hold on to the light
Hold on to the light we know
The river runs wild and the wind is cold
But I will carry you home

[Verse 2]
The winter came and covered all the stones
The letters stopped, the summer birds had flown
He wrote her name in frost upon the glass
And waited for the quiet storm to pass

[Chorus]
Hold on to the light
Hold on to the light we know
The river runs wild and the wind is cold
But I will carry you home

[Bridge]
And in the silence of the morning
I hear you calling
"""


@pytest.fixture
def describe():
    """Return a function that makes a song's metadata: suggested for a genre and a mood, with the fields of the test."""

    def metadata(genre="pop", mood="hopeful", seed=1, *, lyrics=LYRICS, band=None, **fields):
        found = suggest_features(genre, [mood], seed)
        players = (
            [Instrument(name=name, role=INSTRUMENTS[name].role) for name in band] if band else list(found.instruments)
        )
        values = {"bpm": found.bpm, "key": found.key, "instruments": players, **fields}
        return SongMetadata(title="The Lighthouse", lyrics=lyrics, genre=genre, mood=[mood], **values)

    return metadata
