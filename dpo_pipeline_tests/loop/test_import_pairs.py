"""Pairs from a file: each once, however often it is imported; what cannot be kept is refused with its row."""

import json
from pathlib import Path

from dpo_pipeline.loop.import_pairs import import_file

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
    assert (first.imported, first.already_there, first.examples[reason]) == (2, 0, 2)
    assert f"longer than {LIMIT} bytes" in reason
    assert (second.imported, second.already_there, second.refused) == (0, 2, first.refused)
    assert len(log.read_bytes().splitlines()) == 2
