"""A client of a Harmonia Lab server that loses no lifecycle event: the guide's WebSocketService in Python.

Owns the public names: `Client` for programs on asyncio, `BlockingClient` for all others.
"""

from harmonia_lab.client.blocking import BlockingClient
from harmonia_lab.client.client import Client
from harmonia_lab.client.reconnect import Backoff, Token
from harmonia_lab.client.streams import Stream

__all__ = ["Backoff", "BlockingClient", "Client", "Stream", "Token"]
