"""A server in a process of its own, engines and all, and the kernel as its client: `lab.serve(isolated=True)`.

Owns how that process is started, told what to be, kept and mourned (`server_process.py`, `settings.py`), and what stands for it
in the kernel (`process.py`, `remote_generation.py`). What is said between the two is the protocol that every client speaks.
"""
