"""The seal of a checkpoint: a list of its files and their digests, by which damage to it is found."""

import contextlib
import hashlib
import json
from pathlib import Path

SEAL = "seal.json"
METRICS = Path("metrics", "metrics")  # where Orbax keeps them, as JSON
BROKEN_METRICS = f"{METRICS} cannot be read"


def write_checksums(checkpoint: Path) -> None:
    """Write beside the files of a whole checkpoint what their sizes and contents are."""
    unsealed = checkpoint / f"{SEAL}.new"
    with contextlib.suppress(OSError):  # no room, or already deleted: an unsealed checkpoint serves as well
        unsealed.write_text(json.dumps(_digests(checkpoint)), encoding="utf-8")
        unsealed.replace(checkpoint / SEAL)


def checksum_fault(checkpoint: Path) -> str:
    """What does not fit the seal of a checkpoint; empty where all does. Of one without a seal (a kill may come before
    it) only the metrics are looked at, with which Orbax would not open the folder."""
    if not (checkpoint / SEAL).exists():
        metrics = checkpoint / METRICS
        try:
            return "" if not metrics.exists() or isinstance(json.loads(metrics.read_bytes()), dict) else BROKEN_METRICS
        except (OSError, ValueError):
            return BROKEN_METRICS
    try:
        sealed = json.loads((checkpoint / SEAL).read_bytes())
        found = _digests(checkpoint)
        changed = [name for name in sorted(sealed.keys() | found.keys()) if sealed.get(name) != found.get(name)]
    except (OSError, ValueError, AttributeError):
        return f"{SEAL} cannot be read"
    return f"{changed[0]} is not as it was written" if changed else ""


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(SEAL))
    return {
        path.relative_to(folder).as_posix(): hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        for path in files
    }
