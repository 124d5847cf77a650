"""`harmonia doctor`: it tells the truth about packages, drivers, space, and the song that is asked for."""

import io
import json

import pytest

from harmonia_lab.analysis import glyphs
from harmonia_lab.audio_engines.sketch import spec as sketch_spec
from harmonia_lab.cli import doctor
from harmonia_lab.cli.arguments import make_parser
from harmonia_lab.cli.requirements import unmet_requirements
from harmonia_lab.engines.spec import Check
from harmonia_lab.testing import FakeModel, FakeOllama
from tests.analysis.fonts import write_font
from tests.audio_engines.sound_banks import BANK
from tests.cli.test_setup import program

ASKED = {"metadata": "auto", "model": None, "metadata_settings": {}}
ASKED |= {"audio": "auto", "audio_model": None, "audio_settings": {}}


def test_the_doctor_finds_a_machine_on_which_songs_can_be_made_and_proves_musicgen_by_a_second_of_audio(harmonia):
    done = harmonia("doctor")
    assert done.returncode == 0, done.stdout.decode()
    text = done.stdout.decode()
    assert text.endswith("Songs can be made.\n")
    assert "✗" not in text
    assert "nothing answers at" in text
    assert "ollama pull" in text
    (musicgen,) = [line for line in text.splitlines() if "MusicGen" in line]
    assert musicgen.startswith("✓")
    assert "1 s generated" in musicgen


def test_the_doctor_answers_a_script_with_one_object_and_names_a_home_that_cannot_be_written(harmonia, monkeypatch):
    monkeypatch.setattr(doctor, "audio_specs", dict)  # MusicGen's check takes seconds
    harmonia.environment["HARMONIA_HOME"] = "/dev/null/home"
    done = harmonia("doctor", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert {"words", "music", "packages", "GPU"} <= {check["name"] for check in report["checks"]}
    (broken,) = [check for check in report["checks"] if check["verdict"] not in ("ok", "optional")]
    assert (broken["name"], broken["verdict"]) == ("state folder", "missing")
    assert "HARMONIA_HOME" in broken["mend"]


def test_the_doctor_names_a_better_bank_until_one_is_chosen_and_the_scripts_that_pictures_lack(tmp_path, monkeypatch):
    monkeypatch.delenv("HARMONIA_SOUNDFONT", raising=False)
    assert "HARMONIA_SOUNDFONT=/usr/share/sounds/sf2/FluidR3_GM.sf2" in sketch_spec.ENGINE.check().mend
    monkeypatch.setattr(sketch_spec, "_FLUID_R3", tmp_path)
    assert "apt-get install fluid-soundfont-gm" in sketch_spec.ENGINE.check().mend
    monkeypatch.setenv("HARMONIA_SOUNDFONT", str(BANK))
    assert sketch_spec.ENGINE.check().mend == ""

    monkeypatch.setattr(glyphs, "_folders", lambda: [tmp_path / "fonts"])
    write_font(tmp_path / "fonts" / "Some.ttf", "夜あ")
    check = doctor._fonts()
    assert check.verdict == "optional"
    assert "Devanagari, Hangul, Thai" in check.found
    assert check.mend == "apt-get install fonts-noto-cjk fonts-noto-core"
    write_font(tmp_path / "fonts" / "More.ttf", "가क ก")
    assert doctor._fonts().verdict == "ok"


def distribution(folder, name, version, *requires):
    """Install a package that consists of its metadata."""
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir(parents=True)
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    (about / "METADATA").write_text("\n".join(lines) + "\n")


def test_packages_in_other_versions_than_asked_for_are_found_at_any_depth(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    distribution(
        tmp_path, "anna", "1.0", "berta>=2", "clara[song]", "dora; extra == 'more'", "emil; sys_platform == 'x'"
    )
    distribution(tmp_path, "berta", "1.9", "fritz==1")
    distribution(tmp_path, "clara", "3.0", "gustav<2; extra == 'song'", "heinrich; extra == 'other'")
    distribution(tmp_path, "gustav", "2.0+local")
    said = {str(each) for each in unmet_requirements("anna")}
    assert said == {"berta>=2 (1.9 is installed)", "fritz==1 (not installed)", "gustav<2 (2.0+local is installed)"}
    assert "dora (not installed)" in {str(each) for each in unmet_requirements("anna", "more")}


def test_the_doctor_names_the_command_for_a_package_that_is_too_old(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    distribution(tmp_path, "ollama", "0.5.0")
    distribution(tmp_path, "jupyterlab", "4.0.0")
    packages, optional = doctor._packages()  # of this project as it is installed, which may be some commits ago
    assert (packages.verdict, optional.verdict) == ("missing", "optional")
    assert "(0.5.0 is installed)" in packages.found
    assert "pip install 'ollama>=" in packages.mend
    assert "jupyterlab" in optional.found


@pytest.mark.parametrize(
    ("script", "verdict", "said"),
    [
        (
            'test "$1" = -L && echo "GPU 0: NVIDIA H200 (UUID: GPU-1)"; echo "  MIG 1g"',
            "ok",
            "NVIDIA H200; what it gives",
        ),
        ("echo NVIDIA-SMI has failed because the driver is not loaded; exit 9", "optional", "driver is not loaded"),
        ("echo No devices were found", "optional", "has none: No devices were found"),
        ("exit 1", "optional", "ended with status 1"),
        ("exec sleep 60", "optional", "doesn't answer within"),
    ],
)
def test_a_gpu_counts_if_its_driver_answers(tmp_path, monkeypatch, script, verdict, said):
    program(tmp_path, "nvidia-smi", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(doctor, "DRIVER_S", 0.3)
    check = doctor._gpu()
    assert check.verdict == verdict
    assert said in check.found


def test_space_is_checked_where_state_and_songs_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("HARMONIA_HOME", str(tmp_path / "not" / "yet" / "made"))
    assert (doctor._home().verdict, doctor._songs().verdict) == ("ok", "ok")
    assert "GiB free" in doctor._home().found
    monkeypatch.setattr(doctor, "SMALLEST_FREE", 2**60)
    assert (doctor._home().verdict, doctor._songs().verdict) == ("missing", "missing")
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "llama3.2:1b on Ollama at"),
        ({"model": "llama3.2"}, "llama3.2:1b on Ollama at"),
        ({"metadata": "ollama", "model": "qwen3"}, "has no model qwen3"),
        ({"metadata": "embedded"}, "the small embedded model smollm2:135m"),
        ({"metadata": "embedded", "model": "qwen3"}, "has smollm2:135m, not qwen3"),
        ({"metadata": "oracle"}, "no metadata engine 'oracle'"),
    ],
)
def test_the_doctor_says_who_would_write_the_words_or_why_nobody(asked, said, monkeypatch):
    with FakeOllama(models={"llama3.2:1b": FakeModel()}) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        check, engine = doctor._words(ASKED | asked)
    assert said in check.found
    assert (check.verdict, engine is None) in (("ok", False), ("missing", True))
    assert (engine is None) == (said.startswith(("has ", "no ")))


@pytest.mark.parametrize(
    ("asked", "verdict", "said"),
    [
        ({}, "ok", "the offline sketch engine"),
        ({"audio": "musicgen"}, "missing", "MusicGen small is not on this machine"),
        ({"audio_model": "tiny"}, "missing", "no MusicGen model 'tiny'"),
        ({"audio": "sketch", "audio_model": "small"}, "missing", "The sketch engine has no model"),
    ],
)
def test_the_doctor_says_who_would_make_the_music_or_why_nobody(asked, verdict, said, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    check, engine = doctor._music(ASKED | asked)
    assert (check.verdict, engine is None) == (verdict, verdict == "missing")
    assert said in check.found


def test_without_any_language_model_songs_from_given_metadata_can_be_made_and_the_doctor_says_so(harmonia, monkeypatch):
    monkeypatch.setattr(doctor, "audio_specs", dict)  # MusicGen's check takes seconds
    monkeypatch.setattr(doctor, "_proof", lambda *_: "an engine")
    harmonia.environment["HARMONIA_GGUF"] = "nowhere.gguf"
    done = harmonia("doctor")
    assert done.returncode == 1
    assert "✗ words             The model file nowhere.gguf" in done.stdout.decode()
    assert done.stdout.decode().endswith("Songs from given metadata (--from FILE) can be.\n")


def test_marks_differ_on_a_terminal_without_their_letters_too(monkeypatch):
    with io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace") as output:
        monkeypatch.setattr(doctor.sys, "stdout", output)
        monkeypatch.setattr(doctor, "_checks", lambda _: [Check("a", "ok", ""), Check("b", "missing", "", "mend")])
        assert doctor.run(make_parser(["doctor"]).parse_args(["doctor"])) == 1
        output.flush()
        said = output.buffer.getvalue().decode()
    assert [line[0] for line in said.splitlines()[:2]] == ["+", "x"]
    assert "?" not in said
