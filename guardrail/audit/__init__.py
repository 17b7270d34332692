"""What was decided, when and why: the record that an operator can show.

`record` says what one decision is, `trail` gathers those of a request, `log` writes them off the
request path, `store` keeps and finds them in SQLite or PostgreSQL, `seal` keeps texts as the
policy allows. This room knows no HTTP.
"""

from guardrail.audit.log import AuditLog, Health
from guardrail.audit.record import Decision, Origin
from guardrail.audit.settings import AuditSettings, default_url, read_key
from guardrail.audit.store import Query, Store
from guardrail.audit.trail import Trail

__all__ = [
    "AuditLog",
    "AuditSettings",
    "Decision",
    "Health",
    "Origin",
    "Query",
    "Store",
    "Trail",
    "default_url",
    "read_key",
]
