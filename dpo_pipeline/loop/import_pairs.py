"""`dpo import FILE`: pairs from elsewhere into the preference log. Doing it twice records nothing twice."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from dpo_pipeline.core.admission import check_text
from dpo_pipeline.core.imported_pair import ImportedPair, as_preference
from dpo_pipeline.core.pair_formats import read_pair
from dpo_pipeline.core.redaction import Redactor, redact
from dpo_pipeline.core.votes import encode_preference
from dpo_pipeline.errors import InvalidRecord, RedactionFailed
from dpo_pipeline.request_errors import InvalidRequest
from dpo_pipeline.stores.import_files import read_rows
from dpo_pipeline.stores.ledger import utc_now
from dpo_pipeline.stores.log import FILES, Logs
from dpo_pipeline.stores.log_reading import Position, read_batches

BATCH, EXAMPLES = 500, 5


@dataclass
class ImportReport:
    """Counts of rows; `refused` by reason, `examples` the numbers of the first rows of each."""

    imported: int = 0
    already_there: int = 0
    forms: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[int]] = field(default_factory=dict)

    @property
    def holds_no_pair(self) -> bool:
        return bool(self.refused) and not self.forms


def import_file(
    path: Path, log: Path, max_line_bytes: int, redact: Redactor = redact, logs: Logs = FILES
) -> ImportReport:
    """Append every pair of the file that is not in the log yet, without the personal data that `redact` finds.

    Raises:
        RedactionFailed: with the number of the row; nothing was written.
        UnreadableImport: no such file, or none that holds rows; nothing was written.
        LogWriteError: the disk refused it; what was written before stays, and running again goes on.
    """
    report = ImportReport()
    seen = _imported_ids(log, max_line_bytes)
    writer, waiting = logs.open(log), []
    # A name may hold bytes that are no text in this system's encoding.
    source_name = redact(path.stem.encode(errors="replace").decode())
    for number, row in list(read_rows(path)):
        try:
            if isinstance(row, InvalidRecord):
                raise row
            pair = read_pair(row)
            _check_lengths(pair)
            event = as_preference(pair, source_name, utc_now(), redact)
            line = encode_preference(event)
            if len(line) > max_line_bytes:
                raise InvalidRecord(f"longer than {max_line_bytes} bytes as a line of the log")
        except RedactionFailed as error:
            raise RedactionFailed(f"{path}, row {number}: {error}") from None
        except InvalidRecord as error:
            report.refused[str(error)] += 1
            shown = report.examples.setdefault(str(error), [])
            shown += [number] * (len(shown) < EXAMPLES)
            continue
        report.forms[pair.form] += 1
        if event.event_id in seen:
            report.already_there += 1
            continue
        seen.add(event.event_id)
        waiting.append(line)
        report.imported += 1
    for start in range(0, len(waiting), BATCH):
        writer.append_all(waiting[start : start + BATCH])
    return report


def _check_lengths(pair: ImportedPair) -> None:
    """As at every other door: what is longer than people and models are given would hold up whoever judges it."""
    try:
        for name, text in (("The chosen answer", pair.chosen), ("The rejected answer", pair.rejected)):
            check_text(name, text)
        turns = [pair.prompt] if isinstance(pair.prompt, str) else [turn.content for turn in pair.prompt]
        for text in turns:
            check_text("The question", text)
    except InvalidRequest as error:
        raise InvalidRecord(str(error)) from None


def _imported_ids(log: Path, max_line_bytes: int) -> set[str]:
    """Event ids of earlier imports, read from the log."""
    found = set()
    for batch in read_batches(log, Position(), max_line_bytes):
        for line in batch.lines:
            if line.data and b'"event_id":"imp-' in line.data[:200]:
                start = line.data.index(b'"event_id":"') + len(b'"event_id":"')
                found.add(line.data[start : line.data.index(b'"', start)].decode("ascii", errors="replace"))
    return found
