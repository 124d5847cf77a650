"""The embedded language model: a small model behind Ollama's API, in child processes of its own.

`launch.py` starts the server and is all that the rest of the package calls; `spec.py` describes the engine to
`engine_registry.py`. The server process is `server.py`, with `api.py` (routes), `ollama_options.py` (Ollama's options
as llama.cpp's) and `model.py` (the process that holds the model, as the server sees it); that process is `llama.py`.
`gguf.py` reads model files.
"""
