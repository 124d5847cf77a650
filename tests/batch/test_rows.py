"""Tables are read whole or refused with the line; a row with bad values is one row's business."""

import json

import pytest

from harmonia_lab.batch.columns import COLUMNS
from harmonia_lab.batch.rows import read_rows, refuse_unreadable, rows_of
from harmonia_lab.errors import ErrorCode, InvalidRequest
from harmonia_lab.protocol.models import SongRequest
from harmonia_lab.testing import SONG_METADATA


def table(folder, text, name="songs.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_every_field_of_a_request_is_a_column_but_its_id():
    assert set(COLUMNS) - {"audio", "name"} == SongRequest.model_fields.keys() - {"generation_id"}


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
        ("a.csv", "one/two\nA story./7\n", "no column for stories ('one/two')"),
        ("a.csv", "seconds,seed\n5,1\n", "no column for stories"),
        ("a.csv", "narrative,tempo\nA story.,90\n", "'tempo'. Did you mean 'bpm'?"),
        ("a.csv", "narrative,Intruments\nA story.,piano\n", "'Intruments'. Did you mean 'instruments'?"),
        ("a.csv", "narrative,Audio Model,audio-model\nA story.,a,b\n", "names a column twice"),
        ("a.csv", "seed,seed\n1,2\n", "names a column twice"),
        ("a.csv", "", "has no rows"),
        ("a.csv", "narrative\n", "has no rows"),
        ("a.csv", b"narrative\nOne.\ncaf\xe9\n", "line 3 has the byte 0xE9"),
        ("a.csv", b"narrative\ncaf\xe9\n", "(cp1252) would read: 'caf\xe9'"),
        ("a.csv", "narrative\nA story.\n".encode("utf-16-le"), "no UTF-8 text (byte 1 is zero)"),
        ("a.csv", b"\xff\xfen\0a", "damaged"),
        ("a.csv", b"PK\x03\x04\x14", "is a workbook"),
        ("a.xlsx", b"PK\x03\x04\x14", "is a workbook"),
        ("a.jsonl", '{"narrative": "a"}\n{"narrative": }\n', "line 2 is no JSON (column 15"),
        ("a.jsonl", "[1]\n", "line 1 is no JSON object"),
        ("a.jsonl", '{"narrative": "a", "seed": 1, "Seed": 2}\n', "line 1 names a column twice"),
        ("a.jsonl", '{"narrative": "a", "seed": 1, "seed": 2}\n', "line 1 is no JSON (an object has a name twice)"),
        ("a.json", '{"narrative": {"0": "a"}}', "holds no list"),
        ("a.json", '[{"narrative": "a"},\n {"narrative": }]', "no JSON (line 2, column 16"),
        ("a.json", '[{"narrative": "a"}, 7]', "row 2 is no JSON object"),
        ("a.json", "[]", "has no rows"),
        ("a.jsonl", "[" * 100_000, "line 1 is"),
        ("a.jsonl", "1" * 10_000, "line 1 is no JSON"),
        ("a.md", "narrative", "is no table"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_with_the_line(tmp_path, name, text, says):
    with pytest.raises(InvalidRequest) as caught:
        refuse_unreadable(read_rows(table(tmp_path, text, name)))
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


def read(folder, text, name="songs.csv", **options):
    rows = read_rows(table(folder, text, name), **options)
    refuse_unreadable(rows)
    return rows


SAME = SongRequest(narrative="Ein Boot, und ein Licht; “spät”.", seconds=20.5, seed=7)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("libreoffice.csv", 'narrative;seconds;seed\r\n"Ein Boot, und ein Licht; “spät”.";20,5;7\r\n'),
        ("excel.csv", '\ufeffNarrative;Seconds;SEED;;\r\n"Ein Boot, und ein Licht; “spät”.";20,5;7;;\r\n;;;;\r\n'),
        ("sep.csv", "sep=|\r\nnarrative|seconds|seed\r\nEin Boot, und ein Licht; “spät”.|20.5|7\r\n"),
        ("tabs.csv", "narrative\tseconds\tseed\nEin Boot, und ein Licht; “spät”.\t20.5\t7\n"),
        ("tabs.tsv", "Seed\tNarrative \tSeconds\n7,0\tEin Boot, und ein Licht; “spät”.\t20.5\n"),
        ("mac.csv", 'narrative,seconds,seed\r"Ein Boot, und ein Licht; “spät”.",20.5,7\r'),
        ("pandas.csv", ',narrative,seconds,seed\n0,"Ein Boot, und ein Licht; “spät”.",20.5,7.0\n'),
        ("list.json", '\ufeff[{"Narrative": "Ein Boot, und ein Licht; “spät”.", "seconds": "20,5", "seed": 7}]'),
        ("lines.ndjson", '{"narrative": "Ein Boot, und ein Licht; “spät”.", "seconds": 20.5, "seed": 7.0}\r\n\r\n'),
    ],
)
def test_tables_as_programs_save_them_are_the_same_row(tmp_path, name, text):
    (row,) = read(tmp_path, text, name)
    assert row.request == SAME


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, encoding):
    text = "Narrative\tSeconds\tSeed\r\nEin Boot, und ein Licht; “spät”.\t20,5\t7\r\n"
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    (row,) = read(tmp_path, (mark + text).encode(encoding), "unicode.txt")
    assert row.request == SAME


def test_an_encoding_is_read_when_it_is_named_and_the_error_names_it(tmp_path):
    text = 'narrative;seconds;seed\r\n"Ein Boot, und ein Licht; “spät”.";20,5;7\r\n'.encode("cp1252")
    with pytest.raises(InvalidRequest) as caught:
        read(tmp_path, text)
    assert "--encoding cp1252" in caught.value.hint
    assert read(tmp_path, text, encoding="cp1252")[0].request == SAME
    with pytest.raises(InvalidRequest, match="no encoding 'klingon'"):
        read(tmp_path, text, encoding="klingon")
    with pytest.raises(InvalidRequest, match="no text in utf-8"):
        read(tmp_path, text, encoding="utf-8")


@pytest.mark.parametrize(("seconds", "good"), [("20,5", True), ("1,000", False), ("20,5,1", False), ("2,25", True)])
def test_a_decimal_comma_is_read_and_a_thousand_is_not_taken_for_one(tmp_path, seconds, good):
    (row,) = read(tmp_path, f"narrative;seconds\nA story.;{seconds}\n")
    assert (row.error is None) == good


def test_other_columns_are_kept_for_the_report_and_an_index_too(tmp_path):
    text = ',id,narrative,caption,seed,\n0,x7,A story.,"A lamp, lit",1,\n1,,Another.,,2,\n'
    first, second = read(tmp_path, text)
    assert first.extra == {"Unnamed: 0": "0", "id": "x7", "caption": "A lamp, lit"}
    assert second.extra == {"Unnamed: 0": "1"}
    with pytest.raises(InvalidRequest, match="line 2 has 3 cells, the header has 2"):
        read(tmp_path, "narrative,seed\nA story.,1,oh\n")


def test_a_word_for_a_column_that_is_there_is_another_column(tmp_path):
    (row,) = read(tmp_path, "text,narrative,mood\nWhat a model wrote.,A story.,blue\n")
    assert row.extra == {"text": "What a model wrote.", "mood": "blue"}
    with pytest.raises(InvalidRequest, match="Did you mean 'narrative'"):
        read(tmp_path, "text,metadata\nA story.,\n")


def test_what_no_json_has_goes_into_the_report_as_text():
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame({"narrative": ["A story."], "count": [7], "when": [pd.Timestamp("2026-01-02")]})
    (row,) = rows_of(frame.assign(ratio=np.float32(0.5), gap=pd.NA, empty=float("nan")))
    assert json.loads(json.dumps(dict(row.extra), allow_nan=False)) == {
        "count": 7,
        "when": "2026-01-02 00:00:00",
        "ratio": 0.5,
    }


@pytest.mark.parametrize("name", ["scene 01", "Szene-Ä", "夜の灯台", "a.b_c", "7"])
def test_a_row_may_name_its_folder(tmp_path, name):
    (row,) = read(tmp_path, f"narrative,name\nA story.,{name}\n")
    assert (row.name, row.error) == (name, None)


@pytest.mark.parametrize(
    "name",
    ["../up", "a/b", "a\\b", ".hidden", "-o", "~", "a.", "CON", "nul.txt", "a:b", "replaced", "Report.json",
     "listen.html", "x" * 121, "\u202egnp", "a\u200bb", "a.partial-1", "...", "a\tb"],
)  # fmt: skip
def test_a_name_that_is_no_folders_is_one_rows_error(name):
    bad, good = rows_of([{"narrative": "A story.", "name": name}, {"narrative": "Another."}])
    assert bad.error.details["fields"] == ["name"]
    assert not bad.unreadable
    assert good.error is None


def test_a_name_twice_is_refused_with_both_lines_in_whatever_case(tmp_path):
    text = "narrative,name\nOne.,Lamp\nTwo.,other\nThree.,lamp\n"
    with pytest.raises(InvalidRequest, match="line 4 has the name 'lamp', as line 2 has"):
        read(tmp_path, text)
    rows = rows_of([{"narrative": "One.", "name": "é"}, {"narrative": "Two.", "name": "e\u0301"}])
    assert "row 2 has the name 'é', as row 1 has" in rows[1].error.message


def test_every_line_that_cannot_be_read_is_found_at_once(tmp_path):
    rows = read_rows(table(tmp_path, 'narrative,seed\nA, b,1\nGood.,1\n"x"y,2\nA\nb,2\nH,x\n'))
    assert [row.line for row in rows if row.unreadable] == [2, 4, 5]
    assert [row.line for row in rows if row.error and not row.unreadable] == [7]
    with pytest.raises(InvalidRequest, match="2 more rows can't be read"):
        refuse_unreadable(rows)


def test_settings_of_the_audio_engine_are_columns_as_a_spreadsheet_writes_them(tmp_path):
    text = (
        "narrative;CFG coef;Top-K;two_step_cfg;negative prompt;melody;audio_options\n"
        'A story.;2,5;50;yes;drums;sounds/a.wav;\nHome.;;;;;;"{""temperature"": 2, ""top_p"": ""0.5""}"\nAway.;;;;;;\n'
    )
    first, second, third = (row.request for row in read_rows(table(tmp_path, text)))
    assert first.audio_options == {
        "cfg_coef": 2.5, "top_k": 50, "two_step_cfg": True, "negative_prompt": "drums",
        "melody": str(tmp_path / "sounds/a.wav"),
    }  # fmt: skip
    assert second.audio_options == {"temperature": 2.0, "top_p": 0.5}
    assert third == SongRequest(narrative="Away.")


def test_settings_of_a_row_are_checked_as_its_other_cells(tmp_path):
    text = 'narrative,cfg_coef,audio_options\nA.,,[1]\nB.,,{\nC.,5,"{""cfg_coef"": 4}"\nD.,much,\n'
    rows = read_rows(table(tmp_path, text))
    assert [row.error and row.error.details["fields"] for row in rows] == [["audio_options"]] * 2 + [["cfg_coef"], None]
    assert rows[3].request.audio_options == {"cfg_coef": "much"}  # for the engine to refuse


def test_words_that_tables_have_for_other_things_are_no_settings(tmp_path):
    text = "narrative,source,steps,audio_options.steps\nA.,Grimm,two,20\n"
    (row,) = read_rows(table(tmp_path, text))
    assert row.extra == {"source": "Grimm", "steps": "two"}
    assert row.request.audio_options == {"steps": 20}
