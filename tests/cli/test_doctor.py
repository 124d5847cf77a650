"""`harmonia doctor` and `harmonia setup`."""

import json

from harmonia_lab.cli.doctor import _checks


def test_the_doctor_finds_a_machine_on_which_songs_can_be_made(harmonia):
    done = harmonia.process("doctor")
    assert done.returncode == 0, done.stdout.decode()
    text = done.stdout.decode()
    assert text.endswith("Songs can be made.\n")
    assert "nothing answers at" in text
    assert "ollama pull" in text


def test_the_doctor_answers_a_script_with_one_object(harmonia):
    report = json.loads(harmonia("doctor", "--json").stdout)
    assert report["ok"] is True
    assert len(report["checks"]) == len(list(_checks()))
    assert {check["verdict"] for check in report["checks"]} <= {"ok", "optional"}
    (musicgen,) = [check for check in report["checks"] if check["name"] == "MusicGen"]
    assert musicgen["verdict"] == "ok", musicgen
    assert "1 s generated" in musicgen["found"]


def test_the_doctor_names_a_home_that_cannot_be_written_and_the_way_out(harmonia):
    harmonia.environment["HARMONIA_HOME"] = "/dev/null/home"
    done = harmonia("doctor")
    assert done.returncode == 1
    assert "✗ state folder" in done.stdout.decode()
    assert "HARMONIA_HOME" in done.stdout.decode()


def test_setting_up_what_is_there_changes_nothing(harmonia):
    done = harmonia("setup", "embedded")
    assert done.returncode == 0
    assert "is installed" in done.stderr.decode()
