"""Tables are read whole or refused with the line; a row with bad values is one row's business."""

import json

import pytest

from harmonia_lab.batch.rows import COLUMNS, read_rows, rows_of
from harmonia_lab.errors import ErrorCode, InvalidRequest
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.testing import SONG_METADATA


def table(folder, text, name="songs.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_every_field_of_a_request_is_a_column_but_its_id():
    assert set(COLUMNS) - {"audio"} == SongRequest.model_fields.keys() - {"generation_id"}


def test_csv_cells_become_a_request(tmp_path):
    text = (
        "narrative,seconds,seed,bpm,key,genre,instruments,audio\n"
        '"A boat, and\na light.",5,7,96,a minor,folk,"piano, cello",sketch\n\n'
        "Home.,,,,,,,\n"
    )
    first, second = read_rows(table(tmp_path, text))
    assert (first.number, first.line, first.audio) == (1, 2, "sketch")
    assert first.request.narrative == "A boat, and\na light."
    assert (first.request.seconds, first.request.seed, first.request.bpm) == (5.0, 7, 96)
    assert first.request.key == "A minor"
    assert [instrument.name for instrument in first.request.instruments] == ["piano", "cello"]
    assert (second.number, second.line, second.audio) == (2, 5, None)
    assert second.request == SongRequest(narrative="Home.")


def test_a_file_that_a_spreadsheet_saved_is_read(tmp_path):
    (row,) = read_rows(table(tmp_path, b"\xef\xbb\xbfnarrative,seed\r\nA story.,7\r\n"))
    assert (row.request.narrative, row.request.seed) == ("A story.", 7)


def test_json_lines_become_requests_and_metadata_may_be_a_file_beside_them(tmp_path):
    (tmp_path / "metadata.json").write_text(SONG_METADATA.model_dump_json(by_alias=True))
    lines = [
        {"narrative": "A story.", "seconds": 3, "instruments": ["piano"], "seed": None},
        {"metadata": "metadata.json"},
        {"metadata": SONG_METADATA.to_wire()},
    ]
    rows = read_rows(table(tmp_path, "\n\n".join(map(json.dumps, lines)), "songs.jsonl"))
    assert [row.line for row in rows] == [1, 3, 5]
    assert rows[0].request.instruments[0].role == "chords"
    assert rows[1].request.metadata == rows[2].request.metadata == SONG_METADATA


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "narrative,seed\nA story.,7\nA, story.,7\n", "line 3 has 3 cells, the header has 2"),
        ("a.csv", "narrative,seed\nA story.\n", "line 2 has 1 cells"),
        ("a.csv", 'narrative,seed\nA story.,1\n"A story.,7\n', "line 3 cannot be read"),
        ("a.csv", "narative\nA story.\n", "'narative'. Did you mean 'narrative'?"),
        ("a.csv", "narrative;seed\nA story.;7\n", "no column 'narrative;seed'"),
        ("a.csv", "seed,seed\n1,2\n", "names a column twice"),
        ("a.csv", "", "has no rows"),
        ("a.csv", "narrative\n", "has no rows"),
        ("a.csv", b"narrative\ncaf\xe9\n", "no UTF-8 text"),
        ("a.jsonl", '{"narrative": "a"}\n{"narrative": }\n', "line 2 is no JSON (column 15"),
        ("a.jsonl", "[1]\n", "line 1 is no JSON object"),
        ("a.jsonl", '{"generation_id": "mine"}\n', "no column 'generation_id'"),
        ("a.jsonl", "[" * 100_000, "line 1 is"),
        ("a.jsonl", "1" * 10_000, "line 1 is no JSON"),
        ("a.txt", "narrative", "no .csv and no .jsonl"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_the_line(tmp_path, name, text, says):
    with pytest.raises(InvalidRequest) as caught:
        read_rows(table(tmp_path, text, name))
    assert says in caught.value.message


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="No such file"):
        read_rows(tmp_path / "songs.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InvalidRequest, match="Is a directory"):
        read_rows(tmp_path / "folder.csv")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"narrative": "A story.", "key": "H minor"}, "key"),
        ({"narrative": "A story.", "seconds": "soon"}, "seconds"),
        ({"narrative": " "}, "narrative"),
        ({"narrative": 7}, "narrative"),
        ({"narrative": "A story.", "instruments": "kazoo"}, "instruments"),
        ({"narrative": "A story.", "audio": 3}, "audio"),
        ({"metadata": "nowhere.json"}, "metadata"),
        ({"metadata": {"title": "Only a title"}}, "metadata.lyrics"),
    ],
)
def test_a_row_with_bad_values_carries_its_error_and_stops_no_other(fields, field):
    bad, good = rows_of([fields, {"narrative": "A story."}])
    assert (bad.request, bad.error.code) == (None, ErrorCode.INVALID_PAYLOAD)
    assert field in bad.error.details["fields"]
    assert good.error is None


@pytest.mark.parametrize("content", ["", "[]", "\xff", "[" * 100_000])
def test_a_metadata_file_that_is_none_is_one_rows_error(tmp_path, content):
    (tmp_path / "metadata.json").write_text(content, encoding="latin-1")
    (row,) = read_rows(table(tmp_path, "metadata\nmetadata.json\n"))
    assert "holds no song metadata" in row.error.message


def test_rows_of_a_dataframe_and_whole_requests_are_taken():
    import pandas as pd

    frame = pd.DataFrame({"narrative": ["A story.", "Another."], "seed": [7, None], "bpm": [None, 96.0]})
    first, second = rows_of(frame)
    assert first.request == SongRequest(narrative="A story.", seed=7)
    assert second.request == SongRequest(narrative="Another.", bpm=96)
    request = SongRequest(narrative="A story.")
    assert rows_of([request])[0].request is request
    with pytest.raises(InvalidRequest, match="Row 1 is a str"):
        rows_of(["A story."])
