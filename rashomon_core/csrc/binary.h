/* Capacity of two classes in closed form, and what the score pass needs for it. */

/* Capacity of 64 pairs of rows (the ones with the smallest and the largest P(1), as masses of both classes), in bits.
 * With t = log(q1 / q0), D(z || q) = -H(z) - z1 t + log(1 + e^t). Where it is the same for both rows it is the capacity:
 *
 *   q1 / q0 = b1 / a0 exp(g(a1 / b1) - g(b0 / a0)),    g(x) = x log x / (x - 1), between 0 and 1
 *
 * (t = (H(a) - H(b)) / (b - a) without its cancellation). Floats are enough for that: D(a || q) - D(b || q) is linear in
 * t, so the right t is d = (D(b || q) - D(a || q)) / (b - a) away, and with v a + (1 - v) b = q
 *
 *   capacity = v D(a || q) + (1 - v) D(b || q) + R,    exp(-|d|) <= R / (q0 q1 d^2 / 2) <= exp(|d|),
 *
 * as the second derivative of log(1 + e^t), q0 q1, changes its logarithm no faster than t. Rows within 2^-45, where d
 * would be rounding, go without R: it is at least 0, and the larger D is an upper bound.
 * D(z || q) = sum_c q_c phi((z_c - q_c) / q_c), phi(t) = (1 + t) log(1 + t) - t, has no cancellation, and holds as an
 * upper bound even where rounding keeps q0 + q1 off 1. All that is off is a few ulp of b - a and of D (q is between a and
 * b, so q0 q1 |d| is below b - a), and at most 2^-100. Loops are short and plain so that they vectorise. */
#define RC_RUN 64
typedef struct { double a0[RC_RUN], a1[RC_RUN], b0[RC_RUN], b1[RC_RUN]; } RC_(masses);

static void RC_(pairs)(RC_(masses) *m, double *lower, double *upper, double *weight) {
  const double bits = 1.44269504088896340736;
  const float one = 1.0f - 0x1p-22f; /* two floats that should be equal may be neighbours */
  double z[4][RC_RUN], t[4][RC_RUN], u[4][RC_RUN], gap[RC_RUN], q[2][RC_RUN];
  double inverse[2][RC_RUN];
  float x[2][RC_RUN], e[RC_RUN];
  for (int i = 0; i < RC_RUN; i++) {
    double A = 1.0 / (m->a0[i] + m->a1[i]), B = 1.0 / (m->b0[i] + m->b1[i]);
    gap[i] = (m->b1[i] * m->a0[i] - m->a1[i] * m->b0[i]) * (A * B);
    z[0][i] = m->a0[i] * A; /* a: the row with less of class 1 */
    z[1][i] = m->a1[i] * A;
    z[2][i] = m->b0[i] * B;
    z[3][i] = m->b1[i] * B;
    x[1][i] = (float)z[1][i] / ((float)z[3][i] + 0x1p-120f) * one + 0x1p-100f; /* neither 0 nor 1 */
    x[0][i] = (float)z[2][i] / ((float)z[0][i] + 0x1p-120f) * one + 0x1p-100f;
  }
  for (int c = 0; c < 2; c++)
    for (int i = 0; i < RC_RUN; i++) x[c][i] = x[c][i] * RC_(log_f)(x[c][i]) / (x[c][i] - 1.0f);
  for (int i = 0; i < RC_RUN; i++) { /* exp, of half first */
    float y = 0.5f * (x[1][i] - x[0][i]), p = 1.0f / 120.0f + y * (1.0f / 720.0f);
    p = 1.0f + y * (1.0f + y * (0.5f + y * (1.0f / 6.0f + y * (1.0f / 24.0f + y * p))));
    e[i] = p * p;
  }
  for (int i = 0; i < RC_RUN; i++) {
    double q1 = z[3][i] * (double)e[i], q0 = z[0][i], sum = 1.0 / (q0 + q1);
    q1 *= sum;
    q0 *= sum;
    q1 = q1 < z[1][i] ? z[1][i] : q1;
    q1 = q1 > z[3][i] ? z[3][i] : q1;
    q0 = q0 < z[2][i] ? z[2][i] : q0;
    q0 = q0 > z[0][i] ? z[0][i] : q0;
    q1 = q1 > 0.0 ? q1 : 0.4 * z[3][i];
    q0 = q0 > 0.0 ? q0 : 0.4 * z[0][i];
    q[0][i] = q0 > 0.0 ? q0 : 1.0;
    q[1][i] = q1 > 0.0 ? q1 : 1.0;
    inverse[0][i] = 1.0 / q[0][i];
    inverse[1][i] = 1.0 / q[1][i];
  }
  for (int c = 0; c < 4; c++)
    for (int i = 0; i < RC_RUN; i++) {
      double r = 1.0 + (z[c][i] - q[c & 1][i]) * inverse[c & 1][i];
      t[c][i] = r > 0.0 ? r : 0.0;
      u[c][i] = r > 0.0 ? r : 1.0;
    }
  for (int c = 0; c < 4; c++)
    for (int i = 0; i < RC_RUN; i++) {
      double y = t[c][i] * RC_(log_normal)(u[c][i], 0.0) - (t[c][i] - 1.0); /* phi of 1 + t as rounded: a few ulp of t */
      t[c][i] = q[c & 1][i] * (y > 0.0 ? y : 0.0);
    }
  for (int i = 0; i < RC_RUN; i++) {
    double Da = t[0][i] + t[1][i], Db = t[2][i] + t[3][i], safe = gap[i] > 0.0 ? gap[i] : 1.0, over = 1.0 / safe;
    double v = (q[1][i] < 0.5 ? z[3][i] - q[1][i] : q[0][i] - z[2][i]) * over, d = (Db - Da) * over, far = d < 0.0 ? -d : d;
    v = v < 0.0 ? 0.0 : v;
    v = v > 1.0 ? 1.0 : v;
    double part = q[0][i] * q[1][i] * d, mean = v * Da + (1.0 - v) * Db, rest = 0.5 * part * d;
    double top = Da > Db ? Da : Db, off = 0x1p-53 * 64.0 * (safe + top);
    double near = gap[i] > 0x1p-45 ? 1.0 - far : 0.0, high = mean + rest * (1.0 + 2.0 * far);
    near = near > 0.0 ? near : 0.0;
    high = near > 0.0 ? high : top;
    part = near > 0.0 ? part : 0.0;
    double low = (mean + rest * near - off) * bits - 0x1p-100;
    high = (high + off) * bits;
    low = low > 0.0 ? low : 0.0;
    high = high < 1.0 ? high : 1.0;
    v -= part * over;
    v = v < 0.0 ? 0.0 : v;
    v = v > 1.0 ? 1.0 : v;
    int same = m->a0[i] == m->b0[i] && m->a1[i] == m->b1[i], tiny = !(gap[i] > 0x1p-200);
    high = tiny ? 0.0 : high;
    lower[i] = tiny ? 0.0 : low;
    upper[i] = same ? 0.0 : high + 0x1p-100; /* rows of doubles may differ by less than gap can say */
    weight[i] = tiny ? 1.0 : v;
  }
}

static void RC_(capacity_pairs)(const double *a0, const double *a1, const double *b0, const double *b1, ptrdiff_t n,
                                double *lower, double *upper, double *weight) {
  RC_(masses) m;
  double low[RC_RUN], high[RC_RUN], part[RC_RUN];
  for (ptrdiff_t i = 0; i < n; i += RC_RUN) {
    ptrdiff_t run = n - i < RC_RUN ? n - i : RC_RUN;
    for (ptrdiff_t j = 0; j < RC_RUN; j++) {
      ptrdiff_t at = i + (j < run ? j : 0);
      m.a0[j] = a0[at];
      m.a1[j] = a1[at];
      m.b0[j] = b0[at];
      m.b1[j] = b1[at];
    }
    RC_(pairs)(&m, low, high, part);
    memcpy(lower + i, low, (size_t)run * sizeof(double));
    memcpy(upper + i, high, (size_t)run * sizeof(double));
    memcpy(weight + i, part, (size_t)run * sizeof(double));
  }
}

/* The same from smallest and largest scores (columns 1: P(1); 2: both classes). apart: the extremes of the two classes
 * do not come from one row (see gaps). GAP: what gaps hold. */
#define RC_RANGES(T, K, GAP, NAME)                                                                                    \
  static void RC_(NAME)(const T *low, const T *high, const K *gaps, ptrdiff_t columns, ptrdiff_t n, double *lower,    \
                        double *upper, uint8_t *apart) {                                                              \
    RC_(masses) m;                                                                                                    \
    double below[RC_RUN], above[RC_RUN], part[RC_RUN];                                                                \
    for (ptrdiff_t i = 0; i < n; i += RC_RUN) {                                                                       \
      ptrdiff_t run = n - i < RC_RUN ? n - i : RC_RUN;                                                                \
      for (ptrdiff_t j = 0; j < RC_RUN; j++) {                                                                        \
        const T *a = low + (i + (j < run ? j : 0)) * columns, *b = high + (i + (j < run ? j : 0)) * columns;          \
        m.a1[j] = (double)a[columns - 1];                                                                             \
        m.b1[j] = (double)b[columns - 1];                                                                             \
        m.a0[j] = columns == 1 ? 1.0 - m.a1[j] : (double)b[0];                                                        \
        m.b0[j] = columns == 1 ? 1.0 - m.b1[j] : (double)a[0];                                                        \
        if (columns == 2 && j < run)                                                                                  \
          apart[i + j] = gaps[2 * (i + j)] != GAP(b[0], a[1]) || gaps[2 * (i + j) + 1] != GAP(b[1], a[0]); \
      }                                                                                                               \
      RC_(pairs)(&m, below, above, part);                                                                             \
      memcpy(lower + i, below, (size_t)run * sizeof(double));                                                         \
      memcpy(upper + i, above, (size_t)run * sizeof(double));                                                         \
    }                                                                                                                 \
  }
RC_RANGES(float, int32_t, RC_(bit_gap), capacity_ranges_f32)
RC_INLINE double RC_(real_gap)(double x, double y) { return x - y; }
RC_RANGES(double, double, RC_(real_gap), capacity_ranges_f64)
#undef RC_RANGES

/* gap[i] = max over models of s[i] - s[its neighbour], i and i ^ 1 the two classes of a sample. It is what the extremes
 * of both classes give if and only if one row holds both; of doubles two rows may round onto one, which changes nothing
 * beyond rounding. (Floats: see fold_f32.) */
static void RC_(gaps_f64)(const double *s, ptrdiff_t stride, ptrdiff_t K, ptrdiff_t n, double *gap) {
  for (ptrdiff_t k = 0; k < K; k++)
    for (ptrdiff_t i = 0; i < n; i++) {
      double d = s[k * stride + i] - s[k * stride + (i ^ 1)];
      gap[i] = d > gap[i] ? d : gap[i];
    }
}
