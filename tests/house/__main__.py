"""`python -m tests.house`: size and shape of every room, and what is over the limits."""

import sys

from interp.specs import ROOT
from tests.house.order import modules, violations
from tests.house.rooms import rooms


def main() -> int:
    """Print one line per room; returns 1 if anything is over a limit or breaks the order."""
    found = rooms(ROOT)
    print(f"{'room':28}{'files':>6}{'lines':>7}  {'longest file':34}{'longest function':34}typed")
    for room in found:
        longest = max(room.files, key=room.files.get)
        file = f"{longest} ({room.files[longest]})"
        top = max(room.functions, key=lambda one: one.lines, default=None)
        function = f"{top.name} ({top.lines})" if top else ""
        public = sum(one.public for one in room.functions)
        typed = 1 - len(room.untyped) / public if public else 1
        lines = sum(room.files.values())
        print(f"{room.name:28}{len(room.files):6}{lines:7}  {file:34}{function:34}{typed:.0%}")
    faults = [fault for room in found for fault in room.faults()] + violations(modules(ROOT))
    print(*faults or ["no room over its limits, no import against the order"], sep="\n")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
