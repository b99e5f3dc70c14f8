/* One streaming pass over scores, and the losses of a model. Lanes are independent outputs; sums over samples go
 * through eight lanes in a fixed order, so the bits do not depend on the instruction set. */

/* Fold K models into the accumulators of n scores. The accumulators of a register's worth of scores are loaded once,
 * take in all K models, and go back to memory; meanwhile the scores of the next models are prefetched. */
static void RC_(accumulate_f32)(const float *s, ptrdiff_t stride, ptrdiff_t K, ptrdiff_t n, float *lo, float *hi,
                                const float *shift, double *s1, double *s2, const float *next) {
  ptrdiff_t i = 0;
  for (; i + VFN <= n; i += VFN) {
    VF low = VF_LOAD(lo + i), high = VF_LOAD(hi + i);
    VD zero[VF_PARTS], sum[VF_PARTS], square[VF_PARTS];
    for (int h = 0; h < VF_PARTS; h++) {
      zero[h] = VF_WIDEN_LOAD(shift + i, h);
      sum[h] = VD_LOAD(s1 + i + h * VDN);
      square[h] = VD_LOAD(s2 + i + h * VDN);
    }
    const float *p = s + i, *q = next + i;
    for (ptrdiff_t k = 0; k < K; k++, p += stride) {
      VF x = VF_LOAD(p);
      if (next) {
        RC_PREFETCH(q);
        q += stride;
      }
      low = VF_MIN(x, low);
      high = VF_MAX(x, high);
      for (int h = 0; h < VF_PARTS; h++) {
        VD d = VD_SUB(VF_WIDEN_LOAD(p, h), zero[h]);
        sum[h] = VD_ADD(sum[h], d);
        square[h] = VD_ADD(square[h], VD_MUL(d, d));
      }
    }
    VF_STORE(lo + i, low);
    VF_STORE(hi + i, high);
    for (int h = 0; h < VF_PARTS; h++) {
      VD_STORE(s1 + i + h * VDN, sum[h]);
      VD_STORE(s2 + i + h * VDN, square[h]);
    }
  }
  for (; i < n; i++)
    for (ptrdiff_t k = 0; k < K; k++) {
      float x = s[k * stride + i];
      double d = (double)x - (double)shift[i];
      lo[i] = x < lo[i] ? x : lo[i];
      hi[i] = x > hi[i] ? x : hi[i];
      s1[i] += d;
      s2[i] += d * d;
    }
}

static void RC_(accumulate_f64)(const double *s, ptrdiff_t stride, ptrdiff_t K, ptrdiff_t n, double *lo, double *hi,
                                const double *shift, double *s1, double *s2, const double *next) {
  ptrdiff_t i = 0;
  for (; i + VDN <= n; i += VDN) {
    VD low = VD_LOAD(lo + i), high = VD_LOAD(hi + i), zero = VD_LOAD(shift + i);
    VD sum = VD_LOAD(s1 + i), square = VD_LOAD(s2 + i);
    const double *p = s + i, *q = next + i;
    for (ptrdiff_t k = 0; k < K; k++, p += stride) {
      VD x = VD_LOAD(p);
      if (next) {
        RC_PREFETCH(q);
        q += stride;
      }
      VD d = VD_SUB(x, zero);
      low = VD_MIN(x, low);
      high = VD_MAX(x, high);
      sum = VD_ADD(sum, d);
      square = VD_ADD(square, VD_MUL(d, d));
    }
    VD_STORE(lo + i, low);
    VD_STORE(hi + i, high);
    VD_STORE(s1 + i, sum);
    VD_STORE(s2 + i, square);
  }
  for (; i < n; i++)
    for (ptrdiff_t k = 0; k < K; k++) {
      double x = s[k * stride + i], d = x - shift[i];
      lo[i] = x < lo[i] ? x : lo[i];
      hi[i] = x > hi[i] ? x : hi[i];
      s1[i] += d;
      s2[i] += d * d;
    }
}

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
