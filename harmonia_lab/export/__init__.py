"""Songs for other people's programs: tagged audio in four formats, stems as mixed, a dataset, content credentials.

`song.py` exports one song, `audiofolder.py` many as a dataset. Nothing here changes a song's folder.
"""
