"""What was asked and answered, a file a day: kept for a set number of days, then the file is deleted.

Apart from the serving log, which is counted from beginning to end every few seconds and is kept.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path

import msgspec

from dpo_pipeline.core.identity import Identity
from dpo_pipeline.stores.log import FILES, Logs
from dpo_pipeline.stores.log_reading import days_of
from dpo_pipeline.stores.write_behind import WriteBehind


class ServedText(msgspec.Struct, frozen=True, kw_only=True):
    """An answered request, without personal data. A conversation's prompt is the list of its messages.

    `whole` is false where the answer was stopped.
    """

    request_id: str
    recorded_at: str
    user: str
    version: str
    prompt: str | list[dict[str, str]]
    answer: str
    source: str
    identity: Identity | msgspec.UnsetType = msgspec.UNSET
    whole: bool = True


_decoder = msgspec.json.Decoder(ServedText)


class ServedTexts:
    """
    Args:
        keep_days: so many days are kept beside today; 0: nothing is.
    """

    def __init__(self, directory: Path, keep_days: int, logs: Logs = FILES):
        self._directory, self._keep_days, self._logs = directory, keep_days, logs
        self._behind = WriteBehind(self._write, "served texts")
        self.expire(datetime.now(UTC).date())

    def close(self) -> None:
        self._behind.close()

    @property
    def keeps(self) -> bool:
        return self._keep_days > 0

    def append(self, text: ServedText) -> None:
        self._behind.put(text)

    def expire(self, today: date) -> None:
        """Delete the files of days that are over their time, also those that another setting kept."""
        oldest = (today - timedelta(days=self._keep_days)).isoformat() if self.keeps else "9999"
        for path in days_of(self._directory):
            if path.stem < oldest:
                self._logs.remove(path)

    def _write(self, texts: list[ServedText]) -> None:
        for day, group in groupby(texts, key=lambda text: text.recorded_at[:10]):
            log = self._logs.open(self._directory / f"{day}.jsonl", durable=False)
            log.append_all([msgspec.json.encode(text) for text in group])


def read_texts(directory: Path) -> Iterator[ServedText]:
    """All that are kept, oldest first.

    They are written without a sync: a line that is none, as after a power cut, is passed over.
    """
    for path in days_of(directory):
        with path.open("rb") as lines:
            for line in lines:
                try:
                    yield _decoder.decode(line)
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    continue
