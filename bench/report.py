"""The Markdown of a benchmark's results."""

import goals


def median_of(rows, field, median):
    values = [row[field] for row in rows if field in row]
    return median(values) if values else None


def cell(rows, median):
    seconds = median_of(rows, "seconds", median)
    cpu = median_of(rows, "cpu_seconds", median)
    peak = median_of(rows, "peak_bytes", median)
    return f"{seconds:.2f} s · {cpu:.1f} · {peak / 1e6:.0f} MB"


def table(head, body):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def unique(values):
    return list(dict.fromkeys(values))


def markdown(about, figures, median):
    box = about["machine"]
    parts = [
        "# Benchmarks",
        f"{about['began']}, {box['cpu']}, {box['cores']} cores, {box['memory_bytes'] / 2**30:.0f} GiB, "
        f"Linux {box['kernel']}; medians of {about['rounds']} interleaved rounds, page cache warm. "
        f"Load of the machine before and after: {box['load_before'][0]:.1f}, "
        f"{box['load_after'][0]:.1f}.",
        table(["tool", "version", "settings"],
              [[name, version, about["notes"].get(name, "")]
               for name, version in about["versions"].items()]),
    ]
    head, body = goals.table(figures, median)
    if body:
        parts.append("## Goals\n\nOf this run alone; a ratio above 1 misses the goal.\n\n"
                     + table(head, body))
    for case, changed in about["cases"].items():
        rows = [row for row in figures if row["case"] == case]
        parts.append(f"## {case}\n\nWall time · CPU seconds · peak resident memory; {changed}.")
        ours = [row for row in rows if row["tool"] != "machine"]
        names = unique(row["tool"] for row in figures if row["tool"] != "machine")
        names = [name for name in about["versions"] if name in names]
        body = []
        for operation in unique(row["operation"] for row in ours):
            line = [operation]
            for name in names:
                same = [r for r in ours if r["tool"] == name and r["operation"] == operation]
                line.append(cell(same, median) if same else "–")
            body.append(line)
        backups = [row["operation"] for row in ours if row["operation"].startswith("backup, ")]
        steps = [operation.removeprefix("backup, ") for operation in unique(backups)]
        for step in steps:
            field, text = (("stored_bytes", "stored, first") if step == "first"
                           else ("added_bytes", f"added, {step}"))
            line = [text]
            for name in names:
                size = median_of([r for r in ours if r["tool"] == name
                                  and r["operation"] == f"backup, {step}"], field, median)
                line.append("–" if size is None else f"{size / 1e6:.2f} MB")
            body.append(line)
        parts.append(table(["", *names], body))
        limits = [row for row in rows if row["tool"] == "machine"]
        body = []
        for operation in unique(row["operation"] for row in limits):
            same = [row for row in limits if row["operation"] == operation]
            size = median_of(same, "stored_bytes", median)
            body.append([operation, cell(same, median),
                         "" if size is None else f"{size / 1e6:.1f} MB"])
        parts.append("The machine's own limits, in the same rounds:\n\n"
                     + table(["", "time · CPU · memory", "output"], body))
    if about["problems"]:
        parts.append("## What went wrong\n\n" + "\n".join(f"- {p}" for p in about["problems"]))
    return "\n\n".join(parts) + "\n"
