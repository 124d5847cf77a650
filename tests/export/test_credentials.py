"""Content credentials: signed offline by a chain of one's own, and read again."""

import sys

import pytest
import soundfile
from tinytag import TinyTag

from harmonia_lab.errors import InvalidRequest
from harmonia_lab.export.credentials import check_credentials, digital_source_type, read_signer
from harmonia_lab.export.song import ExportOptions, export_song
from harmonia_lab.generation.artifacts import read_record
from tests.export.certificates import write_chain

pytest.importorskip("c2pa")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return *write_chain(folder), folder / "root.pem"


@pytest.fixture(scope="module")
def signed(made_song, keys, tmp_path_factory):
    options = ExportOptions(formats=("wav", "flac", "mp3"), signer=read_signer(*keys[:2]))
    return {path.suffix: path for path in export_song(made_song, tmp_path_factory.mktemp("signed"), options).files}


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
def test_a_signed_song_says_what_made_it_and_still_plays(signed, keys, suffix):
    report = check_credentials(signed[suffix], trust=keys[2])
    assert report.ok, report
    assert report.notes == [
        "Signed by A Lab Songs, A Lab: Sea / Meer 🌊 «ä».",
        "c2pa.created as trainedAlgorithmicMedia.",
        "Generation gen-1, seed 7; audio: fake tones; metadata: fake fake-model.",
    ]
    assert soundfile.info(signed[suffix]).frames == 48_000
    if suffix != ".flac":  # tinytag reads ID3 before FLAC, and that is the credentials' own
        assert TinyTag.get(signed[suffix]).title == "Sea / Meer 🌊 «ä»"


def test_a_signer_whom_nobody_vouches_for_is_said_to_be_so(signed):
    report = check_credentials(signed[".wav"])
    assert report.ok
    assert "Nobody here vouches for the signer" in report.notes[-1]


def test_a_changed_song_is_found_and_a_song_without_credentials(signed, made_song, tmp_path):
    changed = tmp_path / "changed.wav"
    data = bytearray(signed[".wav"].read_bytes())
    data[100_000] ^= 1
    changed.write_bytes(data)
    (finding,) = check_credentials(changed).findings
    assert finding.what.startswith("assertion.dataHash.mismatch")
    (finding,) = check_credentials(made_song / "song.flac").findings
    assert finding.what == "has no content credentials"
    (tmp_path / "cut.flac").write_bytes(signed[".flac"].read_bytes()[:2000])
    assert not check_credentials(tmp_path / "cut.flac").ok
    assert not check_credentials(made_song / "song.mid").ok


def test_a_song_that_is_not_as_recorded_is_not_signed(song, keys, tmp_path):
    (song / "lyrics.txt").write_text("mine")
    with pytest.raises(InvalidRequest, match=r"not as recorded \(lyrics\.txt\), and so isn't signed"):
        export_song(song, tmp_path / "out", ExportOptions(formats=("wav",), signer=read_signer(*keys[:2])))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ({"days": -1}, "The song can't be signed"),
        ({"signs": False}, "The song can't be signed"),
        ({"kind": "rsa"}, None),
    ],
)
def test_a_certificate_that_cannot_sign_is_named_and_an_rsa_key_can(made_song, tmp_path, kind, says):
    options = ExportOptions(formats=("mp3",), signer=read_signer(*write_chain(tmp_path, **kind)))
    if says is None:
        (path,) = export_song(made_song, tmp_path / "out", options).files
        assert check_credentials(path).ok
    else:
        with pytest.raises(InvalidRequest, match=says):
            export_song(made_song, tmp_path / "out", options)


def test_files_that_are_no_chain_and_no_key_are_named(keys, tmp_path, made_song):
    chain, key, root = keys
    for files, says in (
        ((key, key), "has no certificates in PEM"),
        ((chain, chain), "has no private key in PEM"),
        ((root, key), "is not the key of the first certificate"),
        ((tmp_path / "none.pem", key), "cannot be read: No such file"),
    ):
        with pytest.raises(InvalidRequest, match=says):
            read_signer(*files)
    with pytest.raises(InvalidRequest, match=r"no content credentials in \.ogg files"):
        export_song(made_song, tmp_path / "out", ExportOptions(formats=("ogg",), signer=read_signer(chain, key)))


def test_the_sketch_is_an_algorithm_and_every_model_is_trained(made_song):
    record = read_record(made_song)
    assert digital_source_type(record) == "trainedAlgorithmicMedia"
    assert digital_source_type({"engines": {"audio": {"engine": "sketch"}}}) == "algorithmicMedia"


def test_without_the_extra_the_command_that_installs_it_is_named(monkeypatch, keys):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(InvalidRequest, match="need c2pa-python") as caught:
        read_signer(*keys[:2])
    assert caught.value.hint == "pip install 'harmonia-lab[credentials]'"
