"""The Triton kernels of one decode step, each of which reads its weights once.

Owns the code that runs on the GPU. `triton_kernels.py` launches the kernels. `torch_kernels.py` has the same functions
in torch operations, and its docstrings explain the shapes. `lead` is its `prefix_length`.

A step of one prompt and its null prompt takes as long as reading the weights does, so the kernels are built around
that. A program takes tiles of rows of a matrix, one after the other, and loads the next tile before it multiplies the
current one. From compute capability 9.0 on, the kernels are launched by programmatic dependent launch: a kernel starts
while the one before it runs, loads its first tile (or the keys and values of earlier positions), and waits for the end
of that kernel before it reads an activation or writes anything. Every kernel waits, so when a wait returns, all earlier
kernels are done as well.

Products are multiplied and summed in float32, not on tensor cores, which would leave most of a tile empty at two rows
and would round float32 to tf32. The matrix kernels take R = 1 or 2 rows of activations, the others any number.
"""

# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "attend_kernel",
    "embed_kernel",
    "guided_logits_kernel",
    "keep_kernel",
    "norm_kernel",
    "norm_project_cache_kernel",
    "norm_project_kernel",
    "project_kernel",
    "sample_kernel",
]


@triton.jit
def _tile(weight, tile, tiles, K: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    """Return rows tile · ROWS … of the weights, [ROWS, WIDTH], with zeros beyond K and beyond the last tile."""
    rows = tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, WIDTH)[None, :]
    # int64: a matrix may have more than 2^31 bytes.
    at = weight + tile.to(tl.int64) * (ROWS * K) + rows * K + columns
    return tl.load(at, mask=(columns < K) & (tile < tiles), other=0)


@triton.jit
def _row(values, K: tl.constexpr, WIDTH: tl.constexpr):
    columns = tl.arange(0, WIDTH)
    return tl.load(values + columns, mask=columns < K, other=0)


@triton.jit
def _norm_pair(x, other, gain, bias, eps, K: tl.constexpr, WIDTH: tl.constexpr):
    """x, other: pointers to two rows of K float32 values. Return the layer norm of each, float32 [WIDTH].

    One reduction gives the sums and the sums of squares, since all warps wait at each reduction.
    """
    a = _row(x, K, WIDTH)
    b = _row(other, K, WIDTH)
    moments = tl.sum(tl.join(tl.join(a, b), tl.join(a * a, b * b)), 0)  # [row, moment]
    sums, squares = tl.split(moments)
    mean_a, mean_b = tl.split(sums / K)
    square_a, square_b = tl.split(squares / K)
    scale_a = tl.math.rsqrt(tl.maximum(square_a - mean_a * mean_a, 0) + eps)
    scale_b = tl.math.rsqrt(tl.maximum(square_b - mean_b * mean_b, 0) + eps)
    # Beyond K, gain and bias are 0.
    return (a - mean_a) * scale_a * gain + bias, (b - mean_b) * scale_b * gain + bias


@triton.jit
def _dot_pair(weight, a, b):
    """weight: [ROWS, WIDTH]. a, b: [WIDTH]. Return float32 [ROWS, 2], by one reduction."""
    weight = weight.to(tl.float32)
    return tl.sum(tl.join(weight * a.to(tl.float32)[None, :], weight * b.to(tl.float32)[None, :]), 1)


@triton.jit
def _gelu(y):
    x = y.to(tl.float32)
    return (0.5 * x * (1.0 + tl.math.erf(x * 0.7071067811865476))).to(y.dtype)


@triton.jit
def embed_kernel(
    sequence, step, embeddings, offsets, table, lead, begins, x,
    B: tl.constexpr, K: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    row = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < DIM
    before = tl.load(step) - 1
    total = tl.zeros([BLOCK], tl.float32)
    for k in tl.static_range(K):
        token = tl.load(sequence + (before * B + row % B) * K + k) + tl.load(offsets + k)
        total += tl.load(embeddings + token * DIM + columns, mask=inside, other=0)
    at = before + tl.load(lead) - tl.load(begins + row)
    position = tl.load(table + at * DIM + columns, mask=inside, other=0)
    tl.store(x + row * DIM + columns, total + position, mask=inside)


@triton.jit(do_not_specialize=["tiles", "programs"])
def norm_project_kernel(
    x, gain, bias, eps, weight, out, tiles, programs,
    R: tl.constexpr, N: tl.constexpr, K: tl.constexpr, GELU: tl.constexpr,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
    tile = tl.program_id(0)
    now = _tile(weight, tile, tiles, K, WIDTH, ROWS)
    gains = _row(gain, K, WIDTH)
    biases = _row(bias, K, WIDTH)
    if PDL:
        tl.extra.cuda.gdc_wait()
    dtype: tl.constexpr = weight.dtype.element_ty
    a, b = _norm_pair(x, x + (R - 1) * K, gains, biases, eps, K, WIDTH)
    a = a.to(dtype)
    b = b.to(dtype)
    row = tl.arange(0, 2)[None, :]
    columns = tl.arange(0, ROWS)[:, None]
    while tile < tiles:
        ahead = _tile(weight, tile + programs, tiles, K, WIDTH, ROWS)
        product = _dot_pair(now, a, b).to(dtype)
        if GELU:
            product = _gelu(product)
        tl.store(out + row * N + tile * ROWS + columns, product, mask=row < R)
        now = ahead
        tile += programs


@triton.jit(do_not_specialize=["positions", "tiles", "programs"])
def norm_project_cache_kernel(
    x, gain, bias, eps, weight, query, keys_values, step, lead, positions, tiles, programs,
    R: tl.constexpr, K: tl.constexpr, D: tl.constexpr,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
    tile = tl.program_id(0)
    now = _tile(weight, tile, tiles, K, WIDTH, ROWS)
    gains = _row(gain, K, WIDTH)
    biases = _row(bias, K, WIDTH)
    if PDL:
        tl.extra.cuda.gdc_wait()
    at = tl.load(step) - 1 + tl.load(lead)  # int64, since a cache may have over 2^31 values
    dtype: tl.constexpr = weight.dtype.element_ty
    a, b = _norm_pair(x, x + (R - 1) * K, gains, biases, eps, K, WIDTH)
    a = a.to(dtype)
    b = b.to(dtype)
    row = tl.arange(0, 2)[None, :]
    columns = tl.arange(0, ROWS)[:, None]
    while tile < tiles:
        ahead = _tile(weight, tile + programs, tiles, K, WIDTH, ROWS)
        product = _dot_pair(now, a, b).to(dtype)
        start = tile * ROWS  # D is a multiple of ROWS, so these outputs are of one head
        if start < K:
            tl.store(query + row * K + start + columns, product, mask=row < R)
        else:
            # [2, H] is the order of the weights' rows: keys of all heads, then values of all heads.
            head = ((start - K) // D).to(tl.int64)
            place = row.to(tl.int64) * (positions.to(tl.int64) * (2 * K)) + (head * positions + at) * D
            tl.store(keys_values + place + start % D + columns, product, mask=row < R)
        now = ahead
        tile += programs


@triton.jit(do_not_specialize=["positions"])
def attend_kernel(
    query, keys_values, begins, length, offset, attended, out, top, total, arrivals, positions, scale,
    H: tl.constexpr, D: tl.constexpr, SPLITS: tl.constexpr, SPAN: tl.constexpr, BLOCK: tl.constexpr,
    GROWS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """GROWS: the kernel before this one writes the last position. All others were written earlier."""
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
    pair = tl.program_id(0)  # r · H + h
    split = tl.program_id(1)
    begin = tl.load(begins + pair // H).to(tl.int32)
    seen = (tl.load(length) + tl.load(offset)).to(tl.int32)
    share = tl.cdiv(tl.cdiv(seen - begin, BLOCK), SPLITS) * BLOCK
    used = tl.cdiv(seen - begin, share)  # splits with a position
    start = begin + split * share
    stop = tl.minimum(start + share, seen)
    columns = tl.arange(0, D)[None, :]
    stride = positions.to(tl.int64) * D
    keys = keys_values + ((pair // H) * 2 * H + pair % H) * stride
    values = keys + H * stride
    at = start + tl.arange(0, BLOCK)
    there = at < stop
    if GROWS:
        there = there & (at < seen - 1)
    key = tl.load(keys + at[:, None] * D + columns, mask=there[:, None], other=0)
    value = tl.load(values + at[:, None] * D + columns, mask=there[:, None], other=0)
    if PDL:
        tl.extra.cuda.gdc_wait()
    if start < stop:
        q = tl.load(query + pair * D + columns).to(tl.float32) * scale
        if GROWS:
            newest = (seen - 1) * D + columns  # [1, D]
            key = tl.where((at == seen - 1)[:, None], tl.load(keys + newest), key)
            value = tl.where((at == seen - 1)[:, None], tl.load(values + newest), value)
        largest = -float("inf")
        weights = 0.0
        sums = tl.zeros([D], tl.float32)
        while start < stop:
            inside = at < stop
            scores = tl.where(inside, tl.sum(key.to(tl.float32) * q, 1), -float("inf"))
            larger = tl.maximum(largest, tl.max(scores, 0))
            kept = tl.exp(largest - larger)
            likely = tl.exp(scores - larger)
            weights = weights * kept + tl.sum(likely, 0)
            sums = sums * kept + tl.sum(likely[:, None] * value.to(tl.float32), 0)
            largest = larger
            start += BLOCK
            at += BLOCK
            inside = at < stop
            key = tl.load(keys + at[:, None] * D + columns, mask=inside[:, None], other=0)
            value = tl.load(values + at[:, None] * D + columns, mask=inside[:, None], other=0)
        row = tl.arange(0, D)
        dtype: tl.constexpr = attended.dtype.element_ty
        if SPLITS == 1 or used == 1:
            tl.store(attended + pair * D + row, (sums / weights).to(dtype))
        else:
            place = pair * SPLITS + split
            tl.store(out + place * D + row, sums)
            tl.store(top + place, largest)
            tl.store(total + place, weights)
            tl.debug_barrier()  # all threads' stores must come before the one thread's arrival
            arrived = tl.atomic_add(arrivals + pair, 1, sem="acq_rel", scope="gpu")
            if arrived == used - 1:  # the last program to arrive combines the splits, in their order
                splits = tl.arange(0, SPAN)
                mine = pair * SPLITS + splits
                tops = tl.load(top + mine, mask=splits < used, other=-float("inf"), cache_modifier=".cg")
                totals = tl.load(total + mine, mask=splits < used, other=0, cache_modifier=".cg")
                outs = tl.load(
                    out + mine[:, None] * D + columns, mask=(splits < used)[:, None], other=0, cache_modifier=".cg"
                )
                scales = tl.exp(tops - tl.max(tops, 0))
                joined = tl.sum(scales[:, None] * outs, 0) / tl.sum(scales * totals, 0)
                tl.store(attended + pair * D + row, joined.to(dtype))
                tl.store(arrivals + pair, 0)


@triton.jit(do_not_specialize=["tiles", "programs"])
def project_kernel(
    hidden, weight, x, tiles, programs,
    R: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Multiply a tile in K / WIDTH chunks. Loaded ahead: the next chunk, or the first chunk of the next tile."""
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
    CHUNKS: tl.constexpr = (K + WIDTH - 1) // WIDTH
    CHUNK: tl.constexpr = K // CHUNKS
    tile = tl.program_id(0)
    rows = tl.arange(0, ROWS)[:, None]
    columns = tl.arange(0, WIDTH)[None, :]
    inside = columns < CHUNK
    base = weight + rows * K + columns
    now = tl.load(base + tile.to(tl.int64) * (ROWS * K), mask=inside & (tile < tiles), other=0)
    if PDL:
        tl.extra.cuda.gdc_wait()
    dtype: tl.constexpr = weight.dtype.element_ty
    row = tl.arange(0, 2)[None, :]
    sums = tl.zeros([ROWS, 2], tl.float32)
    if CHUNKS > 1:
        a = _row(hidden, CHUNK, WIDTH)
        b = _row(hidden + (R - 1) * K, CHUNK, WIDTH)
    chunk = 0
    while tile < tiles:
        last = chunk == CHUNKS - 1
        next_chunk = tl.where(last, 0, chunk + 1)
        next_tile = tl.where(last, tile + programs, tile)
        place = next_tile.to(tl.int64) * (ROWS * K) + next_chunk * CHUNK
        ahead = tl.load(base + place, mask=inside & (next_tile < tiles), other=0)
        if CHUNKS > 1:
            next_a = _row(hidden + next_chunk * CHUNK, CHUNK, WIDTH)
            next_b = _row(hidden + (R - 1) * K + next_chunk * CHUNK, CHUNK, WIDTH)
        else:  # loaded in the loop: this costs fewer registers than before it
            a = _row(hidden, CHUNK, WIDTH)
            b = _row(hidden + (R - 1) * K, CHUNK, WIDTH)
        sums += _dot_pair(now, a, b)
        if last:
            places = x + row * N + tile * ROWS + rows
            before = tl.load(places, mask=row < R, other=0)
            tl.store(places, before + sums.to(dtype).to(tl.float32), mask=row < R)
            sums = tl.zeros([ROWS, 2], tl.float32)
        now = ahead
        if CHUNKS > 1:
            a = next_a
            b = next_b
        tile = next_tile
        chunk = next_chunk


@triton.jit
def norm_kernel(
    x, gain, bias, eps, out,
    K: tl.constexpr, WIDTH: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """One program for each row."""
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
    row = tl.program_id(0)
    columns = tl.arange(0, WIDTH)
    inside = columns < K
    gains = _row(gain, K, WIDTH)
    biases = _row(bias, K, WIDTH)
    if PDL:
        tl.extra.cuda.gdc_wait()
    values = _row(x + row * K, K, WIDTH)
    mean = tl.sum(values, 0) / K
    values = tl.where(inside, values - mean, 0)
    scale = tl.math.rsqrt(tl.sum(values * values, 0) / K + eps)
    tl.store(out + row * K + columns, (values * scale * gains + biases).to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["positions"])
def keep_kernel(
    projected, query, keys_values, step, lead, positions,
    K: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Copy projected [R, 3 K]: queries to `query`, keys and values to their position in `keys_values`."""
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    row = tl.program_id(0)
    start = tl.program_id(1) * BLOCK
    columns = start + tl.arange(0, BLOCK)
    values = tl.load(projected + row * (3 * K) + columns)
    if start < K:
        tl.store(query + row * K + columns, values)
    else:
        at = tl.load(step) - 1 + tl.load(lead)
        head = ((columns - K) // D).to(tl.int64)
        place = row.to(tl.int64) * (positions.to(tl.int64) * (2 * K)) + (head * positions + at) * D + columns % D
        tl.store(keys_values + place, values)


@triton.jit(do_not_specialize=["tiles", "programs"])
def guided_logits_kernel(
    x, gain, bias, eps, weight, coef, logits, tiles, programs,
    K: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
    tile = tl.program_id(0)
    now = _tile(weight, tile, tiles, K, WIDTH, ROWS)
    gains = _row(gain, K, WIDTH)
    biases = _row(bias, K, WIDTH)
    if PDL:
        tl.extra.cuda.gdc_wait()
    dtype: tl.constexpr = weight.dtype.element_ty
    text, null = _norm_pair(x, x + K, gains, biases, eps, K, WIDTH)
    guided = (null + (text - null) * coef).to(dtype).to(tl.float32)[None, :]
    rows = tl.arange(0, ROWS)
    while tile < tiles:
        ahead = _tile(weight, tile + programs, tiles, K, WIDTH, ROWS)
        product = tl.sum(now.to(tl.float32) * guided, 1).to(dtype)
        tl.store(logits + tile * ROWS + rows, product.to(tl.float32))
        now = ahead
        tile += programs


@triton.jit
def _top_k_bits(bits, top_k, CARD: tl.constexpr):
    """bits: int32 of probabilities. Returns a bound that as many of them reach as reach the k-th largest.

    Floats from 0 on are ordered as their bits are. Each round counts how many reach three bounds, in one sum of three
    fields of 20 bits, and goes on in one of the four parts between them.
    """
    low = 0  # CARD probabilities reach it, at least top_k
    high = 0x3F800004  # above the bits of 1.0: none reaches it
    reaching = CARD
    while (high - low > 1) & (reaching != top_k):
        part = tl.maximum((high - low) // 4, 1)
        fields = (bits >= low + part).to(tl.int64)
        fields += (bits >= low + 2 * part).to(tl.int64) << 20
        fields += (bits >= low + 3 * part).to(tl.int64) << 40
        counts = tl.sum(fields, 0)
        first = (counts & 0xFFFFF).to(tl.int32)
        second = ((counts >> 20) & 0xFFFFF).to(tl.int32)
        third = (counts >> 40).to(tl.int32)
        if third >= top_k:
            low += 3 * part
            reaching = third
        elif second >= top_k:
            high = low + 3 * part
            low += 2 * part
            reaching = second
        elif first >= top_k:
            high = low + 2 * part
            low += part
            reaching = first
        else:
            high = low + part
    return low


@triton.jit(do_not_specialize=["top_k", "rows"])
def sample_kernel(
    logits, noise, known, sequence, step, total, temp, top_k, rows,
    CARD: tl.constexpr, BLOCK: tl.constexpr, GREEDY: tl.constexpr, CUT: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    row = tl.program_id(0)  # b · K + k; there are B · K
    columns = tl.arange(0, BLOCK)
    inside = columns < CARD
    scores = tl.load(logits + row * CARD + columns, mask=inside, other=-float("inf"))
    tl.atomic_add(total, tl.sum(tl.where(inside, scores, 0.0), 0))  # NaN and infinity stay in it
    if not GREEDY:
        scores = tl.math.div_rn(scores, tl.zeros_like(scores) + temp)
        scores = tl.exp(scores - tl.max(scores, 0))
        scores = tl.math.div_rn(scores, tl.zeros_like(scores) + tl.sum(scores, 0))
        if CUT:
            bits = scores.to(tl.int32, bitcast=True)
            scores = tl.where(bits >= _top_k_bits(bits, top_k, CARD), scores, 0.0)
            scores = tl.math.div_rn(scores, tl.zeros_like(scores) + tl.sum(scores, 0))
        scores = tl.math.div_rn(scores, tl.load(noise + row * CARD + columns, mask=inside, other=1.0))
        scores = tl.where(inside, scores, -1.0)
    chosen = tl.argmax(scores, 0).to(tl.int64)
    place = tl.load(step) * rows + row
    fixed = tl.load(known + place)
    tl.store(sequence + place, tl.where(fixed < 0, chosen, fixed))
