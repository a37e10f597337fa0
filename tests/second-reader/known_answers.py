"""Holds this reader against the known answers of docs/FORMAT.md, sections 5, 12 and 18."""

import struct

import blake3

from khformat import Namer, Postcard, Sealer, derive, gear_table, pack_sealer

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


def check():
    secret, vault, salt = bytes([7]) * 32, bytes([1]) * 16, bytes([2]) * 16
    gear = gear_table(secret)
    frame = bytes(1) + struct.pack("<I", 5) + b"hello"
    noise = blake3.blake3(struct.pack("<Q", 1)).digest(40000)
    answers = [
        (Namer(secret).key.hex(), "63a7827567b33bea0317e2543e224b79bda018df37b39b603555e2980aa8c72b"),
        (Namer(secret).name(b"hello").hex(), "ec0da40aa48908e9e7b0556f55392eb914f1fe3ebd6a4a43"),
        (Namer(secret).name(b"").hex(), "0fc5ed20a8a1ae1c0d2bcca76c9c1539512c0ae69be4cce2"),
        ([f"{gear[i]:016x}" for i in (0, 1, 255)], ["040bd6ce02484934", "6a3b6a291e42b3b3", "f500f2f9621704dc"]),
        (derive("row set v1", secret).hex(), "d77d747759d28036bab2845b813a5367cd7e25428f80aac55623d602383458ec"),
        (derive("index v1", secret, vault, salt).hex(), "c29ea067d356bb25494a29f2de5a222654cb3317ffae8311110b787679c4ff3a"),
        (derive("record v1", secret, vault, salt).hex(), "7b9d5c64f642a372b8c187a7dbed36e4e2cc4d27147ae2384fea3e4e6aeecfad"),
        (derive("pack v1", bytes([9]) * 32, vault, salt).hex(), "26035492e5642495339055a9aa8efd86c6a997f0f0f6199599640f282a05eeb3"),
        (pack_sealer(bytes([9]) * 32, vault, salt).seal(frame, 244, 1).hex(), "7440a78166157cfd152e6f59ae5d6f7f6bb51cfcd1edb8685edb"),
        (Sealer(bytes([1]) * 32, b"KHPACK01", salt, bytes([3]) * 16).seal(b"abc", 5, 2).hex(), "8203b42af0bce849e3ab54e1636b186d6185fd"),
        (cuts(noise, 1024, 4096, 16384, gear_table(bytes([1]) * 32), MASKS[13], MASKS[11]),
         [2756, 6967, 4812, 2860, 6977, 9652, 1260, 1107, 3609]),
        (Postcard(b"\x09").i64(), -5),
        (Postcard(b"\xac\x02").u32(), 300),
    ]
    for number, (found, wanted) in enumerate(answers):
        if found != wanted:
            raise SystemExit(f"known answer {number}: {found} instead of {wanted}")
    print(f"{len(answers)} known answers agree")


if __name__ == "__main__":
    check()
