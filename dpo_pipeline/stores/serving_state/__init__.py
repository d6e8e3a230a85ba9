"""What serving must remember over a restart: open comparisons, who was answered what, and who came.

SQLite beside the serving log, or the database that several servers share. Texts and model names stay here, on the
server; a vote brings only a token. `records` has what is kept, `tables` where, `state` what a server does with it,
`met` whom it met, `people` what is done for one person while the servers are stopped.
"""

from dpo_pipeline.stores.serving_state.people import (
    forget_person,
    join_people,
    kept_requests,
    nicknames_of,
    people_of,
)
from dpo_pipeline.stores.serving_state.records import (
    NEWEST_PROMPTS,
    REQUESTS_LOOKED_AT,
    Met,
    StoredComparison,
    StoredRequest,
    own_turns,
)
from dpo_pipeline.stores.serving_state.state import ServingState, newest_prompts
from dpo_pipeline.stores.serving_state.tables import Place, opened_for_copy, place_of

__all__ = [
    "NEWEST_PROMPTS",
    "REQUESTS_LOOKED_AT",
    "Met",
    "Place",
    "ServingState",
    "StoredComparison",
    "StoredRequest",
    "forget_person",
    "join_people",
    "kept_requests",
    "newest_prompts",
    "nicknames_of",
    "opened_for_copy",
    "own_turns",
    "people_of",
    "place_of",
]
