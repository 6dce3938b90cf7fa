"""Who is calling: the operator, a program with an API key, or a creator who signed the request.

Nothing is trusted for where it comes from: no address, no header but these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from crdt import (
    Account,
    AccountId,
    Declined,
    Item,
    ItemId,
    NetworkId,
    PublicKey,
    RemoteFault,
    StampJudge,
    StampOrigin,
    WeighedCache,
    WorkRule,
    open_genesis,
)
from node.access import Access, ApiKey, same_token
from node.api.errors import NotAuthorised, TooMany, Unauthenticated, UnknownAccount
from node.api.operations import Auth
from node.signing import (
    ACCOUNT_HEADER,
    AUTHORIZATION,
    OPERATION_HEADER,
    NonceCache,
    RequestFacts,
    check_authorization,
    read_account,
)


@dataclass(frozen=True, slots=True)
class Creator:
    """A creator whose request signature was checked.

    Attributes:
        genesis: What introduced the account in this request, if it is not known here yet.
    """

    account: Account
    key: PublicKey
    genesis: Item | None


STAMPED_COUNT_MAX = 4096
"""New accounts whose stamps are not worked out at every request, until the log knows them."""
_CREATOR = web.RequestKey("hansa_creator", Creator)


def creator_of(request: web.Request) -> Creator:
    """Return who signed the request; only for routes declared with `Auth.CREATOR`."""
    return request[_CREATOR]


class Guard:
    """Checks who calls, for the server and for routes that ask by themselves."""

    def __init__(
        self,
        *,
        network: NetworkId,
        node: PublicKey,
        token: str,
        access: Access,
        account_of: Callable[[AccountId], Account | None],
        now_s: Callable[[], int],
        rule: WorkRule | None = None,
    ) -> None:
        """Take what to check callers against; `rule` is what the network asks of a new account."""
        self._network = network
        self._node = node
        self._token = token
        self._access = access
        self._account_of = account_of
        self._now_s = now_s
        self._nonces = NonceCache()
        # Its own, because the log's belongs to the store's thread.
        self._stamps = StampJudge(network, rule)
        self._stamped: WeighedCache[ItemId, bool] = WeighedCache(STAMPED_COUNT_MAX)

    def admit(self, request: web.Request, auth: Auth, body: bytes) -> None:
        """Return if the request may be handled; notes who calls on it.

        Raises:
            Unauthenticated, Unsigned, BadRequestSignature, ReplayedRequest, UnknownAccount,
            NotAuthorised: it may not.
        """
        match auth:
            case Auth.NONE:
                return
            case Auth.OPERATOR:
                self._check_operator(request)
            case Auth.API_KEY:
                self._check_key(request)
            case Auth.CREATOR:
                request[_CREATOR] = self._check_creator(request, body)

    async def operator(self, request: web.Request) -> None:
        """Check that the operator calls, for a handler that asks by itself."""
        self._check_operator(request)

    async def api_key(self, request: web.Request) -> ApiKey | None:
        """Check that a program with a key (or the operator: None) calls."""
        return self._check_key(request)

    async def creator(self, request: web.Request) -> Creator:
        """Check that a creator signed the request with its body."""
        return self._check_creator(request, await request.read())

    def _check_operator(self, request: web.Request) -> None:
        given = _bearer(request)
        if given is None or not same_token(given, self._token):
            raise Unauthenticated(
                "this is for the node's operator: send `Authorization: Bearer TOKEN` with the "
                "token in operator.token in the node's data folder"
            )

    def _check_key(self, request: web.Request) -> ApiKey | None:
        given = _bearer(request)
        if given is not None:
            key = self._access.check(given, now_s=self._now_s())
            if key is not None:
                return key
            if same_token(given, self._token):
                return None
        raise Unauthenticated(
            "an API key is needed: make one with `hansa keys create` and send it as "
            "`Authorization: Bearer hsk_...`"
        )

    def _check_creator(self, request: web.Request, body: bytes) -> Creator:
        facts = RequestFacts(
            network=self._network,
            node=self._node,
            method=request.method,
            path=request.raw_path.partition("?")[0],
            query=request.raw_path.partition("?")[2],
            body=body,
            operation=request.headers.get(OPERATION_HEADER, "").encode("ascii", "replace"),
        )
        signer = check_authorization(
            request.headers.get(AUTHORIZATION), facts, self._nonces, now_s=self._now_s()
        )
        account, genesis = self._account_of(signer.account), None
        if account is None:
            account, genesis = self._introduced(request, signer.account)
        if not account.has_role(signer.key):
            raise NotAuthorised(_no_role(account, signer.key))
        return Creator(account, signer.key, genesis)

    def _introduced(self, request: web.Request, id_: AccountId) -> tuple[Account, Item]:
        header = request.headers.get(ACCOUNT_HEADER)
        if header is None:
            raise UnknownAccount(
                f"account {id_.hex()} is not known here; send its genesis in {ACCOUNT_HEADER}, or "
                "POST it to /v1/accounts first"
            )
        genesis = read_account(header)
        try:
            account = open_genesis(genesis, self._network)
        except RemoteFault as error:
            raise UnknownAccount(
                f"the genesis in {ACCOUNT_HEADER} does not hold: {error}"
            ) from error
        if account.id != id_:
            raise UnknownAccount(
                f"{ACCOUNT_HEADER} introduces {account.id.hex()}, and the request is signed by "
                f"{id_.hex()}"
            )
        self._check_stamp(genesis, account)
        return account, genesis

    def _check_stamp(self, genesis: Item, account: Account) -> None:
        """Return if the network admits an account: what it may cost, its uploads too, hangs on it.

        Raises:
            NotAdmitted: it does not.
            TooMany: too many false stamps came of late.
        """
        if self._stamped.get(genesis.id):
            return
        now_ms = self._now_s() * 1000
        try:
            self._stamps.batch(StampOrigin.LOCAL, now_ms).check(genesis, account.entries[0])
        except Declined as error:
            raise TooMany(
                "too many false admission stamps came of late; send the request again in a minute"
            ) from error
        self._stamped.put(genesis.id, True, 1)


def _no_role(account: Account, key: PublicKey) -> str:
    """Return why a key may not act for an account, and what to do about it."""
    whose = f"key {key.hex()[:16]} has no role in account {account.id.hex()[:16]}"
    if key in account.now.ended:
        return f"{whose} any more: it was revoked or rotated away; sign with a key that has one"
    return (
        f"{whose} as it is known here, by {len(account.entries)} of its entries; if it was granted "
        "one, POST the account's entries to /v1/items and sign again"
    )


def _bearer(request: web.Request) -> str | None:
    kind, _, given = request.headers.get(AUTHORIZATION, "").partition(" ")
    return given.strip() if kind.lower() == "bearer" and given else None
