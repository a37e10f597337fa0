"""Changes one in a hundred files of a tree, or a little of each large file; seeded."""

import os
import random
import sqlite3


def tree(root, seed):
    """Edits 0.7 %, appends to 0.1 %, removes 0.1 % and adds 0.1 % of the files."""
    rng = random.Random(f"change {seed}")
    files = []
    for folder, folders, names in os.walk(root):
        folders.sort()
        files += (os.path.join(folder, name) for name in sorted(names))
    files = [path for path in files if not os.path.islink(path)]
    chosen = rng.sample(files, max(10, len(files) // 100))
    for number, path in enumerate(chosen):
        kind = number % 10
        if kind == 0:
            os.unlink(path)
        elif kind == 1:
            with open(path, "ab") as file:
                file.write(b"one more line %d\n" % rng.getrandbits(64))
        elif kind == 2:
            with open(f"{path}.{seed}.new", "wb") as file, open(path, "rb") as old:
                file.write(b"added %d\n" % rng.getrandbits(64) + old.read())
        else:
            with open(path, "rb") as file:
                content = file.read()
            at = rng.randrange(len(content) + 1)
            end = min(len(content), at + rng.randrange(200))
            with open(path, "wb") as file:
                file.write(content[:at] + b"edited %d\n" % rng.getrandbits(64) + content[end:])
    return f"{len(chosen)} of {len(files)} files"


def big(root, seed):
    """What a day does to large files: a longer log, new rows, blocks of a disk."""
    rng = random.Random(f"change {seed}")
    with open(os.path.join(root, "service.log"), "ab") as log:
        for _ in range(20_000):
            log.write(b"2026-01-01T00:00:00.000Z INFO added request=%016x\n" % rng.getrandbits(64))
    database = sqlite3.connect(os.path.join(root, "app.sqlite"))
    with database:
        rows, = database.execute("SELECT max(id) FROM event").fetchone()
        database.executemany("UPDATE event SET who = 'changed' WHERE id = ?",
                             ((rng.randrange(rows),) for _ in range(rows // 200)))
    database.close()
    image = os.path.join(root, "disk.img")
    size = os.path.getsize(image)
    with open(image, "r+b") as disk:
        for _ in range(500):
            disk.seek(rng.randrange(size // 4096) * 4096)
            disk.write(rng.randbytes(4096))
    return "log + 20,000 lines, 0.5 % of the rows, 500 blocks of the disk"
