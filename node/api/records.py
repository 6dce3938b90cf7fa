"""`/models` and `/agents`: one set of handlers for both kinds of record.

A write arrives as readable JSON with the creator's signed operation beside it. The node validates
the JSON, encodes it canonically, and takes the write only if that is what was signed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from aiohttp import web
from pydantic import BaseModel

from crdt import (
    Declined,
    HansaError,
    Item,
    ItemKind,
    MalformedBytes,
    MissingItems,
    Operation,
    OperationType,
    Outcome,
    RecordId,
    RecordKind,
    RemoteFault,
    Status,
    pack_item,
    parse_operation,
    short,
)
from node.api.bodies import object_of
from node.api.dependencies import resolve
from node.api.errors import (
    CardDiffers,
    Exists,
    Gone,
    NotFound,
    OperationMismatch,
    StaleWrite,
    WrongOwner,
)
from node.api.guard import creator_of
from node.api.operations import Auth, operation
from node.api.views import (
    PLURALS,
    DependenciesView,
    PageView,
    RecordView,
    SearchParameters,
    VersionsView,
    heads_view,
    openai_model,
    record_view,
    version_record_view,
    version_view,
    with_card,
    written_view,
)
from node.catalogue import Catalogue
from node.formfiles import check_inline_formfile
from node.signing import ACCOUNT_HEADER, OPERATION_HEADER, read_operation
from node.storage import RecordState
from registry import (
    AIAgent,
    AIModel,
    ById,
    Page,
    Query,
    decode_record,
    encode_record,
    from_json,
    from_parameters,
    parse_record_reference,
    readable,
    validate,
)

MERGE_PATCH = "application/merge-patch+json"
WRITE_HEADERS = {
    OPERATION_HEADER: "base64url of the signed operation: `[content, signature]`, canonical.",
    ACCOUNT_HEADER: "base64url of the account's genesis item, for an account not known here yet.",
}
MATCH_HEADERS = {
    **WRITE_HEADERS,
    "If-Match": "The version id the change was made for; 412 if another one shows by now.",
}
DERIVED = ("model_id", "agent_id", "owner_id")


TasksOf = Callable[[RecordId], list[str]]
"""What live peers offer to do with a record now."""


def record_routes(
    catalogue: Catalogue, tasks_of: TasksOf = lambda _record: []
) -> list[web.RouteDef]:
    """Return the routes of both kinds, under `/v1` and bare."""
    return [
        *RecordRoutes(catalogue, RecordKind.MODEL, AIModel, tasks_of).routes(),
        *RecordRoutes(catalogue, RecordKind.AGENT, AIAgent, tasks_of).routes(),
    ]


class RecordRoutes:
    """The handlers of one kind of record."""

    def __init__(
        self,
        catalogue: Catalogue,
        kind: RecordKind,
        model: type[AIModel] | type[AIAgent],
        tasks_of: TasksOf,
    ) -> None:
        self._tasks_of = tasks_of
        self._catalogue = catalogue
        self._kind = kind
        self._model = model

    def routes(self) -> list[web.RouteDef]:
        """Return this kind's routes."""
        plural = PLURALS[self._kind]
        one = plural.removesuffix("s")
        found: list[web.RouteDef] = []
        for base in (f"/v1/{plural}", f"/{plural}"):
            each = f"{base}/{{id}}"
            found += [
                web.post(base, self._create(plural, one)),
                web.get(base, self._list(plural), allow_head=False),
                web.post(f"{base}/search", self._search(plural)),
                web.get(each, self._show(plural, one), allow_head=False),
                web.put(each, self._replace(plural, one)),
                web.delete(each, self._delete(plural, one)),
                web.get(f"{each}/versions", self._versions(plural, one), allow_head=False),
                web.get(
                    f"{each}/versions/{{version}}", self._version(plural, one), allow_head=False
                ),
                web.get(f"{each}/dependencies", self._needs(plural, one), allow_head=False),
            ]
        return found

    def _create(self, plural: str, one: str) -> Any:
        @operation(
            summary=f"Publish a new {one}", tag=plural, auth=Auth.CREATOR, request=self._model,
            responses={201: RecordView}, errors=(403, 409), headers=WRITE_HEADERS,
        )  # fmt: skip
        async def create(request: web.Request) -> web.StreamResponse:
            """Publish a record under the signer's account; its id follows from account and slug.

            A deleted record comes back when the operation cites its tombstone.
            """
            item, signed = self._signed_put(request, await object_of(request))
            state = self._catalogue.record(signed.record)
            if state is not None and not state.deleted:
                raise Exists(
                    f"{plural}/{signed.record.hex()} ({signed.slug}) exists; "
                    f"PUT the next version to /v1/{plural}/{signed.record.hex()}"
                )
            await self._publish(request, item)
            view = self._written(item, signed)
            location = {"Location": f"/v1/{plural}/{signed.record.hex()}"}
            return answer(view, status=201, headers={**location, **_etag(view)})

        return create

    def _replace(self, plural: str, one: str) -> Any:
        @operation(
            summary=f"Publish the next version of {_a(one)}", tag=plural, auth=Auth.CREATOR,
            request=self._model, request_types=("application/json", MERGE_PATCH),
            responses={200: RecordView}, errors=(403, 404, 410, 412), headers=MATCH_HEADERS,
        )  # fmt: skip
        async def replace(request: web.Request) -> web.StreamResponse:
            """Replace a record (`application/json`) or change some fields of it (merge patch).

            For a merge patch the signed hash is that of the patched record.
            """
            state = self._present(request)
            self._check_writer(request, state)
            given = await object_of(request)
            if request.content_type == MERGE_PATCH:
                given = merge_patched(self._readable(state), given)
            self._check_card(state, given)
            item, signed = self._signed_put(request, given)
            _check_target(signed, state)
            _check_match(request, state)
            await self._publish(request, item)
            view = self._written(item, signed)
            return answer(view, headers=_etag(view))

        return replace

    def _delete(self, plural: str, one: str) -> Any:
        @operation(
            summary=f"Delete {_a(one)}", tag=plural, auth=Auth.CREATOR, responses={204: None},
            errors=(403, 404, 410, 412, 422), headers=MATCH_HEADERS,
        )  # fmt: skip
        async def delete(request: web.Request) -> web.StreamResponse:
            """Publish a tombstone; later reads give 410, and the versions stay addressable."""
            state = self._present(request)
            self._check_writer(request, state)
            item, signed = self._signed(request, OperationType.DELETE, b"")
            _check_target(signed, state)
            _check_match(request, state)
            await self._publish(request, item)
            return web.Response(status=204)

        return delete

    def _show(self, plural: str, one: str) -> Any:
        @operation(
            summary=f"Show {_a(one)}", tag=plural, responses={200: RecordView}, errors=(404, 410)
        )
        async def show(request: web.Request) -> web.StreamResponse:
            """Return a record, its heads and conflicts, and who signed it.

            `id` is the record's id in hex, or `owner/slug` with the slash written `%2F`.
            """
            view = record_view(self._catalogue, self._present(request))
            return answer(view, headers=_etag(view))

        return show

    def _list(self, plural: str) -> Any:
        @operation(
            summary=f"List {plural}", tag=plural, responses={200: PageView}, query=SearchParameters
        )
        async def list_(request: web.Request) -> web.StreamResponse:
            """Return a page of the records that the parameters describe; all of them by default."""
            given = {name: request.query.getall(name) for name in request.query}
            query = from_parameters(given, kinds=(self._kind,))
            return answer(self._page(query))

        return list_

    def _search(self, plural: str) -> Any:
        @operation(summary=f"Search {plural}", tag=plural, request=Query, responses={200: PageView})
        async def search(request: web.Request) -> web.StreamResponse:
            """Return a page of the records that a structured query finds."""
            query = from_json(await object_of(request), kinds=(self._kind,))
            return answer(self._page(query))

        return search

    def _versions(self, plural: str, one: str) -> Any:
        @operation(
            summary=f"List the versions of {_a(one)}", tag=plural, responses={200: VersionsView},
            errors=(404,),
        )  # fmt: skip
        async def versions(request: web.Request) -> web.StreamResponse:
            """Return every version ever published, also of a deleted record."""
            state = self._known(request)
            current = None if state.deleted else state.operation.id
            entries = self._catalogue.versions(state.id)
            items = [version_view(entry, current=current) for entry in entries]
            return answer(VersionsView(items=items))

        return versions

    def _version(self, plural: str, one: str) -> Any:
        @operation(
            summary=f"Show one version of {_a(one)}", tag=plural, responses={200: RecordView},
            errors=(404,),
        )  # fmt: skip
        async def version(request: web.Request) -> web.StreamResponse:
            """Return one version, named by its version id or its semver. It never changes."""
            state, wanted = self._known(request), request.match_info["version"]
            entry = self._catalogue.version(state.id, wanted)
            if entry is None:
                raise NotFound(
                    f"{state.slug} has no version {wanted[:80]!r}; "
                    f"see /v1/{plural}/{state.id.hex()}/versions"
                )
            view = version_record_view(entry)
            return answer(view, headers=_etag(view))

        return version

    def _needs(self, plural: str, one: str) -> Any:
        @operation(
            summary=f"Resolve what {_a(one)} depends on", tag=plural,
            responses={200: DependenciesView}, errors=(404, 410),
        )  # fmt: skip
        async def needs(request: web.Request) -> web.StreamResponse:
            """Return the closure of a record's dependencies as a lock, or why there is none."""
            return answer(resolve(self._catalogue, self._present(request)))

        return needs

    def _page(self, query: Query) -> PageView:
        page: Page = self._catalogue.search(query)
        states = [self._catalogue.record(hit.record) for hit in page.hits]
        present = [
            state
            for state in states
            if state is not None and not state.deleted  # deleted since the page was cut
        ]
        items = [record_view(self._catalogue, state) for state in present]
        counts: Mapping[str, Mapping[str, int]] = page.facets.counts if page.facets else {}
        return PageView(
            items=items,
            total=page.total,
            next_cursor=page.cursor,
            facets={name: dict(values) for name, values in counts.items()},
            data=[
                openai_model(item, self._tasks_of(state.id))
                for item, state in zip(items, present, strict=True)
            ],
        )

    def _known(self, request: web.Request) -> RecordState:
        """Return the record that the path names, deleted or not."""
        text = request.match_info["id"]
        reference = parse_record_reference(text)
        if isinstance(reference, ById):
            state = self._catalogue.record(reference.record)
        else:
            found = self._catalogue.find_record(self._kind, reference.owner, reference.slug)
            state = None if found is None else self._catalogue.record(found)
        if state is None or state.kind is not self._kind:
            raise NotFound(
                f"there is no {PLURALS[self._kind].removesuffix('s')} {text[:140]} here; "
                f"search with /v1/{PLURALS[self._kind]}?q=..."
            )
        return state

    def _present(self, request: web.Request) -> RecordState:
        """Return the record that the path names; a deleted one is gone."""
        state = self._known(request)
        if state.deleted:
            heads = [one.model_dump() for one in heads_view(self._catalogue, state)]
            raise Gone(
                f"{state.slug} was deleted by its owner at {state.operation.timestamp_s} (their "
                "clock); its versions are still listed",
                extra={
                    "heads": heads,
                    "era": state.register.era.hex(),
                    "tombstone": state.operation.id.hex(),
                },
            )
        return state

    def _written(self, item: Item, signed: Operation) -> RecordView:
        state = self._catalogue.record(signed.record)
        assert state is not None, "what was published is there"
        return written_view(self._catalogue, state, signed, item.body)

    def _readable(self, state: RecordState) -> dict[str, Any]:
        record = readable(decode_record(state.kind, state.body))
        return with_card(record, self._catalogue.card(state.id))

    def _check_card(self, state: RecordState, given: Mapping[str, Any]) -> None:
        """Check that a put leaves to the card what is the card's."""
        if not state.register.has_card:
            return
        shown = self._readable(state)
        for name in ("description", "tags"):
            own = given.get(name, shown[name])
            value = sorted(set(cast("list[str]", own))) if isinstance(own, list) else own
            if value != shown[name]:
                raise CardDiffers(
                    f"{name} of {state.slug} is edited through its card, and this put says "
                    f"something else; send it as it is shown, and edit it with `hansa "
                    f"{PLURALS[self._kind]} edit`"
                )

    def _check_writer(self, request: web.Request, state: RecordState) -> None:
        account = creator_of(request).account
        if account.id != state.account:
            raise WrongOwner(
                f"{state.slug} belongs to account {state.account.hex()[:16]} and the request is "
                f"signed by {account.id.hex()[:16]}; publish it under your own account instead"
            )

    def _signed_put(self, request: web.Request, given: Mapping[str, Any]) -> tuple[Item, Operation]:
        creator = creator_of(request)
        record = validate(self._kind, given, owner=creator.account.id)
        check_inline_formfile(record)
        item, signed = self._signed(request, OperationType.PUT, encode_record(record))
        validate(self._kind, given, record=signed.record, owner=creator.account.id)
        return item, signed

    def _signed(
        self, request: web.Request, type_: OperationType, body: bytes
    ) -> tuple[Item, Operation]:
        """Return the operation that the request carries, checked to be what the request says."""
        creator = creator_of(request)
        header = read_operation(request.headers.get(OPERATION_HEADER))
        item = pack_item(ItemKind.OPERATION, header, body)
        try:
            signed = parse_operation(item, self._catalogue.network)
        except RemoteFault as error:
            raise OperationMismatch(
                f"the signed operation does not fit this body: {error}; sign the canonical "
                "encoding of exactly the record that is sent"
            ) from error
        if signed.account != creator.account.id:
            raise WrongOwner(
                f"the operation is of account {short(signed.account)} and the request is signed "
                f"by {short(creator.account.id)}"
            )
        if signed.kind is not self._kind or signed.type is not type_:
            raise OperationMismatch(
                f"the operation is a {signed.type.name.lower()} of a {signed.kind.name.lower()}; "
                f"this path takes a {type_.name.lower()} of a {self._kind.name.lower()}"
            )
        return item, signed

    async def _publish(self, request: web.Request, item: Item) -> None:
        """Put the operation, after its account's genesis if that is new, into the log."""
        genesis = creator_of(request).genesis
        items = [item] if genesis is None else [genesis, item]
        for outcome in await self._catalogue.publish([one.raw for one in items]):
            check_outcome(outcome)


def check_outcome(outcome: Outcome) -> None:
    """Return if a published item is in the set.

    Raises:
        MissingItems, OverQuota, RemoteFault: it is not, and why.
    """
    if outcome.status is Status.PENDING:
        raise MissingItems(outcome.missing)
    if outcome.status is Status.DECLINED:
        raise Declined(
            "this node has dropped what the operation cites, because a checkpoint stands for it; "
            "read the record again and cite its heads. If a new account was sent, too many false "
            "admission stamps came of late; send it again in a minute"
        )
    if outcome.over is not None:
        raise outcome.over
    if outcome.status is Status.REJECTED:
        fault: HansaError = outcome.fault or MalformedBytes("the item was rejected")
        raise fault


def merge_patched(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return `target` changed by a JSON merge patch (RFC 7386)."""
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            inner = result.get(name)
            base = cast("Mapping[str, Any]", inner if isinstance(inner, Mapping) else {})
            result[name] = merge_patched(base, cast("Mapping[str, Any]", value))
        else:
            result[name] = value
    return result


def answer(
    view: BaseModel, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a JSON response of a view."""
    return web.Response(
        body=view.model_dump_json().encode(),
        status=status,
        content_type="application/json",
        headers=headers,
    )


def answer_json(value: Any, *, status: int = 200) -> web.Response:
    """Return a JSON response of plain data."""
    return web.Response(
        text=json.dumps(value, ensure_ascii=False), status=status, content_type="application/json"
    )


def _a(word: str) -> str:
    """Return a word with its indefinite article."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _etag(view: RecordView) -> dict[str, str]:
    return {"ETag": f'"{view.version_id}"'}


def _check_target(signed: Operation, state: RecordState) -> None:
    if signed.record != state.id:
        raise OperationMismatch(
            f"the operation is for record {short(signed.record)} and the path names "
            f"{short(state.id)}"
        )


def _check_match(request: web.Request, state: RecordState) -> None:
    given = request.headers.get("If-Match")
    if given is None or given.strip() == "*":
        return
    if state.operation.id.hex() not in [one.strip(' "') for one in given.split(",")]:
        raise StaleWrite(
            f"{state.slug} is at version {state.operation.id.hex()} by now; read it again, and "
            "make the change on top of that"
        )
