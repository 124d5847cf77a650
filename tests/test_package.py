"""What `import harmonia_lab` offers, and what it costs."""

import subprocess
import sys

import pytest

import harmonia_lab


def test_every_public_name_loads_and_no_other_does():
    for name in harmonia_lab.__all__:
        assert getattr(harmonia_lab, name) is not None
    assert dir(harmonia_lab) == sorted(harmonia_lab.__all__)
    with pytest.raises(AttributeError, match="Labs"):
        harmonia_lab.Labs  # noqa: B018 - the access is what is tested


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, harmonia_lab; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "torch",
        "pandas",
        "numpy",
        "scipy",
        "socketio",
        "matplotlib",
        "ipywidgets",
        "pydantic",
        "ollama",
        "aiohttp",
    }
    assert heavy.isdisjoint(loaded)
