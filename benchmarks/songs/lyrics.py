"""Simple lyrics for songs that are made without a language model: lines of five to fifteen syllables, six sets of them.

Owns the texts, which are our own.
"""

from __future__ import annotations

__all__ = ["LYRICS"]

LYRICS = (
    """[Verse 1]
The lighthouse keeper counts the waves tonight
And every boat is calling out to him
He trims the lamp and holds the window tight
And sings against the water and the wind

[Chorus]
Hold on to the light
The river runs wild and the wind is cold
Hold on to the light
And tell me the story that nobody told""",
    """[Verse 1]
We painted the boat in the morning
We sailed when the evening was gold
The harbour was sleeping, the sails were all torn
And you never did what you were told

[Chorus]
Come home, come home, the table is laid
Come home, come home, the bread is still warm

[Verse 2]
I wrote you a letter on paper
I folded it into a bird
It flew past the window, it flew past the trees
And nobody said a word""",
    """[Verse 1]
One more train
One more town
One more street when the sun goes down
One more time I turn around

[Chorus]
Run, run, run to the edge of the sky
Run, run, nobody asks you why""",
    """[Verse 1]
My grandmother's garden was wild with the roses that nobody planted or pruned
She walked there at seven and talked to the bees and came back with a song out of tune

[Chorus]
Remember the summer, remember the rain
Remember the gate and the lane
And if you should ever come this way again
We shall dance in the kitchen again""",
    """[Verse 1]
Small bear, close your eyes
The moon is a lamp in the skies
The stars bring a blanket of cloud
And nobody sings very loud

[Bridge]
Far away the rivers flow
Far away where dreamers go

[Chorus]
Sleep now, the night is long
Sleep now, and this is your song""",
    """[Verse 1]
They shut the gates at half past four
A thousand people and one locked door
We stood in the rain till the lights went red
And nobody heard what the foreman said

[Chorus]
We are still here, we are still here
Louder and louder and louder, my dear

[Verse 2]
My hands remember what they made
The belts, the wheels, the shining blade
I teach my daughter how to stand
With nothing but a lifted hand""",
)
