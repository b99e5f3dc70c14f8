"""Sums over samples that no pass makes, and what is summed: entropies of rows, flags of scores that moved.

Sums run over blocks of 4,096 samples, in the order that the pass has too, so they are the same bits everywhere.
Arguments are checked arrays; every function releases the GIL.
"""

from libc.stdint cimport uint8_t

import numpy as np

from rashomon_core._cpu cimport RC_BLOCK, least, leaves, rc_fold, rc_table

BLOCK = RC_BLOCK


def block_totals(values, weights=None):
    """Return the (weighted) totals of float64 values over blocks of 4,096 samples; add them in order.

    ``values``: (N,) or (N, D), best the transpose of contiguous (D, N); one total per block and column. A weight of 0
    adds nothing.
    """
    cdef const rc_table *t = leaves()
    cdef Py_ssize_t n = values.shape[0], b, j, l, w, D
    flat = values.reshape(n, -1)
    D = flat.shape[1]
    blocks = (n + RC_BLOCK - 1) // RC_BLOCK  # C division: it truncates
    out = np.zeros((blocks, D))
    cdef double[:, ::1] o = out
    cdef const double[:, ::1] x = np.ascontiguousarray(flat.T)
    cdef const double[::1] wt
    cdef const double *wp
    cdef double lanes[8]
    if weights is not None:
        wt = weights
    cdef bint weighted = weights is not None
    with nogil:
        for j in range(D):
            for b in range((n + RC_BLOCK - 1) // RC_BLOCK):
                w = least(RC_BLOCK, n - b * RC_BLOCK)
                for l in range(8):
                    lanes[l] = 0
                wp = &wt[b * RC_BLOCK] if weighted else NULL
                t.sum_lanes(&x[j, b * RC_BLOCK], wp, w, lanes)
                o[b, j] = rc_fold(lanes)
    return out.reshape(blocks, *values.shape[1:])


def products(rows, weights, out) -> None:
    """Write to ``out[b, j, r]`` the sum over the samples of block b (4,096) of ``rows[j, i] * weights[r, i]``.

    Parameters
    ----------
    rows : (D, n) float64, rows contiguous, finite;  weights : (R, n) uint8 or float64;  out : (blocks, D, R) float64
        Every sum runs over the samples in order, so that it is the same bits whatever else is computed with it.
    """
    cdef const rc_table *t = leaves()
    cdef const double[:, ::1] x = rows
    cdef double[:, :, ::1] o = out
    cdef Py_ssize_t D = x.shape[0], n = x.shape[1], R = weights.shape[0], b, i, j, l, r, s, w, blocks = o.shape[0]
    cdef const uint8_t[:, ::1] counts
    cdef const double[:, ::1] floats
    cdef bint whole = weights.dtype == np.uint8
    cdef double[:, ::1] panel = np.zeros((RC_BLOCK, 8))
    cdef double[:, ::1] part = np.zeros((4, 8))
    if whole:
        counts = weights
    else:
        floats = weights
    with nogil:
        for b in range(blocks):
            s = b * RC_BLOCK
            w = least(RC_BLOCK, n - s)
            for r in range(0, R, 8):
                for l in range(8):  # columns behind the last one repeat it
                    j = least(r + l, R - 1)
                    if whole:
                        for i in range(w):
                            panel[i, l] = <double>counts[j, s + i]
                    else:
                        for i in range(w):
                            panel[i, l] = floats[j, s + i]
                for j in range(0, D, 4):
                    t.products(&x[j, s], n, least(4, D - j), &panel[0, 0], w, &part[0, 0], 8)
                    for i in range(least(4, D - j)):
                        for l in range(least(8, R - r)):
                            o[b, j + i, r + l] = part[i, l]


def row_entropies(rows):
    """Return sum_c t log t in nats for each row of an (N, C) float64 array, 0 log 0 = 0, from the library's log."""
    cdef const rc_table *t = leaves()
    cdef const double[:, ::1] x = rows
    cdef Py_ssize_t n = x.shape[0], C = x.shape[1], i, c
    logs, out = np.empty((n, C)), np.empty(n)
    cdef double[:, ::1] lg = logs
    cdef double[::1] o = out
    cdef double total
    if n == 0:
        return out
    with nogil:
        t.log_array(&x[0, 0], n * C, &lg[0, 0])
        for i in range(n):
            total = 0
            for c in range(C):
                if x[i, c] != 0:
                    total += x[i, c] * lg[i, c]
            o[i] = total
    return out


def count_at_least(scores, reference, double delta):
    """Return the (M, N) uint8 flags of |s - r| >= delta.

    ``scores`` (M, N) and ``reference`` (N,) are float64, contiguous.
    """
    cdef const double[:, ::1] s = scores
    cdef const double[::1] r = reference
    cdef Py_ssize_t M = s.shape[0], N = s.shape[1], k, i
    hits = np.zeros((M, N), dtype=np.uint8)
    cdef uint8_t[:, ::1] h = hits
    cdef double d
    with nogil:
        for k in range(M):
            for i in range(N):
                d = s[k, i] - r[i]
                h[k, i] = (d if d >= 0 else -d) >= delta
    return hits
