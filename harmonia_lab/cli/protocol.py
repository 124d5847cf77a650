"""`harmonia protocol`: print the wire protocol in a form that other tools read."""

from __future__ import annotations

import argparse
import json

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    if options.what == "asyncapi":
        from harmonia_lab.protocol.asyncapi import asyncapi_document  # noqa: PLC0415 - only one of the three is needed

        print(json.dumps(asyncapi_document(), indent=2, ensure_ascii=False))
    elif options.what == "typescript":
        from harmonia_lab.protocol.typescript import typescript_module  # noqa: PLC0415

        print(typescript_module(), end="")
    else:
        from harmonia_lab.protocol.markdown import markdown_page  # noqa: PLC0415

        print(markdown_page(), end="")
    return 0
