"""Where programs listen, what they allow, and who may call."""

from ipaddress import ip_network
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from dpo_pipeline.settings.section import Section

SHORTEST_KEY = 16
Role = Literal["viewer", "rater", "reviewer", "operator", "service"]
"""What a key allows; `core.identity.ROLES` says what."""


class Ports(Section):
    host: str = Field("127.0.0.1", description="address every program listens on; loopback unless a proxy guards it")
    serving: int = Field(8000, ge=1, le=65535)
    dagster: int = Field(3000, ge=1, le=65535)
    mlflow: int = Field(5000, ge=1, le=65535)


class Limits(Section):
    queue: int = Field(256, ge=1, description="generation requests that may wait; one more is answered 429")
    batch: int = Field(64, ge=1, description="answers generated at once")
    prefetch: int = Field(64, ge=0, description="comparisons generated while people still read; 0: none is")
    deadline_s: float = Field(60, gt=0, description="how long a request may take before it counts as failed")
    body_bytes: int = Field(1_048_576, ge=1024, description="largest request body; a larger one is answered 413")
    answers_per_minute: int = Field(240, ge=1, description="answers a minute of one person, and actions on them")
    votes_per_minute: int = Field(120, ge=1, description="votes and ratings a minute of one person")
    new_people_per_day: int = Field(
        25,
        ge=1,
        description="people without a key whom one address may bring to compare, vote or rate a day; at this machine "
        "those beyond count as anonymous, elsewhere they are answered 429",
    )
    address_per_minute: int = Field(
        1200, ge=1, description="calls a minute of one address; loopback, where proxies and tests sit, is exempt"
    )
    open_pages: int = Field(
        1000, ge=1, le=1000, description="pages open in browsers, of 0.3 MB each; one more is answered 503"
    )
    open_pages_per_address: int = Field(250, ge=1, description="the same of one address; one more is answered 429")


class EngineSettings(Section):
    """Where answers come from. With `forward`, other servers hold every version, under a name of its own."""

    kind: Literal["local", "forward"] = Field("local", description="generate here, or forward to other servers")
    url: tuple[str, ...] = Field(
        (),
        description="forward: base address of an OpenAI-compatible server, ending in /v1; or of several alike",
    )
    names: dict[str, str] = Field({}, description="forward: model name there of each version; default: the same name")
    loads: bool = Field(
        False,
        description="forward: load adapters on those servers, and unload them, by vLLM's API; they belong to this loop",
    )
    adapters: str = Field(
        "", description="loads: where those servers see this folder's artifacts/adapters; default: under the same path"
    )
    eight_bit: bool = Field(
        True,
        description="local, on a processor with a unit for bfloat16, a base of more than 50 million parameters: while "
        "at most eight answers are written at once, weights are read in 8 bits; false: always as they are",
    )

    @field_validator("url", mode="before")
    @classmethod
    def _one_or_several(cls, url: object) -> object:
        return [url] if isinstance(url, str) else url

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.kind == "forward" and not any(self.url):
            raise ValueError("forward needs engine.url: the address of a server, such as http://127.0.0.1:8001/v1")
        if self.loads and self.kind != "forward":
            raise ValueError("engine.loads is for servers that answers are forwarded to: set engine.kind to forward")
        if self.loads and self.names:
            raise ValueError("with engine.loads, versions have names of their own there: leave engine.names out")
        return self


class Keys(Section):
    """Secrets, best from the environment; unset: the API is open (on loopback).

    Those of people are kept by `dpo keys`.
    """

    api: SecretStr | None = Field(
        None,
        description="of your own programs: then every /v1 route wants it or a key of `dpo keys` as `Authorization: "
        "Bearer …`; whoever sends it vouches for the people it names",
    )
    admin: SecretStr | None = Field(None, description="one operator's key for all, where nobody keeps keys by name")
    engine: SecretStr | None = Field(None, description="sent to the servers that engine.url names")
    judge: SecretStr | None = Field(None, description="sent to the server that evaluation.judge_url names")

    @field_validator("api", "admin")
    @classmethod
    def _hard_to_guess(cls, key: SecretStr | None) -> SecretStr | None:
        """An empty key would let everybody in, a short one whoever tries for an hour."""
        if key is not None and len(key.get_secret_value().strip()) < SHORTEST_KEY:
            raise ValueError(
                f"a key has at least {SHORTEST_KEY} characters; leave it out to have none, or make one with "
                "`python -c 'import secrets; print(secrets.token_urlsafe())'`"
            )
        return key

    @field_validator("engine", "judge")
    @classmethod
    def _not_blank(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not key.get_secret_value().strip():
            raise ValueError("it is blank; leave it out where that server wants no key")
        return key


class Access(Section):
    @field_validator("hosts")
    @classmethod
    def _names_alone(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        """As browsers' Host has them, or whole addresses: what counts is the name."""
        return tuple(str(urlsplit(each if "://" in each else f"//{each}").hostname or each).lower() for each in hosts)

    @field_validator("trusted_proxies")
    @classmethod
    def _addresses(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        """A name or `*` would be whoever answers to it, or everybody."""
        for each in proxies:
            try:
                network = ip_network(each)
            except ValueError as error:
                raise ValueError(
                    f"{each!r} is no address or network: {error}. Name proxies like 10.0.0.7 or 172.16.0.0/12"
                ) from None
            if network.prefixlen == 0:
                raise ValueError(f"{each!r} is everybody: name the addresses of your proxies, like 10.0.0.7")
        return proxies

    origins: tuple[str, ...] = Field(
        (),
        description="origins whose pages may call from a browser, such as https://app.example: other sites, and the "
        "name under which a proxy shows this one",
    )
    hosts: tuple[str, ...] = Field(
        (),
        description="names under which programs are called, beside localhost, addresses, this machine's own name and "
        "those of access.origins; a call by another name is refused",
    )
    sign_in: Literal["optional", "required"] = Field(
        "optional", description="whether people without a key may use pages and API"
    )
    settle_h: float = Field(
        24, ge=0, description="hours after which somebody at this machine without a key counts as evidence"
    )
    trusted_proxies: tuple[str, ...] = Field(
        ("127.0.0.1", "::1"),
        description="addresses or networks of the proxies that are believed whom they forward (X-Forwarded-For) and "
        "who is logged in (access.login_header)",
    )
    login_header: str = Field(
        "",
        description="header in which a proxy before this server names whoever is logged in, such as X-Forwarded-User; "
        "believed from access.trusted_proxies, refused from everybody else",
    )
    login_roles: dict[str, Role] = Field({}, description="roles of people whom the proxy names; others are raters")
    mlflow_orders: Literal["own", "any"] = Field(
        "own",
        description="whose moved aliases are orders to promote or roll back: those in the MLflow that `dpo up` starts "
        "behind its gate (own), or also those in the one of mlflow_url (any), which then has to ask who somebody is",
    )
    pages: bool = Field(
        True, description="serve the pages; without them, the API alone starts in half the time and takes 150 MB less"
    )
    consent: str = Field(
        "Your questions, the answers and what you say of them are kept to improve the model, and other people may be "
        "asked to compare answers to your questions. E-mail addresses, card numbers and keys are removed before "
        "anything is stored, and names are replaced by pseudonyms.",
        description="the line under every page",
    )
