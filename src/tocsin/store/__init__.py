"""The durable record: events in one sequence a tenant, a signed log, raw content under keys.

Acknowledged means synced: what `Store.commit` returned, or a `Writer`'s future, is there after a
power cut. Everything belongs to a tenant, and no query goes without its `Scope`.
"""

from tocsin.receipts.period import Period
from tocsin.store.append import Append, Committed, Content, Entry, Rejected
from tocsin.store.keys import Keys
from tocsin.store.proofs import Logged
from tocsin.store.reading import Head, Stored, Which
from tocsin.store.scope import Scope
from tocsin.store.store import Store
from tocsin.store.writer import Writer

__all__ = [
    "Append",
    "Committed",
    "Content",
    "Entry",
    "Head",
    "Keys",
    "Logged",
    "Period",
    "Rejected",
    "Scope",
    "Store",
    "Stored",
    "Which",
    "Writer",
]
