"""Holds this reader against the known answers of docs/FORMAT.md, sections 5, 12 and 18."""

import struct

import blake3

from khformat import DATA, LIST, TREE, Namer, Postcard, Sealer, derive, gear_table, metadata_key, pack_sealer, recipients_digest

MASKS = {11: 0x0000D90003530000, 13: 0x0000D90303530000}


def cut(data, least, average, most, table, strict, lax):
    """Section 12. The reader doesn't need it; it is here because the page describes it."""
    n = len(data)
    if n <= least:
        return n
    n = min(n, most)
    centre, h = min(average, n), 0
    for i in range(least, n // 2 * 2):
        h = ((h << 1) + table[data[i]]) & (1 << 64) - 1
        if h & (strict if i < centre // 2 * 2 else lax) == 0:
            return i
    return n


def cuts(data, *how):
    lengths = []
    while data:
        lengths.append(cut(data, *how))
        data = data[lengths[-1]:]
    return lengths


def row_set(key, rows):
    """Section 9: the sum of a table's rows."""
    hashes = (int.from_bytes(blake3.blake3(row, key=key).digest(), "little") for row in rows)
    return (sum(hashes) % (1 << 256)).to_bytes(32, "little").hex()


def check():
    secret, vault, salt = bytes([7]) * 32, bytes([1]) * 16, bytes([2]) * 16
    gear = gear_table(secret)
    frame = bytes(1) + struct.pack("<I", 5) + b"hello"
    noise = blake3.blake3(struct.pack("<Q", 1)).digest(40000)
    answers = [
        (Namer(secret).keys[DATA].hex(), "2ab2f8a87e954a362dd6b9fba042e2c1048bc78da5afb9a838e9ca978edc71d1"),
        (Namer(secret).name(DATA, b"hello").hex(), "954d69736bb89642d99bd1e9d27adf3cadf2deb7f5292436"),
        (Namer(secret).name(TREE, b"hello").hex(), "f9e423c42df9f499ee508b909fa3852549792895890fa2d7"),
        (Namer(secret).name(LIST, b"hello").hex(), "b8df2f4bf97c1b97b1ddfcb55c67cad341730a2c2ca07312"),
        (Namer(secret).name(DATA, b"").hex(), "b83106d45e9693f1cab42d302ace94ab0e1f0ca7aac25e1e"),
        (derive("secret check v1", secret).hex(), "53610a3c16cba3c4bc1cf4521cbecf176257d77ee1750eb70ed7a8055c64f72c"),
        (derive("metadata v1", secret).hex(), "e31c25535066b1a09ef22327bddce5abb84a678eab5fe2802d23816e219cfd96"),
        (recipients_digest(["age1b", "age1a"]).hex(), "79d31fe48d403baa075eb7430d174dd2a4e86180045add2a69072e21e374ee79"),
        ([f"{gear[i]:016x}" for i in (0, 1, 255)], ["040bd6ce02484934", "6a3b6a291e42b3b3", "f500f2f9621704dc"]),
        (derive("row set v1", secret).hex(), "d77d747759d28036bab2845b813a5367cd7e25428f80aac55623d602383458ec"),
        (metadata_key(secret, "index", vault, salt).hex(), "42f626d85e22c1e18a901be36c2e2f12c33da2eb6b228e9707a077bb98bb05e2"),
        (metadata_key(secret, "record", vault, salt).hex(), "4687cd0243f2f7ebe79ae4d35bc0df1141bb80cad42f2752944cc3b1133a6cdd"),
        (derive("pack v1", bytes([9]) * 32, vault, salt).hex(), "26035492e5642495339055a9aa8efd86c6a997f0f0f6199599640f282a05eeb3"),
        (pack_sealer(bytes([9]) * 32, vault, salt).seal(frame, 244, 1).hex(), "7440a78166157cfd152e6f59ae5d6f7f6bb51cfcd1edb8685edb"),
        (Sealer(bytes([1]) * 32, b"KHPACK01", salt, bytes([3]) * 16).seal(b"abc", 5, 2).hex(), "8203b42af0bce849e3ab54e1636b186d6185fd"),
        (cuts(noise, 1024, 4096, 16384, gear_table(bytes([1]) * 32), MASKS[13], MASKS[11]),
         [2756, 6967, 4812, 2860, 6977, 9652, 1260, 1107, 3609]),
        (row_set(derive("row set v1", secret), [b"1\tone", b"2\ttwo"]), "192a944e1bd218ade743f81cd7cfb9774f557e3ce44da6bbc58f31d90420935e"),
        (row_set(derive("row set v1", secret), []), "00" * 32),
        (Postcard(b"\x09").i64(), -5),
        (Postcard(b"\xac\x02").u32(), 300),
    ]
    for number, (found, wanted) in enumerate(answers):
        if found != wanted:
            raise SystemExit(f"known answer {number}: {found} instead of {wanted}")
    print(f"{len(answers)} known answers agree")


if __name__ == "__main__":
    check()
