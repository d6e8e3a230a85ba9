"""Pairs from a file: each once, however often it is imported; what cannot be kept is refused with its row."""

import codecs
import gzip
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_pipeline.core.votes import decode_preference
from dpo_pipeline.errors import UnreadableImport
from dpo_pipeline.loop.import_pairs import import_file
from dpo_pipeline.settings import PROJECT_DIR
from dpo_pipeline.stores import import_files

LIMIT = 4096


def test_a_pair_too_long_for_a_line_of_the_log_is_refused_and_the_others_are_kept_once(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Why do cats purr?", "chosen": "They purr when content. It heals them.", "rejected": "Who knows?"},
        {"prompt": "Why is the sky blue?", "chosen": "word " * LIMIT, "rejected": "Who knows?"},
        {"prompt": "Why does ice float?", "chosen": "It is less dense than water. So it floats.", "rejected": "Hm."},
    ]
    file, log = tmp_path / "pairs.jsonl", tmp_path / "prefs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = (import_file(file, log, LIMIT) for _ in range(2))
    [reason] = first.refused
    assert (first.imported, first.already_there, first.examples[reason]) == (2, 0, [2])
    assert f"longer than {LIMIT} bytes" in reason
    assert (second.imported, second.already_there, second.refused) == (0, 2, first.refused)
    assert len(log.read_bytes().splitlines()) == 2


def test_a_text_longer_than_any_other_door_lets_in_is_refused(tmp_path: Path) -> None:
    long, short = "word " * 6_401, "Who knows? Nobody does."
    rows = [
        {"prompt": "Why?", "chosen": long, "rejected": short},
        {"prompt": "Why?", "chosen": short, "rejected": long},
        {"prompt": long, "chosen": short, "rejected": "Hm."},
        {"prompt": "Why?", "chosen": short, "rejected": "Hm."},
    ]
    file, log = tmp_path / "pairs.jsonl", tmp_path / "prefs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = import_file(file, log, 1 << 20)
    assert done.imported == 1 and sum(done.refused.values()) == 3
    assert all("has 32005 characters; at most 32000 fit" in reason for reason in done.refused)


def test_a_few_bytes_that_unpack_to_any_number_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_files, "MOST_BYTES", 1 << 20)
    file = tmp_path / "pairs.jsonl.gz"
    file.write_bytes(gzip.compress(b" " * (2 << 20)))
    assert file.stat().st_size < 10_000
    with pytest.raises(UnreadableImport, match="holds more than"):
        import_file(file, tmp_path / "prefs.jsonl", LIMIT)


ROWS = [
    {"prompt": f"Why {number}?", "chosen": "Because of rain. It falls.", "rejected": "No idea."} for number in range(3)
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
TABLE = "prompt,chosen,rejected\n" + "".join(f"{row['prompt']},{row['chosen']},{row['rejected']}\n" for row in ROWS)


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pairs.jsonl", LINES.encode()),
        ("pairs.jsonl", LINES.replace("\n", "\r\n").encode()),
        ("pairs.json", codecs.BOM_UTF8 + json.dumps(ROWS, indent=2).encode()),
        ("pairs.json", json.dumps({"data": ROWS, "info": {}}).encode()),
        ("pairs.json", json.dumps({"rows": [{"row_idx": 0, "row": row} for row in ROWS]}).encode()),
        ("pairs.json", json.dumps({"rows": ROWS}, indent=1).encode("utf-16")),
        ("pairs.jsonl", LINES.encode("utf-16")),
        ("pairs.jsonl", LINES.encode("utf-16-le")),
        ("pairs.json", json.dumps(ROWS).encode("utf-16-be")),
        ("pairs.jsonl", LINES.encode("utf-32")),
        ("pairs.csv.jsonl", LINES.encode()),
        ("pairs.json.CSV", TABLE.encode("utf-16-le")),
        ("pairs.csv", TABLE.encode()),
        ("pairs.tsv", TABLE.replace(",", "\t").encode("utf-8-sig")),
        ("pairs.parquet", parquet()),
        ("pairs.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("pairs [old].csv.gz", gzip.compress(TABLE.encode(), mtime=0)),
    ],
)
def test_the_same_rows_in_every_kind_of_file(tmp_path: Path, name: str, content: bytes) -> None:
    file, log = tmp_path / name, tmp_path / "prefs.jsonl"
    file.write_bytes(content)
    report = import_file(file, log, LIMIT)
    assert (report.imported, report.refused) == (3, {})
    assert [decode_preference(line).prompt for line in log.read_bytes().splitlines()] == [row["prompt"] for row in ROWS]


def test_a_row_of_an_array_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    file, deep = tmp_path / "pairs.json", '{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}"
    rows = [json.dumps({**ROWS[0], "prompt": 'Which of "]", "[" and "\\"," is first?'}), deep, *map(json.dumps, ROWS)]
    file.write_text(f"[{', '.join(rows)}]")
    report = import_file(file, tmp_path / "prefs.jsonl", LIMIT)
    assert report.imported == 4 and report.examples == {"nested too deeply": [2]}
    file.write_text(f"[{', '.join(rows)}, {rows[0]}, " + '{"prompt": "' + '\\"' * 100_000)
    report = import_file(file, tmp_path / "cut_off.jsonl", LIMIT)
    assert report.imported == 4 and report.examples == {"nested too deeply": [2], "not JSON in UTF-8": [7]}


@pytest.mark.parametrize("wrap", ["[{}]", "{}"])
def test_a_number_of_any_length_costs_no_row(tmp_path: Path, wrap: str) -> None:
    file = tmp_path / "pairs.json"
    file.write_text(wrap.format(json.dumps(ROWS[0])[:-1] + ', "score_chosen": ' + "9" * 10_000 + "}"))
    assert import_file(file, tmp_path / "prefs.jsonl", LIMIT).imported == 1


def test_cells_of_a_table_hold_lists_where_the_column_does(tmp_path: Path) -> None:
    file, log = tmp_path / "pairs.tsv", tmp_path / "prefs.jsonl"
    file.write_text('instruction\thistory\toutput\nGo on.\t[["Hi", "Ho"]]\t["Better. Yes.", "Worse"]\n')
    assert import_file(file, log, LIMIT).imported == 1
    event = decode_preference(log.read_bytes().strip())
    assert [each.content for each in event.prompt] == ["Hi", "Ho", "Go on."] and event.chosen == "Better. Yes."


def test_a_datasets_repository(tmp_path: Path) -> None:
    folder, log = tmp_path / "dataset", tmp_path / "prefs.jsonl"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("# A dataset")
    (folder / "data" / "train-00000-of-00002.parquet").write_bytes(parquet())
    (folder / "data" / "train-00001-of-00002.jsonl.gz").write_bytes(gzip.compress(b'not json\n{"prompt": "x"}\n'))
    (folder / "tokenizer_config.json").write_text("[broken")
    (folder / "x.json").mkdir()
    (folder / ".cache").mkdir()
    (folder / ".cache" / "old.jsonl").write_text(LINES)
    report = import_file(folder, log, LIMIT)
    broken = "a file of the folder that holds no rows"
    assert report.imported == 3 and report.examples == {
        "not JSON in UTF-8": [4],
        "no chosen and no rejected": [5],
        broken: [6],
    }


def test_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    file, log = tmp_path / os.fsdecode(b"pairs\xff.jsonl"), tmp_path / "prefs.jsonl"
    file.write_text(LINES)
    assert import_file(file, log, LIMIT).imported == 3
    assert decode_preference(log.read_bytes().splitlines()[0]).session_id == "import-pairs?"


def test_a_row_nested_too_deeply_costs_no_other(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(LINES + '{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}\n" + "not json\n")
    report = import_file(file, tmp_path / "prefs.jsonl", LIMIT)
    assert report.imported == 3 and report.examples == {"nested too deeply": [4], "not JSON in UTF-8": [5]}


@pytest.mark.parametrize("special", ["fifo", "folder", "endless"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, special: str) -> None:
    path = tmp_path / special
    made = {"fifo": os.mkfifo, "folder": os.mkdir, "endless": lambda path: path.symlink_to("/dev/zero")}
    made[special](path)
    with pytest.raises(UnreadableImport, match="is no regular file"):
        import_file(path, tmp_path / "prefs.jsonl", LIMIT)


CASES = PROJECT_DIR.parent / "shared" / "cases"


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here (../shared/cases)")
@pytest.mark.parametrize(
    ("name", "imported", "refused"),
    [
        ("01_ultrafeedback_binarized.jsonl", 1, 0),
        ("02_orca_dpo_pairs_system.jsonl", 1, 0),
        ("07_null_columns.jsonl", 4, 0),
        ("08_bom_array.json", 1, 0),
        ("27_output_pair.jsonl", 1, 0),
        ("39_pairs [old].jsonl", 1, 0),
    ],
)
def test_files_that_others_write(tmp_path: Path, name: str, imported: int, refused: int) -> None:
    report = import_file(CASES / name, tmp_path / "prefs.jsonl", LIMIT)
    assert (report.imported, report.refused.total()) == (imported, refused)


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here (../shared/cases)")
@pytest.mark.parametrize(
    "name", ["17_tool_roles.jsonl", "19_last_is_user.jsonl", "36_multi_turn_assistant_differs.jsonl"]
)
def test_rows_that_cannot_be_kept_whole_are_refused(tmp_path: Path, name: str) -> None:
    report = import_file(CASES / name, tmp_path / "prefs.jsonl", LIMIT)
    assert report.holds_no_pair and report.imported == 0 and not (tmp_path / "prefs.jsonl").exists()


@pytest.mark.parametrize(
    "content", [gzip.compress(LINES.encode(), mtime=0)[:40] + b"x" * 40, parquet()[:60] + b"x" * 400]
)
def test_a_damaged_file_is_told_as_one(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pairs.bin"
    file.write_bytes(content)
    with pytest.raises(UnreadableImport):
        import_file(file, tmp_path / "prefs.jsonl", LIMIT)


def test_one_object_over_several_lines_is_one_row(tmp_path: Path) -> None:
    file = tmp_path / "pair.json"
    file.write_text(json.dumps({**ROWS[0], "data": ["of its own"]}, indent=2))
    assert import_file(file, tmp_path / "prefs.jsonl", LIMIT).imported == 1


def test_a_list_in_a_table_is_a_text(tmp_path: Path) -> None:
    file, log = tmp_path / "pairs.csv", tmp_path / "prefs.jsonl"
    file.write_text('prompt,chosen,rejected\nSort 3 and 2.,"[2, 3]","[3, 2]"\n')
    assert (
        import_file(file, log, LIMIT).imported == 1 and decode_preference(log.read_bytes().strip()).chosen == "[2, 3]"
    )


@pytest.mark.parametrize("splits", [False, True])
def test_a_folder_that_hugging_face_saved(tmp_path: Path, splits: bool) -> None:
    from datasets import Dataset, DatasetDict

    rows = [json.loads(line) for line in LINES.splitlines()]
    saved = Dataset.from_list(rows)
    folder, log = tmp_path / "saved [old]", tmp_path / "prefs.jsonl"
    (DatasetDict(train=saved, test=saved) if splits else saved).save_to_disk(str(folder))
    report = import_file(folder, log, LIMIT)
    assert report.imported == len(rows) and report.already_there == (len(rows) if splits else 0)
    (next(folder.rglob("*.arrow"))).write_bytes(b"cut off")
    with pytest.raises(UnreadableImport, match="Save it again"):
        import_file(folder, log, LIMIT)
