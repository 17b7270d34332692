"""What the console asks for: decisions, counts, the review queue, scores, calibration data."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar

from aiohttp import web

from guardrail import __version__
from guardrail.audit import AuditLog, Query, Store
from guardrail.audit.backend import backend_for
from guardrail.audit.export import opened
from guardrail.audit.review import Answer, answer, labels_of, withdraw
from guardrail.audit.stats import series, summary
from guardrail.check import Checker
from guardrail.classifier.attribution import attribution, pieces
from guardrail.classifier.prepare import Prepared, kept_scores
from guardrail.classifier.targets import Scored
from guardrail.errors import BundleError, SettingsError
from guardrail.escalate import decide_now
from guardrail.policy import Policy
from guardrail.proxy.admin_input import (
    read_body,
    read_names,
    read_number,
    read_place,
    read_query,
    read_sample,
    read_text,
)
from guardrail.taxonomy import CATEGORIES
from guardrail.types import UNSAFE, Direction, Role, Verdict

__all__ = ["AdminApi", "InForce"]

T = TypeVar("T")

MAX_PAGE: Final = 200
MAX_PIECES: Final = 48
"""Passes for one explanation: fewer than on the command line, since traffic is served beside."""
SNIPPET_CHARS: Final = 160
_BRIEF: Final = (
    "id", "time", "action", "enforced", "direction", "dialect", "channel", "category",
    "categories", "probability", "threshold", "outcome", "reason", "decided_by", "review",
    "check_ms", "final", "llm", "text_form",
)  # fmt: skip


class InForce(Protocol):
    """Who has what is in force."""

    policy: Policy
    checker: Checker
    audit: AuditLog | None


class AdminApi:
    """Answers the console; texts are decrypted where the server has the key.

    Args:
        proxy: What is in force.
    """

    def __init__(self, proxy: InForce) -> None:
        self._proxy = proxy
        self._scoring = asyncio.Semaphore(1)
        self._calibration: dict[str, Scored] | None = None

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes below ``/api``."""
        router.add_get("/api/state", self.state)
        router.add_get("/api/summary", self.summary)
        router.add_get("/api/decisions", self.decisions)
        router.add_get("/api/decisions/{id}", self.decision)
        router.add_post("/api/decisions/{id}/answer", self.answer)
        router.add_delete("/api/decisions/{id}/answer", self.withdraw)
        router.add_post("/api/score", self.score)
        router.add_post("/api/explain", self.explain)
        router.add_get("/api/calibration/{category}", self.calibration)

    # --- what is in force ----------------------------------------------------------------

    async def state(self, _: web.Request) -> web.Response:
        """Return the policy's rules, the model and how the audit does."""
        policy, audit = self._proxy.policy, self._proxy.audit
        ready = await self._ready()
        kept = await asyncio.to_thread(self._kept)
        health = audit.health if audit else None
        return web.json_response(
            {
                "version": __version__,
                "policy": policy.identity,
                "mode": policy.mode.value,
                "model": ready.classifier.model_id,
                "rules": [_rule(rule) for rule in ready.policy.rules],
                "titles": {UNSAFE: "Unsafe overall", **{k: c.name for k, c in CATEGORIES.items()}},
                "calibrated": sorted(kept),
                "text": policy.audit.text.value,
                "audit": None
                if audit is None or health is None
                else {
                    "place": audit.settings.place,
                    "degraded": health.degraded,
                    "queued": health.queued,
                    "dropped": health.dropped,
                },
            }
        )

    async def summary(self, request: web.Request) -> web.Response:
        """Return counts, and counts over time, of the last hours."""
        hours = read_number(request.query, "hours", 1.0, 0.01, 24 * 400)
        buckets = int(read_number(request.query, "buckets", 60, 2, 500))
        now = time.time()
        query = Query(since=now - hours * 3600)

        def read(store: Store) -> dict[str, Any]:
            line = series(store, Query(), now - hours * 3600, now, buckets)
            return {"summary": summary(store, query), "series": line}

        return web.json_response(await self._read(read))

    # --- decisions -----------------------------------------------------------------------

    async def decisions(self, request: web.Request) -> web.Response:
        """Return a page of decisions, the newest first, or those after a place."""
        query, limit = (
            read_query(request.query),
            int(read_number(request.query, "limit", 50, 1, MAX_PAGE)),
        )
        before, after = read_place(request.query, "before"), read_place(request.query, "after")

        def read(store: Store) -> list[dict[str, Any]]:
            return store.select(query, limit, before=before, after=after)

        found = await self._read(read)
        more = len(found) == limit
        return web.json_response(
            {
                "decisions": [self._brief(one) for one in found],
                "next": f"{found[-1]['time']!r},{found[-1]['id']}" if more else None,
                "last": f"{found[0]['time']!r},{found[0]['id']}" if found else None,
            }
        )

    def _brief(self, found: Mapping[str, Any]) -> dict[str, Any]:
        shown = self._opened(found)
        text = shown["text"] if shown["text_form"] == "plain" else None
        brief = {name: shown[name] for name in _BRIEF}
        findings = found["detail"].get("findings", [])
        brief["in_band"] = [[one[0], one[2]] for one in findings if one[5]]
        return {**brief, "snippet": text[:SNIPPET_CHARS] if text else None}

    async def decision(self, request: web.Request) -> web.Response:
        """Return one decision with everything that is known of it, and its labels."""
        identity = request.match_info["id"]

        def read(store: Store) -> dict[str, Any]:
            found = store.get(identity)
            if found is None:
                raise web.HTTPNotFound(reason="there is no such decision")
            return {**self._opened(found), "labels": labels_of(store, identity)}

        return web.json_response(await self._read(read))

    async def answer(self, request: web.Request) -> web.Response:
        """Record what a person says of a decision."""
        body = await read_body(request)
        try:
            said = Answer(read_text(body, "answer"))
        except ValueError as error:
            raise SettingsError("'answer' is approve or overturn") from error
        reviewer, note = read_text(body, "reviewer"), read_text(body, "note", "")
        categories = read_names(body, "categories")
        seen = read_text(body, "seen", "") or None
        identity = request.match_info["id"]

        def write(store: Store) -> list[dict[str, Any]]:
            return answer(
                store,
                identity,
                said,
                reviewer,
                time.time(),
                categories=categories,
                note=note,
                seen=seen,
            )

        return web.json_response({"labels": await self._read(write)})

    async def withdraw(self, request: web.Request) -> web.Response:
        """Take back what was said of a decision."""
        identity = request.match_info["id"]
        return web.json_response({"removed": await self._read(lambda s: withdraw(s, identity))})

    def _opened(self, found: Mapping[str, Any]) -> dict[str, Any]:
        assert self._proxy.audit is not None
        return opened(found, self._proxy.audit.sealer)

    async def _read(self, work: Callable[[Store], T]) -> T:
        """Run work on a connection of its own, off the event loop."""
        audit = self._proxy.audit
        if audit is None:
            raise web.HTTPNotFound(reason="there is no audit: serve runs with --audit none")
        backend = backend_for(audit.settings)

        def run() -> T:
            with Store(backend) as store:
                return work(store)

        try:
            return await asyncio.to_thread(run)
        except backend.faults as error:
            reason = f"the audit database cannot be read ({backend.kind(error)})"
            raise web.HTTPServiceUnavailable(reason=reason) from error

    # --- the model -----------------------------------------------------------------------

    async def score(self, request: web.Request) -> web.Response:
        """Return the probabilities of a text and what the policy in force makes of them.

        Bigger guards are asked as they are for traffic.
        """
        sample = read_sample(await read_body(request))
        ready = await self._ready()
        async with self._scoring:
            [scores] = await asyncio.to_thread(ready.classifier.score, [sample])
        way = Direction.OUTPUT if sample.role is Role.ASSISTANT else Direction.INPUT
        verdict = await asyncio.to_thread(decide_now, ready, way, sample, scores)
        scores = verdict.scores
        asked = [[e.category, e.guard, e.before, e.after, e.reason] for e in scores.escalations]
        evidence = [[e.category, e.kind, e.name, e.start, e.end] for e in scores.evidence]
        return web.json_response(
            {
                "scores": {key: round(p, 5) for key, p in scores.categories.items()},
                "tokens": scores.coverage.tokens,
                "evidence": evidence,
                "asked": asked,
                **_verdict(verdict),
            }
        )

    async def explain(self, request: web.Request) -> web.Response:
        """Return how far a probability falls when each piece of a text is left out."""
        body = await read_body(request)
        sample, category = read_sample(body), read_text(body, "category")
        ready = await self._ready()

        def work() -> dict[str, Any]:
            [whole] = ready.classifier.score([sample])
            chance = whole.get(category)
            if chance is None:
                raise SettingsError(f"the model does not score {category!r}")
            cuts = pieces(sample.text, MAX_PIECES)
            falls = attribution(ready.classifier, sample, chance, category, cuts)
            return {
                "probability": round(chance, 5),
                "pieces": [[a, b, round(f, 5)] for (a, b), f in zip(cuts, falls, strict=True)],
            }

        async with self._scoring:
            return web.json_response(await asyncio.to_thread(work))

    async def calibration(self, request: web.Request) -> web.Response:
        """Return the labelled probabilities of a category that came with the model."""
        category = request.match_info["category"]
        kept = await asyncio.to_thread(self._kept)
        if category not in kept:
            raise web.HTTPNotFound(reason="the model comes without labelled data for it")
        found = kept[category]
        return web.json_response(
            {
                "category": category,
                "source": found.source,
                "positive": [round(float(p), 4) for p in found.positive],
                "negative": [round(float(p), 4) for p in found.negative],
            }
        )

    async def _ready(self) -> Prepared:
        return await self._proxy.checker.prepared(self._proxy.policy)

    def _kept(self) -> dict[str, Scored]:
        if self._calibration is None:
            try:
                kept = kept_scores(self._proxy.checker.classifier)
            except BundleError:  # a bundle without them can do everything else
                kept = {}
            self._calibration = {
                key: one for key, one in kept.items() if len(one.positive) and len(one.negative)
            }
        return self._calibration


def _rule(rule: Any) -> dict[str, Any]:
    known = CATEGORIES.get(rule.category)
    return {
        "category": rule.category,
        "definition": rule.rubric or (known.definition if known else ""),
        "directions": sorted(d.value for d in rule.directions),
        "action": rule.action.value,
        "flag": rule.flag,
        "block": rule.block,
        "review": [rule.review.low, rule.review.high] if rule.review else None,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "action": verdict.action.value,
        "findings": [
            [f.category, f.action.value, f.probability, f.threshold, f.reason, f.review]
            for f in verdict.findings
        ],
    }
