/* One sample as a channel: a float copy of its rows, [class][model] (lanes are models), for what concerns all models, and
 * "slots" for the few models that are loaded exactly, in double. */

/* --- the float copy: [class][model] --------------------------------------------------------------------------- */

#if RC_X86
/* Four columns of VFN rows. */
RC_INLINE void RC_(transpose)(const float *x, ptrdiff_t stride, float *o, ptrdiff_t ld) {
  VF a = RC_PIECE(x, stride), b = RC_PIECE(x + stride, stride);
  VF c = RC_PIECE(x + 2 * stride, stride), d = RC_PIECE(x + 3 * stride, stride);
  VF ab = RC_LOW(a, b), AB = RC_HIGH(a, b), cd = RC_LOW(c, d), CD = RC_HIGH(c, d);
  VF_STORE(o, RC_LOW2(ab, cd));
  VF_STORE(o + ld, RC_HIGH2(ab, cd));
  VF_STORE(o + 2 * ld, RC_LOW2(AB, CD));
  VF_STORE(o + 3 * ld, RC_HIGH2(AB, CD));
}
#endif

/* out[j * ld + k] = s[k * stride + j] for j < n: sixteen models and four columns at a time. Rows M..Mp repeat the
 * first model, so that lanes beyond the last model change no minimum. */
static void RC_(spread_f32)(const float *s, ptrdiff_t stride, ptrdiff_t M, ptrdiff_t n, float *out, ptrdiff_t ld) {
  ptrdiff_t Mp = (M + 15) / 16 * 16, width = n <= 256 ? n : 64; /* of long rows 64 x 64 scores at a time */
  for (ptrdiff_t tile = 0; tile < Mp; tile += 64)
    for (ptrdiff_t from = 0; from < n; from += width)
      for (ptrdiff_t k = tile; k < tile + 64 && k < Mp; k += 16) {
        ptrdiff_t j = from, to = from + width < n ? from + width : n;
        const float *p = s + k * stride;
#if RC_X86
        if (k + 16 <= M && n >= 4) {
          for (ptrdiff_t r = 16; r < 32 && k + r < M; r++) /* short runs of many rows: no hardware sees them coming */
            for (ptrdiff_t i = from; i < to; i += 16) RC_PREFETCH(p + r * stride + i);
          for (; j + 16 <= to; j += 16) /* a line of each row */
            for (ptrdiff_t r = 0; r < 16; r += VFN)
              for (ptrdiff_t i = 0; i < 16; i += 4)
                RC_(transpose)(p + r * stride + j + i, stride, out + (j + i) * ld + k + r, ld);
          while (j < to) {
            j = j + 4 <= n ? j : n - 4; /* the last four overlap those before */
            for (ptrdiff_t r = 0; r < 16; r += VFN) RC_(transpose)(p + r * stride + j, stride, out + j * ld + k + r, ld);
            j += 4;
          }
        }
#endif
        for (; j < to; j++)
          for (ptrdiff_t r = 0; r < 16; r++) out[j * ld + k + r] = k + r < M ? p[r * stride + j] : s[j];
      }
}

/* The same from doubles; what is not 0 keeps its sign. */
static void RC_(spread_f64)(const double *s, ptrdiff_t stride, ptrdiff_t M, ptrdiff_t n, float *out, ptrdiff_t ld) {
  ptrdiff_t Mp = (M + 15) / 16 * 16;
  for (ptrdiff_t k = 0; k < Mp; k += 16)
    for (ptrdiff_t j = 0; j < n; j++)
      for (ptrdiff_t r = 0; r < 16; r++) {
        double x = k + r < M ? s[(k + r) * stride + j] : s[j];
        double least = x < 0.0 ? -RC_TINY : RC_TINY;
        out[j * ld + k + r] = x != 0.0 && x > -RC_TINY && x < RC_TINY ? (float)least : (float)x;
      }
}

/* --- the workspace -------------------------------------------------------------------------------------------- */

/* One sample being solved. "Slots" are the models that were loaded exactly, "active" those that carry weight. */
typedef struct {
  ptrdiff_t M, Mp, ld, C, Cp, most; /* models, padded; distance of classes; classes, padded; active at most */
  const void *rows;
  ptrdiff_t stride;
  int wide, exact; /* rows are doubles; the float copy holds the rows as they are */
  const float *x;
  ptrdiff_t seen, live; /* classes with anything at all; those that matter, and which */
  int32_t *which;
  float *chi, *sums, *lanes; /* models; models; 3 x 16 C: sums, minima, maxima of classes by lane */
  float *entropies;          /* models: -sum x log x of the float copy, once entropy_known */
  int entropy_known;
  float *qf, *wf, *kf, *bf;
  double *mean, *least, *largest;
  int sound;     /* all values finite and none negative */
  double spread; /* how far the float copy may be from the exact rows, relative */
  ptrdiff_t n;   /* slots in use */
  int32_t *model;
  uint8_t *known; /* by model: has a slot (and lanes beyond the last model) */
  double *z, *h, *D; /* rows in runs of 8 slots, see row; sum z log z; D(z || q') */
  ptrdiff_t run;     /* distance of runs: an odd number of lines */
  ptrdiff_t a;
  int32_t *slot;
  double *p, *rows_a, *h_a, *D_a; /* weights, rows [active][Cp], their h and D(z || q) */
  double *G, *d, *u, *v, *trial, *logs, *combined;
  double *q, *lq, *q2, *lq2;
  double lower, allowance;
  int32_t scans, steps;
} RC_(sample);

static void *RC_(carve)(char **at, size_t bytes) {
  void *p = *at;
  *at += (bytes + 63) / 64 * 64;
  return p;
}

/* Lays the workspace out; with base NULL it only says how many bytes that takes. */
static size_t RC_(workspace)(RC_(sample) *w, char *base, ptrdiff_t M, ptrdiff_t C) {
  char *at = base;
  w->M = M;
  w->C = C;
  w->Mp = (M + 15) / 16 * 16;
  w->ld = w->Mp / 16 % 2 ? w->Mp : w->Mp + 16; /* an odd number of lines: powers of two compete for cache sets */
  w->Cp = (C + 7) / 8 * 8;
  w->run = 8 * (w->Cp + 1);
  w->most = M < C + 16 ? M : C + 16;
  size_t Mp = (size_t)w->Mp, Cp = (size_t)w->Cp, most = (size_t)w->most;
#define RC_CARVE(name, type, count) w->name = (type *)RC_(carve)(&at, (count) * sizeof(type))
  RC_CARVE(which, int32_t, Cp);
  RC_CARVE(chi, float, Mp);
  RC_CARVE(sums, float, Mp);
  RC_CARVE(entropies, float, Mp);
  RC_CARVE(lanes, float, 48 * Cp);
  RC_CARVE(qf, float, Cp);
  RC_CARVE(wf, float, Cp);
  RC_CARVE(kf, float, Cp);
  RC_CARVE(bf, float, Cp);
  RC_CARVE(mean, double, Cp);
  RC_CARVE(least, double, Cp);
  RC_CARVE(largest, double, Cp);
  RC_CARVE(model, int32_t, Mp);
  RC_CARVE(known, uint8_t, Mp);
  RC_CARVE(h, double, Mp);
  RC_CARVE(D, double, Mp);
  RC_CARVE(slot, int32_t, most);
  RC_CARVE(p, double, most);
  RC_CARVE(h_a, double, most);
  RC_CARVE(D_a, double, most);
  RC_CARVE(d, double, most);
  RC_CARVE(u, double, most);
  RC_CARVE(v, double, most);
  RC_CARVE(trial, double, most);
  RC_CARVE(q, double, Cp);
  RC_CARVE(lq, double, Cp);
  RC_CARVE(q2, double, Cp);
  RC_CARVE(lq2, double, Cp);
  RC_CARVE(logs, double, 8 * Cp);
  RC_CARVE(rows_a, double, most * Cp);
  RC_CARVE(G, double, most * ((most + 9) / 8 * 8)); /* beside each row two more numbers, padded */
  RC_CARVE(combined, double, most * most);
  RC_CARVE(z, double, (size_t)w->run * (Mp / 8)); /* last: pages that no sample touches cost nothing */
#undef RC_CARVE
  return (size_t)(at - base) + 64;
}

/* --- passes over all models ----------------------------------------------------------------------------------- */

/* These passes take so many classes at a time, each over all models: memory is read in as many long runs, and a sum over
 * classes, being a sum of sums, has no more than RC_(roundings) roundings on the way of any term. */
#define RC_CLASSES 32
RC_INLINE double RC_(roundings)(ptrdiff_t n) {
  return (double)((n < RC_CLASSES ? n : RC_CLASSES) + (n + RC_CLASSES - 1) / RC_CLASSES);
}

/* Classes whose sums and extremes stay in registers together. */
#define RC_AT_ONCE (VFN == 16 ? 4 : 2)

/* Lanes l.. of the sums and extremes of n classes from c on; their scores are added to `before` (NULL: to 0) by model. */
RC_INLINE void RC_(survey_classes)(RC_(sample) *w, const int n, ptrdiff_t c, ptrdiff_t l, const float *before, float *rows) {
  ptrdiff_t C = w->C, Mp = w->Mp, ld = w->ld;
  VF sum[4], low[4], high[4];
  for (int i = 0; i < n; i++) {
    sum[i] = high[i] = VF_SET(0.0f);
    low[i] = VF_SET(INFINITY);
  }
  for (ptrdiff_t k = l; k < Mp; k += 16) {
    const float *x = w->x + c * ld + k;
    VF row = before ? VF_LOAD(before + k) : VF_SET(0.0f);
    for (int i = 0; i < n; i++) {
      VF y = VF_LOAD(x + i * ld);
      row = VF_ADD(row, y);
      sum[i] = VF_ADD(sum[i], y);
      low[i] = VF_MIN(y, low[i]);
      high[i] = VF_MAX(y, high[i]);
    }
    VF_STORE(rows + k, row);
  }
  for (int i = 0; i < n; i++) {
    float *at = w->lanes + 16 * (c + i) + l;
    VF_STORE(at, sum[i]);
    VF_STORE(at + 16 * C, low[i]);
    VF_STORE(at + 32 * C, high[i]);
  }
}

/* Mean, smallest and largest score of each class, and how far the sums of rows are off 1: one pass over the copy. */
static void RC_(survey)(RC_(sample) *w) {
  ptrdiff_t C = w->C, Mp = w->Mp;
  float *sum = w->lanes, *low = sum + 16 * C, *high = low + 16 * C, least[VFN], most[VFN], off = 0.0f;
  VF below = VF_SET(INFINITY), above = VF_SET(0.0f);
  for (ptrdiff_t from = 0; from < C; from += RC_CLASSES) {
    ptrdiff_t to = C - from < RC_CLASSES ? C : from + RC_CLASSES, c = from;
    float *rows = from ? w->chi : w->sums; /* of these classes */
    for (; c + RC_AT_ONCE <= to; c += RC_AT_ONCE)
      for (ptrdiff_t l = 0; l < 16; l += VFN)
        RC_(survey_classes)(w, RC_AT_ONCE, c, l, c > from ? rows : NULL, rows);
    for (; c < to; c++)
      for (ptrdiff_t l = 0; l < 16; l += VFN) RC_(survey_classes)(w, 1, c, l, c > from ? rows : NULL, rows);
    if (from)
      for (ptrdiff_t k = 0; k < Mp; k++) w->sums[k] += rows[k];
  }
  for (ptrdiff_t k = 0; k < Mp; k += VFN) {
    below = VF_MIN(VF_LOAD(w->sums + k), below);
    above = VF_MAX(VF_LOAD(w->sums + k), above);
  }
  VF_STORE(least, below);
  VF_STORE(most, above);
  for (int l = 0; l < VFN; l++) {
    off = 1.0f - least[l] > off ? 1.0f - least[l] : off;
    off = most[l] - 1.0f > off ? most[l] - 1.0f : off;
  }
  w->spread = (double)off;
  w->live = w->seen = 0;
  w->sound = 1;
  for (ptrdiff_t c = 0; c < C; c++) {
    float *restrict s = sum + 16 * c, *restrict b = low + 16 * c, *restrict t = high + 16 * c;
#define RC_HALVE(half)                             \
  for (int l = 0; l < half; l++) {                 \
    s[l] += s[l + half];                           \
    b[l] = b[l + half] < b[l] ? b[l + half] : b[l]; \
    t[l] = t[l + half] > t[l] ? t[l + half] : t[l]; \
  }
    RC_HALVE(8) RC_HALVE(4) RC_HALVE(2) RC_HALVE(1)
#undef RC_HALVE
    w->sound &= s[0] - s[0] == 0.0f && b[0] >= 0.0f; /* minima pass over NaN, sums do not */
    w->seen += t[0] > 0.0f;
    if (t[0] > (float)RC_TINY) { /* a class that no model predicts, or hardly, carries nothing: see allow */
      w->which[w->live] = (int32_t)c;
      w->mean[w->live] = (double)s[0] / (double)Mp;
      w->least[w->live] = (double)b[0];
      w->largest[w->live++] = (double)t[0];
    }
  }
  double total = 0;
  for (ptrdiff_t c = 0; c < w->live; c++) total += w->mean[c];
  for (ptrdiff_t c = 0; c < w->live; c++) w->mean[c] /= total;
}

/* Divides the float copy by the sums of its rows. */
static void RC_(normalise)(RC_(sample) *w) {
  float *x = (float *)w->x;
  for (ptrdiff_t k = 0; k < w->Mp; k++) w->sums[k] = 1.0f / w->sums[k];
  for (ptrdiff_t c = 0; c < w->C; c++)
    for (ptrdiff_t k = 0; k < w->Mp; k++) x[c * w->ld + k] *= w->sums[k];
  w->exact = 0;
}

/* chi[k] = sum over classes of TERM(acc, x), which adds to acc what a score x of class c gives. */
#define RC_SUM_CLASSES(L, SET, TERM)                                                \
  do {                                                                              \
    VF acc[L];                                                                      \
    for (int l = 0; l < L; l++) acc[l] = VF_SET(0.0f);                              \
    for (ptrdiff_t c = from; c < to; c++) {                                         \
      const float *x = w->x + w->which[c] * w->ld + k;                              \
      SET(c);                                                                       \
      for (int l = 0; l < L; l++) acc[l] = TERM(acc[l], VF_LOAD(x + l * VFN));      \
    }                                                                               \
    for (int l = 0; l < L; l++) {                                                   \
      float *chi = w->chi + k + l * VFN;                                            \
      VF_STORE(chi, from ? VF_ADD(acc[l], VF_LOAD(chi)) : acc[l]);                  \
    }                                                                               \
  } while (0)
#define RC_OVER_CLASSES(SET, TERM)                                                  \
  for (ptrdiff_t from = 0; from < w->live; from += RC_CLASSES) {                    \
    ptrdiff_t to = w->live - from < RC_CLASSES ? w->live : from + RC_CLASSES, k = 0; \
    for (; k + 4 * VFN <= w->Mp; k += 4 * VFN) RC_SUM_CLASSES(4, SET, TERM);        \
    for (; k < w->Mp; k += VFN) RC_SUM_CLASSES(1, SET, TERM);                       \
  }

/* chi[k] = sum_c wf_c (x_kc - qf_c)^2 */
#define RC_SET(c) VF q = VF_SET(w->qf[c]), f = VF_SET(w->wf[c])
RC_INLINE VF RC_(distance)(VF acc, VF x, VF q, VF f) {
  VF e = VF_SUB(x, q);
  return VF_FMA(VF_MUL(e, e), f, acc);
}
#define RC_TERM(acc, x) RC_(distance)(acc, x, q, f)
static void RC_(distances)(RC_(sample) *w) { RC_OVER_CLASSES(RC_SET, RC_TERM) }
#undef RC_SET
#undef RC_TERM

/* chi[k] = sum_c t^2 (1/2 - bf_c t + kf_c t^2), t = x_kc wf_c - qf_c: the divergence up to its fourth-order term, where
 * qf = sqrt(q), wf = 1 / qf, bf = 1 / (6 qf) and kf = lambda / q, so that t = qf u. */
#define RC_SET(c) VF s = VF_SET(-w->qf[c]), v = VF_SET(w->wf[c]), b = VF_SET(-w->bf[c]), f = VF_SET(w->kf[c])
RC_INLINE VF RC_(quartic)(VF acc, VF x, VF s, VF v, VF b, VF f) {
  VF t = VF_FMA(x, v, s), g = VF_FMA(VF_FMA(f, t, b), t, VF_SET(0.5f));
  return VF_FMA(VF_MUL(t, t), g, acc);
}
#define RC_TERM(acc, x) RC_(quartic)(acc, x, s, v, b, f)
static void RC_(quartics)(RC_(sample) *w) { RC_OVER_CLASSES(RC_SET, RC_TERM) }
#undef RC_SET
#undef RC_TERM

/* chi[k] = -sum_c x_kc qf_c */
#define RC_SET(c) VF y = VF_SET(-w->qf[c])
#define RC_TERM(acc, x) VF_FMA(x, y, acc)
static void RC_(crosses)(RC_(sample) *w) { RC_OVER_CLASSES(RC_SET, RC_TERM) }
#undef RC_SET
#undef RC_TERM
#undef RC_SUM_CLASSES
#undef RC_OVER_CLASSES

/* Fills entropies; takes chi. Adding 2^-100 keeps 0 out of the logarithm and moves nothing else. */
static void RC_(entropy)(RC_(sample) *w) {
  float *restrict sum = w->entropies, *restrict part = w->chi;
  ptrdiff_t Mp = w->Mp;
  for (ptrdiff_t from = 0; from < w->live; from += RC_CLASSES) {
    ptrdiff_t to = w->live - from < RC_CLASSES ? w->live : from + RC_CLASSES;
    for (ptrdiff_t k = 0; k < w->Mp; k++) part[k] = 0.0f;
    for (ptrdiff_t c = from; c < to; c++) {
      const float *restrict x = w->x + w->which[c] * w->ld;
      for (ptrdiff_t k = 0; k < Mp; k++) part[k] -= x[k] * RC_(log_f)(x[k] + 0x1p-100f);
    }
    for (ptrdiff_t k = 0; k < w->Mp; k++) sum[k] = from ? sum[k] + part[k] : part[k];
  }
  w->entropy_known = 1;
}

/* --- exact rows ----------------------------------------------------------------------------------------------- */

/* Slot j: class c of it is at [8 * c]. */
RC_INLINE double *RC_(row)(const RC_(sample) *w, ptrdiff_t j) { return w->z + j / 8 * w->run + j % 8; }

/* Gives model k a slot; settle fills it. */
RC_INLINE void RC_(load)(RC_(sample) *w, ptrdiff_t k) {
  w->known[k] = 1;
  w->model[w->n++] = (int32_t)k;
}

/* Fills the slots from `from` on, in runs of 8: the row in double, divided by its sum, and h = sum_c z log z. The rest
 * of the last run repeats the first slot. */
static void RC_(settle)(RC_(sample) *w, ptrdiff_t from) {
  ptrdiff_t live = w->live;
  double *t = w->logs;
  if (from == w->n) return;
  for (ptrdiff_t j = from / 8 * 8; j < w->n; j += 8) {
    ptrdiff_t at[8];
    double total[8] = {0}, sum[8] = {0};
    for (int l = 0; l < 8; l++) at[l] = w->model[j + l < w->n ? j + l : 0];
    for (ptrdiff_t c = 0; c < live; c++) {
      double *z = RC_(row)(w, j) + 8 * c;
      const ptrdiff_t b = w->which[c];
      if (w->exact && live < 64) /* long rows are read as they lie */
        for (int l = 0; l < 8; l++) z[l] = (double)w->x[b * w->ld + at[l]];
      else if (w->wide)
        for (int l = 0; l < 8; l++) z[l] = ((const double *)w->rows)[at[l] * w->stride + b];
      else
        for (int l = 0; l < 8; l++) z[l] = (double)((const float *)w->rows)[at[l] * w->stride + b];
      for (int l = 0; l < 8; l++) total[l] += z[l];
    }
    for (int l = 0; l < 8; l++) total[l] = 1.0 / total[l];
    for (ptrdiff_t c = 0; c < live; c++) {
      double *z = RC_(row)(w, j) + 8 * c;
      for (int l = 0; l < 8; l++) {
        z[l] *= total[l];
        t[8 * c + l] = z[l] > 0.0 ? z[l] : 1.0;
      }
    }
    RC_(log_array)(t, 8 * live, t);
    for (ptrdiff_t c = 0; c < live; c++)
      for (int l = 0; l < 8; l++) sum[l] += RC_(row)(w, j)[8 * c + l] * t[8 * c + l];
    for (int l = 0; l < 8; l++) w->h[j + l] = sum[l];
  }
}

/* D = h - sum_c z log q of all slots; returns the first slot with the largest. */
static ptrdiff_t RC_(divergences)(RC_(sample) *w, const double *lq) {
  double top[VDN], best;
  VD high = VD_SET(-INFINITY);
  ptrdiff_t i = 0;
#define RC_DIVERGENCE(L)                                                                              \
  do {                                                                                                \
    VD D[L];                                                                                          \
    const double *z = RC_(row)(w, i);                                                                 \
    for (int l = 0; l < L; l++) D[l] = VD_LOAD(w->h + i + l * VDN);                                   \
    for (ptrdiff_t c = 0; c < w->live; c++, z += 8) {                                                 \
      VD y = VD_SET(lq[c]);                                                                           \
      for (int l = 0; l < L; l++)                                                                     \
        D[l] = VD_SUB(D[l], VD_MUL(VD_LOAD(z + l * VDN / 8 * w->run + l * VDN % 8), y));              \
    }                                                                                                 \
    for (int l = 0; l < L; l++) {                                                                     \
      VD_STORE(w->D + i + l * VDN, D[l]);                                                             \
      high = VD_MAX(D[l], high);                                                                      \
    }                                                                                                 \
  } while (0)
  ptrdiff_t full = (w->n + 7) / 8 * 8;
  for (; i + 8 * VDN <= full; i += 8 * VDN) RC_DIVERGENCE(8);
  for (; i < full; i += VDN) RC_DIVERGENCE(1);
#undef RC_DIVERGENCE
  VD_STORE(top, high);
  best = top[0];
  for (int l = 1; l < VDN; l++) best = top[l] > best ? top[l] : best;
  ptrdiff_t j = 0;
  while (j + 1 < w->n && w->D[j] != best) j++;
  return j;
}
