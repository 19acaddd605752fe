"""Slugs, skeletons, triggers and titles (security.md 7, T10, T23)."""

import itertools
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orthofed.core.errors import InputError, Refused
from orthofed.core.names import (
    DEVICES,
    check_title,
    check_trigger,
    collide,
    near,
    prefixes,
    skeleton,
    slug,
)

SLUG = re.compile(r"[a-z0-9](-?[a-z0-9]){2,30}")
HOSTILE = [
    "",
    "ab",
    "a-b-",
    "-abc",
    "a--b",
    "abc\n",
    "abc ",
    " abc",
    "a b c",
    "../../etc/passwd",
    "..\\windows",
    "/abs/olute",
    "abc/def",
    "abc.def",
    "abc\x00",
    "abc\u202ecba",
    "abc\u200bdef",
    "<lora:x:1>",
    "[abc]",
    "(abc:1.2)",
    "{abc}",
    "abc_1",
    "анна-к7",
    "a\u0430bc",
    "😀😀😀",
    "a" * 32,
    "a" * 1_000_000,
    "%2e%2e%2f",
    "$(id)",
    "'; drop table slots; --",
    "\ud800abc",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_string_is_no_slug(text: str) -> None:
    """T10: paths, controls, markup, other scripts, too short, too long."""
    with pytest.raises(InputError) as refused:
        slug(text)

    assert refused.value.code == "bad-name"
    assert len(str(refused.value)) < 400


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text(max_size=40))
def test_whatever_is_typed_gives_a_slug_or_our_own_error(text: str) -> None:
    """And a slug is its own slug."""
    try:
        name = slug(text)
    except InputError:
        return

    assert SLUG.fullmatch(name)
    assert len(name) <= 31
    assert slug(name) == name


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("Anna-K7", "anna-k7"),
        ("\uff41\uff4e\uff4e\uff41", "anna"),
        ("\u017fun-1", "sun-1"),
        ("Ⅳab", "ivab"),
        ("abc", "abc"),
    ],
)
def test_what_reads_the_same_is_the_same_slug(typed: str, name: str) -> None:
    """NFKC and case-folding bring full-width and old letters home."""
    assert slug(typed) == name


def test_a_refused_name_comes_with_one_to_try() -> None:
    """The fix is a name that would be taken."""
    with pytest.raises(InputError, match="try anna-k7"):
        slug("Änna_K7")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("anna-k7", "annak7"),
        ("anna-k7", "a-n-n-a-k7"),
        ("rob-10", "rob-lo"),
        ("bill", "b1ll"),
        ("bill", "8ill"),
        ("bill", "blll"),
        ("zoe-5", "20e-s"),
        ("gus", "9us"),
        ("modern", "modem"),
        ("vvren", "wren"),
        ("clog", "dog"),
        ("cIog".lower(), "dog"),
        ("c-1og", "dog"),
        ("vwx", "vvvx"),
        ("vwx", "wvx"),
        ("vwv", "ww"),
        ("rmn", "rrnn"),
    ],
)
def test_two_names_that_look_alike_share_a_skeleton(one: str, other: str) -> None:
    """Each row of the table in security.md 7, and rows that take two steps."""
    assert skeleton(one) == skeleton(other)


def test_ten_thousand_look_alikes_are_refused_or_collide() -> None:
    """T23: random look-alikes of 50 triggers, each letter or pair as anything that looks so."""
    chance = random.Random(7)  # noqa: S311  # test data
    alike = ("o0", "l1i", "z2", "s5", "b8", "g9", ("rn", "m"), ("vv", "w"), ("cl", "d"))
    looks = {look: tuple(each) for each in alike for look in each}
    letters = "abcdefghijklmnopqrstuvwxyz" + "vwvwmnrclddlc"  # more of what is drawn in strokes
    triggers = ["".join(chance.choices(letters, k=6)) + f"-k{n}" for n in range(50)]
    num_made = 0

    for trigger in itertools.cycle(triggers):
        fake, rest = "", trigger.replace("-", "")
        while rest:
            read = rest[:2] if rest[:2] in looks and chance.random() < 0.7 else rest[0]
            rest = rest[len(read) :]
            fake += chance.choice(looks.get(read, (read,)))
            fake += "-" if chance.random() < 0.2 else ""
        fake = fake.strip("-")
        if not SLUG.fullmatch(fake) or len(fake) > 31 or fake == trigger:
            continue
        assert collide(fake, trigger), (fake, trigger)
        num_made += 1
        if num_made == 10_000:
            break


def test_a_thousand_random_triggers_do_not_collide() -> None:
    """T23: the rule keeps honest names apart; duplicates by look are drawn out beforehand."""
    chance = random.Random(11)  # noqa: S311  # test data
    letters = "acdefhjkmnpqrtuwxy"
    names = {"".join(chance.choices(letters, k=8)) for _ in range(1_000)}

    assert len({skeleton(name) for name in names}) == len(names)


def test_a_whole_part_prefix_collides_and_a_partial_one_does_not() -> None:
    """`cat` and `cat-2` collide, both ways; `cat` and `cats` do not."""
    assert collide("cat", "cat-2")
    assert collide("cat-2", "cat")
    assert collide("c-a-t", "cat-2")
    assert not collide("cat", "cats")
    assert not collide("cat-1", "cat-2")
    assert prefixes("ben-cat-2") == ("ben", "bencat", "bencatz")


@pytest.mark.parametrize(
    ("trigger", "why"),
    [
        ("lora", "meaning of its own"),
        ("l0ra", "meaning of its own"),
        ("embedding", "meaning of its own"),
        ("con", "meaning of its own"),
        ("com1", "meaning of its own"),
        ("fox", "already knows it"),
        ("wren-cat", "reads like"),
        ("wrencat", "reads like"),
        ("wren", "reads like"),
        ("wren-cat-2", "reads like"),
    ],
)
def test_a_trigger_that_is_not_free_is_refused_with_its_reason(trigger: str, why: str) -> None:
    """Reserved word, device name, base vocabulary, taken, prefix of a taken one."""
    with pytest.raises(Refused, match=why) as refused:
        check_trigger(trigger, taken=["wren-cat"], reserved=["fox", "tree"])

    assert refused.value.code == "name-taken"


PARTS = st.text("rnvcl1ia", min_size=1, max_size=4)


@settings(max_examples=2_000)
@given(st.lists(PARTS, min_size=1, max_size=3), st.lists(PARTS, min_size=0, max_size=2))
def test_whatever_collides_is_found_near(parts: list[str], more: list[str]) -> None:
    """Prefixes and look-alikes of letters that merge across a hyphen, in both directions."""
    one, other = "-".join(parts), "-".join([*parts, *more])

    for mine, theirs in ((one, other), (other, one), (one, one.replace("1", "i"))):
        assert collide(mine, theirs)
        exact, start = near(mine)
        assert skeleton(theirs) in exact or skeleton(theirs).startswith(start)


def test_a_free_trigger_is_taken_and_another_spelling_of_it_is_not() -> None:
    """What is leased is the slug itself."""
    check_trigger("anna-k7", taken=["wren-cat"], reserved=["fox"])

    with pytest.raises(InputError, match="write anna-k7"):
        check_trigger("Anna-K7", taken=[], reserved=[])


def test_every_device_name_is_refused_as_a_trigger() -> None:
    """embeddings/aux.safetensors opens no file on some systems."""
    for device in DEVICES:
        with pytest.raises(Refused):
            check_trigger(device, taken=[], reserved=[])


@pytest.mark.parametrize(
    "title",
    [
        "Anna",
        "Änna's cat, 2nd",
        "Анна 7",
        "日本の猫",
        "ネコと犬",
        "고양이",
        "الأسد",
        "C3: №7 — “x”",
        "x" * 80,
    ],
)
def test_a_title_in_one_script_is_shown(title: str) -> None:
    """Punctuation and digits are Common; Han and kana are written together."""
    assert check_title(title) == title


def test_a_title_is_brought_to_normal_form_c() -> None:
    assert check_title("Cafe\u0301") == "Caf\u00e9"


@pytest.mark.parametrize(
    "title",
    [
        "",
        "   ",
        "x" * 81,
        "x" * 1_000_000,
        "a\nb",
        "a\x1b[31m",
        "a\u202eb",
        "a\u2066b",
        "a\u200bb",
        "a\u2028b",
        "a\ue000b",
        "a\u0378b",
        "P\u0430ypal",
        "\u03b1nna",
        "\ufeffAnna",
        "\ud800",
    ],
    ids=range(16),
)
def test_a_title_that_hides_or_mixes_is_refused(title: str) -> None:
    """T23: controls, bidirectional marks, private use, unassigned, two scripts, length."""
    with pytest.raises(InputError) as refused:
        check_title(title)

    assert refused.value.code == "bad-title"
