"""What an audit found, as people read it and as programs do. It decides nothing."""

from typing import Any

from ..core.release import ReleaseManifest
from .audit import Findings, SlotFinding
from .audit_file import Audited

_SHOWN = 12


def as_dict(audited: Audited, manifest: ReleaseManifest) -> dict[str, Any]:
    """Return what ``--json`` prints; shares and errors are fractions, lambdas plain numbers."""
    found = audited.findings
    return {
        "schema": "orthofed.audit/1",
        "clean": found.clean,
        "told": found.told,
        "kind": audited.kind,
        "dtypes": list(audited.dtypes),
        "release": manifest.n,
        "log": manifest.log,
        "layers": found.layers,
        "energy": found.energy,
        "slots": [
            {
                "slot": each.leased.slot,
                "leaf": each.leased.leaf,
                "concept": each.leased.concept,
                "client": each.leased.client,
                "share": each.share,
                "verdict": each.verdict,
                "lambda": each.leased.lambda_1024 / 1024,
                "lambda_found": each.lambda_found,
                "error": each.error,
                "floor": each.floor,
                "layer": each.layer,
            }
            for each in found.slots
        ],
        "outside": {
            "share": found.outside.share,
            "free_slots": found.outside.free,
            "floor": found.outside.floor,
            "layer": found.outside.layer,
        },
        "together": {
            "summed_layers": found.together.summed,
            "untold_layers": found.together.untold,
            "layer": found.together.layer,
        },
        "foreign": [{"module": name, "share": share} for name, share in found.foreign],
        "strange": list(found.strange),
        "base_sha256": audited.base_sha256,
        "unread": list(audited.unread),
    }


def as_text(audited: Audited, manifest: ReleaseManifest) -> str:
    """Return the table."""
    found, outside = audited.findings, audited.findings.outside
    types = "+".join(audited.dtypes)
    beyond = f"outside of all leased slots: {outside.share:.3g} of the energy"
    if outside.free is not None:
        beyond += f", {outside.free:.3g} in free slots"
    lines = [
        f"{audited.kind}, {types}, {found.layers} layers, against release {manifest.n}",
        "",
        "slot   leaf  concept             client        share  verdict",
        *map(_row, found.slots),
        "",
        f"{beyond}; rounding alone can leave {outside.floor:.3g}",
        *_overlap(found),
    ]
    if outside.layer:
        lines.append(f"  above that most in {outside.layer}")
    lines += [f"  {name}: {share:.3g}, not adapted here" for name, share in found.foreign[:_SHOWN]]
    lines += [f"  {name}: not understood" for name in found.strange[:_SHOWN]]
    hidden = max(len(found.foreign) - _SHOWN, 0) + max(len(found.strange) - _SHOWN, 0)
    if hidden:
        lines.append(f"  and {hidden} more; --json names them all")
    lines.append(_verdict(found))
    if audited.unread:
        lines.append(
            f"{len(audited.unread)} tensors that no loader draws with were not compared: the base's"
            " folder has no counterpart; --json names them"
        )
    if audited.base_sha256:
        lines.append(
            f"the base was taken as given, SHA-256 {audited.base_sha256}: compare it with its"
            " publisher's, or give the base's folder"
        )
    if found.shares_only:
        lines.append("shares only: pull the release with --contributions to compare what was sent")
    return "\n".join(lines)


def _verdict(found: Findings) -> str:
    if found.refuted:
        return "not what the release says"
    if found.clean:
        return "every part of it is a contribution's, as the release says"
    if found.shares_only:
        return "nothing outside of leased slots; what is in them was not compared"
    return (
        "cannot be told: nothing here is against the release, and not all of it was compared; pull"
        " the release with --contributions, or verify its folder with --rebuild"
    )


def _overlap(found: Findings) -> list[str]:
    """Return what slots of several bases take away from what can be told."""
    if not found.overlap:
        return []
    together = found.together
    lines = ["slots of several bases overlap: a share is what a slot adds beside all the others"]
    if count := together.summed + together.untold:
        lines.append(
            f"in {count} of {found.layers} layers no slot can be told from the others; shares are"
            " of the rest"
        )
    if together.summed and not together.layer:
        lines.append(f"  in {together.summed} of them all contributions add up to the file")
    if together.layer:
        lines.append(f"  all contributions together are off most in {together.layer}")
    if together.untold:
        lines.append(f"  {together.untold} of them were not compared: contributions are not here")
    return lines


def _row(each: SlotFinding) -> str:
    leased = each.leased
    share = "      -" if each.share is None else f"{each.share:>7.2%}"
    return (
        f"{leased.slot:>4} {leased.leaf:>6}  {leased.concept:<18}  {leased.client[:10]}"
        f"  {share}  {_told(each)}"
    )


def _told(each: SlotFinding) -> str:
    said = each.leased.lambda_1024 / 1024
    match each.verdict:
        case "matches":
            return f"matches leaf {each.leased.leaf}, lambda {said:.3f}, error {each.error:.1g}"
        case "another weight":
            return f"lambda {each.lambda_found:.4f} found, the release says {said:.4f}"
        case "differs":
            floor = f"rounding gives {each.floor:.2g}"
            return f"differs by {each.error:.3g} in {each.layer}; {floor}"
        case "absent" | "cannot be told":
            return each.verdict
        case "in the sum":
            return f"in the sum: not told apart, all together match, lambda {said:.3f}"
        case _:
            return f"lambda {said:.3f} said, contribution not fetched"
