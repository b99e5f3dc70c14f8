"""Channel capacity per sample with bounds that hold: the solver of csrc/capacity.h over blocks of samples."""

from libc.stdint cimport int32_t, uint8_t

import numpy as np

from rashomon_core._cpu cimport RC_BLAHUT_ARIMOTO, RC_NEWTON, leaves, rc_capacity, rc_capacity_rule, rc_table

#: What one sample brings back; `status` counts in STATUS.
RESULT = np.dtype([("lower", "f8"), ("upper", "f8"), ("scans", "i4"), ("steps", "i4"), ("status", "i4"), ("reserved", "i4")])
STATUS = ("certified", "iteration_limit", "precision_limit")
METHODS = ("auto", "newton", "blahut_arimoto")


def work_bytes(Py_ssize_t n_models, Py_ssize_t n_classes, Py_ssize_t n_samples) -> int:
    """Return the bytes of scratch that :func:`solve` needs for blocks of ``n_samples``."""
    return leaves().capacity_work(n_models, n_classes, n_samples)


def solve(rows, out, work, *, double tol, str method, Py_ssize_t max_scans, Py_ssize_t max_rounds, weights=None,
          double rows_off=-1.0) -> int:
    """Solve every sample of a block of probabilities; return -1.

    With ``rows_off`` values are checked on the way, sums of rows to be off 1 by no more than that: it stops at the first
    sample that is not plainly in order (NaN, negative, a sum near the limit) and returns it. Without, they must have been.

    Parameters
    ----------
    rows : (M, n, C) float32 or float64; each model's samples contiguous, any distance between models
    out : (n,) of RESULT, contiguous
    work : uint8 scratch of at least :func:`work_bytes`
    max_scans, max_rounds : limits of the active-set method and of Blahut-Arimoto (0: not used)
    weights : (M,) float64, optional: the input distribution that reaches the lower bound of the last sample
    """
    cdef Py_ssize_t M = rows.shape[0], n = rows.shape[1], C = rows.shape[2]
    cdef Py_ssize_t refused
    cdef size_t at = rows.ctypes.data, scratch = work.ctypes.data, results = out.ctypes.data, p = 0
    cdef Py_ssize_t stride = rows.strides[0] // rows.itemsize
    cdef int wide = rows.dtype == np.float64
    cdef rc_capacity_rule rule
    cdef const rc_table *t = leaves()
    if work.nbytes < t.capacity_work(M, C, n) or out.shape[0] < n or out.dtype != RESULT:
        raise ValueError("internal: scratch or results of the wrong size")
    if weights is not None:
        p = weights.ctypes.data
    rule.tol, rule.max_scans, rule.max_rounds = tol, max_scans, max_rounds
    rule.rows_off = rows_off
    rule.method = RC_BLAHUT_ARIMOTO if method == "blahut_arimoto" else RC_NEWTON
    with nogil:
        refused = t.capacity(<const void *>at, wide, stride, M, n, C, &rule, <char *>scratch, <rc_capacity *>results,
                             <double *>p)
    return refused


def ranges(low, high, gaps, double[::1] lower, double[::1] upper):
    """Write the bounds of two-class samples from their ranges, and return the samples that ranges do not settle.

    low, high : (n, columns) float32 or float64, contiguous; gaps : (n, 2) as in ``TilePass``, or None for one column.
    A sample is not settled when the extremes of its two classes are in different rows.
    """
    cdef const rc_table *t = leaves()
    cdef Py_ssize_t n = low.shape[0], columns = low.shape[1]
    cdef size_t a = low.ctypes.data, b = high.ctypes.data, g = 0
    cdef bint single = low.dtype == np.float32
    apart = np.zeros(n, dtype=np.uint8)
    cdef uint8_t[::1] flags = apart
    if (low.dtype != high.dtype or not (low.flags.c_contiguous and high.flags.c_contiguous) or lower.shape[0] < n
            or (columns == 2 and gaps.dtype != (np.int32 if single else np.float64))):
        raise ValueError("internal: ranges of another kind")
    if gaps is not None:
        g = gaps.ctypes.data
    if n == 0:
        return apart.nonzero()[0]
    with nogil:
        if single:
            t.capacity_ranges_f32(<const float *>a, <const float *>b, <const int32_t *>g, columns, n, &lower[0], &upper[0], &flags[0])
        else:
            t.capacity_ranges_f64(<const double *>a, <const double *>b, <const double *>g, columns, n, &lower[0], &upper[0], &flags[0])
    return apart.nonzero()[0]


def pairs(const double[::1] a0, const double[::1] a1, const double[::1] b0, const double[::1] b1,
          double[::1] lower, double[::1] upper, double[::1] weight):
    """Write the bounds of two-class samples from the masses of both classes in their rows with the least (a) and the
    most (b) of class 1, and the weight of the former."""
    cdef const rc_table *t = leaves()
    cdef Py_ssize_t n = a0.shape[0]
    if n:
        with nogil:
            t.capacity_pairs(&a0[0], &a1[0], &b0[0], &b1[0], n, &lower[0], &upper[0], &weight[0])
