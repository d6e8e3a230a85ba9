"""Use cases: what a person could call without Dagster. They read from stores, decide through `core`, return a value."""
