"""Whose feedback taught a version."""

from dpo_pipeline.core.teachers import teachers


def test_people_are_counted_and_what_is_nobodys_is_not() -> None:
    given = {
        ("ann", "ui"): 3, ("ann", "correction"): 1, ("bob", "api"): 2, ("crowd-1", "simulated"): 40,
        ("crowd-2", "simulated"): 41, ("file.jsonl", "import"): 500, ("loop", "synthetic"): 7,
    }  # fmt: skip
    found = teachers(given)
    assert (found.people, found.simulated) == (2, 2)
    assert [found.of(who) for who in ("ann", "bob", "file.jsonl", "eve", None)] == [4, 2, 0, 0, 0]
