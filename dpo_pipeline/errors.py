"""Every error this project raises on purpose. Nothing here does anything but say what went wrong.

DpoError
├── SettingsError             a setting, profile or environment variable is wrong
├── LogError                  the preference log
│   ├── InvalidRecord         a line is not a valid event
│   ├── LogWriteError         an event could not be put on disk (nothing was acknowledged)
│   └── LogReplaced           the file shrank or is another file than the one read before
├── DatabaseUnavailable       the database that machines share does not answer
├── MigrationRefused          what would be moved is not what stands on the other side
├── UnreadableImport          a file given to `dpo import` is in no known form
├── RedactionFailed           a redactor of the user's own failed on a text, which was therefore not stored
├── WarehouseBusy             another process holds the DuckDB file
├── DatasetTooSmall           too few pairs to train on
├── EvaluationLeaked          a version was trained on questions that it is judged on
├── DisconnectedModels        votes that do not place all models on one scale; carries the groups
├── ArtifactError             a directory of ours on disk
│   ├── ArtifactMissing
│   ├── ArtifactUnavailable   the store that machines share does not answer
│   └── ArtifactCorrupt       sha256 differs, or the manifest is missing
├── ModelUnavailable          a base model that is not here and cannot be fetched
├── TrainingDiverged          NaN or infinite loss
├── TaskFailed                a model task hit an error that is not ours; carries its traceback
├── WorkerEnded               the process of a run's models was killed or crashed
├── AdapterRefused            an adapter that must not be registered or served
├── LedgerError
│   ├── StaleEpoch            somebody else moved the rollout first
│   ├── LedgerCorrupt         its file is damaged, or something else
│   ├── LedgerTooNew          a later version of this program wrote it
│   ├── UnknownVersion
│   ├── ForbiddenTransition   a status that cannot follow the one that a version has
│   ├── RebuildDiffers        a part of a registered version, built again, is not what is recorded
│   └── NoRollout             a decision about a rollout that is not under way
├── RegistryError             MLflow
│   ├── RegistryUnavailable   does not answer: asked again later
│   └── RegistryRefused       refuses for good: asking again does not help
├── NotificationFailed        a reminder or alert could not be sent
├── ServiceError              a program of ours could not start or did not answer
│   ├── PortTaken
│   └── DiskFull
└── RequestError              what a client asked of serving: `dpo_pipeline.request_errors`

Each message says what failed, what was found, what was required and what to do about it. It may name paths and
addresses of the server: those who use it over HTTP get `outside()`, and the message stands in its log.
"""


class DpoError(Exception):
    """Root of the tree: `except DpoError` at an edge (HTTP, CLI) catches only what we meant.

    `retry_after_s`: when it may be tried again, where that helps at all.
    """

    retry_after_s: int | None = None

    def outside(self) -> str:
        """What people and programs are told who have no business with the server's folders."""
        return "The server could not do this, and it is not your doing. Its log says why."


class SettingsError(DpoError):
    pass


class LogError(DpoError):
    pass


class InvalidRecord(LogError):
    pass


class LogWriteError(LogError):
    retry_after_s = 1

    def outside(self) -> str:
        return "The server could not write this down: nothing was recorded. Send it again; the server's log says why."


class LogReplaced(LogError):
    pass


class DatabaseUnavailable(DpoError):
    retry_after_s = 1

    def outside(self) -> str:
        return "The server's database does not answer. What you sent may not be recorded: send it again in a moment."


class MigrationRefused(DpoError):
    pass


class UnreadableImport(DpoError):
    pass


class RedactionFailed(DpoError):
    pass


class WarehouseBusy(DpoError):
    pass


class DatasetTooSmall(DpoError):
    pass


class EvaluationLeaked(DpoError):
    pass


class DisconnectedModels(DpoError):
    """Models that the votes do not place on one scale. `groups` holds the names, each group comparable in itself."""

    def __init__(self, message: str, groups: tuple[tuple[str, ...], ...]) -> None:
        super().__init__(message)
        self.groups = groups


class ArtifactError(DpoError):
    pass


class ArtifactUnavailable(ArtifactError):
    pass


class ArtifactMissing(ArtifactError):
    pass


class ArtifactCorrupt(ArtifactError):
    pass


class ModelUnavailable(DpoError):
    pass


class TrainingDiverged(DpoError):
    pass


class TaskFailed(DpoError):
    pass


class WorkerEnded(DpoError):
    pass


class AdapterRefused(DpoError):
    pass


class LedgerError(DpoError):
    pass


class LedgerTooNew(LedgerError):
    pass


class LedgerCorrupt(LedgerError):
    """Its file is damaged, or something else."""


class StaleEpoch(LedgerError):
    pass


class UnknownVersion(LedgerError):
    pass


class NoRollout(LedgerError):
    pass


class ForbiddenTransition(LedgerError):
    pass


class RebuildDiffers(LedgerError):
    pass


class RegistryError(DpoError):
    pass


class RegistryUnavailable(RegistryError):
    pass


class RegistryRefused(RegistryError):
    pass


class NotificationFailed(DpoError):
    pass


class ServiceError(DpoError):
    pass


class BackupRefused(ServiceError):
    pass


class PortTaken(ServiceError):
    pass


class DiskFull(ServiceError):
    pass
