"""One federation over real gRPC with TLS: from an invite to a published release."""

import contextlib
import json
import secrets
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from orthofed.client.renewals import Renewals
from orthofed.coordinator.fs import Fs
from orthofed.coordinator.running_leases import lease_line
from orthofed.core.document import parse
from orthofed.core.errors import ContributionRejected, InputError, LeaseLost, Refused
from orthofed.core.keys import SigningKey
from orthofed.core.layout import ContributionLayout
from orthofed.core.release import ReleaseManifest
from orthofed.core.spec import Limits
from orthofed.proto import methods, wire

from .member import Member, Wire, read_release
from .owner import Owner
from .serving import founded, running


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = founded(tmp_path_factory.mktemp("shared"))
    with running(folder) as coordinator:
        yield coordinator


@pytest.fixture
def own(tmp_path):
    with running(founded(tmp_path)) as coordinator:
        yield coordinator


def name() -> tuple[str, tuple[str, ...]]:
    """Return a concept and a trigger that nobody has."""
    word = "".join(secrets.choice("abcefghjkmnpqtuxy") for _ in range(10))
    return word, (f"{word}-k",)


def free(member: Member, lease) -> None:
    request = wire.GiveBackRequest(lease.slot, lease.fence)
    member.link.call(methods.GIVE_BACK, request, wire.GiveBackReply, lease.key)


def test_a_contribution_goes_from_invite_to_release(own):
    """Two members join, lease, upload and commit; the release holds both and reads as signed."""
    anna, rex = own.member(), own.member()
    first = anna.pack(anna.lease("anna", ("anna-k7",), vectors=(2,)), seed=1)
    second = rex.pack(rex.lease("rex", ("rex-p2", "rex-q3")), seed=2)

    receipts = [anna.contribute(first), rex.contribute(second)]
    made = own.release(614)
    listed = anna.link.call(methods.LIST_RELEASES, wire.ListRequest(), wire.ListReply)
    reply = anna.link.call(methods.GET_MANIFEST, wire.ManifestRequest(), wire.ManifestReply)

    for packed, receipt in zip((first, second), receipts, strict=True):
        leaf = anna.check(receipt).leaf
        assert leaf["kind"] == "contribution"
        assert leaf["doc"] == json.loads(packed.document)
    assert (made["n"], listed.releases, listed.newest) == (1, (1,), 1)
    manifest = ReleaseManifest.from_document(parse(reply.document, kind="release"))
    assert [share for _, share in manifest.contributions] == [614, 614]
    assert anna.check(reply.receipt).leaf["kind"] == "release"
    names = {file.name for file in manifest.files}
    assert {"lora/wren-fed-r0001.safetensors", "concepts/wren-fed-anna.safetensors"} <= names
    assert {"embeddings/rex-q3.safetensors", "checkpoint/model_index.json", "card.md"} <= names
    for file in manifest.files:
        assert len(read_release(anna, 1, file.name)) == file.bytes
    assert anna.status(first.lease).state == "accepted"
    assert read_release(anna, 1, "manifest.json") == reply.document


def test_every_write_can_be_sent_again(shared):
    """A client that repeats each call as after a cut gets the same lease, upload and receipt."""
    member = shared.member()
    concept, triggers = name()
    key, request = SigningKey.from_seed(secrets.token_bytes(32)), secrets.token_hex(16)

    leases = [member.lease(concept, triggers, key=key, request=request) for _ in range(3)]
    packed = member.pack(leases[0])
    begun = [member.begin(packed) for _ in range(2)]
    member.join()
    [member.put(packed, 0) for _ in range(2)]
    first = member.contribute(packed)
    again = [member.commit(packed).receipt, member.contribute(packed), member.status(leases[0])]

    assert leases[0] == leases[1] == leases[2]
    assert begun[0] == begun[1]
    assert again[:2] == [first, first]
    assert again[2].receipt == first
    size = shared.desk.status()["ledger_size"]
    assert member.begin(packed).receipt == first
    assert shared.desk.status()["ledger_size"] == size


def test_a_receipt_survives_a_restart(tmp_path):
    """The coordinator closes and opens again; the client's late retry gets the same receipt."""
    folder = founded(tmp_path)
    with running(folder) as coordinator:
        member = coordinator.member()
        packed = member.pack(member.lease())
        receipt = member.contribute(packed)

    with running(folder) as coordinator:
        later = Member(Wire(member.invite, address=f"127.0.0.1:{coordinator.server.port}"))

        assert later.commit(packed).receipt == receipt
        assert later.status(packed.lease).state == "accepted"


def test_half_an_upload_goes_on_after_a_restart(tmp_path):
    """Begin and nothing else, restart: the lease stands, the bitmap comes from the part."""
    folder = founded(tmp_path, rank=12)
    with running(folder) as coordinator:
        member = coordinator.member()
        packed = member.pack(member.lease(vectors=(8,)))
        member.begin(packed)
        member.put(packed, 0)

    with running(folder) as coordinator:
        later = Member(Wire(member.invite, address=f"127.0.0.1:{coordinator.server.port}"))
        later.key = member.key
        have = later.begin(packed).have

        assert have[0] & 1
        assert later.contribute(packed)


def test_an_expired_lease_goes_to_who_needs_it_and_not_before(tmp_path):
    """All slots leased and past their deadline: one more member gets the oldest, and only that."""
    folder = founded(tmp_path, rank=12)
    with running(folder) as own:
        members = [own.member() for _ in range(3)]
        held = [members[i].lease(f"name-{w}", (f"{w}-k7",)) for i, w in enumerate(["abe", "fum"])]
        late = [members[i].pack(held[i], seed=i) for i in range(2)]
        with pytest.raises(Refused) as full:
            members[2].lease("third", ("third-k7",))

        own.clock.moved_s = 901
        third = members[2].lease("third", ("third-k7",))

        assert full.value.code == "no-free-slot"
        assert "of 2 slots 0 are filled and 2 leased" in full.value.what
        assert members[0].link.last_trailers == {}
        assert (third.slot, third.fence) == (held[0].slot, held[0].fence + 1)
        with pytest.raises(LeaseLost):
            members[0].begin(late[0])
        assert members[0].status(held[0]).state == "lost"
        # late but not overtaken still counts
        assert members[1].check(members[1].contribute(late[1])).leaf["kind"] == "contribution"


def test_renewing_keeps_a_lease_only_while_progress_grows(own):
    """Renew with a higher step moves the deadline, with the same step it does not."""
    member = own.member()
    lease = member.lease()

    def renew(progress: int) -> wire.RenewReply:
        request = wire.RenewRequest(lease.slot, lease.fence, progress)
        return member.link.call(methods.RENEW, request, wire.RenewReply, lease.key)

    renew(5)
    own.clock.moved_s = 500
    stalled, advanced = renew(5), renew(6)

    assert stalled.ttl_s <= 400 < advanced.ttl_s
    assert 499 <= advanced.held_s <= 501


def test_what_a_client_says_of_its_total_is_listed_and_moves_no_deadline(own):
    """`coordinator status` tells it; another total without progress changes nothing else."""
    member = own.member()
    lease = member.lease()

    def renew(progress: int, total: int) -> wire.RenewReply:
        request = wire.RenewRequest(lease.slot, lease.fence, progress, total)
        return member.link.call(methods.RENEW, request, wire.RenewReply, lease.key)

    renew(5, 400)
    (said,) = own.desk.status()["leases"]
    own.clock.moved_s = 500
    stalled = renew(5, 10**9)
    (later,) = own.desk.status()["leases"]

    assert (said["progress"], said["total"]) == (5, 400)
    assert 800 < said["left_s"] <= 900
    assert "lease, step 5 of 400, " in lease_line({**said, "concept": "lease"})
    assert stalled.ttl_s <= 400
    assert (later["progress"], later["total"]) == (5, 10**9)
    assert later["left_s"] <= 400
    with pytest.raises(InputError, match="total"):
        renew(6, 10**9 + 1)


def test_a_clients_first_renewal_says_how_far_it_has_to_go(own, tmp_path):
    """By the client's own code, before its first step; a later whole replaces it."""
    owner = Owner.joined(tmp_path / "home", own.invite())
    session = owner.lease("robin")
    with owner.channel() as channel:
        renewals = Renewals(
            channel,
            key=owner.key(session),
            slot=session.slot,
            fence=session.fence,
            ttl_s=session.ttl_s,
            on_trouble=lambda _: None,
        )
        renewals.advance(0, 400)
        with renewals:
            pass
    (said,) = own.desk.status()["leases"]

    assert (said["concept"], said["progress"], said["total"]) == ("robin", 0, 400)


@pytest.mark.parametrize(
    ("concept", "triggers"),
    [
        ("anna", ("other-x1",)),
        ("4nn4-other", ("anna-k7",)),
        ("other", ("ann4-k7", "anna-k7")),
        ("other", ("anna-k7-x",)),
        ("other", ("fox",)),
        ("other", ("0ther-a", "other-a")),
    ],
)
def test_a_taken_name_is_refused_with_a_hint(shared, concept, triggers):
    """Names taken, look-alikes, whole-part prefixes, words of the base: refused, nothing held."""
    owner, member = shared.member(), shared.member()
    with contextlib.suppress(Refused):  # an earlier case took it
        owner.lease("anna", ("anna-k7",))

    with pytest.raises(Refused) as refused:
        member.lease(concept, triggers)

    assert refused.value.code == "name-taken"
    assert refused.value.fix
    assert member.link.last_trailers["status"] == "INVALID_ARGUMENT"
    word, fresh = name()
    free(member, member.lease(word, fresh))


def test_a_member_may_take_its_own_name_again_after_losing_the_slot(own):
    """A lease that ended without a contribution keeps its names for its member alone."""
    member, other = own.member(), own.member()
    first = member.lease("anna", ("anna-k7",))
    free(member, first)

    with pytest.raises(Refused):
        other.lease("anna-2", ("anna-k7",))
    second = member.lease("anna", ("anna-k7",))
    packed = member.pack(second)
    member.contribute(packed)
    with pytest.raises(Refused) as taken:
        member.lease("anna", ("anna-k7",))

    assert second.fence > first.fence or second.slot != first.slot
    assert taken.value.code == "name-taken"


def test_a_name_in_another_spelling_ends_the_late_lease_of_the_first(own):
    """I6: a late commit counts, so two contributions would have one trigger, with and without -."""
    member = own.member()
    packed = member.pack(member.lease("annab", ("annab",)))
    member.begin(packed)
    for index in range(len(packed.chunks)):
        member.put(packed, index)
    own.clock.moved_s += 10_000

    member.lease("anna-b", ("anna-b",))

    with pytest.raises(LeaseLost):
        member.commit(packed)


@pytest.mark.parametrize(
    ("concept", "trigger"), [("rexq9", "rexq9"), ("fido", "rexq9-b"), ("fido", "nils-ps")]
)
def test_a_refused_name_comes_with_one_that_is_taken_at_once(tmp_path, concept, trigger):
    """What is suggested passes the rule that refused: as a concept and as its trigger."""
    with running(founded(tmp_path)) as own:
        own.member().lease("rexq9", ("rexq9",))
        own.member().lease("nils", ("nils-p5",))
        other = own.member()
        with pytest.raises(Refused) as refused:
            other.lease(concept, (trigger,))
        name = refused.value.fix.rpartition(" ")[2]
        other.lease(name, (name,))

    assert refused.value.code == "name-taken"


def test_a_member_holds_one_live_lease_and_a_few_a_day(tmp_path):
    """A second lease while one lives, and one more than the day's number, are refused (T1)."""
    limits = Limits(leases_a_day=2, operator_slots_percent=0)
    with running(founded(tmp_path, limits=limits)) as own:
        member = own.member()
        lease = member.lease()
        with pytest.raises(Refused) as live:
            member.lease("ben", ("ben-k7",))
        free(member, lease)
        free(member, member.lease("ben", ("ben-k7",)))
        with pytest.raises(Refused) as day:
            member.lease("cid", ("cid-k7",))

    assert live.value.code == day.value.code == "quota-used"
    assert live.value.what == "1 live lease of this member, allowed is 1"
    assert day.value.what == "2 leases granted to this member today, allowed are 2"


def test_some_slots_are_kept_for_the_operators_members(tmp_path):
    """With half of two slots kept, the second stranger finds none and the operator's does (T1)."""
    limits = Limits(operator_slots_percent=50)
    with running(founded(tmp_path, rank=12, limits=limits)) as own:
        own.member().lease()
        with pytest.raises(Refused) as refused:
            own.member().lease("ben", ("ben-k7",))
        lease = own.member(operator=True).lease("ben", ("ben-k7",))

    assert refused.value.code == "no-free-slot"
    assert lease.slot == 1


def test_an_invite_lets_in_as_many_as_it_says(shared):
    """A second member on a one-use invite is refused; so is an unknown invite."""
    invite = shared.invite(1)
    first = Member.joined(invite)
    first.join()

    with pytest.raises(Refused) as used:
        Member.joined(invite)

    assert used.value.code == "bad-invite"
    assert Wire(first.invite)


def test_a_damaged_chunk_changes_nothing(shared):
    """A chunk with one bit flipped is DATA_LOSS; the right one is then taken."""
    member = shared.member()
    packed = member.pack(member.lease(*name()))
    member.begin(packed)
    chunk = packed.chunks[0]

    with pytest.raises(Refused) as damaged:
        member.put(packed, 0, bytes([chunk[0] ^ 1]) + chunk[1:])

    assert damaged.value.code == "chunk-damaged"
    assert member.link.last_trailers["status"] == "DATA_LOSS"
    assert not any(member.begin(packed).have)
    assert member.contribute(packed)


def test_a_commit_of_half_an_upload_names_what_is_missing(shared):
    """Commit before the chunks are there says which; nothing is in the ledger."""
    member = shared.member()
    packed = member.pack(member.lease(*name()))
    member.begin(packed)

    reply = member.commit(packed)

    assert reply.missing == tuple(range(len(packed.chunks)))
    assert member.status(packed.lease).state == "leased"
    with pytest.raises(InputError):
        member.put(packed, 0, packed.chunks[0][:-1])
    free(member, packed.lease)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"basis": "0" * 64}, "wrong-block"),
        ({"bytes": 1000}, "bad-size"),
        ({"slot": 5}, "manifest-differs"),
        ({"fence": 99}, "manifest-differs"),
        ({"concept": "somebody-else"}, "manifest-differs"),
        ({"triggers": ("other-k7",)}, "manifest-differs"),
        ({"fed": "1" * 64}, "manifest-differs"),
        ({"log": "1" * 64}, "manifest-differs"),
    ],
)
def test_a_manifest_that_does_not_fit_the_lease_is_refused(shared, changed, code):
    """Each field that the lease fixes is compared at Begin."""
    member = shared.member()
    lease = member.lease(*name())
    packed = member.pack(lease, **changed)

    with pytest.raises(ContributionRejected) as refused:
        member.begin(packed)

    assert refused.value.code == code
    free(member, lease)


def test_numbers_outside_the_rules_are_refused_and_leave_nothing(shared):
    """A mantissa out of normal form, an exponent out of its window, a header, a norm too large."""
    others = set(shared.folder.part.iterdir())  # of tests that stop halfway
    member = shared.member()
    lease = member.lease(*name())
    layout = ContributionLayout(member.spec(), lease.vectors)
    blob = member.pack(lease).blob
    first, last = len(layout.header), len(layout.header) + layout.content[0].size
    at = len(layout.header) + layout.exponents.offset
    exponents = blob[:at] + (5).to_bytes(2, "little") + blob[at + 2 :]
    header = blob[:20] + bytes([blob[20] ^ 1]) + blob[21:]
    zeroed = blob[:first] + bytes(last - first) + blob[last:]

    codes = []
    for changed in (exponents, header, zeroed):
        packed = member.pack(lease, blob=changed)
        with pytest.raises(ContributionRejected) as refused:
            member.contribute(packed)
        codes.append(refused.value.code)
        with pytest.raises(Refused):
            member.commit(packed)
    with pytest.raises(ContributionRejected) as heavy:
        member.contribute(member.pack(lease, size=0.3))

    assert codes == ["not-normal-form", "layout-differs", "not-normal-form"]
    assert heavy.value.code == "norm-too-large"
    assert member.status(lease).state == "leased"
    assert member.contribute(member.pack(lease))
    assert set(shared.folder.part.iterdir()) <= others


def test_a_full_disk_is_an_ordinary_refusal(tmp_path):
    """No room above the reserve: Begin is RESOURCE_EXHAUSTED and says when to try again."""
    folder = founded(tmp_path)

    class Full(Fs):
        full = True

        def free_bytes(self, path):
            return 10 if self.full else super().free_bytes(path)

    fs = Full()
    with running(folder, fs=fs) as own:
        member = own.member()
        packed = member.pack(member.lease())
        with pytest.raises(Refused) as refused:
            member.begin(packed)
        trailers = member.link.last_trailers
        fs.full = False

        assert refused.value.code == "no-room"
        assert trailers["status"] == "RESOURCE_EXHAUSTED"
        assert trailers[methods.RETRY_KEY] == "30"
        assert member.contribute(packed)


def test_a_signature_covers_method_message_time_and_nonce(shared):
    """Each call is refused with its own code when one thing that was signed is another (T2, T3)."""
    member, stranger = shared.member(), SigningKey.from_seed(secrets.token_bytes(32))
    lease = member.lease(*name())
    body = wire.RenewRequest(lease.slot, lease.fence, 1).to_bytes()
    link = member.link
    good = link.signed(methods.RENEW, body, lease.key)

    def refused(method, sent, metadata) -> tuple[str, str]:
        with pytest.raises(Refused) as error:
            link.send(method, sent, metadata)
        return error.value.code, link.last_trailers["status"]

    link.send(methods.RENEW, body, good)
    replayed = refused(methods.RENEW, body, good)
    other_body = wire.RenewRequest(lease.slot, lease.fence, 2).to_bytes()
    wrong_body = refused(methods.RENEW, other_body, link.signed(methods.RENEW, body, lease.key))
    wrong_method = refused(methods.GIVE_BACK, body, link.signed(methods.RENEW, body, lease.key))
    forged = link.signed(methods.RENEW, body, lease.key)
    forged[1] = (forged[1][0], bytes(64))
    bad_signature = refused(methods.RENEW, body, forged)
    unknown = refused(methods.RENEW, body, link.signed(methods.RENEW, body, stranger))
    as_member = refused(methods.RENEW, body, link.signed(methods.RENEW, body, member.key))
    unsigned = refused(methods.RENEW, body, ())
    link.clock_offset_s = -300
    old = refused(methods.RENEW, body, link.signed(methods.RENEW, body, lease.key))
    link.clock_offset_s = 0

    assert replayed == ("replayed", "UNAUTHENTICATED")
    assert wrong_body == ("wrong-body", "UNAUTHENTICATED")
    assert wrong_method == ("wrong-method", "UNAUTHENTICATED")
    assert bad_signature == ("bad-signature", "UNAUTHENTICATED")
    assert unknown == as_member == ("not-your-role", "PERMISSION_DENIED")
    assert unsigned == ("bad-header", "UNAUTHENTICATED")
    assert old == ("bad-time", "UNAUTHENTICATED")
    assert int(link.last_trailers[methods.NOW_KEY])
    free(member, lease)


def test_nothing_is_gained_by_anothers_fence_or_upload(shared):
    """Lease, upload id and status of one client, asked for with another's key (T2, T20)."""
    owner, thief = shared.member(), shared.member()
    packed = owner.pack(owner.lease(*name()))
    owner.begin(packed)
    mine = thief.lease(*name())
    stolen = thief.pack(mine)
    stolen.document = packed.document

    with pytest.raises(Refused) as put:
        thief.put(stolen, 0)
    with pytest.raises(ContributionRejected):
        thief.begin(stolen)
    request = wire.StatusRequest(packed.lease.slot, packed.lease.fence)
    with pytest.raises(Refused) as status:
        thief.link.call(methods.STATUS, request, wire.StatusReply, mine.key)
    renew = wire.RenewRequest(packed.lease.slot, packed.lease.fence, 1)
    with pytest.raises(LeaseLost):
        thief.link.call(methods.RENEW, renew, wire.RenewReply, mine.key)

    assert put.value.code == "unknown-upload"
    assert status.value.code == "not-found"
    assert owner.contribute(packed)
    free(thief, mine)


@pytest.mark.parametrize("method", methods.METHODS, ids=lambda method: method.path)
def test_bytes_that_are_no_message_get_a_typed_refusal(shared, method):
    """Garbage, emptiness and oversize on every call: never UNKNOWN, never INTERNAL."""
    member = shared.member()
    lease = member.lease(*name())
    key = {"nobody": None, "member": member.key, "client": lease.key}[method.signer]
    garbage = (b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", b"\x08" * 300, b"")

    statuses = []
    for body in (*garbage, bytes(method.request_bytes + 1)):
        metadata = () if key is None else member.link.signed(method, body, key)
        try:
            member.link.send(method, body, metadata)
        except (InputError, Refused):
            statuses.append(member.link.last_trailers["status"])

    allowed = {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"}
    assert statuses
    assert set(statuses) <= allowed
    free(member, lease)


def test_only_listed_names_of_a_release_can_be_read(own):
    """Paths, other folders and absent releases look like what does not exist (T10)."""
    member = own.member()
    member.contribute(member.pack(member.lease()))
    own.release()

    def status(n: int, wanted: str, offset: int = 0) -> str:
        with pytest.raises((Refused, InputError)):
            member.link.call(methods.READ, wire.ReadRequest(n, wanted, offset, 10), wire.ReadReply)
        return member.link.last_trailers["status"]

    hostile = ("../../coordinator.toml", "/etc/passwd", "lora", "", "lora/../card.md", "..")

    assert {status(1, wanted) for wanted in hostile} == {"NOT_FOUND"}
    assert status(2, "card.md") == "NOT_FOUND"
    assert status(1, "card.md", 1 << 50) == "INVALID_ARGUMENT"


def test_nothing_is_released_twice(own):
    """A second release with the same contributions is the first; with another lambda it is new."""
    member = own.member()
    member.contribute(member.pack(member.lease()))

    made = [own.release(), own.release(), own.release(614)]

    assert [(m["n"], m["new"]) for m in made] == [(1, True), (1, False), (2, True)]


def test_health_and_reflection_answer(shared):
    """A load balancer asks for health, grpcurl for the list of services."""
    member = shared.member()
    health: Any = health_pb2_grpc.HealthStub(member.link.channel)
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(member.link.channel)

    answer = health.Check(health_pb2.HealthCheckRequest(service="orthofed.v1.Federation"))
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    listed = next(iter(reflection.ServerReflectionInfo(asked)))

    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    names = {service.name for service in listed.list_services_response.service}
    assert set(methods.SERVICES) <= names
