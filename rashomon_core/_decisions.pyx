"""Everything that runs on bit planes: pairwise counts, counts against a reference, unions, votes, cells.

Planes are (M, groups, P, 8) uint64 arrays, rows contiguous (see csrc/dispatch.h). Functions take ranges, release the
GIL and write what the caller allocated.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t

import numpy as np

from rashomon_core._cpu cimport RC_BATCH, RC_BLOCK, RC_FEW, RC_GROUP, RC_TALLY, least, leaves, rc_fold, rc_table

BLOCK = RC_BLOCK
#: Groups that models are walked through together.
TALLY = RC_TALLY
#: About so many votes, and words of counters, are held at a time: they stay near the processor.
cdef Py_ssize_t _VOTES = 1 << 13, _COUNTER_WORDS = 1 << 13


cdef int _check_rows(object planes) except -1:
    """Models may lie at any distance; each model's planes are contiguous."""
    if planes.size and not planes[0].flags.c_contiguous:
        raise ValueError("internal: the planes of a model are not contiguous")
    return 0


def pair_counts(left, right, out, symmetric: bool = False) -> None:
    """Add to ``out[i, j]`` the number of samples on which model i of ``left`` and model j of ``right`` differ.

    Parameters
    ----------
    left, right : (A, groups, P, 8), (B, groups, P, 8) uint64
        The models; inner three axes contiguous.
    out : (A, B) int64, rows contiguous
    symmetric : bool
        ``left`` and ``right`` are the same models and ``out`` is symmetric: half is compared, the rest mirrored.
    """
    cdef const rc_table *t = leaves()
    _check_rows(left)
    _check_rows(right)
    cdef const uint64_t[:, :, :, :] a = left, b = right
    cdef int64_t[:, ::1] o = out
    cdef Py_ssize_t A = a.shape[0], B = b.shape[0], G = a.shape[1], P = a.shape[2]
    cdef Py_ssize_t i, j, g, m, j0, j1, first, rows = A
    # groups of a chunk: 8 KB of a row with one plane, 4 KB with more, so that four rows stay in the first-level cache
    # while the chunks of 64 others stream from the second
    cdef Py_ssize_t chunk = 128 if P == 1 else 64 // P if P < 64 else 1
    cdef bint half = symmetric
    if A == 0 or B == 0 or G == 0:
        return
    cdef Py_ssize_t left_row = a.strides[0] // 8, right_row = b.strides[0] // 8, ldo = B
    with nogil:
        g = 0
        while g < G:
            m = least(chunk, G - g)
            for j0 in range(0, B, 64):
                j1 = least(j0 + 64, B)
                if half:
                    rows = j1
                for i in range(0, rows, 4):
                    first = i if half and i > j0 else j0
                    for j in range(first, j1, 4):
                        t.pair_counts(&a[i, g, 0, 0], left_row, least(4, A - i), &b[j, g, 0, 0], right_row,
                                      least(4, B - j), m, P, &o[i, j], ldo)
            g += m
        if half:
            for i in range(A):
                for j in range(i):
                    o[i, j] = o[j, i]


def versus(planes, reference, out, mask=None, union=None) -> None:
    """Add to ``out[k]`` the samples on which model k differs from the reference, within ``mask``.

    Parameters
    ----------
    planes : (M, G, P, 8) uint64;  reference : (G, P, 8) uint64;  out : (M,) int64
    mask : (G, 8) uint64, optional;  union : (G, 8) uint64, optional, ORed with every difference
    """
    cdef const rc_table *t = leaves()
    _check_rows(planes)
    cdef const uint64_t[:, :, :, :] a = planes
    cdef const uint64_t[:, :, ::1] r = reference
    cdef const uint64_t[:, ::1] m
    cdef uint64_t[:, ::1] u
    cdef const uint64_t *mp = NULL
    cdef uint64_t *up = NULL
    cdef int64_t[::1] o = out
    cdef Py_ssize_t k, M = a.shape[0], G = a.shape[1], P = a.shape[2]
    if M == 0 or G == 0:
        return
    if mask is not None:
        m = mask
        mp = &m[0, 0]
    if union is not None:
        u = union
        up = &u[0, 0]
    with nogil:
        for k in range(M):
            o[k] += t.versus(&a[k, 0, 0, 0], &r[0, 0, 0], G, P, mp, up)


def pair_weighted(left, right, weights, out, symmetric: bool = False) -> None:
    """Add to ``out[i, j]`` the weight of the samples on which models i and j differ; ``symmetric`` as above.

    Sums run over fixed blocks of 4,096 samples, eight lanes and one tree each, and block totals are added in order.
    ``weights`` is (G * 512,) float64 with zeros behind the last sample; planes may come in pieces of whole blocks.
    """
    cdef const rc_table *t = leaves()
    _check_rows(left)
    _check_rows(right)
    cdef const uint64_t[:, :, :, :] a = left, b = right
    cdef const double[::1] w = weights
    cdef double[:, ::1] o = out
    cdef Py_ssize_t i, j, g, m, l, A = a.shape[0], B = b.shape[0], G = a.shape[1], P = a.shape[2]
    cdef double lanes[8]
    cdef double total
    cdef bint half = symmetric
    with nogil:
        for i in range(A):
            for j in range(B):
                if half and j < i:
                    o[i, j] = o[j, i]
                    continue
                total = o[i, j]
                g = 0
                while g < G:
                    m = least(RC_BLOCK // RC_GROUP, G - g)
                    for l in range(8):
                        lanes[l] = 0
                    t.versus_weighted(&a[i, g, 0, 0], &b[j, g, 0, 0], m, P, NULL, &w[g * RC_GROUP], lanes)
                    total += rc_fold(lanes)
                    g += m
                o[i, j] = total


def first_differing(planes, order, reference, ranks) -> None:
    """Write to ``ranks[i]`` the place in ``order`` of the first model that differs from the reference on sample i.

    Parameters
    ----------
    planes : (M, G, P, 8) uint64;  order : (m,) int64 indices of models;  reference : (G, P, 8) uint64
    ranks : (G * 512,) int32
        Samples on which no model differs get m.
    """
    cdef const rc_table *t = leaves()
    _check_rows(planes)
    cdef const uint64_t[:, :, :, :] a = planes
    cdef const int64_t[::1] o = order
    cdef const uint64_t[:, :, ::1] r = reference
    cdef int32_t[::1] to = ranks
    cdef Py_ssize_t g, n, i, k, M = o.shape[0], G = a.shape[1], P = a.shape[2]
    cdef uint64_t[:, ::1] seen = np.zeros((RC_TALLY, 8), dtype=np.uint64)
    with nogil:
        for i in range(G * RC_GROUP):
            to[i] = <int32_t>M
        g = 0
        while g < G and M:
            n = least(RC_TALLY, G - g)
            seen[:, :] = 0
            for k in range(M):
                t.first_differing(&a[o[k], g, 0, 0], &r[g, 0, 0], n, P, &seen[0, 0], <int32_t>k, &to[g * RC_GROUP])
            g += n


def tally(planes, order, n_classes: int, out) -> None:
    """Add to ``out[k]`` the samples on which model ``order[k]`` agrees with each of those before it, all summed.

    Parameters
    ----------
    planes : (M, G, P, 8) uint64;  order : (m,) int64;  out : (m,) int64
        Bits behind the last sample count as class 0: every model agrees there.
    """
    cdef const rc_table *t = leaves()
    _check_rows(planes)
    cdef const uint64_t[:, :, :, :] a = planes
    cdef const int64_t[::1] o = order
    cdef int64_t[::1] to = out
    cdef Py_ssize_t g, n, k, K, i, M = o.shape[0], G = a.shape[1], P = a.shape[2], C = n_classes, bits = 1, used
    cdef const uint64_t *own[RC_BATCH]
    cdef const uint64_t *following[RC_BATCH]
    cdef bint few = C <= RC_FEW
    while M >> bits:
        bits += 1
    # counters of few classes, or votes of many, stay in the caches
    cdef Py_ssize_t step = least(RC_TALLY, 1 + (_COUNTER_WORDS // (8 * C * bits) if few else _VOTES // (RC_GROUP * C)))
    counts = np.zeros((step * C * bits if few else bits * RC_TALLY) * 8 + 8, dtype=np.uint64)
    cdef uint64_t[::1] counters = counts[-counts.ctypes.data // 8 % 8 :]  # whole lines of the cache
    cdef int32_t[::1] votes = np.zeros(1 if few else step * RC_GROUP * C, dtype=np.int32)
    with nogil:
        g = 0
        while g < G:
            n = least(step, G - g)
            counters[:] = 0
            votes[:] = 0
            used = 0
            k = 0
            while few and k < M:
                K = least(RC_BATCH, M - k)
                for i in range(K):
                    own[i] = &a[o[k + i], g, 0, 0]
                    following[i] = &a[o[least(k + K + i, M - 1)], g, 0, 0]
                t.tally_few(own, following if k + K < M else NULL, K, k, n, P, C, bits, &counters[0], &to[k])
                k += K
            for k in range(0 if few else M):
                while (k + 1) >> used:
                    used += 1
                to[k] += t.tally_many(&a[o[k], g, 0, 0], &a[o[0], g, 0, 0], n, P, C, bits, used, &counters[0], &votes[0])
            g += n


def tally_weights(planes, order, n_classes: int, weights, out) -> None:
    """Add to ``out[k]`` the weight of the samples on which model ``order[k]`` differs from those before it, all summed.

    One sample at a time, for any number of classes; sums as in :func:`pair_weighted`. ``weights`` is (G * 512,)
    float64 with zeros behind the last sample; ``out`` is (blocks, m) float64, one row for each 4,096 samples.
    """
    cdef const rc_table *t = leaves()
    _check_rows(planes)
    cdef const uint64_t[:, :, :, :] a = planes
    cdef const int64_t[::1] o = order
    cdef const double[::1] w = weights
    cdef double[:, ::1] to = out
    cdef Py_ssize_t g, k, i, b, M = o.shape[0], G = a.shape[1], P = a.shape[2], C = n_classes
    cdef Py_ssize_t per = RC_BLOCK // RC_GROUP
    cdef uint16_t[::1] own = np.empty(RC_GROUP, dtype=np.uint16)
    cdef int32_t[:, ::1] votes = np.zeros((RC_GROUP, C), dtype=np.int32)
    cdef double[:, ::1] lanes = np.zeros((M, 8))
    with nogil:
        for g in range(G):
            votes[:, :] = 0
            for k in range(M):
                t.decode(&a[o[k], g, 0, 0], 1, P, &own[0])
                for i in range(RC_GROUP):
                    lanes[k, i & 7] += w[g * RC_GROUP + i] * <double>(k - votes[i, own[i]])
                    votes[i, own[i]] += 1
            if (g + 1) % per == 0 or g + 1 == G:
                b = g // per
                for k in range(M):
                    to[b, k] += rc_fold(&lanes[k, 0])
                    for i in range(8):
                        lanes[k, i] = 0


def cell_counts(planes, masks, n_classes: int, out) -> None:
    """Add to ``out[k, cell, c]`` the samples of a cell that model k decides as c.

    Parameters
    ----------
    planes : (M, G, P, 8) uint64;  masks : (cells, G, 8) uint64;  out : (M, cells, C) int64
    """
    cdef const rc_table *t = leaves()
    _check_rows(planes)
    cdef const uint64_t[:, :, :, :] a = planes
    cdef const uint64_t[:, :, ::1] x = masks
    cdef int64_t[:, :, ::1] o = out
    cdef Py_ssize_t k, M = a.shape[0], G = a.shape[1], P = a.shape[2], cells = x.shape[0], C = n_classes
    if M == 0 or G == 0 or cells == 0:
        return
    with nogil:
        for k in range(M):
            t.cell_counts(&a[k, 0, 0, 0], G, P, &x[0, 0, 0], cells, C, &o[k, 0, 0])


def cell_histogram(decisions, codes, out) -> None:
    """Add the same counts one sample at a time, for many cells.

    ``decisions`` is (M, N) uint8 or uint16, rows contiguous; ``codes`` (N,) int32 the cell of each sample.
    """
    cdef Py_ssize_t M = decisions.shape[0], N = decisions.shape[1], k, i
    cdef const int32_t[::1] code = codes
    cdef int64_t[:, :, ::1] o = out
    cdef const uint8_t[:, ::1] d8
    cdef const uint16_t[:, ::1] d16
    if decisions.dtype == np.uint8:
        d8 = decisions
        with nogil:
            for k in range(M):
                for i in range(N):
                    o[k, code[i], d8[k, i]] += 1
    else:
        d16 = decisions
        with nogil:
            for k in range(M):
                for i in range(N):
                    o[k, code[i], d16[k, i]] += 1


def cell_weights(decisions, codes, weights, out) -> None:
    """Add to ``out[k, cell, c]`` the weight of the samples of a cell that model k decides as c.

    Samples are added in order inside blocks of 4,096, and block totals in order.
    ``decisions`` is (M, N) uint8 or uint16; ``codes`` (N,) int32; ``weights`` (N,) float64.
    """
    cdef Py_ssize_t M = decisions.shape[0], N = decisions.shape[1], k, i, c, g, stop, cells = out.shape[1], C = out.shape[2]
    wide = decisions.astype(np.uint16, copy=False)
    cdef const uint16_t[:, ::1] d = wide
    cdef const int32_t[::1] code = codes
    cdef const double[::1] w = weights
    cdef double[:, :, ::1] o = out
    cdef double[:, ::1] part = np.zeros((cells, C))
    with nogil:
        for k in range(M):
            i = 0
            while i < N:
                stop = least(i + RC_BLOCK, N)
                part[:, :] = 0
                while i < stop:
                    part[code[i], d[k, i]] += w[i]
                    i += 1
                for g in range(cells):
                    for c in range(C):
                        o[k, g, c] += part[g, c]


def popcount_peak(n: int) -> int:
    """XOR and count n x 512 (base: n x 512, avx2: n x 512) bits in registers: the anchor of the benches."""
    cdef const rc_table *t = leaves()
    cdef Py_ssize_t rounds = n
    cdef uint64_t answer
    with nogil:
        answer = t.popcount_peak(rounds)
    return answer
