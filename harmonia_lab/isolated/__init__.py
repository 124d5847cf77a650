"""A server in a process of its own, engines and all, and the kernel as its client: `lab.serve(isolated=True)`.

Owns how that process is started, told what to be, kept and mourned (`child.py`, `settings.py`), and what stands for it
in the kernel (`server.py`, `remote.py`). What is said between the two is the protocol that every client speaks.
"""
