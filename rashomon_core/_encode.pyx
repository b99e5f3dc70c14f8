"""Scores to probabilities and decisions, decisions to bit planes, and the checks of values, one scan each.

Arguments are checked arrays (predictions.py): C-contiguous rows, native byte order. Every function releases the
GIL. Bit planes and narrowed labels are written to arrays of the caller.
"""

from libc.stdint cimport uint8_t, uint16_t, uint64_t

import numpy as np

from rashomon_core._cpu cimport (
    RC_CHECK_FINITE, RC_CHECK_LOG, RC_CHECK_NONE, RC_CHECK_NONNEGATIVE, RC_CHECK_PROBA, RC_CUT_ABOVE, RC_CUT_FROM,
    RC_CUT_NONE, RC_GROUP, RC_I8, RC_I16, RC_I32, RC_I64, RC_LOG_PROBA, RC_LOGITS, RC_PROBA, RC_U8, RC_U16, RC_U32,
    RC_U64, leaves, rc_rule, rc_table,
)

GROUP = RC_GROUP
KIND_CODES = {"proba": RC_PROBA, "log_proba": RC_LOG_PROBA, "logits": RC_LOGITS}
_TYPES = {
    "b": RC_I8, "B": RC_U8, "?": RC_U8, "h": RC_I16, "H": RC_U16, "i": RC_I32, "I": RC_U32,
    "l": RC_I64 if np.dtype("l").itemsize == 8 else RC_I32, "L": RC_U64 if np.dtype("L").itemsize == 8 else RC_U32,
    "q": RC_I64, "Q": RC_U64,
}


def plane_count(n_classes: int) -> int:
    """Bit planes that decisions among ``n_classes`` classes need: bits of ``n_classes - 1``, at least 1."""
    return max(1, (int(n_classes) - 1).bit_length())


def group_count(n_samples: int) -> int:
    """Groups of 512 samples."""
    return -(-int(n_samples) // RC_GROUP)


def type_code(dtype) -> int:
    """Code of an integer or boolean dtype for the narrowing kernel."""
    return _TYPES[np.dtype(dtype).char]


ctypedef fused real:
    float
    double


cdef Py_ssize_t bad_row(
    const rc_table *t, const real[:, :, :] rows, const rc_rule *rule, int kind, bint renormalize, double *out
) noexcept nogil:
    """Return the first bad row of (m, n, C); ``out``: room for n rows where logs are looked at as probabilities too."""
    cdef Py_ssize_t m = rows.shape[0], n = rows.shape[1], C = rows.shape[2], k, bad, later = -1
    for k in range(m):
        if real is float:
            bad = t.decide_f32(&rows[k, 0, 0], n, C, rule, NULL, NULL)
        else:
            bad = t.decide_f64(&rows[k, 0, 0], n, C, rule, NULL, NULL)
        if out != NULL:
            if real is float:
                later = t.transform_f32(
                    &rows[k, 0, 0], bad if bad >= 0 else n, C, kind, renormalize, rule.tolerance, out
                )
            else:
                later = t.transform_f64(
                    &rows[k, 0, 0], bad if bad >= 0 else n, C, kind, renormalize, rule.tolerance, out
                )
        bad = later if later >= 0 else bad
        if bad >= 0:
            return k * n + bad
    return -1


def first_bad_row(rows, kind: str, tolerance: float, renormalize: bool) -> int:
    """Return the first of n rows (n, C) of floats that is not what ``kind`` says, or -1.

    ``rows`` may be (m, n, C), each model's contiguous; model k, row i is then number ``k * n + i``.
    """
    cdef const rc_table *t = leaves()
    cdef int code = KIND_CODES[kind]
    cdef bint again = renormalize
    cdef Py_ssize_t bad
    cdef rc_rule rule
    cdef const float[:, :, :] f32
    cdef const double[:, :, :] f64
    cdef double[:, ::1] probabilities
    cdef double *out = NULL
    if rows.dtype == np.float16:
        rows = rows.astype(np.float32)
    rows = rows[None] if rows.ndim == 2 else rows
    assert rows[0].flags.c_contiguous
    C = rows.shape[2]
    rule.cut = RC_CUT_ABOVE if C == 1 else RC_CUT_NONE
    rule.threshold = 0.5
    rule.tolerance = tolerance
    rule.check = row_check(code, again)
    if code == RC_LOG_PROBA and C > 1:
        probabilities = np.empty(rows.shape[1:])
        out = &probabilities[0, 0]
    if rows.dtype == np.float32:
        f32 = rows
        with nogil:
            bad = bad_row(t, f32, &rule, code, again, out)
    else:
        f64 = rows
        with nogil:
            bad = bad_row(t, f64, &rule, code, again, out)
    return bad


cdef int row_check(int kind, bint renormalize) noexcept nogil:
    if kind == RC_PROBA:
        return RC_CHECK_NONNEGATIVE if renormalize else RC_CHECK_PROBA
    return RC_CHECK_LOG if kind == RC_LOG_PROBA else RC_CHECK_FINITE


def probabilities(block, kind: str, renormalize: bool):
    """Return a checked block (M, N, C) or (M, N) of any kind as float64 probabilities (M, N, columns)."""
    cdef const rc_table *t = leaves()
    cdef Py_ssize_t M = block.shape[0], N = block.shape[1], C = 1 if block.ndim == 2 else block.shape[2], k
    cdef int code = KIND_CODES[kind], again = renormalize
    x = np.ascontiguousarray(block, dtype=np.float64).reshape(M, N, C)
    if code == RC_PROBA and not again:
        return x
    out = np.empty((M, N, C))
    cdef const double[:, :, ::1] s = x
    cdef double[:, :, ::1] o = out
    with nogil:
        for k in range(M):
            t.transform_f64(&s[k, 0, 0], N, C, code, again, 1.0, &o[k, 0, 0])
    return out


def encode(decisions, planes) -> None:
    """Write the bit planes of decisions.

    Parameters
    ----------
    decisions : (M, N) uint8 or uint16, rows contiguous
    planes : (M, groups, P, 8) uint64, contiguous
        Overwritten; bit s of word w of plane p in group g is bit p of the decision of sample 512 g + 64 w + s.
    """
    cdef const rc_table *t = leaves()
    cdef uint64_t[:, :, :, ::1] out = planes
    cdef Py_ssize_t M = out.shape[0], P = out.shape[2], N = decisions.shape[1], k
    cdef const uint8_t[:, ::1] d8
    cdef const uint16_t[:, ::1] d16
    if N == 0 or M == 0:
        return
    if decisions.dtype == np.uint8:
        d8 = decisions
        with nogil:
            for k in range(M):
                t.encode_u8(&d8[k, 0], N, P, &out[k, 0, 0, 0])
    else:
        d16 = decisions
        with nogil:
            for k in range(M):
                t.encode_u16(&d16[k, 0], N, P, &out[k, 0, 0, 0])


def narrow(labels, n_classes: int, out) -> int:
    """Copy labels (n,) of any integer type into uint8 or uint16; return the first outside 0..C-1, or -1."""
    cdef const rc_table *t = leaves()
    cdef Py_ssize_t n = labels.shape[0], bad
    cdef int type = type_code(labels.dtype)
    cdef uint64_t limit = n_classes
    cdef const uint8_t[::1] raw = labels.view(np.uint8)
    cdef uint8_t[::1] o8
    cdef uint16_t[::1] o16
    if n == 0:
        return -1
    if out.dtype == np.uint8:
        o8 = out
        with nogil:
            bad = t.narrow(&raw[0], type, n, limit, &o8[0], NULL)
    else:
        o16 = out
        with nogil:
            bad = t.narrow(&raw[0], type, n, limit, NULL, &o16[0])
    return bad


def log_exp(x):
    """Return (log x, exp x) of a float64 vector from the library's own functions: for tests of their accuracy."""
    cdef const rc_table *t = leaves()
    cdef const double[::1] v = x
    cdef Py_ssize_t n = v.shape[0]
    logs, exps = np.empty(n), np.empty(n)
    cdef double[::1] a = logs, b = exps
    if n:
        with nogil:
            t.log_array(&v[0], n, &a[0])
            t.exp_array(&v[0], n, &b[0])
    return logs, exps
