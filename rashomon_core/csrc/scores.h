/* One streaming pass over scores, and the losses of a model. Lanes are independent outputs; sums over samples go
 * through eight lanes in a fixed order, so the bits do not depend on the instruction set. */

/* Accumulators of a strip live in cells of one cache-line-sized run of scores each (rc_cell32, rc_cell64), not in five
 * arrays: five arrays and eight models at page-sized distances would compete for the same few ways of the cache.
 *
 * fold: the accumulators of a register's worth of scores are loaded once, take in all K models and go back; meanwhile
 * the scores at next (same distances) are prefetched, row by row: lines of one row lie in few pages of memory, a line of
 * each row in turn would open K of them again and again. */
RC_INLINE int32_t RC_(bit_gap)(float x, float y) { /* wraps for -0, like the vector subtraction */
  uint32_t a, b;
  memcpy(&a, &x, 4);
  memcpy(&b, &y, 4);
  return (int32_t)(a - b);
}

/* gaps (two classes, or NULL): max over models of s[i] - s[i ^ 1], floats by their bits, which are in the order of the
 * floats where these are not negative, and whose differences are exact. */
RC_INLINE void RC_(fold_any)(const float *s, ptrdiff_t stride, ptrdiff_t K, ptrdiff_t n, rc_cell32 *cells, const float *next,
                             int32_t *gaps, const int with_gaps) {
  assert(K >= 1 && n >= 0);
  ptrdiff_t i = 0;
#if !RC_X86
  for (ptrdiff_t j = 0; j < n && with_gaps; j++)
    for (ptrdiff_t k = 0; k < K; k++) {
      int32_t d = RC_(bit_gap)(s[k * stride + j], s[k * stride + (j ^ 1)]);
      gaps[j] = d > gaps[j] ? d : gaps[j];
    }
#endif
  const ptrdiff_t width = n / 16 * 16;
  const float *q = next, *end = next ? next + width : NULL;
  for (; i + 16 <= n; i += 16, cells++)
    for (int v = 0; v < 16; v += VFN) {
      VF low = VF_LOAD(cells->lo + v), high = VF_LOAD(cells->hi + v);
      VD zero[VF_PARTS], sum[VF_PARTS], square[VF_PARTS];
      for (int h = 0; h < VF_PARTS; h++) {
        zero[h] = VF_WIDEN_LOAD(cells->shift + v, h);
        sum[h] = VD_LOAD(cells->s1 + v + h * VDN);
        square[h] = VD_LOAD(cells->s2 + v + h * VDN);
      }
      const float *p = s + i + v;
      int ahead = next && v == 0;
#if RC_X86
      VI gap;
      if (with_gaps) gap = VI_LOAD(gaps + i + v);
#endif
      for (ptrdiff_t k = 0; k < K; k++, p += stride) {
        VF x = VF_LOAD(p);
#if RC_X86
        if (with_gaps) gap = VI_MAX(VI_SUB(VI_LOAD(p), VI_SWAP(VI_LOAD(p))), gap);
#endif
        if (ahead) {
          RC_PREFETCH(q);
          q += 16;
          if (q >= end) {
            q += stride - width;
            end += stride;
          }
        }
        low = VF_MIN(x, low);
        high = VF_MAX(x, high);
        for (int h = 0; h < VF_PARTS; h++) {
          VD d = VD_SUB(VF_WIDEN_LOAD(p, h), zero[h]);
          sum[h] = VD_ADD(sum[h], d);
          square[h] = VD_ADD(square[h], VD_MUL(d, d));
        }
      }
#if RC_X86
      if (with_gaps) VI_STORE(gaps + i + v, gap);
#endif
      VF_STORE(cells->lo + v, low);
      VF_STORE(cells->hi + v, high);
      for (int h = 0; h < VF_PARTS; h++) {
        VD_STORE(cells->s1 + v + h * VDN, sum[h]);
        VD_STORE(cells->s2 + v + h * VDN, square[h]);
      }
    }
  for (int v = 0; i < n; i++, v++)
    for (ptrdiff_t k = 0; k < K; k++) {
      float x = s[k * stride + i];
      double d = (double)x - (double)cells->shift[v];
#if RC_X86
      if (with_gaps) {
        int32_t g = RC_(bit_gap)(x, s[k * stride + (i ^ 1)]);
        gaps[i] = g > gaps[i] ? g : gaps[i];
      }
#endif
      cells->lo[v] = x < cells->lo[v] ? x : cells->lo[v];
      cells->hi[v] = x > cells->hi[v] ? x : cells->hi[v];
      cells->s1[v] += d;
      cells->s2[v] += d * d;
    }
}

static void RC_(fold_f32)(const float *s, ptrdiff_t stride, ptrdiff_t K, ptrdiff_t n, rc_cell32 *cells, const float *next,
                          int32_t *gaps) {
  if (gaps) RC_(fold_any)(s, stride, K, n, cells, next, gaps, 1);
  else RC_(fold_any)(s, stride, K, n, cells, next, NULL, 0);
}

static void RC_(fold_f64)(const double *s, ptrdiff_t stride, ptrdiff_t K, ptrdiff_t n, rc_cell64 *cells, const double *next) {
  assert(K >= 1 && n >= 0);
  ptrdiff_t i = 0;
  const ptrdiff_t width = n / 8 * 8;
  const double *q = next, *end = next ? next + width : NULL;
  for (; i + 8 <= n; i += 8, cells++)
    for (int v = 0; v < 8; v += VDN) {
      VD low = VD_LOAD(cells->lo + v), high = VD_LOAD(cells->hi + v), zero = VD_LOAD(cells->shift + v);
      VD sum = VD_LOAD(cells->s1 + v), square = VD_LOAD(cells->s2 + v);
      const double *p = s + i + v;
      int ahead = next && v == 0;
      for (ptrdiff_t k = 0; k < K; k++, p += stride) {
        VD x = VD_LOAD(p);
        if (ahead) {
          RC_PREFETCH(q);
          q += 8;
          if (q >= end) {
            q += stride - width;
            end += stride;
          }
        }
        VD d = VD_SUB(x, zero);
        low = VD_MIN(x, low);
        high = VD_MAX(x, high);
        sum = VD_ADD(sum, d);
        square = VD_ADD(square, VD_MUL(d, d));
      }
      VD_STORE(cells->lo + v, low);
      VD_STORE(cells->hi + v, high);
      VD_STORE(cells->s1 + v, sum);
      VD_STORE(cells->s2 + v, square);
    }
  for (int v = 0; i < n; i++, v++)
    for (ptrdiff_t k = 0; k < K; k++) {
      double x = s[k * stride + i], d = x - cells->shift[v];
      cells->lo[v] = x < cells->lo[v] ? x : cells->lo[v];
      cells->hi[v] = x > cells->hi[v] ? x : cells->hi[v];
      cells->s1[v] += d;
      cells->s2[v] += d * d;
    }
}

/* open: cells from the first model's scores, or from arrays that an earlier call filled. close: cells to arrays, or,
 * with var, to ranges and variances: (s2 - s1^2 / M) / (M - ddof), never below 0. */
#define RC_CELLS(T, CELL, LEN, OPEN, CLOSE)                                                                          \
  static void RC_(OPEN)(CELL *cells, ptrdiff_t n, const T *first, const T *lo, const T *hi, const T *shift,          \
                        const double *s1, const double *s2) {                                                        \
    for (ptrdiff_t i = 0; i < n; i += LEN, cells++) {                                                                \
      ptrdiff_t m = n - i < LEN ? n - i : LEN;                                                                       \
      if (first)                                                                                                     \
        for (ptrdiff_t v = 0; v < m; v++) {                                                                          \
          cells->lo[v] = (T)INFINITY;                                                                                \
          cells->hi[v] = -(T)INFINITY;                                                                               \
          cells->shift[v] = first[i + v];                                                                            \
          cells->s1[v] = cells->s2[v] = 0;                                                                           \
        }                                                                                                            \
      else                                                                                                           \
        for (ptrdiff_t v = 0; v < m; v++) {                                                                          \
          cells->lo[v] = lo[i + v];                                                                                  \
          cells->hi[v] = hi[i + v];                                                                                  \
          cells->shift[v] = shift[i + v];                                                                            \
          cells->s1[v] = s1[i + v];                                                                                  \
          cells->s2[v] = s2[i + v];                                                                                  \
        }                                                                                                            \
    }                                                                                                                \
  }                                                                                                                  \
  static void RC_(CLOSE)(const CELL *cells, ptrdiff_t n, T *lo, T *hi, T *shift, double *s1, double *s2, double *var, \
                         double models, double ddof) {                                                               \
    for (ptrdiff_t i = 0; i < n; i += LEN, cells++) {                                                                \
      ptrdiff_t m = n - i < LEN ? n - i : LEN;                                                                       \
      for (ptrdiff_t v = 0; v < m; v++) {                                                                            \
        lo[i + v] = cells->lo[v];                                                                                    \
        hi[i + v] = cells->hi[v];                                                                                    \
      }                                                                                                              \
      if (var)                                                                                                       \
        for (ptrdiff_t v = 0; v < m; v++) {                                                                          \
          double d = cells->s2[v] - cells->s1[v] * cells->s1[v] / models;                                            \
          var[i + v] = (d > 0 ? d : 0.0) / (models - ddof);                                                          \
        }                                                                                                            \
      else                                                                                                           \
        for (ptrdiff_t v = 0; v < m; v++) {                                                                          \
          shift[i + v] = cells->shift[v];                                                                            \
          s1[i + v] = cells->s1[v];                                                                                  \
          s2[i + v] = cells->s2[v];                                                                                  \
        }                                                                                                            \
    }                                                                                                                \
  }
RC_CELLS(float, rc_cell32, 16, open_f32, close_f32)
RC_CELLS(double, rc_cell64, 8, open_f64, close_f64)
#undef RC_CELLS

static void RC_(sum_lanes)(const double *x, const double *w, ptrdiff_t n, double *lanes) {
  ptrdiff_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int l = 0; l < 8; l++) {
      double v = x[i + l];
      if (w) v = w[i + l] == 0 ? 0.0 : w[i + l] * v;
      lanes[l] += v;
    }
  for (int l = 0; i < n; i++, l++) lanes[l] += w ? (w[i] == 0 ? 0.0 : w[i] * x[i]) : x[i];
}

/* Four rows at a time with eight columns of weights; each of the 32 sums runs over the samples in order. */
RC_INLINE void RC_(products_4)(const double *x, ptrdiff_t ldx, ptrdiff_t rows, const double *w, ptrdiff_t n, double *out,
                               ptrdiff_t ldo) {
  for (ptrdiff_t l = 0; l < 8; l += VDN) {
    VD sum[4] = {VD_SET(0), VD_SET(0), VD_SET(0), VD_SET(0)};
    for (ptrdiff_t i = 0; i < n; i++) {
      VD v = VD_LOAD(w + i * 8 + l);
      for (ptrdiff_t j = 0; j < rows; j++) sum[j] = VD_ADD(sum[j], VD_MUL(VD_SET(x[j * ldx + i]), v));
    }
    for (ptrdiff_t j = 0; j < rows; j++) VD_STORE(out + j * ldo + l, sum[j]);
  }
}
static void RC_(products)(const double *x, ptrdiff_t ldx, ptrdiff_t rows, const double *w, ptrdiff_t n, double *out,
                          ptrdiff_t ldo) {
  switch (rows) { /* constants let the rows unroll */
    case 1: RC_(products_4)(x, ldx, 1, w, n, out, ldo); break;
    case 2: RC_(products_4)(x, ldx, 2, w, n, out, ldo); break;
    case 3: RC_(products_4)(x, ldx, 3, w, n, out, ldo); break;
    default: RC_(products_4)(x, ldx, 4, w, n, out, ldo); break;
  }
}

/* C == 1 holds P(class 1) and is measured as the two-class row (1 - p, p); t then has two columns. work: n * C' doubles. */
#define RC_DISTANCES(T, NAME)                                                                                          \
  static void RC_(NAME)(const T *s, ptrdiff_t n, ptrdiff_t C, const double *t, double *tv, double *ce, double *work) { \
    ptrdiff_t D = C == 1 ? 2 : C;                                                                                      \
    for (ptrdiff_t i = 0; i < n && C == 1; i++) {                                                                      \
      work[2 * i] = 1.0 - (double)s[i];                                                                                \
      work[2 * i + 1] = (double)s[i];                                                                                  \
    }                                                                                                                  \
    for (ptrdiff_t i = 0; i < n * C && C != 1; i++) work[i] = (double)s[i];                                            \
    if (tv)                                                                                                            \
      for (ptrdiff_t i = 0; i < n; i++) {                                                                              \
        double sum = 0;                                                                                                \
        for (ptrdiff_t c = 0; c < D; c++) {                                                                            \
          double d = work[i * D + c] - t[i * D + c];                                                                   \
          sum += d < 0 ? -d : d;                                                                                       \
        }                                                                                                              \
        tv[i] = 0.5 * sum;                                                                                             \
      }                                                                                                                \
    if (ce) {                                                                                                          \
      RC_(log_array)(work, n * D, work);                                                                               \
      for (ptrdiff_t i = 0; i < n; i++) {                                                                              \
        double sum = 0;                                                                                                \
        for (ptrdiff_t c = 0; c < D; c++) /* 0 log 0 = 0 */                                                            \
          sum += t[i * D + c] == 0 ? 0.0 : t[i * D + c] * work[i * D + c];                                             \
        ce[i] = -sum;                                                                                                  \
      }                                                                                                                \
    }                                                                                                                  \
  }
RC_DISTANCES(float, distances_f32)
RC_DISTANCES(double, distances_f64)
#undef RC_DISTANCES

static float RC_(read_peak)(const float *x, ptrdiff_t n) {
  VF m[8];
  float top = -INFINITY, one[VFN];
  for (int j = 0; j < 8; j++) m[j] = VF_SET(top);
  ptrdiff_t i = 0;
  for (; i + 8 * VFN <= n; i += 8 * VFN)
    for (int j = 0; j < 8; j++) m[j] = VF_MAX(VF_LOAD(x + i + j * VFN), m[j]);
  for (; i < n; i++) top = x[i] > top ? x[i] : top;
  for (int j = 0; j < 8; j++) {
    VF_STORE(one, m[j]);
    for (int l = 0; l < VFN; l++) top = one[l] > top ? one[l] : top;
  }
  return top;
}
