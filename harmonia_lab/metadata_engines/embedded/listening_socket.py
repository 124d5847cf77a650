"""A listening socket on its way to a child process: as the number of a descriptor that the child inherits, or, on
Windows, where sockets have none, as the bytes from which the system opens it again there.

Owns these two ways, for `launch.py` (the parent) and `server.py` (the child).
"""

from __future__ import annotations

import base64
import socket
import sys

__all__ = ["handed_over", "taken_over"]


def handed_over(listener: socket.socket, pid: int) -> int | str:
    """Return what tells the running child `pid` of the socket, which may then be closed here."""
    if sys.platform == "win32":
        return base64.b64encode(listener.share(pid)).decode()
    return listener.fileno()


def taken_over(given: int | str) -> socket.socket:
    """Return the socket, in the child."""
    if sys.platform == "win32":
        assert isinstance(given, str)
        return socket.fromshare(base64.b64decode(given))
    assert isinstance(given, int)
    return socket.socket(fileno=given)
