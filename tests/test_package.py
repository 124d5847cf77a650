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


HEAVY = {"torch", "pandas", "numpy", "scipy", "socketio", "matplotlib", "ipywidgets", "ollama", "aiohttp", "httpx"}


def loaded_by(code: str) -> set[str]:
    """Return the names of the modules that a new process has after `code`, with those of the packages around them."""
    command = [sys.executable, "-c", f"{code}; import sys; print('\\n'.join(sys.modules))"]
    names = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.split()
    return {name.rsplit(".", cut)[0] for name in names for cut in range(name.count(".") + 1)}


def test_importing_the_package_loads_nothing_heavy():
    loaded = loaded_by("import harmonia_lab")
    assert loaded.isdisjoint(HEAVY | {"pydantic", "asyncio"})
    assert {name for name in loaded if name.startswith("harmonia_lab")} == {"harmonia_lab", "harmonia_lab._version"}


def test_the_class_of_labs_loads_nothing_that_a_verb_or_a_server_needs():
    loaded = loaded_by("from harmonia_lab import Lab; Lab.compose")
    assert "harmonia_lab.lab" in loaded  # else nothing was tried
    others = {"redis", "dask", "distributed", "asyncio", "ssl", "html", "difflib", "filelock", "concurrent.futures"}
    ours = {
        "harmonia_lab.client",
        "harmonia_lab.server",
        "harmonia_lab.batch",
        "harmonia_lab.study",
        "harmonia_lab.export",
        "harmonia_lab.player",
        "harmonia_lab.testing",
        "harmonia_lab.listening.home",
        "harmonia_lab.backends.remote",
        "harmonia_lab.backends.shared",
        "harmonia_lab.backends.cluster",
        "harmonia_lab.store.shared",
        "harmonia_lab.metadata_engines.wishes",
        "harmonia_lab.metadata_engines.prompting",
        "harmonia_lab.audio_engines.musicgen",
        "harmonia_lab.audio_engines.mixing",
        "harmonia_lab.music.composing",
        "harmonia_lab.protocol.commands",
        "harmonia_lab.analysis.compare",
    }
    assert sorted((HEAVY | others | ours) & loaded) == []
