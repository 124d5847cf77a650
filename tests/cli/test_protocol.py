"""`harmonia protocol` prints each form, and nothing else."""

import json

from harmonia_lab.protocol.markdown import markdown_page
from harmonia_lab.protocol.typescript import typescript_module


def test_each_form_is_printed(harmonia):
    assert json.loads(harmonia("protocol", "asyncapi").stdout)["asyncapi"].startswith("3.")
    assert harmonia("protocol", "typescript").stdout.decode() == typescript_module()
    assert harmonia("protocol", "markdown").stdout.decode() == markdown_page()


def test_another_form_is_bad_usage(harmonia):
    done = harmonia("protocol", "openapi")
    assert (done.returncode, done.stdout) == (2, b"")
