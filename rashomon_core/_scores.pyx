"""One streaming pass over scores: every score is read from memory once and updates everything that was asked for.

A :class:`TilePass` is one visit of a tile of samples. It is fed blocks of models (all of them at once for arrays,
a few at a time for files), in order, and keeps what it adds up in arrays that the caller gave. The pass goes
through the tile in strips that stay in the second-level cache: decide and check the strip for a few models, turn
decisions into bit planes, compare these with the references, count votes, fold the scores into the accumulators.
Inside a strip the work goes piece by piece: deciding a piece needs its scores at once, folding it leaves the memory
idle, so the next piece is prefetched there. (Measured: without it the pass reaches 50 % of the read bandwidth.)
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t
from libc.string cimport memcpy

import numpy as np

from rashomon_core._cpu cimport (
    RC_BLOCK, RC_CHECK_FINITE, RC_CHECK_LOG, RC_CHECK_NONE, RC_CHECK_NONNEGATIVE, RC_CHECK_PROBA, RC_CUT_ABOVE,
    RC_CUT_FROM, RC_CUT_NONE, RC_GROUP, RC_LOG_PROBA, RC_LOGITS, RC_PROBA, RC_U8, least, leaves, rc_bounds, rc_cell32,
    rc_cell64, rc_fold, rc_rule, rc_table,
)

from rashomon_core._encode import KIND_CODES, group_count, plane_count, type_code

LOSSES = ("log_loss", "total_variation", "cross_entropy")
#: Scores of one model in a strip: the accumulators of a strip (24 bytes a score) stay in the second-level cache.
STRIP_SCORES = 8192
#: Scores of one model in a piece: decided, then folded while they are in the first cache levels.
PIECE_SCORES = 768
#: Models whose pieces are folded together, their accumulators in registers.
STRIP_MODELS = 8
#: The same where rows lie whole pages apart: their pieces, and the accumulators, compete for the twelve ways of a set.
PAGED_MODELS = 6
#: Up to this many classes votes are counted by comparing vectors, beyond it one by one.
VOTE_CLASSES = 64


cdef void *_data(object array) except? NULL:
    """Address of a C-contiguous array, which the caller keeps alive."""
    if not array.flags.c_contiguous:
        raise ValueError("internal: a kernel was given an array that is not contiguous")
    cdef size_t address = array.ctypes.data
    return <void *>address


cdef class TilePass:
    """Everything that one visit of ``n_samples`` samples adds up. See metrics/scores.py for the callers.

    Parameters (arrays are C-contiguous; every one but the first group may be None: not asked for)
    ----------
    n_samples, columns, n_classes, n_models : int
        Samples of the tile; scores per sample (1: P(class 1); 0: labels); classes; models of the whole pass.
    kind : "proba" | "log_proba" | "logits" | "labels";  renormalize, tolerance, threshold: as in Predictions, decide
    single : bool
        Scores are folded as float32 (proba in float16 or float32), else as float64.
    lo, hi, shift : (S, columns) float32 or float64;  s1, s2 : (S, columns) float64
        Smallest and largest score, score of the first model, sums of (s - shift) and of its square.
    variance : (S, columns) float64
        Score variance with ``ddof``, written after the last model; when all models come in one block, shift, s1
        and s2 are not needed.
    gaps : (S, 2) int32 (of the bits, when single) or float64
        Two classes: the largest s_0 - s_1 and s_1 - s_0; the smallest number before the first model.
    votes : (C, S) int32 for C <= VOTE_CLASSES, else (S, C)
    planes : (M, G, P, 8) uint64, any model stride: the decisions
    decisions : (M, S) uint8 or uint16: the decisions as numbers
    references : (R, G, P, 8) uint64;  masks : (R, G, 8) uint64 or None
    mismatches : (R, M) int64;  unions : (R, G, 8) uint64
    weights : (G * 512,) float64, zeros behind the last sample;  mismatch_lanes : (R, M, 8);  mismatch_totals : (R, M, B)
    y : (S,) int32;  target : (S, max(2, columns)) float64
    loss_lanes : (3, M, 8) float64;  loss_totals : (3, M, B) float64;  losses : which of LOSSES
    """

    cdef readonly Py_ssize_t n_samples, columns, n_classes, n_models
    cdef int kind, renormalize, single, wide
    cdef rc_rule rule
    cdef rc_bounds bounds  # of the rule, for bits
    cdef object keep
    cdef void *lo
    cdef void *hi
    cdef void *shift
    cdef double *s1
    cdef double *s2
    cdef double *variance
    cdef void *gaps
    cdef double ddof
    cdef int32_t *votes
    cdef uint64_t *planes
    cdef Py_ssize_t plane_stride
    cdef uint8_t *d8
    cdef uint16_t *d16
    cdef const uint64_t *refs
    cdef const uint64_t *masks
    cdef Py_ssize_t n_refs, groups, P, n_blocks
    cdef int64_t *mismatches
    cdef uint64_t *unions
    cdef const double *weights
    cdef double *mismatch_lanes
    cdef double *mismatch_totals
    cdef const int32_t *y
    cdef const double *target
    cdef double *loss_lanes
    cdef double *loss_totals
    cdef int use_log_loss, use_tv, use_ce
    cdef int decide_needed
    cdef bint bits  # binary float scores are decided straight into words, not into bytes

    def __init__(self, *, n_samples, columns, n_classes, n_models, kind="proba", renormalize=False, tolerance=1e-6,
                 threshold=None, single=True, lo=None, hi=None, shift=None, s1=None, s2=None, variance=None, ddof=0, gaps=None, votes=None, planes=None,
                 decisions=None, references=None, masks=None, mismatches=None, unions=None, weights=None,
                 mismatch_lanes=None, mismatch_totals=None, y=None, target=None, loss_lanes=None, loss_totals=None,
                 losses=()):
        self.n_samples, self.columns, self.n_classes, self.n_models = n_samples, columns, n_classes, n_models
        self.kind = -1 if kind == "labels" else KIND_CODES[kind]
        self.renormalize, self.single, self.wide = renormalize, single, n_classes > 256
        self.groups, self.P, self.n_blocks = group_count(n_samples), plane_count(n_classes), (n_samples + RC_BLOCK - 1) // RC_BLOCK
        self.rule.tolerance = tolerance
        self.rule.cut, self.rule.threshold = RC_CUT_NONE, 0.5
        if columns == 1:
            self.rule.cut = RC_CUT_ABOVE
            if kind == "logits" and threshold is None:
                self.rule.threshold = 0.0
        if threshold is not None:
            self.rule.cut, self.rule.threshold = RC_CUT_FROM, threshold
        self.keep = (lo, hi, shift, s1, s2, variance, gaps, votes, planes, decisions, references, masks, mismatches, unions, weights,
                     mismatch_lanes, mismatch_totals, y, target, loss_lanes, loss_totals)
        self.lo = NULL if lo is None else _data(lo)
        self.hi = NULL if hi is None else _data(hi)
        self.shift = NULL if shift is None else _data(shift)
        self.s1 = NULL if s1 is None else <double *>_data(s1)
        self.s2 = NULL if s2 is None else <double *>_data(s2)
        self.variance = NULL if variance is None else <double *>_data(variance)
        self.gaps = NULL if gaps is None else _data(gaps)
        self.ddof = ddof
        if lo is not None and variance is None and s1 is None:
            raise ValueError("internal: ranges need s1, s2 and shift, or variance")
        self.votes = NULL if votes is None else <int32_t *>_data(votes)
        self.plane_stride = self.groups * self.P * 8
        cdef size_t address
        self.planes = NULL
        if planes is not None:
            address = planes.ctypes.data
            self.planes = <uint64_t *>address
            self.plane_stride = planes.strides[0] // 8
        self.d8, self.d16 = NULL, NULL
        if decisions is not None:
            if self.wide:
                self.d16 = <uint16_t *>_data(decisions)
            else:
                self.d8 = <uint8_t *>_data(decisions)
        self.n_refs = 0 if references is None else references.shape[0]
        self.refs = NULL if references is None else <const uint64_t *>_data(references)
        self.masks = NULL if masks is None else <const uint64_t *>_data(masks)
        self.mismatches = NULL if mismatches is None else <int64_t *>_data(mismatches)
        self.unions = NULL if unions is None else <uint64_t *>_data(unions)
        self.weights = NULL if weights is None else <const double *>_data(weights)
        self.mismatch_lanes = NULL if mismatch_lanes is None else <double *>_data(mismatch_lanes)
        self.mismatch_totals = NULL if mismatch_totals is None else <double *>_data(mismatch_totals)
        self.y = NULL if y is None else <const int32_t *>_data(y)
        self.target = NULL if target is None else <const double *>_data(target)
        self.loss_lanes = NULL if loss_lanes is None else <double *>_data(loss_lanes)
        self.loss_totals = NULL if loss_totals is None else <double *>_data(loss_totals)
        self.use_log_loss = "log_loss" in losses
        self.use_tv = "total_variation" in losses
        self.use_ce = "cross_entropy" in losses
        self.decide_needed = (votes is not None or planes is not None or decisions is not None
                              or references is not None)
        self.bits = (columns in (1, 2) and single and kind == "proba" and not renormalize and decisions is None)
        if self.bits:
            leaves().bounds_f32(&self.rule, columns, &self.bounds)

    def update(self, block, Py_ssize_t first_model, Py_ssize_t first_sample) -> bool:
        """Take in a block of models and samples; return whether all its values were valid.

        Parameters
        ----------
        block : (m, n, columns) or (m, n) array of float16, float32, float64 or integers
            Native byte order; each model's samples contiguous; any distance between models. Models are given in
            order. ``first_sample`` and n are multiples of 512 (of 8 above 16 scores a sample, for score-only
            passes), except that the last piece may end with the tile.
        """
        cdef Py_ssize_t m = block.shape[0], n = block.shape[1]
        cdef Py_ssize_t itemsize = block.dtype.itemsize
        cdef size_t address = block.ctypes.data
        cdef Py_ssize_t stride = block.strides[0] // itemsize
        cdef const void *data = <const void *>address
        cdef bint half = block.dtype == np.float16, double_in = block.dtype == np.float64
        cdef bint ok
        if self.lo != NULL and (self.s1 == NULL or self.s2 == NULL or self.shift == NULL) and m != self.n_models:
            raise ValueError("internal: ranges over several blocks of models need s1, s2 and shift")
        cdef Py_ssize_t C = self.columns if self.columns > 0 else 1
        cdef int type = -1
        if self.columns == 0:
            type = type_code(block.dtype)
        # strips are whole groups; pieces are what is decided and folded at a time
        cdef Py_ssize_t strip = max(1, min(8, STRIP_SCORES // (RC_GROUP * C))) * RC_GROUP
        cdef Py_ssize_t piece = max(8, min(strip, PIECE_SCORES // C // 64 * 64 if C <= 2 else PIECE_SCORES // C // 16 * 16))
        cdef Py_ssize_t K = PAGED_MODELS if m > 1 and stride * itemsize % 4096 == 0 else STRIP_MODELS
        # accumulators of a group that do not fit the cache: all models piece by piece, else all pieces model by model
        cdef bint grouped = RC_GROUP * C <= 2 * STRIP_SCORES
        convert = half or (self.columns > 0 and not self.single and not (double_in and self.plain()))
        cdef Py_ssize_t dec_rows = K if grouped else m
        cdef Py_ssize_t dec_width = strip
        single_scratch = np.empty(K * piece * C if half else 1, dtype=np.float32)
        double_scratch = np.empty(K * piece * C if convert and not self.single else 1, dtype=np.float64)
        need_losses = self.use_log_loss or self.use_tv or self.use_ce
        loss_scratch = np.empty((piece * max(2, C) + 3 * piece) if need_losses else 1, dtype=np.float64)
        dec8 = np.empty((dec_rows if not self.wide else 1, dec_width), dtype=np.uint8)  # or words, with bits
        dec16 = np.empty((dec_rows if self.wide else 1, dec_width), dtype=np.uint16)
        plane_scratch = np.empty((dec_width // RC_GROUP) * self.P * 8, dtype=np.uint64)
        # one run of cells for each strip (grouped) or piece; 64-byte aligned
        cdef Py_ssize_t run = ((strip if grouped else piece) * C + 15) // 16 + 1
        cells = np.empty(run * 448 + 64 if self.single else 2 * run * 320 + 64, dtype=np.uint8)
        address = cells.ctypes.data
        cdef char *cp = <char *>((address + 63) // 64 * 64)
        cdef float *fs = <float *>_data(single_scratch)
        cdef double *ds = <double *>_data(double_scratch)
        cdef double *ls = <double *>_data(loss_scratch)
        cdef uint8_t *d8 = <uint8_t *>_data(dec8)
        cdef uint16_t *d16 = <uint16_t *>_data(dec16)
        cdef uint64_t *ps = <uint64_t *>_data(plane_scratch)
        cdef bint conv = convert
        cdef const rc_table *t = leaves()
        # bytes of labels of which only planes are wanted go straight there, model by model: in long runs
        cdef bint straight = (type == RC_U8 and not self.wide and self.votes == NULL and self.d8 == NULL
                              and self.weights == NULL)
        with nogil:
            if straight:
                ok = self._planes(t, <const uint8_t *>data, stride, m, n, strip, ps, first_model, first_sample)
            else:
                ok = self._run(t, data, stride, m, n, C, itemsize, type, half, double_in, conv, strip, piece, K,
                               grouped, cp, fs, ds, ls, d8, d16, ps, first_model, first_sample)
        return ok

    cdef bint plain(self):
        """Scores are used as they are."""
        return self.kind == RC_PROBA and not self.renormalize

    cdef bint _planes(self, const rc_table *t, const uint8_t *labels, Py_ssize_t stride, Py_ssize_t m, Py_ssize_t n,
                      Py_ssize_t strip, uint64_t *scratch, Py_ssize_t m0, Py_ssize_t n0) noexcept nogil:
        """Check, encode and compare labels of one byte."""
        cdef Py_ssize_t k, i, w
        cdef uint64_t *p = scratch
        for k in range(m):
            i = 0
            while i < n:
                w = least(strip, n - i)
                if self.planes != NULL:
                    p = self.planes + (m0 + k) * self.plane_stride + (n0 + i) // RC_GROUP * self.P * 8
                if t.planes_u8(labels + k * stride + i, w, self.n_classes, self.P, p) >= 0:
                    return False
                self._compare(t, p, m0 + k, n0 + i, w)
                i += w
        return True

    cdef void _compare(self, const rc_table *t, const uint64_t *p, Py_ssize_t model, Py_ssize_t at,
                       Py_ssize_t w) noexcept nogil:
        """Compare the planes of a model on samples at..at+w with the references."""
        cdef Py_ssize_t r, g0 = at // RC_GROUP, groups = (w + RC_GROUP - 1) // RC_GROUP
        cdef Py_ssize_t G = self.groups, P = self.P, M = self.n_models
        for r in range(self.n_refs):
            if self.weights != NULL:
                t.versus_weighted(p, self.refs + (r * G + g0) * P * 8, groups, P,
                                  NULL if self.masks == NULL else self.masks + (r * G + g0) * 8,
                                  self.weights + at, self.mismatch_lanes + (r * M + model) * 8)
            self.mismatches[r * M + model] += t.versus(
                p, self.refs + (r * G + g0) * P * 8, groups, P,
                NULL if self.masks == NULL else self.masks + (r * G + g0) * 8,
                NULL if self.unions == NULL else self.unions + (r * G + g0) * 8)

    cdef bint _run(self, const rc_table *t, const void *data, Py_ssize_t stride, Py_ssize_t m, Py_ssize_t n,
                   Py_ssize_t C, Py_ssize_t itemsize, int type, bint half, bint double_in, bint convert,
                   Py_ssize_t strip, Py_ssize_t piece, Py_ssize_t K, bint grouped, char *cells, float *fs, double *ds,
                   double *ls, uint8_t *d8, uint16_t *d16, uint64_t *ps, Py_ssize_t m0, Py_ssize_t n0) noexcept nogil:
        cdef Py_ssize_t i = 0, w, p, pw, k0, kk, ahead
        while i < n:
            # a strip ends where a block of sums ends, wherever the strips before it began
            w = least(least(strip, n - i), RC_BLOCK - (n0 + i) % RC_BLOCK)
            k0 = 0
            if grouped:
                self._open(t, cells, C, n0 + i, w, m0)
                while k0 < m:
                    kk = least(K, m - k0)
                    p = 0
                    while p < w:
                        pw = least(piece, w - p)
                        if p + pw < w:  # the next piece; else the first of the next models, or of the next strip
                            ahead = k0 * stride + (i + p + pw) * C
                        elif k0 + kk < m:
                            ahead = (k0 + kk) * stride + i * C
                        else:
                            ahead = (i + w) * C if i + w < n else -1
                        if not self._piece(t, data, stride, C, itemsize, type, half, double_in, convert, strip, piece,
                                           fs, ds, ls, d8, d16, i + p, pw, p, k0, kk, 0, ahead, m0, n0,
                                           cells, p * C):
                            return False
                        p += pw
                    if self.decide_needed:
                        self._decided(t, d8, d16, strip, ps, m0 + k0, kk, n0 + i, w)
                    k0 += kk
                self._close(t, cells, C, n0 + i, w, m0 + m)
            else:
                p = 0
                while p < w:
                    pw = least(piece, w - p)
                    k0 = 0
                    self._open(t, cells, C, n0 + i + p, pw, m0)
                    while k0 < m:
                        kk = least(K, m - k0)
                        if not self._piece(t, data, stride, C, itemsize, type, half, double_in, convert, strip, piece,
                                           fs, ds, ls, d8, d16, i + p, pw, p, k0, kk, k0,
                                           (k0 + kk) * stride + (i + p) * C if k0 + kk < m else -1, m0, n0,
                                           cells, 0):
                            return False
                        k0 += kk
                    self._close(t, cells, C, n0 + i + p, pw, m0 + m)
                    p += pw
                if self.decide_needed:
                    self._decided(t, d8, d16, strip, ps, m0, m, n0 + i, w)
            i += w
            if (n0 + i) % RC_BLOCK == 0 or n0 + i == self.n_samples:
                self._close_block(m0, m, (n0 + i - 1) // RC_BLOCK)
        return True

    cdef bint _piece(self, const rc_table *t, const void *data, Py_ssize_t stride, Py_ssize_t C,
                     Py_ssize_t itemsize, int type, bint half, bint double_in, bint convert, Py_ssize_t strip,
                     Py_ssize_t piece, float *fs, double *ds, double *ls, uint8_t *d8,
                     uint16_t *d16, Py_ssize_t i, Py_ssize_t w, Py_ssize_t at, Py_ssize_t k0, Py_ssize_t kk,
                     Py_ssize_t first_row, Py_ssize_t ahead, Py_ssize_t m0, Py_ssize_t n0, char *cells,
                     Py_ssize_t cell_at) noexcept nogil:
        """Decide, check and fold samples i..i+w of models k0..k0+kk."""
        cdef Py_ssize_t k, row, step, bad
        cdef const char *raw
        cdef const void *x
        cdef uint8_t *o8
        cdef uint16_t *o16
        cdef rc_rule rule = self.rule, later
        cdef bint after = False  # decisions are taken on the converted scores
        cdef const void *folded
        cdef const void *soon = NULL
        if self.columns > 0:
            if self.kind == RC_PROBA:
                rule.check = RC_CHECK_NONNEGATIVE if self.renormalize else RC_CHECK_PROBA
            else:
                rule.check = RC_CHECK_LOG if self.kind == RC_LOG_PROBA else RC_CHECK_FINITE
            after = (rule.cut == RC_CUT_FROM and not self.plain_nogil()) or (C == 1 and self.kind == RC_LOG_PROBA)
            later = rule
            later.check = RC_CHECK_NONE
        for k in range(kk):
            raw = <const char *>data + ((k0 + k) * stride + i * C) * itemsize
            row = first_row + k
            o8 = NULL
            o16 = NULL
            if self.decide_needed:
                if self.wide:
                    o16 = d16 + row * strip + at
                else:
                    o8 = d8 + row * strip + at
            if self.columns == 0:
                if t.narrow(raw, type, w, self.n_classes, o8, o16) >= 0:
                    return False
                continue
            x = raw
            if half:
                t.half_to_float(<const uint16_t *>raw, w * C, fs + k * piece * C)
                x = fs + k * piece * C
            if self.bits:
                bad = t.decide_bits_f32(<const float *>x, w, C, &rule, &self.bounds, (<uint64_t *>d8) + (row * strip + at) // 64)
            elif double_in:
                bad = t.decide_f64(<const double *>x, w, C, &rule, NULL if after else o8, NULL if after else o16)
            else:
                bad = t.decide_f32(<const float *>x, w, C, &rule, NULL if after else o8, NULL if after else o16)
            if bad >= 0:
                return False
            if convert and not self.single:
                if double_in:
                    bad = t.transform_f64(<const double *>x, w, C, self.kind, self.renormalize, rule.tolerance, ds + k * piece * C)
                else:
                    bad = t.transform_f32(<const float *>x, w, C, self.kind, self.renormalize, rule.tolerance, ds + k * piece * C)
                if bad >= 0:
                    return False
                if after:
                    t.decide_f64(ds + k * piece * C, w, C, &later, o8, o16)
        if self.columns == 0:
            return True
        # where the scores of these models now are, as float32 or float64
        step = stride
        folded = <const void *>(<const char *>data + (k0 * stride + i * C) * itemsize)
        if self.single:
            if half:
                folded, step = fs, piece * C
        elif convert:
            folded, step = ds, piece * C
        if self.lo != NULL:
            if m0 + k0 == 0:  # the first model of all: its scores are the shift
                if self.single:
                    t.open_f32(<rc_cell32 *>cells + cell_at // 16, w * C, <const float *>folded, NULL, NULL, NULL, NULL, NULL)
                else:
                    t.open_f64(<rc_cell64 *>cells + cell_at // 8, w * C, <const double *>folded, NULL, NULL, NULL, NULL, NULL)
            if ahead >= 0 and not half and not convert:
                soon = <const void *>(<const char *>data + ahead * itemsize)
            if self.single:
                t.fold_f32(<const float *>folded, step, kk, w * C, <rc_cell32 *>cells + cell_at // 16, <const float *>soon,
                           NULL if self.gaps == NULL else <int32_t *>self.gaps + (n0 + i) * C)
            else:
                t.fold_f64(<const double *>folded, step, kk, w * C, <rc_cell64 *>cells + cell_at // 8, <const double *>soon)
                if self.gaps != NULL:
                    t.gaps_f64(<const double *>folded, step, kk, w * C, <double *>self.gaps + (n0 + i) * C)
        if self.use_log_loss or self.use_tv or self.use_ce:
            for k in range(kk):
                if self.single:
                    self._losses(t, <const float *>folded + k * step, NULL, ls, piece, C, w, n0 + i, m0 + k0 + k)
                else:
                    self._losses(t, NULL, <const double *>folded + k * step, ls, piece, C, w, n0 + i, m0 + k0 + k)
        return True

    cdef bint plain_nogil(self) noexcept nogil:
        return self.kind == RC_PROBA and not self.renormalize

    cdef void _open(self, const rc_table *t, char *cells, Py_ssize_t C, Py_ssize_t at, Py_ssize_t w,
                    Py_ssize_t m0) noexcept nogil:
        """Cells of samples at..at+w from what earlier models left (the first model opens its own)."""
        cdef Py_ssize_t j = at * C
        if self.lo == NULL or m0 == 0:
            return
        if self.single:
            t.open_f32(<rc_cell32 *>cells, w * C, NULL, <float *>self.lo + j, <float *>self.hi + j,
                       <float *>self.shift + j, self.s1 + j, self.s2 + j)
        else:
            t.open_f64(<rc_cell64 *>cells, w * C, NULL, <double *>self.lo + j, <double *>self.hi + j,
                       <double *>self.shift + j, self.s1 + j, self.s2 + j)

    cdef void _close(self, const rc_table *t, const char *cells, Py_ssize_t C, Py_ssize_t at, Py_ssize_t w,
                     Py_ssize_t models) noexcept nogil:
        """Cells of samples at..at+w to the arrays; after the last model to ranges and variances, if asked for."""
        cdef Py_ssize_t j = at * C
        cdef double *var = NULL
        cdef double *s1 = NULL
        cdef double *s2 = NULL
        cdef float *fshift = NULL
        cdef double *dshift = NULL
        if self.lo == NULL:
            return
        if self.variance != NULL and models == self.n_models:
            var = self.variance + j
        else:
            s1, s2 = self.s1 + j, self.s2 + j
            fshift, dshift = <float *>self.shift + j, <double *>self.shift + j
        if self.single:
            t.close_f32(<const rc_cell32 *>cells, w * C, <float *>self.lo + j, <float *>self.hi + j, fshift, s1, s2, var,
                        <double>models, self.ddof)
        else:
            t.close_f64(<const rc_cell64 *>cells, w * C, <double *>self.lo + j, <double *>self.hi + j, dshift, s1, s2, var,
                        <double>models, self.ddof)

    cdef void _losses(self, const rc_table *t, const float *f, const double *d, double *work, Py_ssize_t strip,
                      Py_ssize_t C, Py_ssize_t w, Py_ssize_t at, Py_ssize_t model) noexcept nogil:
        cdef double *x = work
        cdef double *tv = work + strip
        cdef double *ce = work + 2 * strip
        cdef double *rows = work + 3 * strip
        cdef const double *weights = NULL if self.weights == NULL else self.weights + at
        cdef Py_ssize_t j, c, D = 2 if C == 1 else C
        cdef double p
        if self.use_log_loss:
            for j in range(w):
                c = self.y[at + j]
                if C == 1:
                    p = f[j] if f != NULL else d[j]
                    x[j] = p if c == 1 else 1.0 - p
                else:
                    x[j] = f[j * C + c] if f != NULL else d[j * C + c]
            t.log_array(x, w, x)
            for j in range(w):
                x[j] = -x[j]
            t.sum_lanes(x, weights, w, self.loss_lanes + model * 8)
        if self.use_tv or self.use_ce:
            if f != NULL:
                t.distances_f32(f, w, C, self.target + at * D, tv if self.use_tv else NULL, ce if self.use_ce else NULL, rows)
            else:
                t.distances_f64(d, w, C, self.target + at * D, tv if self.use_tv else NULL, ce if self.use_ce else NULL, rows)
            if self.use_tv:
                t.sum_lanes(tv, weights, w, self.loss_lanes + (self.n_models + model) * 8)
            if self.use_ce:
                t.sum_lanes(ce, weights, w, self.loss_lanes + (2 * self.n_models + model) * 8)

    cdef void _decided(self, const rc_table *t, uint8_t *d8, uint16_t *d16, Py_ssize_t width, uint64_t *scratch,
                       Py_ssize_t m0, Py_ssize_t kk, Py_ssize_t at, Py_ssize_t w) noexcept nogil:
        """Use the decisions of kk models on samples at..at+w (whole groups)."""
        cdef Py_ssize_t k, r, j, g0 = at // RC_GROUP, groups = (w + RC_GROUP - 1) // RC_GROUP
        cdef Py_ssize_t S = self.n_samples, P = self.P
        cdef uint64_t *p
        cdef uint64_t *words = <uint64_t *>d8
        for k in range(kk):
            if self.planes != NULL or self.n_refs > 0:
                p = scratch if self.planes == NULL else self.planes + (m0 + k) * self.plane_stride + g0 * P * 8
                if self.bits:  # words are plane 0 already, but for the end of the last group
                    r = (w + 63) // 64
                    for j in range(r, groups * 8):
                        words[k * (width // 64) + j] = 0
                    if self.planes == NULL:
                        p = words + k * (width // 64)
                    else:
                        memcpy(p, words + k * (width // 64), groups * 8 * sizeof(uint64_t))
                elif self.wide:
                    t.encode_u16(d16 + k * width, w, P, p)
                else:
                    t.encode_u8(d8 + k * width, w, P, p)
                self._compare(t, p, m0 + k, at, w)
            if self.d8 != NULL:
                memcpy(self.d8 + (m0 + k) * S + at, d8 + k * width, w)
            if self.d16 != NULL:
                memcpy(self.d16 + (m0 + k) * S + at, d16 + k * width, w * sizeof(uint16_t))
        if self.votes != NULL:
            if self.bits:
                t.votes_bits(words, width // 64, kk, w, self.votes + at, self.votes + S + at)
            elif self.n_classes <= 64:
                t.votes_u8(d8, width, kk, w, self.n_classes, self.votes + at, S)
            elif self.wide:
                for k in range(kk):
                    for j in range(w):
                        self.votes[(at + j) * self.n_classes + d16[k * width + j]] += 1
            else:
                for k in range(kk):
                    for j in range(w):
                        self.votes[(at + j) * self.n_classes + d8[k * width + j]] += 1

    cdef void _close_block(self, Py_ssize_t m0, Py_ssize_t m, Py_ssize_t b) noexcept nogil:
        """Fold the lanes of a finished block of samples into its totals."""
        cdef Py_ssize_t r, k, l, at
        if self.weights != NULL:
            for r in range(self.n_refs):
                for k in range(m0, m0 + m):
                    at = r * self.n_models + k
                    self.mismatch_totals[at * self.n_blocks + b] = rc_fold(self.mismatch_lanes + at * 8)
                    for l in range(8):
                        self.mismatch_lanes[at * 8 + l] = 0
        if self.loss_lanes != NULL:
            for r in range(3):
                for k in range(m0, m0 + m):
                    at = r * self.n_models + k
                    self.loss_totals[at * self.n_blocks + b] = rc_fold(self.loss_lanes + at * 8)
                    for l in range(8):
                        self.loss_lanes[at * 8 + l] = 0


def read_peak(x) -> float:
    """Return the largest of a float32 vector: what reading its memory costs, the anchor of the benches."""
    cdef const rc_table *t = leaves()
    cdef const float[::1] v = x
    cdef Py_ssize_t n = v.shape[0]
    cdef float top
    with nogil:
        top = t.read_peak(&v[0], n)
    return top
