"""DuckDB: what the log says, validated. Incremental; deleted, it is rebuilt from the log with the same result.

Only Dagster opens the file, one run at a time; everybody else reads the summary that `publish_summary` puts beside it.
Every query costs what the new rows cost, not what all rows cost. `schema` has the tables, `votes` what curation
reads and writes, `texts` the votes themselves, `counts` what is counted of people's votes.
"""

from dpo_pipeline.stores.warehouse.schema import prepare
from dpo_pipeline.stores.warehouse.texts import ComparedLines
from dpo_pipeline.stores.warehouse.votes import Cases, Warehouse

__all__ = ["Cases", "ComparedLines", "Warehouse", "prepare"]
