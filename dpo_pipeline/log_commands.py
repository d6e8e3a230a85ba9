"""`dpo import`, `verify-log` and `rebuild`: the preference log, and what is made of it."""

from pathlib import Path
from typing import Annotated

import typer

from dpo_pipeline import terminal
from dpo_pipeline.commands import command, data_folder
from dpo_pipeline.errors import LogReplaced, RedactionFailed, ServiceError, UnreadableImport
from dpo_pipeline.settings import load_settings


@command("import")
def import_pairs(
    files: Annotated[list[Path], typer.Argument(help="JSON, JSONL, CSV, TSV or Parquet, each also gzipped")],
) -> None:
    """Import pairs from elsewhere, in the formats that other tools write. Exit status 1: a file holds no pair."""
    from dpo_pipeline.loop.import_pairs import ImportReport, import_file
    from dpo_pipeline.loop.redactor import redactor
    from dpo_pipeline.stores.logs import logs_of

    settings = data_folder()
    redact = redactor(settings.collection)
    reports: dict[str, ImportReport] = {}
    failed: list[str] = []
    for path in files:
        try:
            report = import_file(
                path, settings.prefs_log, settings.collection.max_line_bytes, redact, logs_of(settings)
            )
        except (UnreadableImport, RedactionFailed) as error:  # what the other files hold is told all the same
            failed.append(str(error))
            continue
        reports[path.name] = report
        if report.holds_no_pair:
            failed.append(
                f"{path}: no row is in a known form. Required: prompt or question, chosen, rejected; or one of the "
                'forms in the README, "Votes from elsewhere".'
            )
    terminal.print_imports(reports)
    if failed:
        raise UnreadableImport("\n".join(failed))
    terminal.console.print("The sensor `new_votes` validates them next; or launch the job `ingest_and_validate`.")


@command("verify-log")
def verify_log() -> None:
    """Compare every vote in the log with how it was read: a line that was changed since is told."""
    from dpo_pipeline.resources import WarehouseResource

    settings = load_settings()
    if not settings.warehouse_path.exists():
        raise ServiceError(f"{settings.warehouse_path} is not there: nothing was read yet that could be compared.")
    with WarehouseResource().open(settings) as warehouse:
        found = warehouse.changed_lines()
    if found.changed:
        raise LogReplaced(
            f"{len(found.changed)} of {found.compared} lines of {settings.prefs_log} differ from what was read: "
            f"{', '.join(found.changed[:20])}. Put the file back as it was, or, if the change was meant, run "
            "`dpo rebuild`."
        )
    terminal.console.print(f"{found.compared} lines of {settings.prefs_log} are as they were read.", soft_wrap=True)
    if found.unknown:
        terminal.console.print(f"{found.unknown} older lines cannot be compared; `dpo rebuild` reads them again.")


@command("rebuild")
def rebuild() -> None:
    """Delete the warehouse: the next curation run builds it again from the log as it stands."""
    from dpo_pipeline.loop.curate import rebuild_warehouse
    from dpo_pipeline.stores.ledger import utc_now

    settings = load_settings()
    rebuild_warehouse(settings, utc_now())
    terminal.console.print(
        f"{settings.warehouse_path} is deleted. The sensor `new_votes` has it rebuilt in a "
        "moment if Dagster runs; otherwise launch the job `ingest_and_validate`."
    )
