"""Serving models: from a record to a proven engine that is offered, and back.

resolve the record -> does it fit this machine -> fetch the build -> install the engine if it is
missing -> render the engine's arguments -> start it under the supervisor -> prove it with a real
request -> offer it. What is served is remembered: a restart serves it again, or says why not.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from crdt import HansaError, ManifestDigest, RecordId, RecordKind
from inference import CannotServe, EngineFailed, Offer
from inference.engines import (
    EngineEnvironment,
    EngineState,
    EngineSupervisor,
    InstallProgress,
    Launch,
    SupervisorLimits,
    install,
)
from node.serving.ports import (
    BuildSource,
    Planner,
    Prepared,
    Records,
    ServedModel,
    ServeProgress,
    ServingTerms,
    prices,
)
from node.serving.state import STATE_FILE, recall, remember

if TYPE_CHECKING:
    from node.builds import FetchProgress
    from node.storage import RecordState
    from registry import AIModel

logger = structlog.stdlib.get_logger(__name__)

LISTENER_COUNT_MAX = 16


ProgressCallback = Callable[[ServeProgress], None]


@dataclass(slots=True)
class _Job:
    """One record on its way up, or up."""

    record: RecordId
    last: ServeProgress
    listeners: list[ProgressCallback] = field(default_factory=list[ProgressCallback])
    task: asyncio.Task[None] | None = None
    supervisor: EngineSupervisor | None = None
    prepared: Prepared | None = None
    offer: Offer | None = None
    since_s: float = 0.0


class Serving:
    """Every engine of this node. Call from the event loop's thread only.

    Args:
        folder: Where the list of served models and the engines' logs are kept.
        on_change: Called when what is offered, or its load, changed.
    """

    def __init__(
        self,
        *,
        records: Records,
        builds: BuildSource,
        planner: Planner,
        folder: Path,
        terms: ServingTerms | None = None,
        limits: SupervisorLimits | None = None,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._records = records
        self._builds = builds
        self._planner = planner
        self._folder = folder
        self._terms = terms or ServingTerms()
        self._limits = limits
        self._on_change = on_change
        self._jobs: dict[RecordId, _Job] = {}
        self._install = asyncio.Lock()

    async def serve(
        self, record: RecordId, progress: ProgressCallback = lambda _progress: None
    ) -> ServedModel:
        """Serve a model and return it once it is offered; one that is served is returned at once.

        The work goes on when the caller goes away: only `stop` ends it.

        Raises:
            UserFault, WorldFault: it cannot be served here; the message says why.
        """
        job = self._jobs.get(record)
        if job is None or (job.task is not None and job.task.done() and not _is_up(job)):
            if job is not None:
                await self._end(job)
            job = self._begin(record)
        assert job.task is not None
        if len(job.listeners) < LISTENER_COUNT_MAX:
            job.listeners.append(progress)
        progress(job.last)
        try:
            await asyncio.shield(job.task)
        except asyncio.CancelledError:
            if job.task.cancelled():
                raise CannotServe(f"serving {record.hex()} was stopped") from None
            raise
        except HansaError:
            self._jobs.pop(record, None)
            self._remember()
            raise
        finally:
            with contextlib.suppress(ValueError):
                job.listeners.remove(progress)
        return self._served(job)

    async def stop(self, record: RecordId) -> None:
        """Withdraw the offer, let calls in progress finish, end the engine, and forget it.

        Raises:
            CannotServe: it is not served here.
        """
        job = self._jobs.pop(record, None)
        if job is None:
            raise CannotServe(f"{record.hex()} is not served here; see: hansa serving")
        self._remember()
        self._on_change()
        await self._end(job)

    def served(self) -> list[ServedModel]:
        """Return what is served, being brought up, or failed, by record id."""
        return [self._served(self._jobs[record]) for record in sorted(self._jobs)]

    async def resume(self) -> None:
        """Begin to serve again what was served when the node stopped; returns at once."""
        for record in recall(self._folder / STATE_FILE)[: self._terms.model_count_max]:
            if record in self._jobs:
                continue
            job = self._begin(record)
            assert job.task is not None
            job.task.add_done_callback(partial(_log_failure, record))

    async def close(self) -> None:
        """Stop every engine; they are remembered for the next start."""
        jobs, self._jobs = list(self._jobs.values()), {}
        self._on_change()
        await asyncio.gather(*(self._end(job) for job in jobs))

    def offers(self) -> list[Offer]:
        """Return what is served right now, with its load: only engines that are proven."""
        return [offer for job in self._jobs.values() if (offer := self._offer_now(job))]

    def engine_url(self, record: RecordId) -> str | None:
        """Return the loopback base URL of the record's proven engine, if it runs."""
        job = self._jobs.get(record)
        if job is None or job.supervisor is None:
            return None
        return job.supervisor.url if job.supervisor.state is EngineState.READY else None

    def engine_name(self, record: RecordId) -> str:
        """Return the name that the record's engine knows the model by.

        Raises:
            CannotServe: it is not served here.
        """
        job = self._jobs.get(record)
        if job is None or job.supervisor is None:
            raise CannotServe(f"{record.hex()} is not served here; see: hansa serving")
        return job.supervisor.launch.model

    def _begin(self, record: RecordId) -> _Job:
        most = self._terms.model_count_max
        if len(self._jobs) >= most:
            raise CannotServe(
                f"{len(self._jobs)} models are served already and engines.model_count_max is "
                f"{most}; stop one: hansa serve --stop REF"
            )
        job = _Job(record, ServeProgress(record, "resolving", "looking the record up"))
        self._jobs[record] = job
        self._remember()
        job.task = asyncio.create_task(self._bring_up(job), name=f"serve {record.hex()[:10]}")
        return job

    async def _end(self, job: _Job) -> None:
        if job.task is not None:
            job.task.cancel()
            await asyncio.gather(job.task, return_exceptions=True)
        if job.supervisor is not None:
            await job.supervisor.stop()
        self._report(job, "stopped", "stopped")

    async def _bring_up(self, job: _Job) -> None:
        try:
            state, model = self._resolve(job.record)
            self._report(job, "planning", f"does {model.name} fit this machine?")
            said = await asyncio.to_thread(self._planner.check, model)
            for reason in said:
                self._report(job, "planning", reason)
            digest, tree = await self._fetch(job, model)
            served_name = f"{state.account.hex()[:16]}/{state.slug}"
            prepared = await asyncio.to_thread(self._planner.prepare, model, tree, served_name)
            job.prepared = prepared
            for reason in prepared.reasons:
                if reason not in said:
                    self._report(job, "planning", reason)
            await self._install_engine(job, prepared.environment)
            await self._start(job, prepared, served_name)
            job.offer = self._offer(job, state, model, digest)
            job.since_s = time.time()  # noqa: TID251 - an edge: shown to the operator
            self._report(job, "ready", f"{model.name} is offered as {served_name}")
            self._on_change()
        except HansaError as error:
            self._report(job, "failed", str(error))
            raise
        except OSError as error:
            self._report(job, "failed", str(error))
            raise EngineFailed(f"serving {job.record.hex()} failed: {error}") from error

    def _resolve(self, record: RecordId) -> tuple[RecordState, AIModel]:
        from registry import AIModel, decode_record

        state = self._records.record(record)
        if state is None:
            raise CannotServe(f"no record {record.hex()} is known here; see: hansa models search")
        if state.kind is not RecordKind.MODEL or state.deleted:
            what = "was deleted" if state.deleted else "is an agent, and only models are served"
            raise CannotServe(f"{state.slug} ({record.hex()}) {what}")
        model = decode_record(state.kind, state.body)
        assert isinstance(model, AIModel), "a valid model record holds a model"
        if model.status == "withdrawn":
            raise CannotServe(f"{state.slug} was withdrawn by its owner")
        prices(model, self._terms)  # asked now, before anything is fetched
        if not model.builds:
            raise CannotServe(
                f"{state.slug} names no build, so there are no weights to serve; its owner adds "
                "one with: hansa publish"
            )
        return state, model

    async def _fetch(self, job: _Job, model: AIModel) -> tuple[ManifestDigest, Path]:
        digests = [ManifestDigest(bytes.fromhex(build)) for build in model.builds]
        digests.sort(key=lambda digest: not self._builds.has(digest))  # stable: the owner's order
        problem: HansaError | None = None
        for digest in digests:
            self._report(job, "fetching", f"build {digest.hex()[:16]}")
            try:
                return digest, await self._builds.fetch(digest, partial(self._fetched, job))
            except HansaError as error:
                problem = error
        assert problem is not None
        raise problem

    async def _install_engine(self, job: _Job, environment: EngineEnvironment) -> None:
        if environment.installed:
            return
        if not self._terms.install:
            raise CannotServe(
                f"{environment.spec.name} is not installed and engines.install is off; run: "
                "hansa engine install"
            )
        loop = asyncio.get_running_loop()

        def tell(step: InstallProgress) -> None:
            report = partial(self._report, job, "installing", step.text, step.done, step.total)
            loop.call_soon_threadsafe(report)

        self._report(job, "installing", environment.spec.name)
        async with self._install:
            await asyncio.to_thread(install, environment, tell)

    async def _start(self, job: _Job, prepared: Prepared, served_name: str) -> None:
        launch = Launch(
            model=served_name,
            argv=prepared.environment.command(prepared.argv),
            env=prepared.env,
            log=self._folder / "engines" / f"{job.record.hex()[:16]}.log",
        )
        job.supervisor = EngineSupervisor(
            launch, partial(self._engine_changed, job), limits=self._limits
        )
        await job.supervisor.start()

    def _engine_changed(self, job: _Job, supervisor: EngineSupervisor) -> None:
        texts = {
            EngineState.STARTING: ("starting", f"starting {supervisor.launch.model}"),
            EngineState.PROVING: ("proving", "completing a first real request"),
            EngineState.FAILED: ("failed", supervisor.problem),
        }
        step = texts.get(supervisor.state)
        if step is not None and job.last.text != step[1]:
            self._report(job, *step)
        if supervisor.state in {EngineState.WAITING, EngineState.FAILED}:
            logger.warning(
                "engine not running",
                model=supervisor.launch.model,
                state=supervisor.state.value,
                reason=supervisor.problem,
                log=str(supervisor.log.path),
            )
        if job.offer is not None:
            self._on_change()

    def _fetched(self, job: _Job, progress: FetchProgress) -> None:
        text = progress.phase
        self._report(job, "fetching", text, progress.bytes_verified, progress.bytes_total)

    def _offer(
        self, job: _Job, state: RecordState, model: AIModel, digest: ManifestDigest
    ) -> Offer:
        from registry import plain

        assert job.supervisor is not None
        assert job.prepared is not None
        proof = job.supervisor.proof
        assert proof is not None, "only a proven engine is offered"
        price_input, price_output, price_cached = prices(model, self._terms)
        return Offer(
            record=job.record,
            version=state.operation.id,
            manifest=digest,
            served_name=job.supervisor.launch.model,
            engine=job.prepared.engine,
            device=job.prepared.device,
            quantization=plain(model.quantization) or "",
            context=job.prepared.context,
            price_input=price_input,
            price_output=price_output,
            price_cached=price_cached,
            region=self._terms.region,
            running=0,
            waiting=0,
            slots=job.prepared.slots,
            tokens_per_s_milli=proof.tokens_per_s_milli,
            ttft_ms=proof.first_token_ms,
            tasks=proof.tasks,
        )

    def _offer_now(self, job: _Job) -> Offer | None:
        supervisor, offer = job.supervisor, job.offer
        if offer is None or supervisor is None or supervisor.state is not EngineState.READY:
            return None
        state = self._records.record(job.record)
        if state is None or state.deleted:
            return None
        load = supervisor.load
        return replace(offer, running=load.running, waiting=load.waiting)

    def _served(self, job: _Job) -> ServedModel:
        supervisor, prepared, offer = job.supervisor, job.prepared, self._offer_now(job)
        failed = job.last.step == "failed"
        return ServedModel(
            record=job.record,
            state=supervisor.state.value if supervisor else job.last.step,
            problem=supervisor.problem if supervisor else (job.last.text if failed else ""),
            served_name=supervisor.launch.model if supervisor else "",
            version=job.offer.version if job.offer else None,
            manifest=job.offer.manifest if job.offer else None,
            engine=prepared.engine if prepared else "",
            device=prepared.device if prepared else "",
            url=supervisor.url if supervisor else "",
            reasons=prepared.reasons if prepared else (),
            since_s=job.since_s,
            restarts=supervisor.restart_count if supervisor else 0,
            pid=supervisor.pid if supervisor else None,
            log=str(supervisor.log.path) if supervisor else "",
            offer=offer,
        )

    def _report(self, job: _Job, step: str, text: str, done: int = 0, total: int = 0) -> None:
        job.last = ServeProgress(job.record, step, text, done, total)
        for listener in list(job.listeners):
            listener(job.last)

    def _remember(self) -> None:
        remember(self._folder / STATE_FILE, self._jobs)


def _is_up(job: _Job) -> bool:
    return job.supervisor is not None and job.supervisor.state not in {
        EngineState.FAILED,
        EngineState.STOPPED,
    }


def _log_failure(record: RecordId, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("not served again", record=record.hex(), reason=str(error))
