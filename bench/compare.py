"""Compares a restored tree with its source, entry by entry."""

import os
import stat

BLOCK = 1 << 20


def same_bytes(a, b):
    with open(a, "rb", buffering=0) as one, open(b, "rb", buffering=0) as two:
        while True:
            left, right = one.read(BLOCK), two.read(BLOCK)
            if left != right:
                return False
            if not left:
                return True


def entries(root):
    found = {"": root}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, root)] = path
    return found


def trees(source, restored):
    """(what differs in content, what differs only in metadata), as lists of text."""
    wrong, lost = [], []
    if not os.path.isdir(restored):
        return [f"{restored} isn't there"], []
    left, right = entries(source), entries(restored)
    wrong += [f"missing: {path}" for path in sorted(left.keys() - right.keys())]
    wrong += [f"not in the source: {path}" for path in sorted(right.keys() - left.keys())]
    for path in sorted(left.keys() & right.keys()):
        a, b = os.lstat(left[path]), os.lstat(right[path])
        if stat.S_IFMT(a.st_mode) != stat.S_IFMT(b.st_mode):
            wrong.append(f"another kind of file: {path}")
            continue
        if stat.S_ISREG(a.st_mode):
            if a.st_size != b.st_size or not same_bytes(left[path], right[path]):
                wrong.append(f"other content: {path}")
            if b.st_blocks > a.st_blocks + a.st_blocks // 4 + 2048:
                lost.append(f"holes: {path}")
        elif stat.S_ISLNK(a.st_mode):
            if os.readlink(left[path]) != os.readlink(right[path]):
                wrong.append(f"another link: {path}")
        # The folder that was named is not always among what is stored.
        if not path:
            continue
        if stat.S_IMODE(a.st_mode) != stat.S_IMODE(b.st_mode) and not stat.S_ISLNK(a.st_mode):
            lost.append(f"mode: {path}")
        if (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid):
            lost.append(f"owner: {path}")
        if a.st_mtime_ns != b.st_mtime_ns:
            lost.append(f"time: {path}")
    return wrong, lost
