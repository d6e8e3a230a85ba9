"""Where servers share a database: this one's copies of the logs, and of what was published for people to look at, are
brought up to it, as long as the server runs.
"""

from dpo_pipeline.serving.database_follower import DatabaseFollower
from dpo_pipeline.stores.leadership import SERVING, Leadership
from dpo_pipeline.stores.published_files import PublishedFiles
from dpo_pipeline.stores.shared_logs import SharedLogs

EVERY_S = 0.5


class LogFollower(DatabaseFollower):
    """
    Args:
        published: null where the files are written on this machine itself.
    """

    def __init__(self, logs: SharedLogs, published: PublishedFiles | None):
        super().__init__("shared logs", EVERY_S, self.follow, "pages show what was there before")
        self._logs, self._published = logs, published
        self._present = Leadership(logs.engine, SERVING, shared=True)

    def follow(self) -> None:
        """One turn.

        Raises:
            DatabaseUnavailable: the copies stay as far as they are.
        """
        self._present.held()
        self._logs.follow()
        if self._published:
            self._published.follow()

    def close(self) -> None:
        super().close()
        self._present.close()
