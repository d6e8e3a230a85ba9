"""What serving remembers, in the database that servers share: the tests of the file, there."""

import pytest
import sqlalchemy as sa

from dpo_pipeline.stores.serving_state import Place
from dpo_pipeline_tests.stores.test_serving_state import (  # noqa: F401 (collected here too)
    test_a_ballot_is_taken_once_and_the_newest_are_kept,
    test_a_nickname_is_one_persons,
    test_a_person_is_forgotten_and_another_is_joined,
    test_one_address_brings_so_many_people_a_day,
    test_prompts_are_distinct_and_the_newest_come_first,
    test_turns_of_conversations_and_what_is_too_short_or_long_are_left_out,
    test_what_has_expired_is_dropped,
    test_what_simulated_people_ask_is_not_asked_of_people,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def place(engine: sa.Engine) -> Place:
    return engine
