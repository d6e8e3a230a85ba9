"""Where no texts are kept, none is on disk after a chat and all that was said of it; what was said is."""

from pathlib import Path
from typing import Any

import pytest

from dpo_pipeline.loop.label import given_feedback, trainable_feedback
from dpo_pipeline.loop.personal_traces import traces
from dpo_pipeline_tests.examples import settings_in
from dpo_pipeline_tests.programs_under_test import serving
from dpo_pipeline_tests.serving.ab_page.desk import install
from dpo_pipeline_tests.upstream import Upstream, answered_by

ASKED = "Which of my neighbours plays the tuba?"


@pytest.mark.slow
def test_nothing_that_was_asked_or_answered_is_on_disk(models: Upstream, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, collection={"retain_texts_days": 0})
    install(settings)
    variables = answered_by(models) | {"DPO_ACCESS__PAGES": "false", "DPO_COLLECTION__RETAIN_TEXTS_DAYS": "0"}
    with serving(tmp_path, **variables) as server:
        body = {"model": "chat", "messages": [{"role": "user", "content": ASKED}], "user": "ann"}
        answer = server.client.post("/v1/chat/completions", json=body).json()

        def say(**said: Any) -> Any:
            return server.client.post("/v1/feedback", json={"request_id": answer["id"], **said})

        given: tuple[dict[str, Any], ...] = (
            {"action": "copy"}, {"action": "follow_up"}, {"action": "regenerate"}, {"rating": 2}, {"thumb": "up"},
        )  # fmt: skip
        assert [say(**said).status_code for said in given] == [201] * len(given)
        refused = say(correction="The one on the left.")
        assert refused.status_code == 400 and "Questions and answers are not kept here" in refused.text
    found = given_feedback(settings.serving_log_dir, (), 0)
    told = [(record.signal, record.value, record.prompt, record.answer) for _, _, record in found.said]
    assert told == [
        ("copy", "", "", ""), ("follow_up", "", "", ""), ("regenerate", "", "", ""), ("rating", 2, "", ""),
        ("thumb", "up", "", ""),
    ]  # fmt: skip
    assert trainable_feedback(settings, found).left_out == {"judgement": {"said_again": 1, "empty": 1}}
    assert list(traces(tmp_path, [ASKED, answer["choices"][0]["message"]["content"]])) == []
