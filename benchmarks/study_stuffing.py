"""How many invented names promote a version, roll it back, or plant a tenth of a dataset?

Against a real server: 200 names from ten addresses within a day, as an attacker sends them over HTTP. The attacker is
given more than they would have: they always know which answer is whose, so every vote goes where they want it. Beside
them a team of eight votes 25 times each, evenly. The rival is the same server under the rules of before: what anybody
says counts, whoever vouches for it. How many names are needed is found by deciding again after each name, with the
function that Dagster's asset decides with. Goal: with 200 names from ten addresses none of the three.

Two more worlds are told and have no goal: names that are invented at the machine itself, where nobody holds a key, on
the first day, and once they are known for a day.
"""

import argparse
import asyncio
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import httpx
import msgspec
from inputs import accepted, baseline, settings_for, successor
from reporting import Goal, report, say, show
from servers import our_server

from dpo_pipeline.core.ab_test import read_votes
from dpo_pipeline.core.exposure import NO_AUDIENCE, RolloutPlan
from dpo_pipeline.core.identity import burst
from dpo_pipeline.core.quality import more_detailed
from dpo_pipeline.core.rollout import Evidence, decide
from dpo_pipeline.core.winrate import Outcome
from dpo_pipeline.loop.curate import curate
from dpo_pipeline.loop.ingest import ingest
from dpo_pipeline.settings import Settings, load_settings
from dpo_pipeline.stores.artifacts import read_manifest
from dpo_pipeline.stores.key_ring import KeyRing
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.pseudonyms import pseudonym_of, signing_key
from dpo_pipeline.stores.serving_state import StoredComparison
from dpo_pipeline.stores.warehouse import Warehouse, prepare

NAMES, ADDRESSES, VOTES_EACH, TEAM, TEAM_VOTES, AT_ONCE = 200, 10, 4, 8, 25, 16
PLANTED = 0.1
BEFORE = {
    "DPO_ROLLOUT__COUNT_UNPROVEN": "true", "DPO_QUALITY__MAX_ANONYMOUS_SHARE": "null",
    "DPO_LIMITS__NEW_PEOPLE_PER_DAY": "100000",
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """Under which rules the names come, from where, and how long the first of them are known."""

    name: str
    rules: dict[str, str]
    elsewhere: bool
    team_holds_keys: bool = True


WORLDS = (
    World("before", BEFORE, elsewhere=True),
    World("ten addresses", {}, elsewhere=True),
    World("ten addresses, nobody holds a key", {}, elsewhere=True, team_holds_keys=False),
    World("at the machine, first day", {}, elsewhere=False, team_holds_keys=False),
    World("at the machine, known for a day", {"DPO_ACCESS__SETTLE_H": "0"}, elsewhere=False, team_holds_keys=False),
)


def stage(settings: Settings, folder: Path) -> None:
    """A data folder whose v1.1 is in staging beside v1.0."""
    base, first = baseline(settings)
    second = successor(settings, base, first)
    ours = load_settings(data_dir=folder)
    shutil.copytree(settings.artifacts_dir / "base", ours.artifacts_dir / "base")
    with Ledger(ours.ledger_address) as ledger:
        for name, trained in (("v1.0", first), ("v1.1", second)):
            place = ours.artifacts_dir / "adapters" / name
            shutil.copytree(trained.adapter_dir, place)
            accepted(ledger, name, read_manifest(place)["sha256"], place)
        epoch = ledger.install_champion("v1.0", actor="study").epoch
        ledger.start_rollout("v1.1", epoch, ("study",), actor="study")


async def vote(client: httpx.AsyncClient, state: Path, headers: dict[str, str], name: str, wanted: str) -> int:
    """One comparison and a vote: for v1.1, for v1.0, or for the answer that can be trained on; the status of it."""
    shown = await client.get("/v1/comparisons/next", params={"annotator": name}, headers=headers)
    if shown.status_code != 201:
        return shown.status_code
    body = shown.json()
    with closing(sqlite3.connect(f"file:{state}?mode=ro", uri=True, timeout=10)) as database:
        query = "select content from comparisons where id = ?"
        (content,) = database.execute(query, (body["comparison_id"],)).fetchone()
    kept = msgspec.json.decode(content, type=StoredComparison)
    if wanted == "longer":
        side = "left" if more_detailed(body["answers"]["left"], body["answers"]["right"]) else "right"
    else:
        is_a = kept.model_a == wanted
        side = "left" if (kept.left == "a") == is_a else "right"
    path = f"/v1/comparisons/{body['comparison_id']}/vote"
    return (await client.post(path, json={"token": body["token"], "vote": side}, headers=headers)).status_code


async def attack(url: str, settings: Settings, world: World, wanted: str, keys: dict[str, str]) -> dict[int, int]:
    """First the team, then name after name; how many answers had which status."""
    places = asyncio.Semaphore(AT_ONCE)
    statuses: dict[int, int] = {}

    async def one(headers: dict[str, str], name: str, wanted: str) -> None:
        async with places:
            status = await vote(client, settings.serving_state, headers, name, wanted)
            statuses[status] = statuses.get(status, 0) + 1

    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        team = [(name, "longer" if wanted == "longer" else ("v1.0", "v1.1")[n % 2])
                for name in team_names() for n in range(TEAM_VOTES)]  # fmt: skip
        async with asyncio.TaskGroup() as group:
            for name, side in team:
                known = {"Authorization": f"Bearer {keys[name]}"} if keys else {}
                group.create_task(one(known, name, side))
        statuses.clear()
        for number in range(NAMES):
            headers = {"X-Forwarded-For": f"198.51.100.{number % ADDRESSES}"} if world.elsewhere else {}
            async with asyncio.TaskGroup() as group:
                for _ in range(VOTES_EACH):
                    group.create_task(one(headers, f"name {number}", wanted))
    return statuses


def team_names() -> list[str]:
    return [f"member {number}" for number in range(TEAM)]


def judged(settings: Settings, world: World, wanted: str) -> dict[str, Any]:
    """What came of it: how many names the decision needs, or which share of the valid pairs is theirs."""
    key = signing_key(settings)
    team = {pseudonym_of(name, key) for name in team_names()}
    settings.warehouse_path.parent.mkdir(parents=True, exist_ok=True)
    with closing(duckdb.connect(settings.warehouse_path)) as connection:
        prepare(connection)
        warehouse = Warehouse(connection, settings.prefs_log)
        ingest(warehouse, settings.quarantine_log, settings.collection.max_line_bytes, settings.quality)
        curate(settings, warehouse)
        if wanted == "longer":
            rows = connection.execute(
                "select annotator from preferences join validations using (sequence) where valid order by sequence"
            ).fetchall()
            valid = [annotator for (annotator,) in rows]
            theirs = sum(annotator not in team for annotator in valid)
            return {"valid pairs": len(valid), "of invented names": theirs, "needed": _to_plant(valid, team)}
        counted = warehouse.head_to_head("v1.1", "v1.0", settings.rollout.count_unproven)
        strangers = warehouse.unproven("v1.1", "v1.0", "2000-01-01T00:00:00Z")
    return {"needed": _to_decide(settings, counted, strangers, team), "counted": len(counted)}


def _to_decide(
    settings: Settings, counted: list[tuple[str, Outcome]], strangers: list[tuple[str, Outcome]], team: set[str]
) -> int | None:
    """After how many invented names the version moves; null: with all of them it stays where it is."""
    plan = RolloutPlan(settings.rollout, "person", NO_AUDIENCE, 0.0)
    order = list(dict.fromkeys(name for name, _ in [*counted, *strangers] if name not in team))
    suspected = [] if settings.rollout.count_unproven else strangers
    for number in range(1, len(order) + 1):
        known = team | set(order[:number])
        votes = read_votes([each for each in counted if each[0] in known], settings.rollout, NO_AUDIENCE)
        crowd = burst([each for each in suspected if each[0] in known])
        if decide(Evidence("staging", 1, votes, burst=crowd), plan).decision != "hold":
            return number
    return None


def _to_plant(valid: list[str], team: set[str]) -> int | None:
    """With the votes of how many of them a tenth of the dataset is theirs; null: it never is."""
    names: set[str] = set()
    honest = sum(annotator in team for annotator in valid)
    planted = 0
    for annotator in valid:
        if annotator in team:
            continue
        names.add(annotator)
        planted += 1
        if planted >= PLANTED * (honest + planted):
            return len(names)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where base and versions are trained; default: of the settings")
    settings = settings_for(parser.parse_args().data_dir)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="study-stuffing-") as folder:
        staged = Path(folder) / "staged"
        stage(settings, staged)
        for world in WORLDS:
            row: dict[str, Any] = {"world": world.name}
            for goal, wanted in (("promote", "v1.1"), ("roll back", "v1.0"), ("plant a tenth", "longer")):
                begun = time.perf_counter()
                place = Path(folder) / f"{len(rows)}-{wanted}"
                shutil.copytree(staged, place)
                ours = load_settings(data_dir=place)
                keys = {}
                if world.team_holds_keys:
                    ring = KeyRing(ours.keys_log)
                    keys = {name: ring.add(name, "rater") for name in team_names()}
                with our_server(place, **world.rules) as url:
                    statuses = asyncio.run(attack(url, ours, world, wanted, keys))
                found = judged(_with_rules(ours, world), world, wanted)
                row[goal] = found["needed"] if found["needed"] is not None else f"not with {NAMES}"
                say(f"{world.name}, {goal}: {found}, {statuses} in {time.perf_counter() - begun:.0f} s")
            rows.append(row)
    show("Invented names that are needed", rows)
    after = [row for row in rows if row["world"].startswith("ten")]
    reached = sum(isinstance(row[goal], int) for row in after for goal in ("promote", "roll back", "plant a tenth"))
    report("study_stuffing", [Goal("attacks that succeed from ten addresses", reached, "at most", 0)], {"worlds": rows})


def _with_rules(settings: Settings, world: World) -> Settings:
    if world.rules is not BEFORE:
        return settings
    return settings.model_copy(
        update={
            "rollout": settings.rollout.model_copy(update={"count_unproven": True}),
            "quality": settings.quality.model_copy(update={"max_anonymous_share": None}),
        }
    )


if __name__ == "__main__":
    main()
