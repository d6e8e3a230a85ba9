"""Dagster resources: how assets and sensors reach settings and stores. Each opens at use and closes in `finally`.

None has a field that the launchpad would offer: where data lies and how the loop is set is one thing for all programs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import ParamSpec, TypeVar

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource
from pydantic import PrivateAttr

from dpo_pipeline.errors import DatabaseUnavailable, WarehouseBusy
from dpo_pipeline.loop.calls import Call
from dpo_pipeline.ml.train_process import run
from dpo_pipeline.ml.worker import Worker
from dpo_pipeline.ray_training import train_on_ray
from dpo_pipeline.settings import Settings, load_settings
from dpo_pipeline.stores.ledger import Ledger
from dpo_pipeline.stores.logs import follow_logs
from dpo_pipeline.stores.published_files import share_published
from dpo_pipeline.stores.registry import Registry
from dpo_pipeline.stores.warehouse import Warehouse, prepare

P = ParamSpec("P")
T = TypeVar("T")


class LoopResource(dg.ConfigurableResource):
    """Settings, ledger and registry as of now."""

    _loaded: Settings | None = PrivateAttr(None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Settings are read once a run or tick: a run does not change them under way. Shared logs are brought up to
        the database first, so that it sees whatever was written before it began.
        """
        self._loaded = load_settings()
        follow_logs(self._loaded)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """What the run or tick wrote for people to look at goes to the servers of other machines."""
        with suppress(DatabaseUnavailable):  # the next one does it
            share_published(self.settings())

    def settings(self) -> Settings:
        return self._loaded or load_settings()

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        with Ledger(self.settings().ledger_address) as ledger:
            yield ledger

    def registry(self) -> Registry:
        settings = self.settings()
        return Registry(settings.mlflow_address, settings.registered_model)


class WarehouseResource(dg.ConfigurableResource):
    """The DuckDB file. dagster-duckdb retries for 100 s while another process holds it; we close on errors too."""

    @contextmanager
    def open(self, settings: Settings) -> Iterator[Warehouse]:
        """
        Raises:
            WarehouseBusy: another process kept the file.
        """
        path = settings.warehouse_path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with DuckDBResource(database=str(path)).get_connection() as connection:
                try:
                    prepare(connection)
                    yield Warehouse(connection, settings.prefs_log)
                finally:
                    connection.close()
        except duckdb.IOException as error:
            raise WarehouseBusy(
                f"{path} is held by another process ({error}). Only Dagster opens it, one run at a time: wait for that "
                "run, or close the shell that holds the file."
            ) from error


class Models(dg.ConfigurableResource):
    """The process in which a run's models live, from its first step to its end."""

    _worker: Worker | None = PrivateAttr(None)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["Models"]:
        self._worker = Worker()
        try:
            yield self
        finally:
            self._worker.close()

    def training_call(self, context: dg.AssetExecutionContext, settings: Settings) -> Call:
        """As `call`; trainings themselves run where the settings say."""
        if settings.training.backend == "local":
            return partial(self.call, context)

        def call(task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
            if task is run:
                return train_on_ray(context, settings, *args)  # type: ignore[return-value, arg-type]
            return self.call(context, task, *args, **kwargs)

        return call

    def call(self, context: dg.AssetExecutionContext, task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the task returns; what it logs meanwhile goes to the log of the step, through Dagster Pipes.

        Raises:
            DpoError: the task's own; or that it ended.
        """
        with dg.open_pipes_session(
            context, dg.PipesTempFileContextInjector(), dg.PipesTempFileMessageReader()
        ) as session:
            assert self._worker, "Dagster enters yield_for_execution first"
            return self._worker.call(partial(task, *args, **kwargs), session.get_bootstrap_env_vars())


class NothingHandedOver(dg.IOManager):
    """Steps hand nothing to each other: each reads what it needs from where it is kept.

    Dagster's default would ask for a folder in every launchpad. After its manager in memory it refuses to start a run
    again, whose process was killed, at the step that this was in.
    """

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        pass

    def load_input(self, context: dg.InputContext) -> object:
        raise NotImplementedError("a step reads what it needs by itself; it gets nothing from another one")


@dg.io_manager(description="Keeps nothing: steps hand nothing to each other.")
def nothing_handed_over(_: object) -> NothingHandedOver:
    return NothingHandedOver()


def resources() -> dict[str, object]:
    return {
        "loop": LoopResource(),
        "warehouse": WarehouseResource(),
        "models": Models(),
        "io_manager": nothing_handed_over,
    }
