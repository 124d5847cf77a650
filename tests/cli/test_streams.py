"""Standard streams that are closed, full or not what they seem: a short message, the right status, nothing lost.

Commands run as processes, since streams are the process's, and `--version` is quick. What all commands share is in
`harmonia_lab/cli/streams.py`.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import threading

import pytest

from harmonia_lab.cli import streams
from tests.cli.conftest import STORY


def shell(harmonia, command, **environment):
    """Run a line of sh in which $H is the command."""
    harmonia.environment |= {"H": f"{sys.executable} -m harmonia_lab"} | environment
    return subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        cwd=harmonia.folder,
        env=harmonia.environment,
        timeout=300,
        check=False,
    )


FULL = b"harmonia: standard output cannot be written: No space left on device.\n"
CLOSED = b"harmonia: standard output cannot be written: it is closed.\n"


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("$H --version > /dev/full", 1, FULL),
        ("PYTHONUNBUFFERED=1 $H --version > /dev/full", 1, FULL),
        ("$H --version >&-", 1, CLOSED),
        ("$H --version >&- 2>&-", 1, b""),
        ("$H --version 2>&- > version", 0, b""),
        ("$H token ann --ttl long 2>/dev/full", 2, b""),
        ("$H token --json > /dev/full", 2, FULL),
    ],
)
def test_a_stream_that_is_closed_or_full_ends_a_command_with_a_short_message(harmonia, command, status, said):
    done = shell(harmonia, command)
    assert done.returncode == status
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) <= 2
    if command.endswith("> version"):
        assert (harmonia.folder / "version").read_text().startswith("harmonia ")


def test_a_file_that_is_opened_later_never_gets_the_number_of_a_closed_stream(harmonia):
    """Else what is printed would go into it."""
    code = (
        "import sys; from harmonia_lab.cli import streams; streams.protect(); print('x');"
        "assert open('file', 'w').fileno() > 2; assert sys.stdin.buffer.read() == b''"
    )
    done = shell(harmonia, f'exec {sys.executable} -c "{code}" <&- >&- 2>&-')
    assert done.returncode == 0
    assert (harmonia.folder / "file").read_bytes() == b""


@pytest.mark.stress
def test_a_song_is_made_without_any_stream(harmonia, tmp_path):
    song = {"title": "A", "lyrics": "[Verse]\nla", "genre": "folk", "mood": ["calm"], "bpm": 96, "key": "A minor"}
    song["instruments"] = [{"name": "piano", "role": "chords"}]
    (tmp_path / "metadata.json").write_text(json.dumps(song))
    done = shell(harmonia, "$H song --from metadata.json --seconds 1 --seed 1 --out made <&- >&- 2>&-")
    assert done.returncode == 1  # its summary could not be printed
    assert (tmp_path / "made" / "song.flac").is_file()
    assert [row["status"] for row in harmonia.rows] == ["completed"]
    assert (harmonia.home / "journal.sqlite3").read_bytes().startswith(b"SQLite format 3\0")
    assert b"narrative is empty" in shell(harmonia, "$H song - <&-").stderr


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}]
)
def test_letters_that_a_terminal_lacks_are_replaced_on_standard_error_too(harmonia, locale):
    done = harmonia.process("token", "ann", "--ttl", "夜", **locale)
    assert (done.returncode, done.stdout) == (2, b"")
    assert "invalid float value" in done.stderr.decode("ascii")


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        with contextlib.suppress(OSError):  # a test closed it
            os.close(end)


def test_after_the_first_error_output_is_dropped_and_the_command_goes_on(pipe, capsys):
    reader, writer = pipe
    os.close(reader)
    output = streams.Output(writer, "standard output")
    with io.TextIOWrapper(io.BufferedWriter(output), encoding="utf-8") as text:
        for _ in range(3):
            text.write("x" * 10_000)
            text.flush()
    assert output.failed
    assert capsys.readouterr().err == ""  # a reader that has gone is no news


def test_a_pipe_that_another_program_made_non_blocking_is_waited_for(pipe):
    reader, writer = pipe
    os.set_blocking(writer, False)
    received = []

    def read():
        while data := os.read(reader, 65_536):
            received.append(len(data))

    thread = threading.Thread(target=read)
    output = streams.Output(writer)
    text = io.TextIOWrapper(io.BufferedWriter(output), encoding="utf-8")
    thread.start()
    text.write("x" * 1_000_000)
    text.flush()
    os.close(writer)
    thread.join(60)
    assert (sum(received), output.failed) == (1_000_000, False)


def test_with_json_only_objects_reach_standard_output(pipe, capsys):
    reader, writer = pipe
    text = io.TextIOWrapper(io.BufferedWriter(streams._ObjectsOnly(writer, "standard output")), encoding="utf-8")
    print("loading the weights", file=text)
    print("50 %\r", end="", file=text)
    print(json.dumps({"ok": True, "story": STORY}), file=text)
    text.flush()
    os.close(writer)
    assert json.loads(os.read(reader, 65_536)) == {"ok": True, "story": STORY}
    assert capsys.readouterr().err == "loading the weights\n50 %\r\n"


def test_what_a_library_prints_with_json_goes_to_standard_error_in_a_process_too(harmonia):
    """From Python, and by the descriptor, as C code and child processes do."""
    code = (
        "import os; from harmonia_lab.cli import streams; streams.protect(objects_only=True);"
        "print('loading'); os.write(1, b'from C\\n'); print('{\"ok\": true}'); assert streams.flush()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=harmonia.environment, check=False)
    assert (done.returncode, done.stdout) == (0, b'{"ok": true}\n')
    assert sorted(done.stderr.splitlines()) == [b"from C", b"loading"]
