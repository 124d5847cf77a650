"""Languages: their names and tags, which one a text is in, how its words are sung, and what its sections are called.

Owns the tables of languages. English words (syllables, stress, rhyme) are in `syllables.py`.
"""
