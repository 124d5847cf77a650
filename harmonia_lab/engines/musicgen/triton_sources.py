"""The Triton kernels of one decode step, each of which reads its weights once.

Owns what runs on the GPU. `triton_kernels.py` launches the kernels, and `plain_kernels.py` has the same functions in
torch operations, which explain the shapes.

A step of few rows takes as long as the weights take to be read. From compute capability 9.0 on, the kernels are
launched by programmatic dependent launch: a kernel starts while the one before it runs, loads its weights into
registers, and waits for that kernel before it reads an activation or writes anything. Every kernel waits, so that when
a wait returns, all earlier kernels are done as well.

All tiles of weights and activations in a matrix kernel have one shape, [HEIGHT, CHUNK], and so one layout: a thread
holds 16 bytes of each, and nothing moves through shared memory but sums. Rows of activations are taken in pairs, whose
sums are joined. Products are multiplied and summed in float32, not on tensor cores, which would leave most of a tile
empty at so few rows and would round float32 to tf32.
"""

# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "attend_kernel",
    "embed_kernel",
    "guided_logits_kernel",
    "norm_project_cache_kernel",
    "norm_project_kernel",
    "project_attended_kernel",
    "project_kernel",
    "sample_kernel",
]


@triton.jit
def _load_tiles(weight, K: tl.constexpr, HEIGHT: tl.constexpr, CHUNK: tl.constexpr, TILES: tl.constexpr):
    """weight: pointer to the program's first row. Returns K // CHUNK · TILES tiles, those of a chunk together."""
    at = weight + tl.arange(0, HEIGHT)[:, None] * K + tl.arange(0, CHUNK)[None, :]
    tiles = ()
    for c in tl.static_range(K // CHUNK):
        for t in tl.static_range(TILES):
            tiles = tiles + (tl.load(at + t * HEIGHT * K + c * CHUNK),)
    return tiles


@triton.jit
def _load_row(row, K: tl.constexpr, HEIGHT: tl.constexpr, CHUNK: tl.constexpr):
    """row: pointer to K values. Returns K // CHUNK tiles [HEIGHT, CHUNK] whose rows are alike."""
    at = row + tl.zeros([HEIGHT, CHUNK], tl.int32) + tl.arange(0, CHUNK)[None, :]
    parts = ()
    for c in tl.static_range(K // CHUNK):
        parts = parts + (tl.load(at + c * CHUNK),)
    return parts


@triton.jit
def _sum_pair(a, b):
    """a, b: [HEIGHT, CHUNK]. Returns their sums along the rows, [HEIGHT] each, from one reduction."""
    return tl.split(tl.sum(tl.join(a, b), 1))


@triton.jit
def _normalise_pair(a, b, gains, biases, eps, K: tl.constexpr, CHUNK: tl.constexpr, dtype: tl.constexpr):
    """a, b: two rows in parts, float32. Returns the layer norm of each, rounded to `dtype`, in parts."""
    sum_a = a[0].to(tl.float32)
    sum_b = b[0].to(tl.float32)
    for c in tl.static_range(1, K // CHUNK):
        sum_a += a[c].to(tl.float32)
        sum_b += b[c].to(tl.float32)
    mean_a, mean_b = _sum_pair(sum_a, sum_b)
    mean_a = (mean_a / K)[:, None]
    mean_b = (mean_b / K)[:, None]
    squares_a = tl.zeros_like(sum_a)
    squares_b = tl.zeros_like(sum_b)
    for c in tl.static_range(K // CHUNK):
        from_a = a[c].to(tl.float32) - mean_a
        from_b = b[c].to(tl.float32) - mean_b
        squares_a += from_a * from_a
        squares_b += from_b * from_b
    scale_a, scale_b = _sum_pair(squares_a, squares_b)
    scale_a = tl.math.rsqrt(scale_a / K + eps)[:, None]
    scale_b = tl.math.rsqrt(scale_b / K + eps)[:, None]
    normal_a = ()
    normal_b = ()
    for c in tl.static_range(K // CHUNK):
        gain = gains[c].to(tl.float32)
        bias = biases[c].to(tl.float32)
        normal_a = normal_a + (((a[c].to(tl.float32) - mean_a) * scale_a * gain + bias).to(dtype),)
        normal_b = normal_b + (((b[c].to(tl.float32) - mean_b) * scale_b * gain + bias).to(dtype),)
    return normal_a, normal_b


@triton.jit
def _dot_pair(tiles, t: tl.constexpr, a, b, K: tl.constexpr, CHUNK: tl.constexpr, TILES: tl.constexpr):
    """Returns the products of tile t's rows with the rows a and b, [HEIGHT, 2], rounded to the model's type."""
    weight = tiles[t].to(tl.float32)
    sum_a = weight * a[0].to(tl.float32)
    sum_b = weight * b[0].to(tl.float32)
    for c in tl.static_range(1, K // CHUNK):
        weight = tiles[c * TILES + t].to(tl.float32)
        sum_a += weight * a[c].to(tl.float32)
        sum_b += weight * b[c].to(tl.float32)
    return tl.sum(tl.join(sum_a, sum_b), 1).to(tiles[t].dtype)


@triton.jit
def _gelu(y):
    x = y.to(tl.float32)
    return (0.5 * x * (1.0 + tl.math.erf(x * 0.7071067811865476))).to(y.dtype)


@triton.jit
def _pair(r, first, R: tl.constexpr, N: tl.constexpr, HEIGHT: tl.constexpr):
    """Returns where the columns from `first` on of the rows r and r + 1 of [R, N] are, and which exist: [HEIGHT, 2]."""
    rows = r + tl.arange(0, 2)[None, :]
    columns = first + tl.arange(0, HEIGHT)[:, None]
    return rows * N + columns, (rows < R) & (columns < N)


@triton.jit
def _add(x, product, exists):
    """x: pointers into the float32 residual stream."""
    tl.store(x, tl.load(x, mask=exists, other=0) + product.to(tl.float32), mask=exists)


@triton.jit
def embed_kernel(
    sequence, step, embeddings, offsets, table, lead, x,
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
    position = tl.load(table + (before + tl.load(lead)) * DIM + columns, mask=inside, other=0)
    tl.store(x + row * DIM + columns, total + position, mask=inside)


@triton.jit
def norm_project_kernel(
    x, gain, bias, eps, weight, out,
    R: tl.constexpr, N: tl.constexpr, K: tl.constexpr, GELU: tl.constexpr,
    HEIGHT: tl.constexpr, CHUNK: tl.constexpr, TILES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
    first = tl.program_id(0) * (HEIGHT * TILES)
    tiles = _load_tiles(weight + first * K, K, HEIGHT, CHUNK, TILES)
    gains = _load_row(gain, K, HEIGHT, CHUNK)
    biases = _load_row(bias, K, HEIGHT, CHUNK)
    if PDL:
        tl.extra.cuda.gdc_wait()
    for r in range(0, R, 2):
        a = _load_row(x + r * K, K, HEIGHT, CHUNK)
        b = _load_row(x + tl.minimum(r + 1, R - 1) * K, K, HEIGHT, CHUNK)
        a, b = _normalise_pair(a, b, gains, biases, eps, K, CHUNK, weight.dtype.element_ty)
        for t in tl.static_range(TILES):
            product = _dot_pair(tiles, t, a, b, K, CHUNK, TILES)
            if GELU:
                product = _gelu(product)
            at, exists = _pair(r, first + t * HEIGHT, R, N, HEIGHT)
            tl.store(out + at, product, mask=exists)


@triton.jit(do_not_specialize=["positions"])
def norm_project_cache_kernel(
    x, gain, bias, eps, weight, query, keys_values, step, positions, lead,
    R: tl.constexpr, K: tl.constexpr, D: tl.constexpr,
    HEIGHT: tl.constexpr, CHUNK: tl.constexpr, TILES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
    first = tl.program_id(0) * (HEIGHT * TILES)
    tiles = _load_tiles(weight + first * K, K, HEIGHT, CHUNK, TILES)
    gains = _load_row(gain, K, HEIGHT, CHUNK)
    biases = _load_row(bias, K, HEIGHT, CHUNK)
    if PDL:
        tl.extra.cuda.gdc_wait()
    at = tl.load(step) - 1 + tl.load(lead)  # int64, as what it is multiplied by: a cache may have more than 2^31 values
    for r in range(0, R, 2):
        a = _load_row(x + r * K, K, HEIGHT, CHUNK)
        b = _load_row(x + tl.minimum(r + 1, R - 1) * K, K, HEIGHT, CHUNK)
        a, b = _normalise_pair(a, b, gains, biases, eps, K, CHUNK, weight.dtype.element_ty)
        for t in tl.static_range(TILES):
            product = _dot_pair(tiles, t, a, b, K, CHUNK, TILES)
            start = first + t * HEIGHT  # D is a multiple of HEIGHT, so these columns are of one head
            if start < K:
                places, exists = _pair(r, start, R, K, HEIGHT)
                tl.store(query + places, product, mask=exists)
            else:
                # [2, H] is the order of the weights' rows: keys of all heads, then values of all heads.
                head = ((start - K) // D).to(tl.int64)
                places, exists = _pair(r, start % D, R, D, HEIGHT)
                row = places // D
                tl.store(
                    keys_values + row * (positions.to(tl.int64) * (2 * K)) + (head * positions + at) * D + places % D,
                    product,
                    mask=exists,
                )


@triton.jit(do_not_specialize=["positions"])
def attend_kernel(
    query, keys_values, length, offset, out, top, total, positions, scale,
    H: tl.constexpr, D: tl.constexpr, SPLITS: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    pair = tl.program_id(0)  # r · H + h
    split = tl.program_id(1)
    seen = (tl.load(length) + tl.load(offset)).to(tl.int32)
    share = tl.cdiv(seen, SPLITS)
    stop = tl.minimum(split * share + share, seen)
    columns = tl.arange(0, D)
    stride = positions.to(tl.int64) * D
    keys = keys_values + ((pair // H) * 2 * H + pair % H) * stride
    values = keys + H * stride
    q = tl.load(query + pair * D + columns).to(tl.float32) * scale
    largest = -float("inf")
    weights = 0.0
    attended = tl.zeros([D], tl.float32)
    start = split * share
    while start < stop:
        at = start + tl.arange(0, BLOCK)
        inside = at < stop
        places = at[:, None] * D + columns[None, :]
        key = tl.load(keys + places, mask=inside[:, None], other=0)
        value = tl.load(values + places, mask=inside[:, None], other=0)
        scores = tl.where(inside, tl.sum(key.to(tl.float32) * q[None, :], 1), -float("inf"))
        larger = tl.maximum(largest, tl.max(scores, 0))
        kept = tl.exp(largest - larger)
        likely = tl.exp(scores - larger)
        weights = weights * kept + tl.sum(likely, 0)
        attended = attended * kept + tl.sum(likely[:, None] * value.to(tl.float32), 0)
        largest = larger
        start += BLOCK
    place = pair * SPLITS + split
    tl.store(out + place * D + columns, attended)
    tl.store(top + place, largest)
    tl.store(total + place, weights)


@triton.jit
def _attended_row(
    out, top, total, K: tl.constexpr, D: tl.constexpr, SPLITS: tl.constexpr, SPAN: tl.constexpr, CHUNK: tl.constexpr,
    dtype: tl.constexpr,
):  # fmt: skip
    """The pointers are to one row's splits, SPAN is the power of two that holds them. Returns K // CHUNK parts."""
    splits = tl.arange(0, SPAN)[None, :]
    parts = ()
    for c in tl.static_range(K // CHUNK):
        heads = c * (CHUNK // D) + tl.arange(0, CHUNK // D)[:, None]
        at = heads * SPLITS + splits
        exists = (splits < SPLITS) & (heads >= 0)  # [heads, SPAN]
        tops = tl.load(top + at, mask=exists, other=-float("inf"))
        totals = tl.load(total + at, mask=exists, other=0)
        columns = tl.arange(0, D)[None, None, :]
        outs = tl.load(out + at[:, :, None] * D + columns, mask=exists[:, :, None], other=0)
        scales = tl.exp(tops - tl.max(tops, 1)[:, None])
        scales = scales / tl.sum(scales * totals, 1)[:, None]
        attended = tl.sum(scales[:, :, None] * outs, 1).to(dtype)  # [heads, D]
        parts = parts + (tl.reshape(attended, [CHUNK])[None, :],)
    return parts


@triton.jit
def project_attended_kernel(
    out, top, total, weight, x,
    R: tl.constexpr, K: tl.constexpr, D: tl.constexpr, SPLITS: tl.constexpr, SPAN: tl.constexpr,
    HEIGHT: tl.constexpr, CHUNK: tl.constexpr, TILES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
    first = tl.program_id(0) * (HEIGHT * TILES)
    tiles = _load_tiles(weight + first * K, K, HEIGHT, CHUNK, TILES)
    if PDL:
        tl.extra.cuda.gdc_wait()
    parts: tl.constexpr = K // D * SPLITS  # of one row
    dtype: tl.constexpr = weight.dtype.element_ty
    for r in range(0, R, 2):
        a = _attended_row(out + r * parts * D, top + r * parts, total + r * parts, K, D, SPLITS, SPAN, CHUNK, dtype)
        n = tl.minimum(r + 1, R - 1) * parts
        b = _attended_row(out + n * D, top + n, total + n, K, D, SPLITS, SPAN, CHUNK, dtype)
        for t in tl.static_range(TILES):
            product = _dot_pair(tiles, t, a, b, K, CHUNK, TILES)
            at, exists = _pair(r, first + t * HEIGHT, R, K, HEIGHT)
            _add(x + at, product, exists)


@triton.jit
def project_kernel(
    hidden, weight, x,
    R: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
    HEIGHT: tl.constexpr, CHUNK: tl.constexpr, TILES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
    first = tl.program_id(0) * (HEIGHT * TILES)
    tiles = _load_tiles(weight + first * K, K, HEIGHT, CHUNK, TILES)
    if PDL:
        tl.extra.cuda.gdc_wait()
    for r in range(0, R, 2):
        a = _load_row(hidden + r * K, K, HEIGHT, CHUNK)
        b = _load_row(hidden + tl.minimum(r + 1, R - 1) * K, K, HEIGHT, CHUNK)
        for t in tl.static_range(TILES):
            product = _dot_pair(tiles, t, a, b, K, CHUNK, TILES)
            at, exists = _pair(r, first + t * HEIGHT, R, N, HEIGHT)
            _add(x + at, product, exists)


@triton.jit
def guided_logits_kernel(
    x, gain, bias, eps, weight, coef, logits,
    B: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
    HEIGHT: tl.constexpr, CHUNK: tl.constexpr, TILES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
    first = tl.program_id(0) * (HEIGHT * TILES)
    tiles = _load_tiles(weight + first * K, K, HEIGHT, CHUNK, TILES)
    gains = _load_row(gain, K, HEIGHT, CHUNK)
    biases = _load_row(bias, K, HEIGHT, CHUNK)
    if PDL:
        tl.extra.cuda.gdc_wait()
    for b in tl.static_range(B):
        text = _load_row(x + b * K, K, HEIGHT, CHUNK)
        null = _load_row(x + (B + b) * K, K, HEIGHT, CHUNK)
        text, null = _normalise_pair(text, null, gains, biases, eps, K, CHUNK, tl.float32)
        guided = ()
        for c in tl.static_range(K // CHUNK):
            guided = guided + ((null[c] + (text[c] - null[c]) * coef).to(weight.dtype.element_ty),)
        for t in tl.static_range(TILES):
            product = tiles[t].to(tl.float32) * guided[0].to(tl.float32)
            for c in tl.static_range(1, K // CHUNK):
                product += tiles[c * TILES + t].to(tl.float32) * guided[c].to(tl.float32)
            rounded = tl.sum(product, 1).to(tiles[t].dtype)
            at = logits + b * N + first + t * HEIGHT + tl.arange(0, HEIGHT)
            tl.store(at, rounded.to(tl.float32))


@triton.jit
def _top_k_bits(bits, top_k, CARD: tl.constexpr):
    """bits: int32 of probabilities. Returns a bound that as many of them reach as reach the k-th largest.

    Floats from 0 on are ordered as their bits are, so the bound is found by bisection.
    """
    low = 0  # CARD probabilities reach it, at least top_k
    high = 0x3F800001  # above the bits of 1.0: none reaches it
    reaching = CARD
    while (high - low > 1) & (reaching != top_k):
        middle = (low + high) // 2
        count = tl.sum((bits >= middle).to(tl.int32), 0)
        if count >= top_k:
            low = middle
            reaching = count
        else:
            high = middle
    return low


@triton.jit(do_not_specialize=["top_k", "rows"])
def sample_kernel(
    logits, noise, known, sequence, step, temp, top_k, rows,
    CARD: tl.constexpr, BLOCK: tl.constexpr, GREEDY: tl.constexpr, CUT: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    row = tl.program_id(0)  # b · K + k; there are B · K
    columns = tl.arange(0, BLOCK)
    inside = columns < CARD
    scores = tl.load(logits + row * CARD + columns, mask=inside, other=-float("inf"))
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
