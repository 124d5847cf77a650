"""The embedded language model: a small model behind Ollama's API, in two child processes.

`launch.py` starts the server process from the program that uses it. `spec.py` describes the engine to
`engine_registry.py`. The server process runs `server.py`, `api.py`
(routes), `ollama_options.py` (Ollama's requests → llama.cpp's) and `model.py`, which starts the model's process, that
is `llama.py`. `gguf.py` reads model files.
"""
