"""What Keephold is to reach, held against the peers and the machine's limits of the same run."""

from dataclasses import dataclass
from typing import Callable

OURS = "keephold"
MEMORY_MAX = 192 << 20
WALK, PIPE, UNPACK, SHRINK = ("walk with lstat", "tar, zstd, openssl", "tar -x",
                              "zstd -3 -T2 of what shrinks")
DUMP_PIPE = "pg_dump, zstd, openssl"


@dataclass
class Goal:
    case: str
    operation: str
    text: str
    field: str
    # From the medians of this case to what is not to be exceeded; None if it wasn't measured.
    bound: Callable


class Medians:
    """Medians of one case, by tool and operation."""

    def __init__(self, rows, median):
        self.rows, self.median = rows, median

    def of(self, tool, operation, field):
        values = [row[field] for row in self.rows
                  if row["tool"] == tool and row["operation"] == operation and field in row]
        return self.median(values) if values else None

    def best_peer(self, operation, field):
        """The least of all peers, and whose it is."""
        peers = {row["tool"] for row in self.rows} - {OURS, "machine"}
        found = [(self.of(peer, operation, field), peer) for peer in sorted(peers)]
        return min((pair for pair in found if pair[0] is not None), default=(None, None))


def peer(factor, operation, field="seconds"):
    def bound(medians, field=field):
        value, name = medians.best_peer(operation, field)
        return (None, "no peer") if value is None else (factor * value, name)
    return bound


def limit(factor, operation, more=0.0):
    def bound(medians, field="seconds"):
        value = medians.of("machine", operation, field)
        return (None, operation) if value is None else (factor * value + more, operation)
    return bound


def own(factor, operation, field="seconds"):
    def bound(medians, field=field):
        value = medians.of(OURS, operation, field)
        return (None, operation) if value is None else (factor * value, operation)
    return bound


GOALS = [
    Goal("tree", "backup, first", "0.55 x the fastest peer", "seconds",
         peer(0.55, "backup, first")),
    Goal("tree", "backup, first", "tar, zstd -T2 and openssl", "seconds", limit(1, PIPE)),
    Goal("tree", "backup, first", "the best peer's stored bytes", "stored_bytes",
         peer(1, "backup, first", "stored_bytes")),
    Goal("tree", "backup, unchanged", "1.5 x a walk + 0.2 s", "seconds", limit(1.5, WALK, 0.2)),
    Goal("tree", "backup, changed", "1.5 x a walk + 0.5 s", "seconds", limit(1.5, WALK, 0.5)),
    Goal("tree", "backup, changed", "the best peer's added bytes", "added_bytes",
         peer(1, "backup, changed", "added_bytes")),
    Goal("tree", "restore, all", "the fastest peer", "seconds", peer(1, "restore, all")),
    Goal("tree", "restore, all", "tar's own unpacking", "seconds", limit(1, UNPACK)),
    Goal("tree", "verify", "0.5 x the fastest peer", "seconds", peer(0.5, "verify")),
    Goal("big", "backup, first", "0.75 x the fastest peer", "seconds",
         peer(0.75, "backup, first")),
    Goal("big", "backup, first", "1.25 x zstd -T2 of what shrinks", "seconds",
         limit(1.25, SHRINK)),
    Goal("big", "restore, all", "0.67 x the fastest peer", "seconds", peer(0.67, "restore, all")),
    Goal("big", "verify", "0.5 x the fastest peer", "seconds", peer(0.5, "verify")),
    Goal("dump", "backup, first", "pg_dump, zstd -T2 and openssl", "seconds", limit(1, DUMP_PIPE)),
    Goal("dump", "backup, changed", "a tenth of the best peer's added bytes", "added_bytes",
         peer(0.1, "backup, changed", "added_bytes")),
    Goal("dump", "backup, changed", "1.2 x the CPU of a first dump", "cpu_seconds",
         own(1.2, "backup, first", "cpu_seconds")),
    Goal("dump", "restore, changed", "1.5 x the first one's", "seconds",
         own(1.5, "restore, first")),
    Goal("dump", "restore, changed-60", "2 x the first one's", "seconds",
         own(2, "restore, first")),
]


def shown(field, value):
    return f"{value:.2f} s" if field.endswith("seconds") else f"{value / 1e6:.1f} MB"


def line(case, what, goal, ours, bound, of, field, cpu=""):
    """One row: a goal that could not be held against anything says so, and isn't met."""
    if ours is None or bound is None:
        missing = "not measured" if ours is None else f"nothing to compare with ({of})"
        return [case, what, goal, "–", missing, "", "?", cpu]
    against = shown(field, bound) + (f" ({of})" if of else "")
    return [case, what, goal, shown(field, ours), against,
            f"{ours / bound:.2f}", "met" if ours <= bound else "**missed**", cpu]


def table(rows, median):
    """Header and rows: each goal of the cases that were run, and whether it holds."""
    body = []
    for case in dict.fromkeys(row["case"] for row in rows):
        mine = [row for row in rows if row["case"] == case]
        medians = Medians(mine, median)
        for goal in (goal for goal in GOALS if goal.case == case):
            ours = medians.of(OURS, goal.operation, goal.field)
            if ours is None and goal.operation.endswith("-60"):
                continue  # only with --changes 60
            bound, of = goal.bound(medians)
            cpu = ""
            if goal.field == "seconds":
                # On a busy machine the wall says little: the same ratio by CPU time stands beside it.
                spent = medians.of(OURS, goal.operation, "cpu_seconds")
                allowed, _ = goal.bound(medians, "cpu_seconds")
                cpu = f"{spent / allowed:.2f}" if spent is not None and allowed else ""
            body.append(line(case, goal.operation, goal.text, ours, bound, of, goal.field, cpu))
        peaks = [row["peak_bytes"] for row in mine if row["tool"] == OURS]
        if peaks:
            body.append(line(case, "all of it", "192 MiB of memory", max(peaks), MEMORY_MAX, "",
                             "peak_bytes"))
    return ["case", "work", "at most", "Keephold", "bound", "ratio", "goal",
            "ratio by CPU time"], body
