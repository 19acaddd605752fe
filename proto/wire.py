"""The messages of the wire contract as checked, frozen values, all by one name.

Law: bytes in, value out, or InputError("malformed"). Size first, then structure, then each bound
that proto/v1 states for a single field (T5, T8); what a field *means* is for its reader to check.
``to_bytes`` and ``from_bytes`` undo each other. The modules below, one a file of proto/v1, alone
see generated messages: the gRPC shells move bytes, since signatures cover what arrived
(security.md 4.4). Unknown fields are ignored: the signed documents inside have their own, strict
reader. Source: house-style.md 2, rules 21 to 23.
"""

from .checks import malformed
from .contributions import (
    BeginReply,
    BeginRequest,
    CommitReply,
    CommitRequest,
    PutReply,
    PutRequest,
    State,
    StatusReply,
    StatusRequest,
    WithdrawReply,
    WithdrawRequest,
)
from .federation import (
    GiveBackReply,
    GiveBackRequest,
    JoinReply,
    JoinRequest,
    LeaseReply,
    LeaseRequest,
    RenewReply,
    RenewRequest,
    RotateReply,
    RotateRequest,
    SpecReply,
    SpecRequest,
)
from .orders import (
    FleetKeyReply,
    FleetKeyRequest,
    Order,
    OrderKind,
    OrdersReply,
    OrdersRequest,
    ScoreReply,
    ScoreRequest,
)
from .releases import (
    ContributionReply,
    ContributionRequest,
    ListReply,
    ListRequest,
    ManifestReply,
    ManifestRequest,
    PublicRequest,
    ReadContributionRequest,
    ReadReply,
    ReadRequest,
)

__all__ = [
    "BeginReply",
    "BeginRequest",
    "CommitReply",
    "CommitRequest",
    "ContributionReply",
    "ContributionRequest",
    "FleetKeyReply",
    "FleetKeyRequest",
    "GiveBackReply",
    "GiveBackRequest",
    "JoinReply",
    "JoinRequest",
    "LeaseReply",
    "LeaseRequest",
    "ListReply",
    "ListRequest",
    "ManifestReply",
    "ManifestRequest",
    "Order",
    "OrderKind",
    "OrdersReply",
    "OrdersRequest",
    "PublicRequest",
    "PutReply",
    "PutRequest",
    "ReadContributionRequest",
    "ReadReply",
    "ReadRequest",
    "RenewReply",
    "RenewRequest",
    "RotateReply",
    "RotateRequest",
    "ScoreReply",
    "ScoreRequest",
    "SpecReply",
    "SpecRequest",
    "State",
    "StatusReply",
    "StatusRequest",
    "WithdrawReply",
    "WithdrawRequest",
    "malformed",
]
