"""Who stands behind a call, as its request tells: the account the door found, the address, whether it is here."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from dpo_pipeline.core.identity import ROLES, may, with_article
from dpo_pipeline.gate import hostname
from dpo_pipeline.request_errors import RoleRequired
from dpo_pipeline.settings import Role
from dpo_pipeline.stores.key_ring import Account

FORWARDED = (
    *(b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-server", b"x-real-ip"),
    *(b"forwarded", b"via", b"cf-connecting-ip", b"true-client-ip"),
)
"""A proxy says by these that somebody else stands behind it."""


def account_of(request: Any) -> Account | None:
    """Of a request of FastAPI or of the pages, as the door found it."""
    account: Account | None = _scope(request)["state"].get("account")
    return account


def address_of(request: Any) -> str:
    """Where a call came from, for requests of FastAPI and of the pages alike."""
    return request.client.host if request is not None and request.client else "unknown"


def network_of(address: str) -> str:
    """What one customer of a provider is given: an address, or of IPv6 a whole network of them."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((int(found), 64), strict=False)) if isinstance(found, IPv6Address) else address


def check_role(account: Account | None, needed: Role) -> Account:
    """
    Raises:
        RoleRequired: nobody that is known calls, or somebody who may not.
    """
    if account is None:
        raise RoleRequired(
            f"This needs the key of {with_article(needed)}, who {ROLES[needed]}. Sign in at /sign-in, or send one as "
            f"`Authorization: Bearer …`; `dpo keys add NAME --role {needed}` makes one."
        )
    if not may(account.role, needed):
        raise RoleRequired(
            f"{account.name} is {with_article(account.role)}, who {ROLES[account.role]}; "
            f"{with_article(needed)} is needed, who {ROLES[needed]}."
        )
    return account


def is_at_machine(request: Any) -> bool:
    """The call came over loopback, under a name of loopback, and no proxy says that somebody else stands behind it."""
    headers = dict(_scope(request)["headers"])
    if headers.keys() & FORWARDED or not is_loopback(request.client.host if request.client else ""):
        return False
    name = hostname(headers.get(b"host", b"localhost").decode("latin-1"))
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)


def _scope(request: Any) -> Any:
    """Gradio's requests hold FastAPI's."""
    return getattr(request, "request", request).scope


@lru_cache(maxsize=4096)
def is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
