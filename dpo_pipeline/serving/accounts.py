"""Who calls: by a key, by a session of the pages, by the login of a proxy; or nobody that is known.

Found once a call, at the door, and kept beside the request: routes and pages ask `account_of`.
"""

import asyncio
import hmac
import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from itsdangerous import BadSignature, URLSafeTimedSerializer
from pydantic import SecretStr
from starlette.requests import cookie_parser

from dpo_pipeline.core.identity import may
from dpo_pipeline.errors import LogWriteError
from dpo_pipeline.loop.redactor import redactor
from dpo_pipeline.request_errors import KeyRequired, RoleRequired
from dpo_pipeline.serving.callers import account_of, address_of, check_role, is_at_machine, network_of
from dpo_pipeline.serving.wrong_keys import MOST, WrongKeys
from dpo_pipeline.settings import Role, Settings
from dpo_pipeline.stores.audit import AuditLog
from dpo_pipeline.stores.key_ring import PREFIX, Account, KeyRing, local_key
from dpo_pipeline.stores.pseudonyms import signing_key

log = logging.getLogger(__name__)
COOKIE = "dpo_session"
SESSION_S = 30 * 24 * 3600
WRONG_KEY_S = 1.0
"""How long whoever sends a wrong key waits for the answer."""
AUDITED_A_MINUTE = 20
"""Of one address: whoever guesses must not fill the disk."""
TOO_MANY = f"{MOST} wrong keys within a minute: none is looked at for a while"
API_KEY = Account("DPO_KEYS__API", "service")
ADMIN_KEY = Account("admin", "operator")
AT_MACHINE = Account("a person at the machine", "reviewer")
LOCAL_PROGRAM = Account("a program of this data folder", "service")


class Accounts:
    def __init__(self, settings: Settings):
        self._settings, self._ring = settings, KeyRing(settings.keys_log)
        self.audit = AuditLog(settings.audit_log, redactor(settings.collection))
        self._wrong = WrongKeys()
        self._minute, self._refused, self._counting = 0, Counter[str](), threading.Lock()

    @property
    def in_use(self) -> bool:
        """Somebody holds or held a key, or a proxy logs people in: then nobody is known by standing at the machine."""
        return self._ring.in_use or bool(self._settings.access.login_header)

    async def identify(self, headers: Mapping[bytes, str], address: str, in_api: bool) -> Account | None:
        """Whose call this is; null: of nobody that is known.

        Args:
            headers: by lower-case name.
            in_api: a call of the API; before pages, a proxy may have put a token of its own there.

        Raises:
            KeyRequired, RoleRequired, TooManyWrongKeys: it carries a key that opens nothing, or one of too many.
        """
        if given := headers.get(b"x-admin-key"):
            account = self.by_key(given, address)
            if account is None:
                await self._refuse("an admin key", address)
                raise RoleRequired("The admin key is wrong. Send the value of DPO_KEYS__ADMIN, or an operator's key.")
            return account
        given = headers.get(b"authorization", "")
        if given and not given.lower().startswith("basic "):
            token = (given[7:] if given[:7].lower() == "bearer " else given).strip()
            account = self.by_key(token, address)
            if account is not None:
                return account
            # OpenAI's clients send something even where nothing is asked for.
            if (in_api and self._settings.keys.api is not None) or token.startswith(f"{PREFIX}-"):
                await self._refuse("a key", address)
                raise KeyRequired(
                    "The key is wrong or was revoked. Send a key of `dpo keys list`, or the value of DPO_KEYS__API, as "
                    "`Authorization: Bearer …`."
                )
            if self._settings.keys.admin is not None and self._wrong.count(network_of(address), same_as=token):
                # It opens nothing and is not refused; but the admin's key must not be guessed like that either.
                await asyncio.to_thread(self.note_refused, TOO_MANY, address, last=True)
        header = self._settings.access.login_header.lower().encode()
        if header and (name := headers.get(header, "").strip()):
            return Account(name, self._settings.access.login_roles.get(name, "rater"))
        return self._by_session(headers.get(b"cookie", ""))

    @property
    def has_operators(self) -> bool:
        """Somebody may give orders about rollouts with a key."""
        known = [each.role for each in self._ring.accounts()] + list(self._settings.access.login_roles.values())
        return self._settings.keys.admin is not None or any(may(role, "operator") for role in known)

    async def at_page(self, request: Any, key: str | None) -> Account | None:
        """Whose order this is: of whoever is signed in, or whose key was typed beside it.

        While nobody holds a key at all, a person at the machine may do what a reviewer does.

        Raises:
            RoleRequired, TooManyWrongKeys: the key opens nothing, or is one of too many.
        """
        if key and key.strip():
            account = self.by_key(key.strip(), address_of(request))
            if account is None:
                await self._refuse("a key on a page", address_of(request))
                raise RoleRequired("The key is wrong or was revoked. Type yours again, or sign in at /sign-in.")
            return account
        account = account_of(request)
        if account is None and self._settings.keys.admin is None and not self.in_use and is_at_machine(request):
            return AT_MACHINE
        return account

    def by_key(self, key: str, address: str) -> Account | None:
        """Of whichever kind; null: it opens nothing.

        Raises:
            TooManyWrongKeys: it is not looked at.
        """
        # Of 256 bits, and only in a file here: nobody guesses it, and the loop goes on whatever its neighbours try.
        if _same(key, self._local_key):
            return LOCAL_PROGRAM
        self._wrong.check(network_of(address))
        keys = self._settings.keys
        if _same(key, keys.admin):
            return ADMIN_KEY
        if _same(key, keys.api):
            return API_KEY
        return self._ring.find(key)

    async def sign_in(self, key: str, address: str) -> tuple[Account, str]:
        """Whose key it is, and what a browser keeps instead of it.

        Raises:
            KeyRequired, TooManyWrongKeys: it opens nothing, belongs to a program, or is one of too many.
        """
        self._wrong.check(network_of(address))
        account = self._ring.find(key.strip())
        if account is None or account.role == "service":
            await self._refuse("a key on the sign-in page", address)
            raise KeyRequired("This key opens nothing here. Ask whoever runs this server for one: `dpo keys add NAME`.")
        await asyncio.to_thread(self.audit.record, account.name, "signed in", address, "allowed")
        return account, self._signer.dumps(account.key_id)

    def allowed(self, account: Account | None, needed: Role, what: str, address: str, detail: str = "") -> Account:
        """Who does something that needs a role; noted before it is done, also where it is refused.

        Raises:
            RoleRequired: nobody that is known, or somebody who may not.
            LogWriteError, RedactionFailed: it cannot be noted, so it must not be done.
        """
        who = account.name if account else "unknown"
        try:
            allowed = check_role(account, needed)
        except RoleRequired:
            if account is not None:
                self.audit.record(who, what, address, "refused", detail)
            else:
                self.note_refused(what, address)
            raise
        self.audit.record(who, what, address, "allowed", detail)
        return allowed

    def _by_session(self, cookies: str) -> Account | None:
        # As lenient as browsers are: one odd cookie of another program must not hide ours.
        held = cookie_parser(cookies).get(COOKIE) if COOKIE in cookies else None
        if held is None:
            return None
        try:
            key_id = self._signer.loads(held, max_age=SESSION_S)
        except (BadSignature, ValueError):
            return None
        return self._ring.by_id(key_id)

    @cached_property
    def _signer(self) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(signing_key(self._settings), salt="session")

    @cached_property
    def _local_key(self) -> SecretStr:
        return SecretStr(local_key(self._settings))

    async def _refuse(self, what: str, address: str) -> None:
        """Note it, and let whoever tries keys wait."""
        last = self._wrong.count(network_of(address))  # before anything is waited for: tries come side by side
        told = f"sent {what} that is wrong" + (f"; {TOO_MANY}" if last else "")
        await asyncio.to_thread(self.note_refused, told, address, last)
        await asyncio.sleep(WRONG_KEY_S)

    def note_refused(self, what: str, address: str, last: bool = False) -> None:
        """Of somebody whom nobody knows; so few a minute, of an address and of all together, that the disk lasts.

        Args:
            last: the address is shut out with this, which is noted however much of it is noted already.
        """
        with self._counting:
            minute = int(time.monotonic() // 60)
            if minute != self._minute:
                self._minute, self._refused = minute, Counter()
            self._refused[address] += 1
            few = (
                last or self._refused[address] <= AUDITED_A_MINUTE
            ) and self._refused.total() <= 10 * AUDITED_A_MINUTE
        if few:
            try:
                self.audit.record("unknown", what, address, "refused")
            except LogWriteError:
                log.exception("a refusal of %s is not in the audit log", address)


def _same(given: str, key: SecretStr | None) -> bool:
    return key is not None and hmac.compare_digest(
        given.encode("utf-8", "surrogatepass"), key.get_secret_value().encode()
    )
