"""Who asks: names become pseudonyms before anything is kept."""

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal

from dpo_pipeline.core.identity import Identity, identity_of
from dpo_pipeline.errors import LogWriteError
from dpo_pipeline.request_errors import TooManyRequests
from dpo_pipeline.serving.accounts import Accounts
from dpo_pipeline.serving.callers import account_of, address_of, check_role, is_at_machine, is_loopback, network_of
from dpo_pipeline.serving.services.keeping import soon
from dpo_pipeline.settings import Settings
from dpo_pipeline.stores.pseudonyms import claimed_pseudonym, pseudonym_of
from dpo_pipeline.stores.serving_state import ServingState

MOST_NOTED = 10_000
Way = Literal["ui", "api", "simulated"]


@dataclass(frozen=True)
class Visitor:
    """Who asks: a pseudonym, the visit it belongs to, the way in, the address it came from, and who vouches for it.

    `for_anybody`: a service, which speaks for the people it names.
    """

    person: str
    session_id: str
    source: Way
    address: str
    identity: Identity = "local"
    for_anybody: bool = False

    def speaks_for(self, person: str, identity: str) -> bool:
        """Whether this visitor may go on with what somebody began: with a key, only who holds it or a service may."""
        return identity != "named" or self.for_anybody or (self.identity == "named" and self.person == person)


class Visitors:
    """
    Args:
        key: of this server; the same name gives the same pseudonym as long as it is the same.
    """

    def __init__(self, settings: Settings, accounts: Accounts, state: ServingState, key: bytes):
        self._settle_h = settings.access.settle_h
        self._most_new = settings.limits.new_people_per_day
        self._accounts, self._state, self._key = accounts, state, key
        self._noted: set[str] = set()

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
        address = address_of(request)
        if account is not None:
            check_role(account, "rater")
            service = account.role == "service"
            person = (_named(name) or address) if service else account.name
            return Visitor(self.pseudonym(person), session_id, source, address, "named", service)
        at_machine = is_at_machine(request) and not self._accounts.in_use
        person = self.pseudonym(_named(name) or address)
        if _named(name) and not (at_machine or unguessable):
            person = claimed_pseudonym(_named(name), address, self._key)
        identity = identity_of(False, at_machine, inf, self._settle_h, False)
        return Visitor(person, session_id, source, address, identity)

    def note(self, visitor: Visitor) -> None:
        """Who asks something at this machine for the first time is known from now on, or a moment later."""
        if visitor.identity != "local" or visitor.person in self._noted:
            return
        if len(self._noted) >= MOST_NOTED:
            self._noted.clear()
        self._noted.add(visitor.person)
        soon(self._keep, visitor.person)

    def _keep(self, person: str) -> None:
        with suppress(LogWriteError):  # then they are known a little later
            self._state.note(person, time.time())

    def settled(self, visitor: Visitor) -> Visitor:
        """The same, by how long somebody without a key is known: what they say now counts by it.

        Raises:
            TooManyRequests: one more of too many new people from one address.
        """
        if visitor.identity == "named":
            return visitor
        now, at_machine = time.time(), visitor.identity != "anonymous"
        # Behind loopback may be everybody: who comes from there is never turned away.
        welcome = at_machine or is_loopback(visitor.address)
        met = self._state.meet(
            visitor.person, self.pseudonym(network_of(visitor.address)), now, self._most_new, welcome
        )
        if met is None:
            raise TooManyRequests(
                f"{self._most_new} people without a key came from {visitor.address} today, which is the most "
                "(limits.new_people_per_day). Sign in with a key, or come again tomorrow."
            )
        known_h = (now - met.first_met) / 3600
        return replace(visitor, identity=identity_of(False, at_machine, known_h, self._settle_h, met.crowded))


def _named(name: str) -> str:
    return name.replace("\x00", "").strip()
