"""The format of a Keephold vault, decoded as docs/FORMAT.md describes it. Section numbers are those of that page.

Written from that page alone, and sharing no code with Keephold: its purpose is to show that the page is enough.
"""

import base64
import io
import json
import struct
from dataclasses import dataclass

import blake3
import pyrage
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KIB, MIB = 1 << 10, 1 << 20

# Section 13.
CONFIG_MAX, ENVELOPE_MAX = 64 * KIB, 64 * KIB
BLOB_MAX, FRAME_MAX = 8 * MIB, 9 * MIB
PACK_MAX, PACK_BLOBS_MAX = 64 * MIB, 1 << 20
SEGMENT_MAX, SEGMENT_BLOBS_MAX, BLOCK_MAX = 128 * MIB, 1 << 20, MIB
RECORD_MAX, RECORD_BODY_MAX = 32 * MIB, 128 * MIB
INLINE_MAX, LIST_DEPTH_MAX, TREE_DEPTH_MAX, PATH_MAX = 32, 6, 12, 64 * KIB

# Section 5: kinds of sealed messages.
DATA, TREE, LIST, PACK_FOOTER, BLOB_BLOCK, PACK_BLOCK, SEGMENT_FOOTER, RECORD = 1, 2, 3, 16, 32, 33, 34, 48


class Damaged(Exception):
    """Stored bytes are not what the format says."""


class Newer(Exception):
    """A form that this reader doesn't know."""


def need(condition, why):
    if not condition:
        raise Damaged(why)


# Section 3: postcard.

class Postcard:
    """Reads values off the front of bytes, never beyond their end."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def more(self):
        return self.at < len(self.data)

    def take(self, n):
        need(n <= len(self.data) - self.at, "it ends within a field")
        self.at += n
        return self.data[self.at - n:self.at]

    def u8(self):
        return self.take(1)[0]

    def varint(self, bits):
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
            need(shift < bits, "a number is too long")
        need(value < 1 << bits, "a number is too large")
        return value

    def u32(self):
        return self.varint(32)

    def u64(self):
        return self.varint(64)

    def i64(self):
        n = self.u64()
        return n >> 1 ^ -(n & 1)

    def bytes(self):
        return self.take(self.u64())

    def string(self):
        try:
            return self.bytes().decode()
        except UnicodeDecodeError as e:
            raise Damaged(f"a text is not UTF-8: {e}") from None

    def option(self, read):
        tag = self.u8()
        need(tag <= 1, "an option is neither there nor not there")
        return read() if tag else None

    def list(self, read):
        # Items are appended one by one: a count that lies runs out of bytes before it runs out of memory.
        return [read() for _ in range(self.u64())]

    def variant(self, count):
        n = self.u32()
        need(n < count, f"variant {n} is not known")
        return n


# Section 4: keys.

def derive(context, *parts, length=32):
    return blake3.blake3(b"".join(parts), derive_key_context="keephold 2026-11 " + context).digest(length)


def gear_table(secret):
    return struct.unpack("<256Q", derive("gear table v1", secret, length=2048))


@dataclass(frozen=True)
class Keys:
    """What an envelope holds."""
    vault: bytes
    run: bytes
    secret: bytes


def open_envelope(envelope, identities):
    try:
        plain = pyrage.decrypt(envelope, identities)
    except pyrage.DecryptError as e:
        raise Damaged(f"the envelope doesn't open with this identity: {e}") from None
    need(len(plain) == 88 and plain[:8] == b"KHKEYS01", "the envelope holds something else")
    return Keys(plain[8:24], plain[24:56], plain[56:88])


class Namer:
    """Names blobs, with a key for each kind (of message)."""

    def __init__(self, secret):
        self.keys = {kind: derive(f"{word} blob id v1", secret) for kind, word in ((DATA, "data"), (TREE, "tree"), (LIST, "list"))}

    def name(self, kind, blob):
        return blake3.blake3(blob, key=self.keys[kind]).digest()[:24]


def metadata_key(secret, purpose, vault, salt):
    """The key of an index segment or a record."""
    return derive(f"{purpose} v1", derive("metadata v1", secret), vault, salt)


def recipients_digest(recipients):
    return derive("recipients v1", "".join(line + "\n" for line in sorted(recipients)).encode())


# Sections 5 and 6: header, sealed messages, frames.

@dataclass(frozen=True)
class Header:
    magic: bytes
    vault: bytes
    salt: bytes
    envelope: bytes

    @property
    def length(self):
        return 44 + len(self.envelope)


def read_header(magic, data):
    need(len(data) >= 44, "it is shorter than a header")
    if data[:8] != magic:
        if data[:6] == magic[:6]:
            raise Newer(f"form {data[:8]!r}")
        raise Damaged("it doesn't begin as it should")
    length, = struct.unpack_from("<I", data, 40)
    need(1 <= length <= ENVELOPE_MAX and 44 + length <= len(data), "its envelope's length is wrong")
    return Header(magic, data[8:24], data[24:40], data[44:44 + length])


class Sealer:
    def __init__(self, key, magic, vault, salt):
        self.cipher, self.bound = AESGCM(key), magic + vault + salt

    def _nonce_and_associated(self, offset, kind):
        place = struct.pack("<Q", offset)
        return place + bytes(4), self.bound + place + bytes([kind])

    def open(self, message, offset, kind):
        nonce, associated = self._nonce_and_associated(offset, kind)
        try:
            return self.cipher.decrypt(nonce, message, associated)
        except (InvalidTag, ValueError):
            raise Damaged(f"the sealed message at byte {offset} was altered, or has another key or kind") from None

    def seal(self, plain, offset, kind):
        """Only for the known answers."""
        nonce, associated = self._nonce_and_associated(offset, kind)
        return self.cipher.encrypt(nonce, plain, associated)


def pack_sealer(run_key, vault, salt):
    return Sealer(derive("pack v1", run_key, vault, salt), b"KHPACK01", vault, salt)


def expand(frame, bound):
    need(len(frame) >= 5, "a frame is shorter than its head")
    codec, (length,), payload = frame[0], struct.unpack_from("<I", frame, 1), frame[5:]
    need(length <= bound, f"a frame claims {length} bytes")
    if codec == 0:
        raw = payload
    elif codec == 1:
        try:
            decoder = zstandard.ZstdDecompressor(max_window_size=16 * MIB).stream_reader(io.BytesIO(payload))
            raw = decoder.read(length + 1)
        except zstandard.ZstdError as e:
            raise Damaged(f"zstd: {e}") from None
    else:
        raise Newer(f"codec {codec}")
    need(len(raw) == length, "a frame expands to another length than it says")
    return raw


def split_end(data, magic):
    """Offset and bytes of the sealed footer of a pack or segment."""
    need(len(data) >= 12 and data[-8:] == magic, "it doesn't end as it should; it may be cut short")
    length, = struct.unpack_from("<I", data, len(data) - 12)
    start = len(data) - 12 - length
    need(start >= 44, "its footer's length is wrong")
    return start, data[start:-12]


# Section 7: packs.

@dataclass(frozen=True)
class Place:
    """Where a blob lies in a pack."""
    frame_offset: int
    frame_stored: int
    offset: int
    length: int


def read_pack_footer(data, keys):
    """All blobs of a pack: (kind of message, id, place)."""
    need(len(data) <= PACK_MAX, "it is longer than any pack")
    header = read_header(b"KHPACK01", data)
    need(header.vault == keys.vault, "it belongs to another vault")
    start, footer = split_end(data, b"KHPKEND1")
    p = Postcard(pack_sealer(keys.run, header.vault, header.salt).open(footer, start, PACK_FOOTER))
    frames = p.list(lambda: (p.variant(3), p.u32(), p.u32(), p.list(lambda: (p.take(24), p.u32()))))
    at, blobs = header.length, []
    for kind, offset, stored, names in frames:
        need(offset == at and sum(n for _, n in names) <= FRAME_MAX, "its footer doesn't describe its frames")
        at += stored
        begin = 0
        for blob_id, length in names:
            blobs.append((kind + 1, blob_id, Place(offset, stored, begin, length)))
            begin += length
    need(at == start and len(blobs) <= PACK_BLOBS_MAX, "its footer doesn't describe its frames")
    return header, blobs


# Section 8: index segments.

@dataclass(frozen=True)
class PackRow:
    id: bytes
    size: int
    salt: bytes
    envelope: int
    version: str | None
    locked_until_s: int | None


class Segment:
    """A whole segment in memory; blocks are opened when they are needed."""

    def __init__(self, data, vault, secret, salt=None):
        need(len(data) <= SEGMENT_MAX, "it is longer than any segment")
        header = read_header(b"KHINDX01", data)
        need(header.vault == vault and salt in (None, header.salt), "it belongs to another vault or record")
        self.data = data
        self.sealer = Sealer(metadata_key(secret, "index", vault, header.salt), b"KHINDX01", vault, header.salt)
        start, footer = split_end(data, b"KHIXEND1")
        p = Postcard(self.sealer.open(footer, start, SEGMENT_FOOTER))
        # Whom an envelope was sealed to matters to writers only.
        sealed = p.list(lambda: (p.bytes(), p.take(32)))
        self.envelopes, self.recipients = [e for e, _ in sealed], [digest for _, digest in sealed]
        self.blob_count, self.pack_count = p.u32(), p.u32()
        self.fences = p.list(lambda: (p.take(24), p.u32(), p.u32()))
        self.pack_places = p.list(lambda: (p.u32(), p.u32()))
        need(self.blob_count <= SEGMENT_BLOBS_MAX, "it claims too many blobs")
        need(len(self.pack_places) == -(-self.pack_count // 256), "its footer contradicts itself")
        need(all(a[0] < b[0] for a, b in zip(self.fences, self.fences[1:])), "its blocks are out of order")
        self.blocks = {}

    def _block(self, offset, stored, kind, read):
        if offset not in self.blocks:
            need(offset + stored <= len(self.data), "a block lies outside")
            raw = expand(self.sealer.open(self.data[offset:offset + stored], offset, kind), BLOCK_MAX)
            self.blocks[offset] = read(Postcard(raw))
        return self.blocks[offset]

    def _blob_rows(self, p):
        ids, *columns = p.list(lambda: p.take(24)), *(p.list(p.u32) for _ in range(5))
        need(ids and all(len(c) == len(ids) for c in columns), "a block's columns differ in length")
        need(all(a < b for a, b in zip(ids, ids[1:])), "a block's ids are out of order")
        need(all(n < self.pack_count for n in columns[0]), "a block names a pack that isn't there")
        return {i: (pack, Place(*place)) for i, pack, *place in zip(ids, *columns)}

    def _pack_rows(self, p):
        rows = p.list(lambda: PackRow(p.take(32), p.u32(), p.take(16), p.u32(), p.option(p.string), p.option(p.i64)))
        need(all(row.envelope < len(self.envelopes) for row in rows), "a block names an envelope that isn't there")
        return rows

    def find(self, blob_id):
        """(number of the pack, place), or None."""
        at = [n for n, (first, _, _) in enumerate(self.fences) if first <= blob_id]
        if not at:
            return None
        _, offset, stored = self.fences[at[-1]]
        return self._block(offset, stored, BLOB_BLOCK, self._blob_rows).get(blob_id)

    def pack(self, number):
        need(number < self.pack_count, "that pack isn't there")
        rows = self._block(*self.pack_places[number // 256], PACK_BLOCK, self._pack_rows)
        need(number % 256 < len(rows), "a block of packs is too short")
        return rows[number % 256]


# Section 9: records.

@dataclass(frozen=True)
class RecordFile:
    header: Header
    hash: bytes
    signed: bytes
    signature: bytes
    body: bytes
    body_offset: int


def read_record(data, key_id):
    need(len(data) <= RECORD_MAX, "it is longer than any record")
    digest = blake3.blake3(data).digest()
    need(digest[:16].hex() == key_id, "its bytes are not those that its name is the hash of")
    header = read_header(b"KHRECD01", data)
    start = header.length + 4
    need(start <= len(data), "it is cut short")
    length, = struct.unpack_from("<I", data, header.length)
    need(start + length <= len(data), "it is cut short")
    end = start + length
    return RecordFile(header, digest, data[:end], data[end:], data[start:end], start)


def open_record(record, keys):
    header = record.header
    need(header.vault == keys.vault, "it belongs to another vault")
    key = metadata_key(keys.secret, "record", header.vault, header.salt)
    plain = Sealer(key, header.magic, header.vault, header.salt).open(record.body, record.body_offset, RECORD)
    body = json.loads(expand(plain, RECORD_BODY_MAX))
    if body["format"] != "keephold-record-1":
        raise Newer(f"record {body['format']}")
    return body


def armour(signature):
    """The one right spelling of an armoured signature."""
    begin, *lines, end = signature.decode(errors="replace").strip().splitlines() or ["", ""]
    try:
        text = base64.b64encode(base64.b64decode("".join(lines), validate=True)).decode()
    except ValueError as e:
        raise Damaged(f"its signature is no base64: {e}") from None
    wrapped = [text[at:at + 70] for at in range(0, len(text), 70)]
    return "\n".join(["-----BEGIN SSH SIGNATURE-----", *wrapped, "-----END SSH SIGNATURE-----", ""]).encode()


# Sections 10 and 11: tree and content.

DIRECTORY, FILE, SYMLINK, HARD_LINK, CHAR_DEVICE, BLOCK_DEVICE, FIFO, SOCKET = range(8)
EXTENT_BLOB, EXTENT_PART, EXTENT_HOLE, EXTENT_MORE = range(4)


@dataclass(frozen=True)
class Extent:
    kind: int
    id: bytes | None
    offset: int
    length: int


@dataclass(frozen=True)
class Content:
    size: int
    hash: bytes | None
    depth: int          # 0: `items` are the content's own extents; else ListRefs
    items: list


@dataclass(frozen=True)
class ListRef:
    id: bytes
    length: int
    covers: int         # bytes of the content below it


@dataclass(frozen=True)
class Entry:
    path: bytes
    kind: int
    value: object       # Content, bytes of a link, (major, minor), or None
    mode: int
    uid: int
    gid: int
    user: bytes
    group: bytes
    mtime_ns: int
    xattrs: list


@dataclass(frozen=True)
class Child:
    path: bytes
    id: bytes
    length: int
    entries: int
    bytes: int


def check_path(path):
    need(0 < len(path) <= PATH_MAX and b"\0" not in path, f"{path[:80]!r} is no path")
    need(all(part not in (b"", b".", b"..") for part in path.split(b"/")), f"{path[:80]!r} is no path")
    return path


def path_order(path):
    """A key that sorts as the tree does: `/` below every other byte. No path holds a NUL."""
    return path.replace(b"/", b"\0")


def read_extent(p, recent=None):
    """In a list blob, `recent` holds (id, end of its last stretch) of the blobs that it named last, the latest first."""
    kind = p.variant(3 if recent is None else 4)
    if kind == EXTENT_HOLE:
        extent = Extent(kind, None, 0, p.u64())
    elif kind == EXTENT_MORE:
        back, skip = p.u8(), p.u32()
        need(back < len(recent), "a list refers to a blob that it hasn't named")
        extent = Extent(EXTENT_PART, recent[back][0], recent[back][1] + skip, p.u32())
    else:
        blob_id = p.take(24)
        offset = p.u32() if kind == EXTENT_PART else 0
        extent = Extent(kind, blob_id, offset, p.u32())
    need(extent.length > 0, "an extent covers nothing")
    if recent is not None and extent.id:
        others = [named for named in recent if named[0] != extent.id][:15]
        recent[:] = [(extent.id, extent.offset + extent.length), *others]
    return extent


def read_list_ref(p):
    ref = ListRef(p.take(24), p.u32(), p.u64())
    need(0 < ref.length <= BLOB_MAX and ref.covers > 0, "a list of extents covers nothing, or is too long")
    return ref


def read_content(p):
    size, digest = p.u64(), p.option(lambda: p.take(32))
    if p.variant(2) == 0:
        content = Content(size, digest, 0, p.list(lambda: read_extent(p)))
        covered = sum(extent.length for extent in content.items)
    else:
        depth = p.u8()
        need(1 <= depth <= LIST_DEPTH_MAX, "lists are nested too deep")
        content = Content(size, digest, depth, p.list(lambda: read_list_ref(p)))
        covered = sum(ref.covers for ref in content.items)
    need(len(content.items) <= INLINE_MAX, "too many extents or lists stand in an entry")
    need(covered == size < 1 << 64, "a content's extents don't add up to its size")
    whole = not content.items or (content.depth == 0 and [e.kind for e in content.items] == [EXTENT_BLOB])
    need(digest is not None or (content.depth == 0 and whole), "a content has no hash")
    return content


def read_kind(p):
    kind = p.variant(8)
    if kind == FILE:
        return kind, read_content(p)
    if kind == SYMLINK:
        return kind, p.bytes()
    if kind == HARD_LINK:
        return kind, check_path(p.bytes())
    if kind in (CHAR_DEVICE, BLOCK_DEVICE):
        return kind, (p.u32(), p.u32())
    return kind, None


def read_node(blob):
    """A node's items: all Entry or all Child."""
    p = Postcard(blob)
    tag = p.u8()
    if tag > 1:
        raise Newer(f"tree node {tag}")
    items, before = [], b""
    while p.more():
        shared = p.u32()
        need(shared <= len(before), "a path shares more than there is")
        path = check_path(before[:shared] + p.bytes())
        need(not items or path_order(before) < path_order(path), f"{path!r} stands out of order")
        before = path
        if tag == 1:
            items.append(Child(path, p.take(24), p.u32(), p.u64(), p.u64()))
            continue
        kind, value = read_kind(p)
        mode, uid, gid, user, group = p.u32(), p.u32(), p.u32(), p.bytes(), p.bytes()
        seconds, nanos = p.i64(), p.u32()
        need(nanos < 10**9, "a time is wrong")
        xattrs = p.list(lambda: (p.bytes(), p.bytes()))
        p.list(lambda: (p.u32(), p.bytes()))    # what later versions add
        items.append(Entry(path, kind, value, mode & 0o7777, uid, gid, user, group, seconds * 10**9 + nanos, xattrs))
    need(tag == 0 or items, "an inner node has no children")
    return tag, items
