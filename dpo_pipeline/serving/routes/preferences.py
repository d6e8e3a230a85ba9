"""What was collected, as files for trainers: the pairs that the filters of the review page let through."""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from dpo_pipeline.core.pair_export import ExportForm
from dpo_pipeline.core.validated_pair import PairFilter
from dpo_pipeline.serving.routes.parts import KEYED, Served, errors

router = APIRouter(prefix="/v1/preferences", tags=["preferences"], dependencies=KEYED)


@router.get("", summary="Preference pairs as a file", response_class=StreamingResponse, responses=errors(401))
def preferences(
    serving: Served,
    form: ExportForm = "trl",
    result: Literal["all", "valid", "rejected"] = "valid",
    verdict: Annotated[Literal["all", "valid", "rejected"] | None, Query(include_in_schema=False)] = None,
    criterion: str = Query("", max_length=100),
    category: str = Query("", max_length=100),
    version: str = Query("", max_length=100),
    source: str = Query("", max_length=100),
    text: str = Query("", max_length=200),
    review: Literal["", "open", "done"] = "",
) -> StreamingResponse:
    """The newest validated pairs that match and that somebody won, newest first, one JSON object a line.

    `form` is TRL's conversational form or LLaMA-Factory's alpaca ranking; `dpo import` reads both.
    """
    # `verdict` is what `result` was called.
    wanted = PairFilter(verdict or result, criterion, category, version, source, text, review)
    rows = serving.reviews.exported(wanted, form)
    first = next(rows, None)  # what cannot be read is told before the answer begins

    def lines() -> Iterator[bytes]:
        if first is not None:
            yield msgspec.json.encode(first) + b"\n"
            yield from (msgspec.json.encode(row) + b"\n" for row in rows)

    named = {"Content-Disposition": f'attachment; filename="preferences-{form}.jsonl"'}
    return StreamingResponse(lines(), media_type="application/x-ndjson", headers=named)
