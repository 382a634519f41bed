"""Checksums of a checkpoint's files, stored beside them in `checksums.json`, to detect corruption."""

import contextlib
import hashlib
import json
from pathlib import Path

CHECKSUMS = "checksums.json"
METRICS = Path("metrics", "metrics")  # Orbax's JSON file of a checkpoint's metrics
BROKEN_METRICS = f"{METRICS} cannot be read"


def write_checksums(checkpoint: Path) -> None:
    """Write the checksums of a complete checkpoint's files beside them."""
    unfinished = checkpoint / f"{CHECKSUMS}.new"
    with contextlib.suppress(OSError):  # disk full, or already deleted: a checkpoint works without checksums too
        unfinished.write_text(json.dumps(_digests(checkpoint)), encoding="utf-8")
        unfinished.replace(checkpoint / CHECKSUMS)


def checksum_fault(checkpoint: Path) -> str:
    """Return the first mismatch with a checkpoint's checksums; empty if there is none.

    A checkpoint may have no checksums, if the process was killed before they were written. Then only the metrics are
    checked: Orbax would not open a folder with broken ones.
    """
    if not (checkpoint / CHECKSUMS).exists():
        metrics = checkpoint / METRICS
        try:
            return "" if not metrics.exists() or isinstance(json.loads(metrics.read_bytes()), dict) else BROKEN_METRICS
        except (OSError, ValueError):
            return BROKEN_METRICS
    try:
        expected = json.loads((checkpoint / CHECKSUMS).read_bytes())
        digests = _digests(checkpoint)
        changed = [name for name in sorted(expected.keys() | digests.keys()) if expected.get(name) != digests.get(name)]
    except (OSError, ValueError, AttributeError):
        return f"{CHECKSUMS} cannot be read"
    return f"{changed[0]} has changed since it was written" if changed else ""


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(CHECKSUMS))
    return {
        path.relative_to(folder).as_posix(): hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        for path in files
    }
