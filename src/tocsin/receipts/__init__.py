"""Receipts that others can check: a Merkle log, signed checkpoints, proofs that need no network.

The formats are those of C2SP (signed-note, tlog-checkpoint, tlog-proof), so other people's tools
read them too. What is proven is that something was recorded, and not changed or taken out since;
never that it was correct. The folder knows nothing of the rest and can be lifted out whole.
"""

from tocsin.receipts.checkpoint import Checkpoint, open_checkpoint, origin_of, sign_checkpoint
from tocsin.receipts.entry import LogEntry
from tocsin.receipts.keys import PublicKey, read_keys
from tocsin.receipts.merkle import Frontier, leaf_hash, node_hash
from tocsin.receipts.period import Period, Span, join, read_period
from tocsin.receipts.proof import ConsistencyProof, TlogProof
from tocsin.receipts.signer import Signer
from tocsin.receipts.verify import Consistent, Verified, verify, verify_growth

__all__ = [
    "Checkpoint",
    "ConsistencyProof",
    "Consistent",
    "Frontier",
    "LogEntry",
    "Period",
    "PublicKey",
    "Signer",
    "Span",
    "TlogProof",
    "Verified",
    "join",
    "leaf_hash",
    "node_hash",
    "open_checkpoint",
    "origin_of",
    "read_keys",
    "read_period",
    "sign_checkpoint",
    "verify",
    "verify_growth",
]
