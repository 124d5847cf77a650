"""Backends: where songs are made. Each is a module here that fits `base.Backend`.

`local.py` makes songs in this process, `process.py` has an isolated server make them (`isolated_server.py`), and
`remote.py` another machine's. Lab picks one for each new song, and finds the backend of an earlier one by its id.
"""
