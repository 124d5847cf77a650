"""`harmonia doctor` and `harmonia setup`."""

import json

import pytest

from harmonia_lab.analysis import glyphs
from harmonia_lab.audio_engines.sketch import spec as sketch_spec
from harmonia_lab.cli import setup
from harmonia_lab.cli.doctor import _checks, _fonts
from harmonia_lab.engine_registry import installations
from harmonia_lab.errors import HarmoniaError
from tests.analysis.fonts import write_font
from tests.audio_engines.sound_banks import BANK


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


def test_the_doctor_answers_a_script_with_one_object_and_names_a_home_that_cannot_be_written(harmonia):
    harmonia.environment["HARMONIA_HOME"] = "/dev/null/home"
    done = harmonia("doctor", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["ok"] is False
    assert len(report["checks"]) == len(list(_checks()))
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
    check = _fonts()
    assert check.verdict == "optional"
    assert "Devanagari, Hangul, Thai" in check.found
    assert check.mend == "apt-get install fonts-noto-cjk fonts-noto-core"
    write_font(tmp_path / "fonts" / "More.ttf", "가क ก")
    assert _fonts().verdict == "ok"


def test_setting_up_what_is_there_changes_nothing(harmonia):
    done = harmonia("setup", "embedded")
    assert done.returncode == 0
    assert "is installed" in done.stderr.decode()


@pytest.mark.parametrize("name", ["embedded", "musicgen"])
def test_a_python_without_pip_is_named(monkeypatch, name):
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(HarmoniaError, match="has no pip to install") as caught:
        setup._install(installations()[name])
    assert caught.value.code == installations()[name].code
    assert caught.value.hint.endswith("-m ensurepip")
