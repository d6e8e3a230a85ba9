"""The votes as a file for other tools: byte for byte as the log has them, of all machines where several share it."""

from pathlib import Path

from dpo_pipeline.errors import LogError
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.artifacts import replacing
from dpo_pipeline.stores.log import file_bytes
from dpo_pipeline.stores.log_reading import READ_BYTES, line_start
from dpo_pipeline.stores.logs import follow_logs


def export_votes(settings: Settings, target: Path) -> int:
    """Write every whole line of the log; returns how many. One that is being written is left for the next time.

    Programs may run meanwhile. The file is replaced in one step: whoever reads it sees all of one export.

    Raises:
        LogError: there is no vote yet, or the file is the log itself.
        DatabaseUnavailable: what the machines share cannot be reached.
    """
    follow_logs(settings)
    log = settings.prefs_log
    left = line_start(log, file_bytes(log)) if log.exists() else 0
    if not left:
        raise LogError(f"{log} holds no vote yet: there is nothing to export.")
    if target.exists() and target.samefile(log):
        raise LogError(f"{target} is the log itself. Name another file.")
    lines = 0
    with log.open("rb") as source, replacing(target) as copy:
        while part := source.read(min(left, READ_BYTES)):
            copy.write(part)
            left, lines = left - len(part), lines + part.count(b"\n")
    return lines
