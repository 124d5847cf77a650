"""The protocol as an AsyncAPI 3 document.

Owns how Socket.IO's rooms, messages and acknowledgements are expressed in AsyncAPI: a room is a channel, an
acknowledgement is a reply. The messages come from `schema.py`.

Source: AsyncAPI 3.0.0 specification, https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

from typing import Any

from harmonia_lab.protocol.events import ROOMS, DeliveryClass
from harmonia_lab.protocol.schema import REF, describe

__all__ = ["asyncapi_document"]

_CLASSES: dict[DeliveryClass, str] = {
    "lifecycle": "Journalled, numbered by `seq`, never dropped, sent again after a gap.",
    "progress": "Only the latest matters: a slow client misses some. `tick` only grows.",
    "preview": "Not journalled: a slow client misses some.",
    "direct": "Sent to one connection, about that connection.",
}

_PARAMETERS = {
    "generation_id": "The generation's id, which is the job's.",
    "user_id": "The owner: the token's subject.",
}

_ABOUT = (
    "Socket.IO, protocol 5: clients 3 and 4. A room is a channel here; a client enters one by a message such as"
    " `join-generation`: its own, and those that an owner shares with it."
    " Every message takes an acknowledgement callback, which is the reply here."
    " The token goes into the handshake: `io(url, {auth: {token}})`. Fields that a client does not"
    " know are to be ignored."
)


def asyncapi_document() -> dict[str, Any]:
    """Return the document as plain JSON values."""
    protocol = describe()
    events, commands = protocol["events"], protocol["commands"]
    acks = sorted({command["ack"] for command in commands.values()} | {"ErrorAck"})
    channels = {
        "connection": {
            "address": "/",
            "title": "One connection",
            "messages": _messages(name for name, event in events.items() if event["family"] is None)
            | _messages(commands),
        },
        "acknowledgements": {"address": None, "title": "Answers to one message", "messages": _messages(acks)},
    }
    for family, rooms in ROOMS.items():
        for room in rooms:
            channels[_key(room)] = {
                "address": room,
                "title": f"Room {room}",
                "parameters": {n: {"description": d} for n, d in _PARAMETERS.items() if f"{{{n}}}" in room},
                "messages": _messages(name for name, event in events.items() if event["family"] == family),
            }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Harmonia Lab",
            "version": protocol["version"],
            "description": _ABOUT,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": {
                "host": "127.0.0.1:3333",
                "pathname": "/socket.io/",
                "protocol": "ws",
                "description": "Socket.IO over websocket or polling.",
                "security": [{"$ref": "#/components/securitySchemes/token"}],
            }
        },
        "channels": channels,
        "operations": _operations(channels, commands),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "messages": {
                **{_key(name): _event_message(name, event) for name, event in events.items()},
                **{_key(name): _command_message(name, command) for name, command in commands.items()},
                **{ack: {"name": ack, "title": ack, "payload": {"$ref": REF + ack}} for ack in acks},
            },
            "schemas": protocol["schemas"]
            | {
                "ErrorCode": {
                    "type": "string",
                    "enum": list(protocol["errors"]),
                    "description": "What `error.code` can be; a newer server may add to it.",
                }
            },
        },
    }


def _operations(channels: dict[str, Any], commands: dict[str, Any]) -> dict[str, Any]:
    rooms = {name: channel for name, channel in channels.items() if name != "acknowledgements"}
    sends = {
        f"send-{channel}": {
            "action": "send",
            "channel": {"$ref": f"#/channels/{channel}"},
            "messages": [
                {"$ref": f"#/channels/{channel}/messages/{message}"}
                for message in content["messages"]
                if message not in {_key(name) for name in commands}
            ],
        }
        for channel, content in rooms.items()
    }
    receives = {
        f"receive-{_key(name)}": {
            "action": "receive",
            "channel": {"$ref": "#/channels/connection"},
            "summary": command["description"],
            "messages": [{"$ref": f"#/channels/connection/messages/{_key(name)}"}],
            "reply": {
                "channel": {"$ref": "#/channels/acknowledgements"},
                "messages": [
                    {"$ref": f"#/channels/acknowledgements/messages/{ack}"} for ack in (command["ack"], "ErrorAck")
                ],
            },
        }
        for name, command in commands.items()
    }
    return sends | receives


def _messages(names: Any) -> dict[str, Any]:
    return {_key(name): {"$ref": f"#/components/messages/{_key(name)}"} for name in names}


def _event_message(name: str, event: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "title": event["payload"],
        "summary": event["description"],
        "description": _CLASSES[event["delivery"]],
        "payload": {"$ref": REF + event["payload"]},
    }


def _command_message(name: str, command: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"name": name, "title": name, "summary": command["description"]}
    if command["payload"]:
        payload: dict[str, Any] = {"$ref": REF + command["payload"]}
        if command["bare"]:
            payload = {"oneOf": [{"type": "string", "description": "The bare generation id."}, payload]}
        message["payload"] = payload
    else:
        message["payload"] = {"type": "null", "description": "None."}
    return message


def _key(name: str) -> str:
    """Return `name` as a key: AsyncAPI allows letters, digits, dots, dashes and underscores."""
    return name.replace(":", ".").replace("{", "").replace("}", "")
