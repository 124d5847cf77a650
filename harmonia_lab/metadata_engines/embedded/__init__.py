"""The embedded language model: a small model behind Ollama's API, in child processes of its own.

`launch.py` is this program's side. The server process is `process.py`, with `api.py` (routes), `ollama_options.py` (Ollama's
terms in llama.cpp's) and `model.py` (the process that holds the model, as the server sees it); that process is
`llama.py`.
`gguf.py` reads model files.
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
