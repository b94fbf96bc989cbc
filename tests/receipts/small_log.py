"""A log in memory, with everything that a store would keep of it."""

from __future__ import annotations

from tocsin.receipts import (
    Checkpoint,
    ConsistencyProof,
    Frontier,
    LogEntry,
    PublicKey,
    Signer,
    TlogProof,
    leaf_hash,
    origin_of,
    sign_checkpoint,
)
from tocsin.receipts.merkle import consistency_path, inclusion_path, root_at

LOG = "example.com/log"
SEED = bytes(range(32))


class SmallLog:
    def __init__(self, tenant: str = "acme", seed: bytes = SEED) -> None:
        self.tenant = tenant
        self.origin = origin_of(LOG, tenant)
        self.signer = Signer.from_seed(LOG, seed)
        self.frontier = Frontier()
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.entries: list[bytes] = []

    @property
    def key(self) -> PublicKey:
        return self.signer.public.named(self.origin)

    def node(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]

    def append(self, raw: bytes) -> int:
        for stored in self.frontier.append(leaf_hash(raw)):
            assert (stored.level, stored.index) not in self.nodes
            self.nodes[stored.level, stored.index] = stored.hash
        self.entries.append(raw)
        return len(self.entries) - 1

    def receipt(self, name: str, body: bytes = b'{"schema":"tocsin.receipt/1"}') -> int:
        entry = LogEntry(
            tenant=self.tenant, kind="receipt", id=name, sequence=len(self.entries), body=body
        )
        return self.append(entry.write())

    def checkpoint(self, size: int | None = None) -> str:
        at = len(self.entries) if size is None else size
        return sign_checkpoint(Checkpoint(self.origin, at, root_at(at, self.node)), self.signer)

    def proof(self, index: int, size: int | None = None) -> TlogProof:
        at = len(self.entries) if size is None else size
        return TlogProof(
            index=index,
            path=tuple(inclusion_path(index, at, self.node)),
            checkpoint=self.checkpoint(at),
            extra=self.entries[index],
        )

    def growth(self, old: int, new: int) -> ConsistencyProof:
        return ConsistencyProof(old=old, new=new, path=tuple(consistency_path(old, new, self.node)))


def filled(size: int, tenant: str = "acme", seed: bytes = SEED) -> SmallLog:
    log = SmallLog(tenant, seed)
    for i in range(size):
        log.receipt(f"r_{i}")
    return log
