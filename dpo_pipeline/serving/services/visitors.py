"""Who asks: names become pseudonyms before anything is kept."""

from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal

from dpo_pipeline.core.identity import Identity, identity_of
from dpo_pipeline.errors import TooManyRequests
from dpo_pipeline.serving.accounts import Accounts, account_of, check_role, is_at_machine
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.pseudonyms import pseudonym_of
from dpo_pipeline.stores.serving_state import ServingState

Way = Literal["ui", "api", "simulated"]


@dataclass(frozen=True)
class Visitor:
    """Who asks: a pseudonym, the visit it belongs to, the way in, the address it came from, and who vouches for it."""

    person: str
    session_id: str
    source: Way
    address: str
    identity: Identity = "local"


class Visitors:
    """
    Args:
        key: of this server; the same name gives the same pseudonym as long as it is the same.
    """

    def __init__(self, settings: Settings, accounts: Accounts, state: ServingState, key: bytes):
        self._settle_h = settings.access.settle_h
        self._most_new = settings.limits.new_people_per_day
        self._accounts, self._state, self._key = accounts, state, key

    def pseudonym(self, name: str) -> str:
        return pseudonym_of(name, self._key)

    def visitor(self, request: Any, name: str, session_id: str, source: Way, unguessable: bool = False) -> Visitor:
        """Whoever calls.

        Somebody with a key is who the key says; a service speaks for the name it gives. Elsewhere a name is a claim: it
        is somebody of this address, and nobody else.

        Args:
            name: as the call gives it, or empty.
            unguessable: the name is drawn by chance and known to nobody else, as the pages' is.

        Raises:
            RoleRequired: somebody with a key that only allows looking.
        """
        account = account_of(request)
        address = request.client.host if request.client else "unknown"
        if account is not None:
            check_role(account, "rater")
            person = (name.strip() or address) if account.role == "service" else account.name
            return Visitor(self.pseudonym(person), session_id, source, address, "named")
        at_machine = is_at_machine(request) and not self._accounts.in_use
        person = name.strip() or address
        if name.strip() and not (at_machine or unguessable):
            person = f"{person} at {address}"
        identity = identity_of(False, at_machine, inf, self._settle_h, False)
        return Visitor(self.pseudonym(person), session_id, source, address, identity)

    def settled(self, visitor: Visitor, now: float) -> Visitor:
        """The same, by how long somebody without a key is known: what they say now counts by it.

        Raises:
            TooManyRequests: one more of too many new people from one address.
        """
        if visitor.identity == "named":
            return visitor
        at_machine = visitor.identity != "anonymous"
        met = self._state.meet(visitor.person, self.pseudonym(visitor.address), now, self._most_new, at_machine)
        if met is None:
            raise TooManyRequests(
                f"{self._most_new} people without a key came from {visitor.address} today, which is the most "
                "(limits.new_people_per_day). Sign in with a key, or come again tomorrow."
            )
        known_h = (now - met.first_met) / 3600
        return replace(visitor, identity=identity_of(False, at_machine, known_h, self._settle_h, met.crowded))
