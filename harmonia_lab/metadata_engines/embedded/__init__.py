"""The embedded language model: a small model behind Ollama's API, in two child processes.

`launch.py` starts the server process from the program that uses it. The server process runs `server.py`, `api.py`
(routes), `ollama_options.py` (Ollama's requests → llama.cpp's) and `model.py`, which starts the model's process, that
is `llama.py`. `gguf.py` reads model files.
"""

from harmonia_lab.metadata_engines.embedded.launch import (
    DEFAULT_MODEL,
    EmbeddedServer,
    default_threads,
    find_model,
    install_command,
    is_installed,
)

__all__ = ["DEFAULT_MODEL", "EmbeddedServer", "default_threads", "find_model", "install_command", "is_installed"]
