"""Stage 1 of two versions beside each other: rhyme, metre, what is left of the story, titles, and what it costs."""
