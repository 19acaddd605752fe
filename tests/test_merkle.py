"""The Merkle tree against RFC 6962's definitions in plain_ledger.py (T17, R11, I7)."""

import importlib.util
from collections.abc import Callable, Sequence
from importlib.machinery import SourceFileLoader
from types import ModuleType

import pytest

from orthofed.core import merkle as checked
from orthofed.core.errors import VerificationFailed

from .plain_ledger import PlainLedger
from .seeded import Bug


def _plain() -> ModuleType:
    """Load core/merkle.py past the run-time type checks, which cost far more than the hashes."""
    loader = SourceFileLoader(checked.__name__, checked.__file__)
    spec = importlib.util.spec_from_loader(checked.__name__, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


merkle = _plain()
MOST = 256
SHORT = 48
"""What a plain run tries; `-m faults` tries all of R11's sizes."""
SIZES = [n if n <= SHORT else pytest.param(n, marks=pytest.mark.faults) for n in range(1, MOST + 1)]
BODIES = [b"%d" % n + b" " * (n % 5) for n in range(MOST + 1)]
LEAVES = [merkle.leaf_hash(body) for body in BODIES]


PLAIN = PlainLedger(BODIES)
ROOTS = [PLAIN.root(n) for n in range(MOST + 1)]


def _mutations(proof: tuple[bytes, ...]) -> list[list[bytes]]:
    """Every single hash changed, dropped or repeated, and one to spare at either end."""
    made: list[list[bytes]] = [[*proof, bytes(32)], [bytes(32), *proof]]
    for n, found in enumerate(proof):
        flipped = bytes([found[0] ^ 1]) + found[1:]
        made += [
            [*proof[:n], *change, *proof[n + 1 :]] for change in ((flipped,), (), (found,) * 2)
        ]
    return made


def _refused(check: Callable[[], object]) -> bool:
    try:
        check()
    except VerificationFailed as error:
        return error.code == "bad-proof"
    return False


def _check_growth(
    old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> None:
    merkle.verify_consistency(old_size=old, old_root=old_root, size=size, root=root, proof=proof)


def test_roots_are_those_of_rfc_6962() -> None:
    """One leaf at a time, for every size; the empty tree too."""
    peaks = merkle.Peaks()
    for n in range(MOST + 1):
        assert peaks.size == n
        assert peaks.root == merkle.root(LEAVES[:n]) == ROOTS[n]
        peaks = peaks.append(LEAVES[n])


def test_the_type_checks_pass_on_a_whole_round() -> None:
    """The other tests go past them; a tree, both proofs and both checks go through here."""
    root = checked.root(LEAVES[:7])
    grown = checked.root(LEAVES[:11])

    checked.verify_inclusion(
        checked.leaf_hash(BODIES[3]),
        index=3,
        size=7,
        proof=checked.inclusion_proof(LEAVES, 3, 7),
        root=root,
    )
    checked.verify_consistency(
        old_size=7,
        old_root=root,
        size=11,
        root=grown,
        proof=checked.consistency_proof(LEAVES, 7, 11),
    )


def test_the_proof_of_the_newest_leaf_is_the_peaks() -> None:
    """What a commit needs costs log2(n) hashes."""
    peaks = merkle.Peaks()
    for n in range(MOST):
        assert list(peaks.proof_of_next()) == PLAIN.path(n, n + 1)
        peaks = peaks.append(LEAVES[n])


@pytest.mark.parametrize("size", SIZES)
def test_every_inclusion_proof_is_right_and_each_change_of_it_is_refused(size: int) -> None:
    """R11: each index; each hash changed, dropped, doubled; other leaf, index, size, root."""
    root = ROOTS[size]
    for index in range(size):
        leaf = LEAVES[index]
        proof = merkle.inclusion_proof(LEAVES, index, size)

        assert list(proof) == PLAIN.path(index, size)
        merkle.verify_inclusion(leaf, index=index, size=size, proof=proof, root=root)
        for wrong in _mutations(proof):
            assert _refused(
                lambda wrong=wrong, leaf=leaf, index=index: merkle.verify_inclusion(
                    leaf, index=index, size=size, proof=wrong, root=root
                )
            )
        for call in (
            (LEAVES[size], index, root),
            (leaf, size, root),
            (leaf, (index + 1) % size if size > 1 else -1, root),
            (leaf, index, bytes(32)),
        ):
            assert _refused(
                lambda c=call, p=proof: merkle.verify_inclusion(
                    c[0], index=c[1], size=size, proof=p, root=c[2]
                )
            )


@pytest.mark.parametrize("size", SIZES)
def test_every_consistency_proof_is_right_and_each_change_of_it_is_refused(size: int) -> None:
    """T17, R11: all older sizes; each single hash changed, dropped, doubled; other roots."""
    for old in range(1, size + 1):
        proof = merkle.consistency_proof(LEAVES, old, size)

        assert list(proof) == PLAIN.growth(old, size)
        _check_growth(old, ROOTS[old], size, ROOTS[size], proof)
        for wrong in _mutations(proof):
            assert _refused(
                lambda p=wrong, old=old: _check_growth(old, ROOTS[old], size, ROOTS[size], p)
            )
        for roots in ((bytes(32), ROOTS[size]), (ROOTS[old], bytes(32))):
            assert _refused(
                lambda p=proof, old=old, r=roots: _check_growth(old, r[0], size, r[1], p)
            )


def test_a_fork_from_any_prefix_is_refused() -> None:
    """T17: a ledger that changed one old leaf has no proof from the older root."""
    for changed in range(20):
        forked = [*LEAVES[:changed], bytes(32), *LEAVES[changed + 1 : 33]]
        for old in range(changed + 1, 33):
            assert _refused(
                lambda forked=forked, old=old: merkle.verify_consistency(
                    old_size=old,
                    old_root=ROOTS[old],
                    size=33,
                    root=merkle.root(forked),
                    proof=merkle.consistency_proof(forked, old, 33),
                )
            )


def test_a_proof_of_another_length_is_refused_whatever_the_roots() -> None:
    """Seeded bug of R11: roots made to fit a proof that is too long or too short for its size."""
    spare, leaf, root = bytes(32), LEAVES[3], ROOTS[7]
    proof = merkle.inclusion_proof(LEAVES, 3, 7)
    growth = merkle.consistency_proof(LEAVES, 3, 7)
    long_old, long_new = (merkle.node_hash(spare, found) for found in (ROOTS[3], root))

    for length, fitting in (([*proof, spare], long_new), ([], leaf)):
        assert _refused(
            lambda p=length, r=fitting: merkle.verify_inclusion(
                leaf, index=3, size=7, proof=p, root=r
            )
        )
    assert _refused(lambda: _check_growth(3, long_old, 7, long_new, [*growth, spare]))
    assert _refused(lambda: _check_growth(3, spare, 7, spare, [spare]))
    assert _refused(lambda: _check_growth(3, ROOTS[3], 7, root, []))


def test_a_node_does_not_pass_for_a_leaf() -> None:
    """Seeded bug of R11: without the prefixes a body of two hashes would be an inner node."""
    left, right = LEAVES[:2]

    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)
    assert merkle.leaf_hash(b"") != merkle.EMPTY_ROOT


def test_the_seeded_bug_of_leaves_without_their_prefix_is_caught() -> None:
    """R11: every root would differ from the plain tree's."""
    with Bug.named("leaf-prefix-missing").in_process():
        found = checked.root([checked.leaf_hash(body) for body in BODIES[:5]])

    assert found != ROOTS[5]


def test_the_seeded_bug_of_a_spare_hash_is_caught() -> None:
    """R11: a proof with one hash more would lead to a root that was made to fit it."""
    spare, root = bytes(32), ROOTS[7]
    proof = merkle.inclusion_proof(LEAVES, 3, 7)

    with Bug.named("spare-hash-accepted").in_process():
        checked.verify_inclusion(
            LEAVES[3],
            index=3,
            size=7,
            proof=[*proof, spare],
            root=merkle.node_hash(spare, root),
        )


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3), (0, MOST + 2)])
def test_there_is_no_proof_outside_the_tree(index: int, size: int) -> None:
    assert _refused(lambda: merkle.inclusion_proof(LEAVES, index, size))


@pytest.mark.parametrize(("old", "size"), [(0, 0), (0, 3), (4, 3), (1, MOST + 2)])
def test_there_is_no_proof_between_sizes_that_are_not_there(old: int, size: int) -> None:
    assert _refused(lambda: merkle.consistency_proof(LEAVES, old, size))
    assert old == size or _refused(
        lambda: merkle.verify_consistency(
            old_size=old, old_root=merkle.EMPTY_ROOT, size=min(size, 3), root=ROOTS[3], proof=[]
        )
    )


def test_peaks_that_do_not_fit_their_size_are_refused() -> None:
    """A store that lost a row must not sign a root."""
    for size, hashes in ((1, ()), (2, (bytes(32),) * 2), (3, (bytes(32),)), (-1, ())):
        assert _refused(lambda size=size, hashes=hashes: merkle.Peaks(size, hashes))
