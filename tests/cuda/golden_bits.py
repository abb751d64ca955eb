#!/usr/bin/env python3
"""Golden bits of the tensor core's kernels, from a second implementation: golden_bits.py [--check FILE].

Prints golden_bits.inc: what products of bfloat16 matrices (kernels/matmul_bf16.h) and attention over bfloat16
(kernels/attention.h) must give on GPUs with tensor cores of Ampere and of Hopper. All is written from those headers and from
the published model of the tensor core (Xie et al., arXiv:2511.10909), in integers; it shares no code with the
kernels, the emulator and tests/cuda/tensor_core.h. --check compares FILE with what it would print.
"""
import argparse
import pathlib
import sys

import numpy as np

F32, I64 = np.float32, np.int64
TILE, SPLIT, BLOCK = 128, 1024, 16


# ---- operands ----

def philox(counter, key):
    """Philox4x32-10 (Salmon et al. 2011); counter: four arrays or numbers below 2^32. The first word."""
    c = [np.asarray(x, np.uint64) for x in np.broadcast_arrays(*counter)]
    low, k = np.uint64(0xFFFFFFFF), [np.uint64(x) for x in key]
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ k[0], p1 & low, (p0 >> np.uint64(32)) ^ c[3] ^ k[1], p0 & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return c[0]


def halves(seed, spread, *shape, top=None):
    """bfloat16 bits: a random sign, seven bits of fraction, one of spread + 1 exponents up to `top`, by default around 0;
    one in 16 is zero."""
    word = philox((np.arange(np.prod(shape)), 0, 0, 0), (seed, 77)).astype(I64)
    least = 127 + (spread - spread // 2 if top is None else top) - spread
    exponent = least + (word >> 8 & 0xFFFF) % (spread + 1)
    return np.where(word >> 28 == 0, 0, (word & 1) << 15 | exponent << 7 | (word >> 1 & 127)).reshape(shape)


# ---- float32 ----

def value(half):
    return (np.asarray(half, I64) << 16).astype(np.uint32).view(F32)


def half(x):
    """Rounded to bfloat16, to nearest, ties to even; of finite numbers."""
    bits = np.asarray(x, F32).view(np.uint32).astype(I64)
    return bits + 0x7FFF + (bits >> 16 & 1) >> 16


def held(x):
    return value(half(x))


def fma(a, b, c):
    """One rounding. The product is exact in double; the sum is rounded to odd there, and then to float32."""
    a, b, c = np.broadcast_arrays(*(np.asarray(x, F32) for x in (a, b, c)))
    shape = a.shape
    a, b, c = (x.reshape(-1).astype(np.float64) for x in (a, b, c))
    product = a * b
    total = product + c
    back = total - product
    error = (product - (total - back)) + (c - back)
    bits = total.view(I64)
    odd = bits + np.where((error > 0) == (total > 0), 1, -1)
    total = np.where((error != 0) & (bits & 1 == 0), odd, bits).view(np.float64)
    return total.astype(F32).reshape(shape)


def exp(x):
    x = np.clip(np.asarray(x, F32), F32(-105), F32(90))
    n = np.rint(x * F32(1.44269502162933349609375)).astype(F32)
    r = fma(-n, F32(float.fromhex("0x1.62e430p-1")), x)
    r = fma(-n, F32(float.fromhex("-0x1.05c610p-29")), r)
    p = F32(float.fromhex("0x1.6a23d0p-10"))
    for c in ("0x1.123a20p-7", "0x1.5558f2p-5", "0x1.555492p-3", "0x1.fffffcp-2"):
        p = fma(p, r, F32(float.fromhex(c)))
    return np.ldexp((fma(p, r * r, r) + F32(1)).astype(np.float64), n.astype(int)).astype(F32)


def log(x):
    """Of normal numbers."""
    bits = np.asarray(x, F32).view(np.int32).astype(I64)
    exponent = bits - 0x3F3504F3 >> 23
    f = (bits - (exponent << 23)).astype(np.int32).view(F32) - F32(1)
    e = exponent.astype(F32)
    p = F32(float.fromhex("-0x1.38b590p-4"))
    for c in ("0x1.055b6cp-3", "-0x1.0d8540p-3", "0x1.22da1cp-3", "-0x1.547244p-3", "0x1.99a008p-3", "-0x1.000226p-2",
              "0x1.555554p-2"):
        p = fma(p, f, F32(float.fromhex(c)))
    small = fma(p * f, f * f, e * F32(float.fromhex("-0x1.05c610p-29")))
    small = fma(F32(-0.5), f * f, small)
    return fma(e, F32(float.fromhex("0x1.62e430p-1")), f + small)


def halved(x):
    """The last axis, of 16 lanes, joined by halving."""
    while x.shape[-1] > 1:
        n = x.shape[-1] // 2
        x = x[..., :n] + x[..., n:]
    return x[..., 0]


# ---- the tensor core ----

class Core:
    def __init__(self, name, terms, bits):
        self.name, self.terms, self.bits = name, terms, bits

    def block(self, c, a, b):
        """c + the products of the last axis of a and b, bfloat16 bits of 16 factors; c is float32."""
        for i in range(0, BLOCK, self.terms):
            c = self.fused(c, a[..., i:i + self.terms], b[..., i:i + self.terms])
        return c

    def fused(self, c, a, b):
        (ma, ea), (mb, eb) = parts(a, 7), parts(b, 7)
        mc, ec = parts(c.view(np.int32).astype(I64), 23)
        product, exponent = ma * mb, ea + eb
        largest = np.maximum(np.where(product == 0, -10**6, exponent).max(-1), ec)
        total = cut(mc, self.bits - 23 - (largest - ec))
        total = total + cut(product, self.bits - 14 - (largest[..., None] - exponent)).sum(-1)
        size = np.abs(total)
        over = np.maximum(np.frexp(size.astype(np.float64))[1] - 24, 0)  # bits beyond a float's; sizes are below 2^53
        return np.ldexp((np.sign(total) * (size >> over << over)).astype(np.float64), largest - self.bits).astype(F32)

    def chain(self, c, a, b):
        """Blocks of 16 of the last axis in turn, the last one filled up with zeros."""
        a, b = np.broadcast_arrays(a, b)
        missing = [(0, 0)] * (a.ndim - 1) + [(0, -a.shape[-1] % BLOCK)]
        a, b = np.pad(a, missing), np.pad(b, missing)
        c = np.broadcast_to(np.asarray(c, F32), a.shape[:-1]).copy()
        for i in range(0, a.shape[-1], BLOCK):
            c = self.block(c, a[..., i:i + BLOCK], b[..., i:i + BLOCK])
        return c


def parts(bits, fraction):
    """Signed whole mantissa and exponent: the number is mantissa 2^(exponent - fraction). 16 or 32 bits."""
    bits = np.asarray(bits, I64) & ((1 << fraction + 9) - 1)
    field = bits >> fraction & 255
    mantissa = (bits & (1 << fraction) - 1) + np.where(field > 0, 1 << fraction, 0)
    return np.where(bits >> fraction + 8 == 1, -mantissa, mantissa), np.maximum(field, 1) - 127


def cut(mantissa, shift):
    """mantissa 2^shift, cut towards zero."""
    size = np.abs(mantissa)
    moved = np.where(shift >= 0, size << np.clip(shift, 0, 62), size >> np.clip(-shift, 0, 62))
    return np.sign(mantissa) * moved


CORES = [Core("ampere", 8, 24), Core("hopper", 16, 25)]


# ---- kernels/matmul_bf16.h ----

def summed(core, a, b, leaves):
    """[rows, columns] of a [rows, n] and b [columns, n]."""
    n = a.shape[1]
    sums = [core.chain(0, a[:, None, i * n // leaves:(i + 1) * n // leaves], b[None, :, i * n // leaves:(i + 1) * n // leaves])
            for i in range(leaves)]
    while len(sums) > 1:
        sums = [x + y for x, y in zip(sums[::2], sums[1::2])]
    return sums[0]


def forward(core, rows, n, k, leaves, spread):
    return [summed(core, halves(1, spread, rows, k), halves(2, spread, n, k), leaves)]


def backward_input(core, rows, n, k, leaves, spread):
    return [summed(core, halves(1, spread, rows, n), halves(2, spread, n, k).T, leaves)]


def backward_weight(core, rows, n, k, _, spread):
    """Two sequences, the first of a third of the rows."""
    dy, x = halves(1, spread, rows, n), halves(2, spread, rows, k)
    c = F32(0)
    for begin, end in ((0, rows // 3), (rows // 3, rows)):
        c = core.chain(c, dy[begin:end].T[:, None, :], x[begin:end].T[None, :, :])
    return [c]


# ---- kernels/attention.h ----

class State:
    def __init__(self, dim):
        self.m, self.total, self.out = F32(-np.inf), F32(0), np.zeros(dim, F32)
        self.lanes = np.zeros(BLOCK, F32)

    def add_tile(self, core, score, v):
        """score [keys], v [keys, dim] as bits."""
        if score.max() > self.m:
            if self.m > -np.inf:
                shrink = exp(self.m - score.max())
                self.lanes, self.out = self.lanes * shrink, self.out * shrink
            self.m = score.max()
        p = exp(score - self.m)
        for i in range(0, len(p), BLOCK):
            n = len(p[i:i + BLOCK])
            self.lanes[:n] = self.lanes[:n] + p[i:i + n]
        self.out = core.chain(self.out, half(p), v.T)

    def join(self, split):
        m = max(self.m, split.m)
        before, now = exp(self.m - m), exp(split.m - m)
        self.out = fma(self.out, before, split.out * now)
        self.total = fma(self.total, before, halved(split.lanes) * now)
        self.m = m


def attend(core, q, k, v, scale):
    """One row; k and v [keys, dim]. The output as bits, and its lse."""
    joined, state = State(len(q)), State(len(q))
    score = core.chain(0, q, k) * scale
    for begin in range(0, len(k), TILE):
        if begin > 0 and begin % SPLIT == 0:
            joined.join(state)
            state = State(len(q))
        state.add_tile(core, score[begin:begin + TILE], v[begin:begin + TILE])
    if len(k) > SPLIT:
        joined.join(state)
    else:
        joined.m, joined.total, joined.out = state.m, halved(state.lanes), state.out
    return half(joined.out * (F32(1) / joined.total)), joined.m + log(joined.total)


class Attention:
    """One sequence whose last `rows` of `keys` are attended."""
    def __init__(self, core, heads, kv_heads, dim, keys, rows):
        self.core, self.group, self.dim, self.rows = core, heads // kv_heads, dim, rows
        self.q, self.dout = (halves(seed, 9, keys, heads, dim, top=2)[keys - rows:] for seed in (3, 6))
        self.k, self.v = (halves(seed, 9, keys, kv_heads, dim, top=0) for seed in (4, 5))
        self.scale = F32(1) / np.sqrt(F32(dim))
        self.out, self.lse = np.zeros_like(self.q), np.zeros((rows, heads), F32)
        for head in range(heads):
            for row in range(rows):
                end = keys - rows + row + 1
                self.out[row, head], self.lse[row, head] = attend(
                    core, self.q[row, head], self.k[:end, head // self.group], self.v[:end, head // self.group], self.scale)

    def factors(self, head):
        """p and ds [rows, keys] as bits; of all rows."""
        of = head // self.group
        q, dout = self.q[:, head], self.dout[:, head]
        score = self.core.chain(0, q[:, None], self.k[None, :, of])
        slope = self.core.chain(0, dout[:, None], self.v[None, :, of])
        p = exp(score * self.scale - self.lse[:, head, None])
        lanes = np.zeros((self.rows, BLOCK), F32)
        for i in range(0, self.dim, BLOCK):
            n = min(BLOCK, self.dim - i)
            lanes[:, :n] = fma(value(dout[:, i:i + n]), value(self.out[:, head, i:i + n]), lanes[:, :n])
        ds = p * (slope - halved(lanes)[:, None]) * self.scale
        seen = np.tril(np.ones_like(p)) > 0
        return np.where(seen, half(p), 0), np.where(seen, half(ds), 0)

    def gradients(self):
        """dq, dk, dv as bits; every key is a row."""
        dq = np.zeros_like(self.q)
        sums_k, sums_v = np.zeros(self.k.shape, F32), np.zeros(self.v.shape, F32)
        for head in range(self.q.shape[1]):
            of = head // self.group
            p, ds = self.factors(head)
            for row in range(self.rows):
                end = min((row // BLOCK + 1) * BLOCK, self.rows)
                dq[row, head] = half(self.core.chain(0, ds[row, :end], self.k[:end, of].T))
            for key in range(self.rows):
                begin = key // BLOCK * BLOCK
                sums_k[key, of] = self.core.chain(sums_k[key, of], ds[begin:, key], self.q[begin:, head].T)
                sums_v[key, of] = self.core.chain(sums_v[key, of], p[begin:, key], self.dout[begin:, head].T)
        return dq, half(sums_k), half(sums_v)


# ---- the file ----

PRODUCTS = [(make, *shape) for make in (forward, backward_input, backward_weight)
            for shape in ((9, 13, 176, 1, 2), (5, 16, 72, 1, 12), (33, 24, 200, 1, 40), (130, 136, 96, 1, 12))]
PRODUCTS += [(make, *shape) for make in (forward, backward_input) for shape in ((7, 136, 136, 8, 2), (130, 128, 136, 8, 12))]
ATTENTION = [(4, 2, 24, 37, 37), (3, 1, 64, 147, 5), (2, 1, 128, 130, 130), (2, 1, 16, 1041, 2), (4, 2, 128, 140, 1)]


def hashed(array):
    """FNV-1a, 64 bits, over 16-bit words of bfloat16 bits and 32-bit words of floats."""
    words = array.view(np.uint32) if array.dtype == F32 else array
    h = 0xCBF29CE484222325
    for word in words.ravel().tolist():
        h = (h ^ word) * 0x100000001B3 % 2**64
    return f"0x{h:016x}"


def single_blocks():
    """Blocks by themselves, so that a tensor core of another kind shows at once: sums, and what both cores make of it."""
    for seed, spread in enumerate((2, 2, 12, 12, 40, 40, 60, 60), 10):
        a, b = halves(seed, spread, 8, BLOCK), halves(seed + 100, spread, 8, BLOCK)
        b[4:, 8:], a[4:, 8:] = b[4:, 7::-1] ^ 0x8000, a[4:, 7::-1]  # products that cancel
        c = value(halves(seed + 200, spread, 8))
        yield seed, spread, [core.block(c, a, b) for core in CORES]


def printed():
    yield "// Made by golden_bits.py. Do not edit."
    yield "// seed, spread of exponents, sums of eight blocks: Ampere's, Hopper's"
    yield "#ifdef GOLDEN_BLOCKS"
    for seed, spread, sums in single_blocks():
        columns = ["{{" + ", ".join(f"0x{word:08x}" for word in x.view(np.uint32).tolist()) + "}}" for x in sums]
        yield f"{{{seed}, {spread}, {{{', '.join(columns)}}}}},"
    yield "#endif"
    yield "// what, rows, n, k, chains, spread, hashes of the result"
    yield "#ifdef GOLDEN_PRODUCTS"
    for make, *shape in PRODUCTS:
        results = [hashed(make(core, *shape)[0]) for core in CORES]
        yield f"{{What::{make.__name__}, {', '.join(map(str, shape))}, {{{', '.join(results)}}}}},"
    yield "#endif"
    yield "// heads, KV heads, elements of one, keys, rows; of out, lse and, where all keys are rows, dq, dk, dv"
    yield "#ifdef GOLDEN_ATTENTION"
    for shape in ATTENTION:
        columns = []
        for core in CORES:
            a = Attention(core, *shape)
            arrays = [a.out, a.lse, *(a.gradients() if shape[3] == shape[4] else ())]
            columns.append("{" + ", ".join(map(hashed, arrays)) + "}")
        yield f"{{{', '.join(map(str, shape))}, {{{', '.join(columns)}}}}},"
    yield "#endif"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", type=pathlib.Path, metavar="FILE")
    arguments = parser.parse_args()
    text = "\n".join(printed()) + "\n"
    if arguments.check is None:
        print(text, end="")
    elif arguments.check.read_text(encoding="utf-8") != text:
        sys.exit(f"{arguments.check} is not what golden_bits.py prints")


if __name__ == "__main__":
    main()
