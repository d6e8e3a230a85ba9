"""The HTTP API. Handlers say what is asked and what is answered; deciding and storing happen elsewhere."""

import hashlib
import hmac
import logging
import random
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.exceptions import HTTPException

from dpo_pipeline import __version__
from dpo_pipeline.core.versions import served_name
from dpo_pipeline.core.votes import Category, Sampling
from dpo_pipeline.errors import DpoError, InvalidRequest, NotReady, RequestError, UnknownComparison
from dpo_pipeline.serving.comparisons import Choice, Comparisons, Shown, signing_key
from dpo_pipeline.serving.engine import Ask, Engine
from dpo_pipeline.serving.router import Route, Router
from dpo_pipeline.settings import Category as BankCategory
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.ledger import Ledger, as_json, utc_now
from dpo_pipeline.stores.serving_log import CorrectionRecord, Outcome, RatingRecord, RequestRecord, ServingLog
from dpo_pipeline.stores.serving_state import ServingState, StoredRequest

log = logging.getLogger(__name__)


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="after")
    def _texts_can_be_written(self) -> Self:
        """JSON may hold half a surrogate pair, which no file and no tokenizer takes."""
        for name, value in self.__dict__.items():
            if isinstance(value, str) and not value.isascii():
                try:
                    value.encode()
                except UnicodeEncodeError as error:
                    raise ValueError(f"{name} holds half a surrogate pair, which is no text") from error
        return self


class ChatMessage(Body):
    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=32_000)


class SamplingFields(Body):
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=4096)
    seed: int | None = Field(None, ge=0, lt=2**31)


class ComparisonRequest(SamplingFields):
    """A question for two versions. Without `models` the server picks them."""

    prompt: Annotated[str, Field(min_length=1, max_length=32_000)] | Annotated[list[ChatMessage], Field(min_length=1)]
    category: Category = "other"
    models: list[str] | None = Field(None, min_length=2, max_length=2)
    annotator: str = Field("", max_length=200)
    session_id: str = Field("", max_length=200)
    source: Literal["api", "simulated"] = "api"


class Answers(Body):
    left: str
    right: str


class ComparisonResponse(Body):
    comparison_id: str
    token: str
    prompt: str | list[ChatMessage]
    category: str
    answers: Answers
    expires_at: str


class VoteRequest(Body):
    token: str = Field(max_length=2000)
    vote: Choice
    annotator: str | None = Field(None, max_length=200, description="who votes; must be whom the comparison is for")


class VotedModels(Body):
    left: str
    right: str


class VoteResponse(Body):
    event_id: str
    models: VotedModels


class ChatRequest(SamplingFields):
    model_config = ConfigDict(extra="ignore")  # OpenAI clients send more than we use

    model: str = Field("chat", max_length=100)
    messages: list[ChatMessage] = Field(min_length=1)
    user: str = Field("", max_length=200)
    stream: bool = False


class FeedbackRequest(Body):
    request_id: str = Field(max_length=200)
    rating: int | None = Field(None, ge=1, le=5)
    thumb: Literal["up", "down"] | None = None
    correction: str | None = Field(None, min_length=1, max_length=32_000)


@dataclass
class Serving:
    """What the handlers work with."""

    settings: Settings
    engine: Engine
    router: Router
    comparisons: Comparisons
    log: ServingLog
    state: ServingState
    key: bytes

    def pseudonym(self, person: str) -> str:
        """HMAC of a name or address: the same person is recognised, never named."""
        return hmac.new(self.key, person.encode(), hashlib.sha256).hexdigest()[:16]

    def sampling(self, asked: SamplingFields) -> Sampling:
        collection, longest = self.settings.collection, self.settings.model.max_new_tokens
        return Sampling(
            temperature=collection.temperature if asked.temperature is None else asked.temperature,
            top_p=collection.top_p if asked.top_p is None else asked.top_p,
            max_tokens=min(asked.max_tokens or longest, longest),
            seed=random.getrandbits(31) if asked.seed is None else asked.seed,
        )


def create_app(settings: Settings) -> FastAPI:
    """The application; programs start with its lifespan and stop with it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        key = signing_key(settings)
        state = ServingState(settings.serving_log_dir / "state.db")
        engine = Engine(settings.limits)
        router = Router(settings, engine)
        app.state.serving = Serving(
            settings,
            engine,
            router,
            Comparisons(settings, state, key),
            ServingLog(settings.serving_log_dir),
            state,
            key,
        )
        router.start()
        try:
            yield
        finally:
            router.close()
            engine.close()
            state.close()

    app = FastAPI(title="DPO pipeline: serving", version=__version__, lifespan=lifespan)
    app.add_exception_handler(DpoError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    for add in (_add_health, _add_comparisons, _add_chat, _add_feedback, _add_rollout):
        add(app)
    return app


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


Served = Annotated[Serving, Depends(_serving)]


def _add_health(app: FastAPI) -> None:
    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """The program runs."""
        return {"status": "ok"}

    @app.get("/readyz")
    def readyz(serving: Served) -> dict[str, Any]:
        """A champion is loaded and answers."""
        if not serving.engine.ready or serving.router.route.champion is None:
            raise NotReady("No version is loaded yet: the first one is being built. " + (serving.router.trouble or ""))
        return {"status": "ready", "models": sorted(serving.engine.models), "epoch": serving.router.route.epoch}


def _add_comparisons(app: FastAPI) -> None:
    @app.post("/v1/comparisons", status_code=201)
    async def open_comparison(body: ComparisonRequest, request: Request, serving: Served) -> ComparisonResponse:
        """Two versions (or two samples of the one there is) answer; sides are shuffled and blind."""
        prompt = body.prompt if isinstance(body.prompt, str) else [m.model_dump() for m in body.prompt]
        return await _compare(serving, request, body, prompt, body.category)

    @app.get("/v1/comparisons/next", status_code=201)
    async def next_comparison(
        request: Request,
        serving: Served,
        annotator: str = "",
        session_id: str = "",
        source: Literal["api", "simulated"] = "api",
        category: BankCategory | None = None,
    ) -> ComparisonResponse:
        """The same with a question drawn by the server, of the category asked for or the one covered least."""
        question = serving.comparisons.draw_question(category)
        body = ComparisonRequest(prompt=question.question, annotator=annotator, session_id=session_id, source=source)
        return await _compare(serving, request, body, question.question, question.category)

    @app.post("/v1/comparisons/{comparison_id}/vote", status_code=201)
    def vote(comparison_id: str, body: VoteRequest, response: Response, serving: Served) -> VoteResponse:
        """201 when the vote is on disk; the same vote again: 200 and the same event id."""
        annotator = serving.pseudonym(body.annotator) if body.annotator else None
        recorded = serving.comparisons.vote(comparison_id, body.token, body.vote, annotator)
        response.status_code = 200 if recorded.repeated else 201
        models = VotedModels(left=recorded.left_model, right=recorded.right_model)
        return VoteResponse(event_id=recorded.event_id, models=models)


async def _compare(
    serving: Serving, request: Request, body: ComparisonRequest, prompt: str | list[dict[str, str]], category: str
) -> ComparisonResponse:
    models = _models_to_compare(serving.router.route, body.models)
    messages = (("user", prompt),) if isinstance(prompt, str) else tuple((m["role"], m["content"]) for m in prompt)
    sampling = serving.sampling(body)
    seeds = (sampling.seed or 0, (sampling.seed or 0) + 1)
    asks = [
        Ask(model, messages, Sampling(sampling.temperature, sampling.top_p, sampling.max_tokens, seed))
        for model, seed in zip(models, seeds, strict=True)
    ]
    first, second = await serving.engine.generate_all(asks)
    shown: Shown = serving.comparisons.open(
        prompt=prompt,
        category=category,
        models=models,
        answers=(first.text, second.text),
        annotator=serving.pseudonym(body.annotator or _address(request)),
        session_id=body.session_id or f"visit-{uuid.uuid4().hex[:12]}",
        source=body.source,
        sampling=sampling,
        propensity=1.0,
    )
    return ComparisonResponse(
        comparison_id=shown.comparison_id,
        token=shown.token,
        prompt=body.prompt,
        category=shown.category,
        answers=Answers(left=shown.left, right=shown.right),
        expires_at=shown.expires_at,
    )


def _models_to_compare(route: Route, asked: list[str] | None) -> tuple[str, str]:
    """The two asked for; else the challenger against the champion; else the champion against itself."""
    if route.champion is None:
        raise NotReady("No version is served yet. Try again in a moment; /readyz tells when.")
    if asked:
        first, second = (route.champion if name == "chat" else served_name(name) for name in asked)
        return first, second
    return (route.challenger or route.champion), route.champion


def _add_chat(app: FastAPI) -> None:
    @app.get("/v1/models")
    def models(serving: Served) -> dict[str, Any]:
        """`chat` follows the rollout; every served version can be asked for by name."""
        names = ["chat", *sorted(serving.engine.models)]
        return {
            "object": "list",
            "data": [{"id": name, "object": "model", "created": 0, "owned_by": "dpo-pipeline"} for name in names],
        }

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request, serving: Served) -> dict[str, Any]:
        """OpenAI's chat completion. `user` keeps a person on one side of the rollout."""
        if body.stream:
            raise InvalidRequest("Streaming is not served yet. Ask again with stream: false.")
        user = serving.pseudonym(body.user or _address(request))
        version = serving.router.route.version_for(user) if body.model == "chat" else served_name(body.model)
        if version is None:
            raise NotReady("No version is served yet. Try again in a moment; /readyz tells when.")
        request_id, started = f"chatcmpl-{uuid.uuid4().hex}", time.perf_counter()
        messages = tuple((message.role, message.content) for message in body.messages)
        try:
            [answer] = await serving.engine.generate_all([Ask(version, messages, serving.sampling(body))])
        except Exception as error:
            if outcome := _failure(error):
                _log_request(serving, request_id, user, version, started, 0, outcome)
            raise
        _log_request(serving, request_id, user, version, started, answer.tokens, "ok")
        stored = StoredRequest(request_id=request_id, user=user, version=version, prompt=messages[-1][1])
        serving.state.add_request(stored, time.time())
        return {
            "id": request_id,
            "object": "chat.completion",
            "created": int(time.time()),
            "model": version,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": answer.text},
                    "finish_reason": "stop" if answer.finished else "length",
                }
            ],
            "usage": {
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.tokens,
                "total_tokens": answer.prompt_tokens + answer.tokens,
            },
        }


def _add_feedback(app: FastAPI) -> None:
    @app.post("/v1/feedback", status_code=201)
    def feedback(body: FeedbackRequest, serving: Served) -> dict[str, str]:
        """Exactly one of rating, thumb or correction, for an answered request."""
        given = [value for value in (body.rating, body.thumb, body.correction) if value is not None]
        if len(given) != 1:
            raise InvalidRequest(f"Send exactly one of rating, thumb or correction; {len(given)} were found.")
        known = serving.state.request(body.request_id)
        if known is None:
            raise UnknownComparison(f"There is no request {body.request_id!r} to give feedback on.")
        event_id, now = f"evt-{uuid.uuid4().hex}", utc_now()
        common = {"event_id": event_id, "recorded_at": now, "request_id": known.request_id}
        if body.correction is not None:
            serving.log.append(
                CorrectionRecord(
                    **common, user=known.user, version=known.version, prompt=known.prompt, correction=body.correction
                )
            )
        else:
            rating = body.rating or (5 if body.thumb == "up" else 1)
            serving.log.append(RatingRecord(**common, user=known.user, version=known.version, rating=rating))
        return {"event_id": event_id}


def _add_rollout(app: FastAPI) -> None:
    @app.get("/v1/rollout")
    def rollout(serving: Served) -> dict[str, Any]:
        """Version, stage, traffic, evidence and history, as the ledger has them."""
        route = serving.router.route
        with Ledger(serving.settings.ledger_address) as ledger:
            history = [as_json(decision) for decision in ledger.decisions()]
        return {
            "version": route.challenger,
            "champion": route.champion,
            "stage": route.stage,
            "traffic": route.traffic,
            "epoch": route.epoch,
            "evidence": history[-1]["evidence"] if history else None,
            "history": history,
        }


def _log_request(
    serving: Serving, request_id: str, user: str, version: str, started: float, tokens: int, outcome: Outcome
) -> None:
    route = serving.router.route
    serving.log.append(
        RequestRecord(
            request_id=request_id,
            recorded_at=utc_now(),
            session_id="",
            user=user,
            version=version,
            adapter_sha=serving.engine.models.get(version, ""),
            stage=route.stage or "full",
            shadow=False,
            latency_ms=round((time.perf_counter() - started) * 1000, 2),
            ttft_ms=None,
            tokens=tokens,
            outcome=outcome,
        )
    )


def _failure(error: Exception) -> Outcome | None:
    """What went wrong with the version; null for what the client or a full queue did."""
    if isinstance(error, RequestError):
        return "timeout" if error.status == 504 else None
    return "crash"


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    """Our errors in OpenAI's form; what is not the client's doing is logged and answered 500."""
    if isinstance(error, RequestError):
        headers = {"Retry-After": "1"} if error.status in (429, 503) else None
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        return _error(error.status, str(error), kind, error.code, headers)
    log.error("%s %s failed: %s", request.method, request.url.path, error)
    return _error(500, str(error), "server_error", type(error).__name__)


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = "; ".join(f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in error.errors())
    return _error(400, f"The request is not valid: {problems}", "invalid_request_error", "invalid_request")


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    """Unknown paths and methods, in the same form as everything else."""
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}. /docs lists what can be asked."
    return _error(error.status_code, message, "invalid_request_error", "not_found")


def _error(status: int, message: str, kind: str, code: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "code": code}}, status, headers)
