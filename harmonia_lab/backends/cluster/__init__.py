"""Songs on a Dask cluster: Dask places the work, a connection of our own brings everything home.

`backend.py` is what a lab has, `worker.py` what runs on a worker. A song's messages pass `line.py` (the worker's end),
`listener.py` (the lab's), `task.py` (whose claim counts, and what a loss is) and `generation.py` (what they mean).
Nothing here imports Dask before a lab names a cluster.
"""
