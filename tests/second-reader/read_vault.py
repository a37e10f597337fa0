#!/usr/bin/env python3
"""Reads a local Keephold vault with an age identity, written from docs/FORMAT.md alone.

Its purpose is to show that the page is enough, and that data can be had back without Keephold. It believes nothing that it
can check: names, signatures, seals, blob ids, content hashes, order and bounds.
"""

import argparse
import functools
import os
import re
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import blake3
import pyrage

import khformat as kh
from khformat import Damaged, Newer, need

RUN = re.compile(r"runs/([^/]+)/([^/]+)/(\d{8}T\d{6}Z)-([1-9]\d*)-([0-9a-f]{32})")
HEX = re.compile(r"[0-9a-f]{64}")


def read_identities(path):
    lines = [line.strip() for line in Path(path).read_text().splitlines()]
    found = [pyrage.x25519.Identity.from_str(line) for line in lines if line.startswith("AGE-SECRET-KEY-")]
    if not found:
        raise SystemExit(f"{path} holds no AGE-SECRET-KEY-1… line")
    return found


class Vault:
    """A vault in a folder."""

    def __init__(self, folder, identities, signers=None, fingerprint=None, rebuild=False):
        self.folder, self.identities, self.signers, self.rebuild = Path(folder), identities, signers, rebuild
        config = (self.folder / "vault.json").read_bytes()
        need(len(config) <= kh.CONFIG_MAX, "vault.json is too long")
        self.fingerprint = blake3.blake3(config).hexdigest()
        need(fingerprint in (None, self.fingerprint), f"vault.json has the fingerprint {self.fingerprint}, another is pinned")
        self.config = kh.json.loads(config)
        if self.config["format"] != "keephold-vault-1":
            raise Newer(f"vault {self.config['format']}")
        members = {"format", "id", "created", "chunker", "secret_check", "retention_floor_days"}
        need(self.config.keys() == members, "vault.json has other members than it should")
        self.id = bytes.fromhex(self.config["id"])
        self.opened = {}

    def keys(self, envelope):
        """The keys in an envelope. All objects of a run carry the same one, so each is opened once."""
        if envelope not in self.opened:
            keys = kh.open_envelope(envelope, self.identities)
            need(keys.vault == self.id, "the envelope belongs to another vault")
            need(kh.derive("secret check v1", keys.secret).hex() == self.config["secret_check"], "the envelope holds another vault's secret")
            self.opened[envelope] = keys
        return self.opened[envelope]

    def object(self, key, bound):
        path = self.folder / key
        need(path.stat().st_size <= bound, f"{key} is longer than any such object")
        return path.read_bytes()

    def named(self, key, name, bound):
        """An object whose name is the hash of its bytes."""
        data = self.object(key, bound)
        need(blake3.blake3(data).hexdigest() == name, f"{key}: its bytes are not those that its name is the hash of")
        return data

    def packs(self):
        for path in sorted(self.folder.glob("packs/??/*")):
            if HEX.fullmatch(path.name) and path.name.startswith(path.parent.name):
                yield path.name

    def pack_bytes(self, name):
        return self.named(f"packs/{name[:2]}/{name}", name, kh.PACK_MAX)

    # Section 9.

    def records(self, job=None):
        """Keys of records, oldest first for each job."""
        keys = (p.relative_to(self.folder).as_posix() for p in sorted(self.folder.glob("runs/*/*/*")))
        matches = (RUN.fullmatch(key) for key in keys)
        return [m for m in matches if m and job in (None, f"{m[1]}/{m[2]}")]

    def record(self, match):
        """(hash, body) of a record that was checked in every way that is possible."""
        host, job, started, seq, key_id = match.groups()
        record = kh.read_record(self.object(match[0], kh.RECORD_MAX), key_id)
        if self.signers:
            self.check_signature(record, host)
        body = kh.open_record(record, self.keys(record.header.envelope))
        need(body["vault"] == self.fingerprint, "the record was made for another vault.json")
        begun = re.sub(r"[-:]|\.\d+", "", body["started"])
        need((body["host"], body["job"], str(body["seq"]), begun) == (host, job, seq, started), "it stands under another run's name")
        need((body["snapshot"] is None) == (body["status"] == "failed"), "its status and its snapshot contradict each other")
        return record.hash.hex(), body

    def check_signature(self, record, host):
        need(record.signature == kh.armour(record.signature), "its signature is spelt in another way than it should be")
        with tempfile.NamedTemporaryFile() as signature:
            signature.write(record.signature)
            signature.flush()
            command = ["ssh-keygen", "-Y", "verify", "-f", self.signers, "-n", "keephold-record", "-s", signature.name]
            for principal in (host, f"keephold@{host}"):
                done = subprocess.run([*command, "-I", principal], input=record.signed, capture_output=True)
                if done.returncode == 0:
                    return
        raise Damaged(f"its signature is not to be believed: {(done.stderr or done.stdout).decode().strip()}")


class Blobs:
    """The blobs of one snapshot, found through its index segments or, with `rebuild`, through the packs alone."""

    def __init__(self, vault, body):
        self.vault = vault
        self.pack_cached = functools.lru_cache(maxsize=4)(vault.pack_bytes)
        self.frame_cached = functools.lru_cache(maxsize=32)(self.frame)
        # A dump that was changed often consists of many parts of the same few blobs.
        self.get = functools.lru_cache(maxsize=16)(self.get)
        if vault.rebuild:
            self.segments, self.rebuilt = [], self.from_packs()
            return
        self.segments, self.rebuilt = [], {}
        for ref in body["snapshot"]["segments"]:
            data = vault.named(f"index/{ref['id']}", ref["id"], kh.SEGMENT_MAX)
            need(len(data) == ref["size"], "a segment has another size than its record says")
            secret = vault.keys(kh.read_header(b"KHINDX01", data).envelope).secret
            segment = kh.Segment(data, vault.id, secret, bytes.fromhex(ref["salt"]))
            self.segments.append((segment, kh.base64.b64decode(ref["used"], validate=True)))

    def from_packs(self):
        """Section 15: (kind, blob id) → (pack, salt, run key, place)."""
        found = {}
        for name in self.vault.packs():
            data = self.vault.pack_bytes(name)
            keys = self.vault.keys(kh.read_header(b"KHPACK01", data).envelope)
            header, blobs = kh.read_pack_footer(data, keys)
            for kind, blob_id, place in blobs:
                found.setdefault((kind, blob_id), (name, header.salt, keys.run, place))
        return found

    def where(self, blob_id, kind):
        if self.vault.rebuild:
            need((kind, blob_id) in self.rebuilt, f"no pack holds blob {blob_id.hex()}")
            return self.rebuilt[kind, blob_id]
        for segment, used in self.segments:
            found = segment.find(blob_id)
            if found and found[0] // 8 < len(used) and used[found[0] // 8] >> found[0] % 8 & 1:
                row = segment.pack(found[0])
                run = self.vault.keys(segment.envelopes[row.envelope]).run
                return row.id.hex(), row.salt, run, found[1]
        raise Damaged(f"no index segment of the snapshot says where blob {blob_id.hex()} lies")

    def frame(self, pack, salt, run, offset, stored, kind):
        data = self.pack_cached(pack)
        need(offset + stored <= len(data), f"pack {pack} is cut short")
        return kh.expand(kh.pack_sealer(run, self.vault.id, salt).open(data[offset:offset + stored], offset, kind), kh.FRAME_MAX)

    def get(self, blob_id, kind, length):
        pack, salt, run, place = self.where(blob_id, kind)
        need(length in (None, place.length), "a blob has another length than what points to it says")
        raw = self.frame_cached(pack, salt, run, place.frame_offset, place.frame_stored, kind)
        blob = raw[place.offset:place.offset + place.length]
        secret = next(iter(self.vault.opened.values())).secret
        need(len(blob) == place.length and namer(secret).name(kind, blob) == blob_id, f"blob {blob_id.hex()} has other bytes than its id says")
        return blob


@functools.cache
def namer(secret):
    return kh.Namer(secret)


# Section 10.

def entries(blobs, root, wanted=None):
    """All entries in order; with `wanted`, only those nodes are read that may hold that path."""
    need(root["depth"] <= kh.TREE_DEPTH_MAX, "the tree is too deep")
    counted, before = 0, None
    for entry in walk(blobs, bytes.fromhex(root["id"]), root["length"], root["depth"], None, None, wanted):
        order = kh.path_order(entry.path)
        need(before is None or before < order, f"{entry.path!r} stands out of order")
        before, counted = order, counted + 1
        yield entry
    need(wanted is not None or counted == root["entries"], "the tree holds another number of entries than its record says")


def walk(blobs, node, length, depth, first, end, wanted):
    tag, items = kh.read_node(blobs.get(node, kh.TREE, length))
    need(tag == (depth > 0), "a node stands on another level than it should")
    need(first is None or items[0].path == first, "a node begins with another path than its parent says")
    need(end is None or kh.path_order(items[-1].path) < end, "a node reaches into its sibling")
    if tag == 0:
        yield from items
        return
    for child, after in zip(items, items[1:] + [None]):
        begin, stop = kh.path_order(child.path), kh.path_order(after.path) if after else end
        if wanted is not None:
            low = kh.path_order(wanted)
            if (stop is not None and stop <= low) or begin > low:
                continue
        yield from walk(blobs, child.id, child.length, depth - 1, child.path, stop, wanted)


# Section 11.

def extents(blobs, content):
    """The content's own extents, however many lists stand above them."""
    def below(items, depth):
        if depth == 0:
            yield from items
            return
        for ref in items:
            p, inner, recent = kh.Postcard(blobs.get(ref.id, kh.LIST, ref.length)), [], []
            while p.more():
                inner.append(kh.read_extent(p, recent) if depth == 1 else kh.read_list_ref(p))
            covered = sum(i.length if depth == 1 else i.covers for i in inner)
            need(covered == ref.covers, "a list covers another length than it says")
            yield from below(inner, depth - 1)

    return below(content.items, content.depth)


def write_content(blobs, content, out):
    """Writes a content to a file, or (without holes) to a pipe. Its hash is checked at the end."""
    size, digest = 0, blake3.blake3()
    for extent in extents(blobs, content):
        size += extent.length
        need(size <= content.size, "the extents exceed the content's size")
        if extent.kind == kh.EXTENT_HOLE:
            if out.seekable():
                out.seek(extent.length, os.SEEK_CUR)
            else:
                for _ in range(extent.length // kh.MIB):
                    out.write(bytes(kh.MIB))
                out.write(bytes(extent.length % kh.MIB))
            continue
        if extent.kind == kh.EXTENT_BLOB:
            data = blobs.get(extent.id, kh.DATA, extent.length)
        else:
            data = blobs.get(extent.id, kh.DATA, None)[extent.offset:extent.offset + extent.length]
            need(len(data) == extent.length, "a part reaches beyond its blob")
        digest.update(data)
        out.write(data)
    need(size == content.size, "the extents don't add up to the content's size")
    need(content.hash in (None, digest.digest()), "the content has another hash than its entry says")
    if out.seekable():
        out.truncate(size)


def extract(blobs, root, target):
    """Restores files, folders and links below a new folder. Owners, devices and extended attributes are left out."""
    target = os.fsencode(target)
    os.mkdir(target)
    made, folders, skipped, count = {b""}, [], 0, 0
    for entry in entries(blobs, root):
        parent = entry.path.rpartition(b"/")[0]
        need(parent in made, f"{entry.path!r} lies below something that is no folder of this snapshot")
        path, count = os.path.join(target, entry.path), count + 1
        if entry.kind == kh.DIRECTORY:
            os.mkdir(path, 0o700)
            made.add(entry.path)
            folders.append((path, entry))
        elif entry.kind == kh.FILE:
            with open(path, "xb") as out:
                write_content(blobs, entry.value, out)
            set_times(path, entry)
        elif entry.kind == kh.SYMLINK:
            os.symlink(entry.value, path)
        elif entry.kind == kh.HARD_LINK:
            source = os.path.join(target, entry.value)
            try:
                kind = os.lstat(source)
                need(entry.value.rpartition(b"/")[0] in made and not stat.S_ISDIR(kind.st_mode), "a hard link leads elsewhere")
                os.link(source, path, follow_symlinks=False)
            except FileNotFoundError:
                raise Damaged(f"{entry.path!r} is another name of something that doesn't come before it") from None
        else:
            skipped += 1
    for path, entry in reversed(folders):
        set_times(path, entry)
    return count, skipped


def set_times(path, entry):
    os.chmod(path, entry.mode)
    os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))


# The commands.

def newest(vault, job):
    found = vault.records(job)
    if not found:
        raise SystemExit(f"no record of {job or 'any job'} in {vault.folder}")
    for match in sorted(found, key=lambda m: (m[3], int(m[4])), reverse=True):
        _, body = vault.record(match)
        if body["snapshot"]:
            return body
    raise SystemExit(f"{len(found)} records, and none of them has a snapshot")


def list_records(vault, job):
    chain = {}
    for match in sorted(vault.records(job), key=lambda m: (m[1], m[2], int(m[4]))):
        digest, body = vault.record(match)
        seq, before = chain.get((match[1], match[2]), (None, None))
        fits = seq is None or (body["seq"] == seq + 1 and body.get("previous") == before)
        chain[match[1], match[2]] = body["seq"], digest
        root = (body["snapshot"] or {}).get("root", {})
        print(f"{match[1]}/{match[2]} {body['seq']} {body['started']} {body['status']} {root.get('entries', '-')} entries"
              + ("" if fits else "  THE CHAIN IS BROKEN HERE"))


def check_all(vault):
    """Every pack and segment: name, seals, and the id of each blob."""
    blobs = packs = 0
    for name in vault.packs():
        data = vault.pack_bytes(name)
        keys = vault.keys(kh.read_header(b"KHPACK01", data).envelope)
        header, found = kh.read_pack_footer(data, keys)
        sealer, frames = kh.pack_sealer(keys.run, vault.id, header.salt), {}
        for kind, blob_id, place in found:
            if place.frame_offset not in frames:
                frames = {place.frame_offset: kh.expand(
                    sealer.open(data[place.frame_offset:place.frame_offset + place.frame_stored], place.frame_offset, kind), kh.FRAME_MAX)}
            blob = frames[place.frame_offset][place.offset:place.offset + place.length]
            need(namer(keys.secret).name(kind, blob) == blob_id, f"pack {name}: blob {blob_id.hex()} has other bytes than its id says")
            blobs += 1
        packs += 1
    print(f"{packs} packs with {blobs} blobs are sound")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vault", help="folder of the vault")
    parser.add_argument("identity", help="file with an AGE-SECRET-KEY-1… line")
    parser.add_argument("--job", metavar="HOST/JOB", help="only this job")
    parser.add_argument("--signers", metavar="FILE", help="allowed signers: HOST ssh-ed25519 KEY; without it no signature is believed or checked")
    parser.add_argument("--fingerprint", metavar="HEX", help="BLAKE3 that vault.json must have")
    parser.add_argument("--rebuild-index", action="store_true", help="pass over index/ and read the packs' own footers")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list records and check their chain")
    commands.add_parser("check", help="recompute every blob of every pack")
    commands.add_parser("ls", help="list the newest snapshot's entries")
    commands.add_parser("cat", help="write one file to standard output").add_argument("path")
    commands.add_parser("extract", help="restore the newest snapshot").add_argument("out", help="a folder that doesn't exist yet")
    args = parser.parse_args()

    vault = Vault(args.vault, read_identities(args.identity), args.signers, args.fingerprint, args.rebuild_index)
    if not args.signers:
        print("no allowed signers are given: nothing here shows who made these records", file=sys.stderr)
    if args.command == "list":
        return list_records(vault, args.job)
    if args.command == "check":
        return check_all(vault)
    body = newest(vault, args.job)
    blobs, root = Blobs(vault, body), body["snapshot"]["root"]
    if args.command == "ls":
        for entry in entries(blobs, root):
            size = entry.value.size if entry.kind == kh.FILE else "-"
            print("dflhcbps"[entry.kind], f"{entry.mode:04o}", size, entry.path.decode(errors="backslashreplace"))
    elif args.command == "cat":
        wanted = os.fsencode(args.path.strip("/"))
        entry = next((e for e in entries(blobs, root, wanted) if e.path == wanted), None)
        if entry and entry.kind == kh.HARD_LINK:
            entry = next((e for e in entries(blobs, root, entry.value) if e.path == entry.value), None)
        if entry is None or entry.kind != kh.FILE:
            raise SystemExit(f"{args.path} is no file in this snapshot")
        write_content(blobs, entry.value, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        count, skipped = extract(blobs, root, args.out)
        print(f"{count} entries of {body['host']}/{body['job']}, run {body['seq']}, restored to {args.out}; "
              f"{skipped} devices, fifos and sockets left out", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except (Damaged, Newer, FileNotFoundError, FileExistsError) as error:
        raise SystemExit(f"read_vault: {type(error).__name__}: {error}") from None
