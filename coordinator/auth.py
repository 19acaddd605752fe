"""Who may make a call: the checks of security.md 4.4, cheapest first.

Size (server.py), address limiter, header, version, ledger, method, time, message hash, key known,
signature, nonce, role. Laws: every refusal is typed; a nonce is stored, and a key's limit is
charged, only after the signature passed, so nobody can spend another one's; a fence or an upload id
gives nothing without the key (T2). Not here: what the call then does (service.py).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..core.errors import Refused
from ..core.request import check_request, parse_request
from ..proto import methods
from .call import Call
from .clock import Clock
from .limits import Buckets, InFlight, KnownKeys, Nonces, network_of

Known = Callable[[str], bool]


class Gate:
    """Lets a call in and tells whose it is."""

    def __init__(self, *, log: str, clock: Clock, is_member: Known, is_client: Known) -> None:
        """Ask ``is_member`` and ``is_client`` about public keys in hex."""
        self._log = log
        self._clock = clock
        self._known = {"member": is_member, "client": KnownKeys(is_client)}
        self._addresses = Buckets(per_s=5 / 60, burst=5)  # T1
        self._keys = Buckets(per_s=1.0, burst=10)
        self._nonces = Nonces()
        self._puts = InFlight(each=2, together=64)
        self._commits = InFlight(each=1, together=2)

    @contextmanager
    def open(self, call: Call) -> Iterator[str]:
        """Give the caller's key, empty for unsigned calls, while the call is within its limits."""
        key = self._admit(call)
        if call.method is methods.PUT:
            with self._puts.one(key):
                yield key
        elif call.method is methods.COMMIT:
            with self._commits.one(key):
                yield key
        else:
            yield key

    def _admit(self, call: Call) -> str:
        if call.method.signer == "nobody":
            return ""
        now_s = self._clock.monotonic_s()
        network = network_of(call.peer)
        if call.method in (methods.JOIN, methods.LEASE, methods.ROTATE) and network is not None:
            self._addresses.take(network, now_s)
        claim = parse_request(call.header)
        if call.method is not methods.JOIN and not self._known[call.method.signer](claim.key):
            raise _not_your_role(call.method.signer)
        check_request(
            claim,
            call.signature,
            log=self._log,
            method=call.method.path,
            body=call.body,
            now_s=self._clock.wall_s(),
        )
        self._nonces.once(claim.key, claim.nonce, now_s)  # T3
        if call.method not in (methods.PUT, methods.COMMIT):
            self._keys.take(claim.key, now_s)
        return claim.key


def _not_your_role(signer: str) -> Refused:
    return Refused(
        f"this key is no {signer} key of this federation",
        why=f"the call is signed by a {signer} key that the coordinator knows",
        fix="join with an invite first" if signer == "member" else "lease a slot first",
        code="not-your-role",
    )
