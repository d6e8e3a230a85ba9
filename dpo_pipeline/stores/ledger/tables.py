"""The ledger's tables, and how a database that lacks some of them or of their columns gets them.

SQLAlchemy's Core without its ORM: every run and the code server import this, and the ORM is a third of SQLAlchemy.
"""

import json
from contextlib import suppress

import sqlalchemy as sa

from dpo_pipeline.core.rollout import MANUAL_PROMOTION
from dpo_pipeline.errors import LedgerTooNew
from dpo_pipeline.stores.database import alone

METADATA = sa.MetaData()

VERSIONS = sa.Table(
    "versions",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("parent", sa.Text),
    sa.Column("adapter_sha", sa.Text),
    sa.Column("adapter_dir", sa.Text),
    sa.Column("base_sha", sa.Text),
    sa.Column("dataset_hash", sa.Text),
    sa.Column("pairs", sa.Integer),
    sa.Column("pairs_seen", sa.Integer, nullable=False),
    sa.Column("feedback_mark", sa.Text),
    sa.Column("feedback_pairs", sa.Integer),
    sa.Column("labelled", sa.Integer),
    sa.Column("recipe", sa.Text),
    sa.Column("win_rate", sa.Float),
    sa.Column("evaluation", sa.Text),
    sa.Column("training_metrics", sa.Text),
    sa.Column("mlflow_run", sa.Text),
    sa.Column("mlflow_version", sa.Text),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("updated_at", sa.Text, nullable=False),
)
"""One row a version: what it is made of and what became of it. The newest attempt only."""

DEPLOYMENT = sa.Table(
    "deployment",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("champion", sa.Text),
    sa.Column("previous", sa.Text),
    sa.Column("challenger", sa.Text),
    sa.Column("stage", sa.Text),
    sa.Column("stage_since", sa.Text),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("mirrored", sa.Text),
    sa.Column("plan", sa.Text),
)
"""One row: who serves, who is being rolled out, at which stage and by which plan, and the epoch of that."""

DECISIONS = sa.Table(
    "decisions",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("reasons", sa.Text, nullable=False),
    sa.Column("evidence", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("decided_at", sa.Text, nullable=False),
)
"""Every decision, with what it rested on. A repeated hold keeps its row, with the newest evidence."""


SCHEMA = sa.Table("ledger_schema", METADATA, sa.Column("version", sa.Integer, primary_key=True))
"""One row: which of the schemas of this program the tables have. Raise `VERSION` with every change of a table."""
VERSION = 5
RENAMED = {"said": "message", "shown": "test_message"}
"""Of a rule beside a decision (`core.rollout.Condition`): the names of its texts before schema 5, and since."""


def prepare(engine: sa.Engine) -> None:
    """Create what is missing; the ledger of an earlier version of this program gets the columns that came since.

    Raises:
        LedgerTooNew: a later version of this program wrote it.
    """
    if _schema_of(engine) != VERSION:
        with alone(engine, "ledger schema"):
            _prepare(engine)


def _prepare(engine: sa.Engine) -> None:
    found = _schema_of(engine)
    if found == VERSION:  # another program was at the same, and first
        return
    if found > VERSION:
        raise LedgerTooNew(
            f"The ledger has schema {found}, this program knows up to {VERSION}: a later version of it wrote there. "
            "Install that version again; nothing was changed."
        )
    _create_tables(engine)
    _add_missing_columns(engine)
    _settle_champion(engine)
    _rename_in_decisions(engine)
    # Another program may have been at the same; what it wrote is what we would have.
    with suppress(sa.exc.IntegrityError), engine.begin() as connection:
        connection.execute(sa.delete(SCHEMA).where(SCHEMA.c.version < VERSION))
        connection.execute(sa.insert(SCHEMA).values(version=VERSION))


def _schema_of(engine: sa.Engine) -> int:
    """0: no ledger, or one from before schemas were numbered."""
    if not sa.inspect(engine).has_table(SCHEMA.name):
        return 0
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.max(SCHEMA.c.version))) or 0


def _settle_champion(engine: sa.Engine) -> None:
    """What serves is champion: where its training was run twice, earlier programs left it as trained or registered."""
    serving = sa.select(DEPLOYMENT.c.champion).scalar_subquery()
    unsettled = (VERSIONS.c.name == serving) & VERSIONS.c.status.in_(["trained", "registered"])
    with engine.connect() as connection:
        found = connection.scalar(sa.select(VERSIONS.c.name).where(unsettled))
    if found:
        with engine.begin() as connection:
            connection.execute(sa.update(VERSIONS).where(VERSIONS.c.name == found).values(status="champion"))


def _rename_in_decisions(engine: sa.Engine) -> None:
    """What decisions and the rules beside them were called by earlier programs."""
    manual = sa.update(DECISIONS).where(DECISIONS.c.decision == "order").values(decision=MANUAL_PROMOTION)
    with engine.begin() as connection:
        connection.execute(manual)
        for row in connection.execute(sa.select(DECISIONS.c.id, DECISIONS.c.evidence)).all():
            evidence = json.loads(row.evidence)
            rules = [
                {RENAMED.get(name, name): value for name, value in rule.items()}
                for rule in evidence.get("conditions", ())
            ]
            if rules != evidence.get("conditions", []):
                kept = json.dumps(evidence | {"conditions": rules}, ensure_ascii=False)
                connection.execute(sa.update(DECISIONS).where(DECISIONS.c.id == row.id).values(evidence=kept))


def _create_tables(engine: sa.Engine) -> None:
    """Those that are missing. Several programs may open a new ledger at once; whoever is second finds some there."""
    for _ in METADATA.tables:
        try:
            METADATA.create_all(engine)
        except (sa.exc.OperationalError, sa.exc.ProgrammingError) as error:
            if "already exists" not in str(error):
                raise
        else:
            return
    METADATA.create_all(engine)


def _add_missing_columns(engine: sa.Engine) -> None:
    """All that came later may be null."""
    present = sa.inspect(engine)
    for table in METADATA.sorted_tables:
        known = {column["name"] for column in present.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                kind = column.type.compile(engine.dialect)
                with engine.begin() as connection:
                    connection.execute(sa.text(f"alter table {table.name} add column {column.name} {kind}"))
