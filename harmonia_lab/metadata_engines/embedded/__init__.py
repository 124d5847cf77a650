"""The embedded language model: a small model behind Ollama's API, in a child process.

`launch.py` starts that process from the program that uses it. `spec.py` describes the engine to `engine_registry.py`.
The process runs `server.py`, `api.py` (routes), `ollama_options.py` (Ollama's requests → llama.cpp's) and `llama.py`
(the model). `gguf.py` reads model files.
"""
