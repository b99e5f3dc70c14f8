/* Capacity of the channel whose rows are the score vectors of M models on one sample, with bounds that always hold:
 *
 *   lower = sum_k p_k D(z_k || q) <= capacity <= max_k D(z_k || q') = upper,    q = sum_k p_k z_k, in nats inside,
 *
 * z_k the raw row divided by its sum. Two methods: an active set with Newton steps (few models carry weight), and
 * Blahut-Arimoto over all models. What the active set needs from all models it gets from a float copy of the sample
 * that lies [class][model] (lanes are models) and a bound without logarithms; the few models that pass it are loaded
 * again from the source, in double, and evaluated exactly. See docs/capacity.md. */

/* --- the active set ------------------------------------------------------------------------------------------- */

/* Adds eight lanes as rc_fold does. */
RC_INLINE double RC_(fold)(const VD *s) {
#if RC_X86
#if RC_LEVEL == 2
  __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(s[0]), _mm512_extractf64x4_pd(s[0], 1));
  __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
#elif RC_LEVEL == 1
  __m256d four = _mm256_add_pd(s[0], s[1]);
  __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
#else
  __m128d two = _mm_add_pd(_mm_add_pd(s[0], s[2]), _mm_add_pd(s[1], s[3]));
#endif
  return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
#else
  return rc_fold(s);
#endif
}

/* out[i] = a . row i of b, i < rows <= 4, n a multiple of 8. */
RC_INLINE void RC_(dots_of)(const int rows, const double *a, const double *b, ptrdiff_t ld, ptrdiff_t n, double *out) {
  VD s[4][8 / VDN];
  for (int i = 0; i < rows; i++)
    for (int l = 0; l < 8 / VDN; l++) s[i][l] = VD_SET(0.0);
  for (ptrdiff_t j = 0; j < n; j += 8)
    for (int l = 0; l < 8 / VDN; l++) {
      VD x = VD_LOAD(a + j + l * VDN);
      for (int i = 0; i < rows; i++) s[i][l] = VD_ADD(s[i][l], VD_MUL(x, VD_LOAD(b + i * ld + j + l * VDN)));
    }
  for (int i = 0; i < rows; i++) out[i] = RC_(fold)(s[i]);
}

RC_INLINE double RC_(dot)(const double *a, const double *b, ptrdiff_t n) {
  double out;
  RC_(dots_of)(1, a, b, 0, n, &out);
  return out;
}

/* out[k] = a . row k of b, k < rows. */
static void RC_(dots)(const double *a, const double *b, ptrdiff_t ld, ptrdiff_t rows, ptrdiff_t n, double *out) {
  for (; rows >= 4; rows -= 4, b += 4 * ld, out += 4) RC_(dots_of)(4, a, b, ld, n, out);
  if (rows == 3) RC_(dots_of)(3, a, b, ld, n, out);
  else if (rows == 2) RC_(dots_of)(2, a, b, ld, n, out);
  else if (rows == 1) RC_(dots_of)(1, a, b, ld, n, out);
}

/* Logarithms of a mixture; 0 where it is 0 or next to it, which RC_(cover) sees to. Zeros follow the last live class. */
static void RC_(logs)(const double *q, ptrdiff_t n, double *lq) {
  for (ptrdiff_t c = 0; c < n; c++) lq[c] = RC_(log_normal)(q[c] >= 0x1p-1022 ? q[c] : 1.0, 0.0);
}

static void RC_(mix)(const RC_(sample) *w, const double *p, double *q) {
  for (ptrdiff_t c = 0; c < w->live; c += 8) {
    VD sum[8 / VDN];
    for (int l = 0; l < 8 / VDN; l++) sum[l] = VD_SET(0.0);
    for (ptrdiff_t k = 0; k < w->a; k++) {
      const double *r = w->rows_a + k * w->Cp + c;
      VD y = VD_SET(p[k]);
      for (int l = 0; l < 8 / VDN; l++) sum[l] = VD_ADD(sum[l], VD_MUL(y, VD_LOAD(r + l * VDN)));
    }
    for (int l = 0; l < 8 / VDN; l++) VD_STORE(q + c + l * VDN, sum[l]);
  }
}

/* D of the active rows from logarithms of their mixture; returns the mutual information sum_k p_k D_k. */
static double RC_(information)(RC_(sample) *w, const double *p, const double *lq) {
  double f = 0;
  RC_(dots)(lq, w->rows_a, w->Cp, w->a, (w->live + 7) / 8 * 8, w->D_a);
  for (ptrdiff_t k = 0; k < w->a; k++) {
    w->D_a[k] = w->h_a[k] - w->D_a[k];
    f += p[k] * w->D_a[k];
  }
  return f;
}

/* Mixture q of weights p, its logarithms (0 where it is 0: no active row has that class), D of the active rows;
 * returns the mutual information sum_k p_k D_k. */
static double RC_(mixture)(RC_(sample) *w, const double *p, double *q, double *lq) {
  ptrdiff_t Cp = (w->live + 7) / 8 * 8;
  RC_(mix)(w, p, q);
  RC_(logs)(q, Cp, lq);
  return RC_(information)(w, p, lq);
}

static void RC_(activate)(RC_(sample) *w, ptrdiff_t slot, double weight) {
  double *r = w->rows_a + w->a * w->Cp;
  for (ptrdiff_t c = 0; c < w->Cp; c++) r[c] = c < w->live ? RC_(row)(w, slot)[8 * c] : 0.0;
  w->slot[w->a] = (int32_t)slot;
  w->h_a[w->a] = w->h[slot];
  w->p[w->a++] = weight;
}

/* Drops active rows without weight, which leaves mixture and divergences as they are, and makes the weights sum to 1. */
static void RC_(prune)(RC_(sample) *w) {
  ptrdiff_t a = 0;
  double total = 0;
  for (ptrdiff_t k = 0; k < w->a; k++) {
    if (!(w->p[k] > 0.0)) continue;
    if (a < k) {
      memcpy(w->rows_a + a * w->Cp, w->rows_a + k * w->Cp, (size_t)w->Cp * sizeof(double));
      w->slot[a] = w->slot[k];
      w->h_a[a] = w->h_a[k];
      w->D_a[a] = w->D_a[k];
    }
    total += w->p[a++] = w->p[k];
  }
  w->a = a;
  for (ptrdiff_t k = 0; k < a; k++) w->p[k] /= total;
}

/* G = S diag(1/q) S', upper triangle, and behind it two columns: D - lower, and ones. Rows are `wide` apart. */
static void RC_(gram)(RC_(sample) *w, ptrdiff_t wide) {
  ptrdiff_t Cp = (w->live + 7) / 8 * 8, a = w->a;
  double *t = w->lq2, *inv = w->q2;
  for (ptrdiff_t c = 0; c < Cp; c++) inv[c] = w->q[c] > 0.0 ? 1.0 / w->q[c] : 0.0;
  for (ptrdiff_t j = 0; j < a; j++) {
    const double *r = w->rows_a + j * w->Cp;
    double *g = w->G + j * wide;
    for (ptrdiff_t c = 0; c < Cp; c++) t[c] = r[c] * inv[c];
    for (ptrdiff_t k = j / 8 * 8; k < j; k++) g[k] = 0.0; /* never used, but computed with */
    RC_(dots)(t, r, w->Cp, a - j, Cp, g + j);
    g[a] = w->D_a[j] - w->lower;
    g[a + 1] = 1.0;
    for (ptrdiff_t k = a + 2; k < wide; k++) g[k] = 0.0;
  }
}

/* Newton direction d on the weights: G d = D - lambda, sum d = 0, by elimination above and below each pivot: whole rows,
 * no sums. A ridge of 1e-11 of the diagonal keeps duplicates and collinear rows solvable. */
static void RC_(direction)(RC_(sample) *w) {
  ptrdiff_t a = w->a, wide = (a + 9) / 8 * 8;
  RC_(gram)(w, wide);
  for (ptrdiff_t k = 0; k < a; k++) w->v[k] = w->G[k * wide + k];
  for (ptrdiff_t k = 0; k < a; k++) {
    const double *r = w->G + k * wide;
    double s = r[k] + 1e-11 * w->v[k];
    if (!(s > 1e-13 * w->v[k])) s = 1e-13 * w->v[k];
    w->u[k] = s = 1.0 / s;
    for (ptrdiff_t j = 0; j < a; j++) {
      double *t = w->G + j * wide;
      if (j == k) continue;
      VD f = VD_SET((j < k ? t[k] : r[j]) * s);
      for (ptrdiff_t i = (j < k ? k + 1 : j) / 8 * 8; i < wide; i += VDN)
        VD_STORE(t + i, VD_SUB(VD_LOAD(t + i), VD_MUL(f, VD_LOAD(r + i))));
    }
  }
  double su = 0, sv = 0;
  for (ptrdiff_t k = 0; k < a; k++) {
    su += w->d[k] = w->G[k * wide + a] * w->u[k];
    sv += w->v[k] = w->G[k * wide + a + 1] * w->u[k];
  }
  double lambda = su / sv;
  for (ptrdiff_t k = 0; k < a; k++) w->d[k] -= lambda * w->v[k];
}

/* One round of Blahut-Arimoto on the active rows: p_k ~ p_k exp(D_k). Never lowers the mutual information. */
static void RC_(round)(RC_(sample) *w) {
  double top = w->D_a[0];
  for (ptrdiff_t k = 1; k < w->a; k++) top = w->D_a[k] > top ? w->D_a[k] : top;
  for (ptrdiff_t k = 0; k < w->a; k++) w->p[k] *= RC_(exp)(w->D_a[k] - top);
  RC_(prune)(w);
  w->lower = RC_(mixture)(w, w->p, w->q, w->lq);
}

RC_INLINE double RC_(active_gap)(const RC_(sample) *w) {
  double top = w->D_a[0];
  for (ptrdiff_t k = 1; k < w->a; k++) top = w->D_a[k] > top ? w->D_a[k] : top;
  return top - w->lower;
}

/* Marks active rows that alone have some class. Without them D is infinite, so they would be back at once: their weights
 * may fall tenfold in a step, and do not stop it. */
static void RC_(owners)(RC_(sample) *w, uint8_t *sole) {
  for (ptrdiff_t k = 0; k < w->a; k++) sole[k] = 0;
  for (ptrdiff_t c = 0; c < w->live; c++) {
    ptrdiff_t owner = -1, count = 0;
    for (ptrdiff_t k = 0; k < w->a && count < 2; k++)
      if (w->rows_a[k * w->Cp + c] > 0.0) {
        owner = k;
        count++;
      }
    if (count == 1 && w->p[owner] > RC_MISSING) sole[owner] = 1;
  }
}

/* Newton steps with a ratio test until no active row exceeds the mutual information by more than `gap`. */
static void RC_(newton)(RC_(sample) *w, double gap) {
  int idle = 0; /* steps that brought nothing but rounding */
  for (int step = 0; step < 60 && idle < 2 && w->a > 1 && RC_(active_gap)(w) > gap; step++) {
    w->steps++;
    RC_(direction)(w);
    uint8_t *sole = (uint8_t *)w->u; /* free again */
    RC_(owners)(w, sole);
    double most = 1.0;
    for (ptrdiff_t k = 0; k < w->a; k++)
      if (w->d[k] < 0.0 && !sole[k] && -w->p[k] / w->d[k] < most) most = -w->p[k] / w->d[k];
    double before = w->lower, alpha = most;
    int taken = 0;
    for (int half = 0; half < 40 && !taken; half++, alpha *= 0.5) {
      for (ptrdiff_t k = 0; k < w->a; k++) {
        double y = w->p[k] + alpha * w->d[k];
        if (sole[k]) {
          w->trial[k] = y > 0.1 * w->p[k] ? y : 0.1 * w->p[k];
          continue;
        }
        /* at the full step to the boundary the row that stopped it leaves, whatever the rounding */
        if (half == 0 && w->d[k] < 0.0 && -w->p[k] / w->d[k] <= most) y = 0.0;
        w->trial[k] = y > 0.0 ? y : 0.0;
      }
      double sum = 0;
      for (ptrdiff_t k = 0; k < w->a; k++) sum += w->trial[k];
      for (ptrdiff_t k = 0; k < w->a; k++) w->trial[k] /= sum;
      double f = RC_(mixture)(w, w->trial, w->q2, w->lq2);
      taken = f >= before - 1e-15 && f == f;
      if (taken) {
        int gone = 0;
        for (ptrdiff_t k = 0; k < w->a; k++) gone |= !(w->trial[k] > 0.0);
        RC_SWAP(w->p, w->trial);
        RC_SWAP(w->q, w->q2);
        RC_SWAP(w->lq, w->lq2);
        w->lower = f;
        if (gone) RC_(prune)(w);
      }
    }
    if (!taken) { /* rounding has the last word: a round that cannot go wrong */
      w->lower = RC_(mixture)(w, w->p, w->q, w->lq);
      RC_(round)(w);
    }
    idle = w->lower > before + 1e-16 ? 0 : idle + 1;
  }
}

/* Where a slot is active, or would come in. */
static ptrdiff_t RC_(position)(const RC_(sample) *w, ptrdiff_t slot) {
  ptrdiff_t k = 0;
  while (k < w->a && w->slot[k] != slot) k++;
  return k;
}

/* Brings a slot in by an exact line search from p towards it: the mutual information rises. */
static void RC_(enter)(RC_(sample) *w, ptrdiff_t slot) {
  ptrdiff_t at = RC_(position)(w, slot), known = at < w->a; /* an active one gets more weight */
  ptrdiff_t Cp = (w->live + 7) / 8 * 8;
  double mean_h = 0, low = 0.0, high = 1.0, *r = w->rows_a + at * w->Cp, *e = w->q2, *lt = w->lq2;
  for (ptrdiff_t k = 0; k < w->a; k++) mean_h += w->p[k] * w->h_a[k];
  if (!known) RC_(activate)(w, slot, 0.0);
  for (ptrdiff_t c = 0; c < Cp; c++) e[c] = r[c] - w->q[c];
  /* phi(t): the mutual information of (1 - t) p + t e_slot; phi' = h - sum p h - (r - q) . log q_t */
  double first = w->h_a[at] - mean_h - RC_(dot)(e, w->lq, Cp), curve = 0;
  int covered = 1;
  for (ptrdiff_t c = 0; c < w->live; c++) {
    if (w->q[c] > 0.0) curve += e[c] * e[c] / w->q[c];
    else if (r[c] > 0.0) covered = 0;
  }
  if (covered && !(first > 0.0)) {
    w->a -= !known;
    return;
  }
  double t = covered && curve > 0.0 ? first / curve : 1.0 / (double)(w->a), seen = -1.0; /* logarithms are those at seen */
  if (!(t > 0.0 && t < 0.5)) t = 0.5;
  for (int step = 0; step < 12; step++) {
    double slope = w->h_a[at] - mean_h;
    curve = 0;
    for (ptrdiff_t c = 0; c < Cp; c++) lt[c] = w->q[c] + t * e[c];
    for (ptrdiff_t c = 0; c < w->live; c++) curve += lt[c] > 0.0 ? e[c] * e[c] / lt[c] : 0.0;
    RC_(logs)(lt, Cp, lt);
    seen = t;
    slope -= RC_(dot)(e, lt, Cp);
    if (slope >= 0.0) {
      low = t;
      if (!covered || slope <= 0.25 * first) break; /* rising all the way to t */
    } else {
      high = t;
    }
    double next = t + slope / curve;
    t = next > low && next < high ? next : 0.5 * (low + high);
  }
  if (low > 0.0) t = low;
  for (ptrdiff_t k = 0; k < w->a; k++) w->p[k] *= 1.0 - t;
  w->p[at] += t;
  RC_(mix)(w, w->p, w->q);
  if (seen == t) RC_SWAP(w->lq, w->lq2);
  else RC_(logs)(w->q, Cp, w->lq);
  w->lower = RC_(information)(w, w->p, w->lq);
}

/* --- bounds --------------------------------------------------------------------------------------------------- */

/* q' for the upper bound: q, with a trace of the mean where a class is missing from q. Logarithms go to lq2. */
static int RC_(cover)(RC_(sample) *w, double trace) {
  ptrdiff_t Cp = (w->live + 7) / 8 * 8;
  int missing = 0;
  for (ptrdiff_t c = 0; c < w->live; c++) missing |= !(w->q[c] > RC_MISSING);
  for (ptrdiff_t c = 0; c < Cp; c++)
    w->q2[c] = c >= w->live ? 0.0 : missing ? (1.0 - trace) * w->q[c] + trace * w->mean[c] : w->q[c];
  if (missing) RC_(logs)(w->q2, Cp, w->lq2);
  else memcpy(w->lq2, w->lq, (size_t)Cp * sizeof(double));
  return missing;
}

/* Brings in, for every class that q misses, the slot with the most of it that exceeds the lower bound by `gap`; a
 * single one by line search, several with equal weights. Returns how many. */
static ptrdiff_t RC_(enter_missing)(RC_(sample) *w, double gap) {
  ptrdiff_t before = w->a, added = 0, found = -1;
  uint8_t *reached = (uint8_t *)w->qf; /* classes that q or a slot found here has */
  for (ptrdiff_t c = 0; c < w->live; c++) reached[c] = w->q[c] > RC_MISSING;
  for (ptrdiff_t c = 0; c < w->live && w->a < w->most; c++) {
    if (reached[c]) continue;
    ptrdiff_t best = -1;
    double most = 0.0;
    for (ptrdiff_t j = 0; j < w->n; j++) {
      double z = RC_(row)(w, j)[8 * c];
      if (z > most && w->D[j] > w->lower + gap) {
        most = z;
        best = j;
      }
    }
    if (best < 0) continue;
    for (ptrdiff_t b = 0; b < w->live; b++) reached[b] |= RC_(row)(w, best)[8 * b] > 0.0;
    RC_(activate)(w, best, 0.0);
    found = best;
    added++;
  }
  if (added == 1) {
    w->a = before;
    RC_(enter)(w, found);
  } else if (added > 1) {
    for (ptrdiff_t k = 0; k < w->a; k++)
      w->p[k] = k < before ? w->p[k] * (double)before / (double)w->a : 1.0 / (double)w->a;
    RC_(prune)(w);
    w->lower = RC_(mixture)(w, w->p, w->q, w->lq);
    for (int j = 0; j < 8 && RC_(active_gap)(w) > gap; j++) RC_(round)(w);
  }
  return added;
}

/* Solves the problem on the slots: until none exceeds the lower bound by more than `gap`. */
static void RC_(solve_slots)(RC_(sample) *w, double gap, double trace) {
  int idle = 0;
  for (ptrdiff_t turn = 0; turn < 64 + 8 * w->live; turn++) {
    int missing = RC_(cover)(w, trace);
    ptrdiff_t best = RC_(divergences)(w, w->lq2);
    double over = w->D[best] - w->lower;
    if (over <= gap) return;
    double before = w->lower;
    if (!missing || RC_(enter_missing)(w, gap) == 0) {
      if (w->a < w->most || RC_(position)(w, best) < w->a) RC_(enter)(w, best);
      for (ptrdiff_t more = w->n * w->live / 32768; more > 0 && w->a < w->most; more--) {
        w->D[best] = -INFINITY; /* where looking at all slots is dear, the next farthest ones come in as well */
        best = 0;
        for (ptrdiff_t j = 1; j < w->n; j++) best = w->D[j] > w->D[best] ? j : best;
        if (w->D[best] < before + 0.5 * over) break;
        RC_(enter)(w, best);
      }
    }
    RC_(newton)(w, 0.1 * over > gap ? 0.1 * over : 0.25 * gap);
    if (!(w->lower > before)) RC_(newton)(w, 0.25 * gap);
    idle = w->lower > before ? 0 : idle + 1; /* nothing but rounding is left */
    if (idle > 2) return;
  }
}

/* More active rows than classes are dependent: along a direction that leaves their mixture as it is the mutual information
 * is linear, so weight moves the better way until a row has none. Needs at most `live` rows at the end. */
static void RC_(reduce)(RC_(sample) *w) {
  while (w->a > w->live) {
    ptrdiff_t a = w->live + 1, rank = 0, at = 0; /* the first a rows are enough: null vector of their transpose */
    double *A = w->G;                            /* [a rows][live classes], reduced by columns of classes */
    for (ptrdiff_t k = 0; k < a; k++)
      for (ptrdiff_t c = 0; c < w->live; c++) A[k * w->live + c] = w->rows_a[k * w->Cp + c];
    /* eliminate: row k as a combination of the rows before it; B holds the combination */
    double *n = w->d, *pivots = w->v;
    int32_t *column = (int32_t *)w->u;
    double *B = w->combined;
    for (ptrdiff_t k = 0; k < a; k++) {
      double *r = A + k * w->live, *b = B + k * a;
      for (ptrdiff_t i = 0; i < a; i++) b[i] = i == k;
      for (ptrdiff_t i = 0; i < rank; i++) {
        double f = r[column[i]] / pivots[i];
        for (ptrdiff_t c = 0; c < w->live; c++) r[c] -= f * A[i * w->live + c];
        for (ptrdiff_t j = 0; j < a; j++) b[j] -= f * B[i * a + j];
      }
      ptrdiff_t best = 0;
      for (ptrdiff_t c = 1; c < w->live; c++) best = fabs(r[c]) > fabs(r[best]) ? c : best;
      at = k;
      if (rank == w->live || fabs(r[best]) < 1e-13) break; /* dependent (within rounding) */
      column[rank] = (int32_t)best;
      pivots[rank++] = r[best];
    }
    for (ptrdiff_t k = 0; k < a; k++) n[k] = B[at * a + k];
    double gain = 0, step = INFINITY;
    for (ptrdiff_t k = 0; k < a; k++) gain += n[k] * w->h_a[k];
    if (gain < 0.0)
      for (ptrdiff_t k = 0; k < a; k++) n[k] = -n[k];
    ptrdiff_t gone = -1;
    for (ptrdiff_t k = 0; k < a; k++)
      if (n[k] < 0.0 && -w->p[k] / n[k] < step) {
        step = -w->p[k] / n[k];
        gone = k;
      }
    if (gone < 0) return;
    for (ptrdiff_t k = 0; k < a; k++) w->p[k] = k == gone ? 0.0 : w->p[k] + step * n[k];
    RC_(prune)(w);
    w->lower = RC_(mixture)(w, w->p, w->q, w->lq);
  }
}

/* --- one sample ----------------------------------------------------------------------------------------------- */

static int RC_(all_equal)(const RC_(sample) *w) {
  size_t item = w->wide ? sizeof(double) : sizeof(float);
  const char *first = (const char *)w->rows;
  for (ptrdiff_t k = 1; k < w->M; k++)
    if (memcmp(first, first + (size_t)(k * w->stride) * item, (size_t)w->C * item)) return 0;
  return 1;
}

/* Rounding of every quantity that enters a bound, in nats: sums over classes and active rows in double, logarithms
 * of ratios up to 1 / allowance, renormalised rows; beside it classes of at most RC_TINY, which were left out, vanish. */
static void RC_(allow)(RC_(sample) *w) {
  double size = (double)(w->live + w->most + 40), logs = 3.0 * RC_(log)((double)w->live) + 4.0;
  w->allowance = 0x1p-53 * 2.0 * size * logs;
}

/* Blahut-Arimoto over all models, which have slots, from p (by slot); stops when certified. */
static void RC_(blahut_arimoto)(RC_(sample) *w, double goal, ptrdiff_t rounds, double *p, double *lower, double *upper) {
  ptrdiff_t n = w->n, full = (n + 7) / 8 * 8, Cp = (w->live + 7) / 8 * 8;
  for (ptrdiff_t j = n; j < full; j++) p[j] = 0.0;
  for (ptrdiff_t r = 0; r < rounds; r++) {
    w->scans++;
    for (ptrdiff_t c = 0; c < 8 * Cp; c++) w->logs[c] = 0.0;
    for (ptrdiff_t j = 0; j < full; j += 8)
      for (ptrdiff_t c = 0; c < w->live; c++)
        for (int l = 0; l < 8; l++) w->logs[8 * c + l] += RC_(row)(w, j)[8 * c + l] * p[j + l];
    for (ptrdiff_t c = 0; c < Cp; c++) w->q[c] = rc_fold(w->logs + 8 * c);
    RC_(logs)(w->q, Cp, w->lq);
    double top = w->D[RC_(divergences)(w, w->lq)], f = RC_(dot)(w->D, p, full), total = 0;
    *lower = f > *lower ? f : *lower;
    *upper = top < *upper ? top : *upper;
    if (*upper - *lower <= goal || r + 1 == rounds) return; /* p is the one that lower belongs to */
    for (ptrdiff_t j = 0; j < full; j++) {
      double y = p[j] * RC_(exp)(w->D[j] - top);
      p[j] = j < n && y < 1e-280 ? 1e-280 : y;
    }
    for (ptrdiff_t j = 0; j < n; j++) total += p[j];
    for (ptrdiff_t j = 0; j < full; j++) p[j] = j < n ? p[j] / total : 0.0;
  }
}

/* Opens the active set: with a few slots, those of the largest divergence from the mean. */
static void RC_(open)(RC_(sample) *w) {
  ptrdiff_t Cp = (w->live + 7) / 8 * 8, count = w->n < 3 ? w->n : 3;
  for (ptrdiff_t c = 0; c < Cp; c++) w->q[c] = c < w->live ? w->mean[c] : 0.0;
  RC_(logs)(w->q, Cp, w->lq);
  ptrdiff_t best = RC_(divergences)(w, w->lq);
  for (ptrdiff_t k = 0; k < count; k++) {
    RC_(activate)(w, best, 1.0 / (double)count);
    w->D[best] = -INFINITY;
    for (ptrdiff_t j = 0; j < w->n; j++) best = w->D[j] > w->D[best] ? j : best;
  }
  w->lower = RC_(mixture)(w, w->p, w->q, w->lq);
}

/* Solves the sample whose float copy is at w->x and whose rows are at w->rows. With weights ([M], or NULL) the input
 * distribution of the lower bound is written there. */
static void RC_(solve)(RC_(sample) *w, const rc_capacity_rule *rule, rc_capacity *out, double *weights, double *probs) {
  const double nats = 0.69314718055994530942;
  ptrdiff_t M = w->M;
  w->n = w->a = 0;
  w->entropy_known = 0;
  w->scans = w->steps = 0;
  w->lower = 0.0;
  if (weights)
    for (ptrdiff_t k = 0; k < M; k++) weights[k] = 0.0;
  out->scans = out->steps = 0;
  out->status = RC_CERTIFIED;
  int fresh = rule->rows_off >= 0.0;
  w->exact = !w->wide;
  if (fresh) { /* what the survey sees in floats is not enough to refuse, only to accept */
    RC_(survey)(w);
    if (!w->sound || !(w->spread + (RC_(roundings)(w->C) + 4.0) * 0x1p-23 <= rule->rows_off)) {
      out->status = RC_REFUSED;
      return;
    }
  }
  if (M == 1 || w->C == 1 || RC_(all_equal)(w)) {
    out->lower = out->upper = 0.0;
    if (weights) weights[0] = 1.0;
    return;
  }
  if (!fresh) RC_(survey)(w);
  if (w->spread > 1e-6) {
    RC_(normalise)(w);
    RC_(survey)(w);
  }
  w->spread += (RC_(roundings)(w->C) + 4.0) * 0x1p-24;
  RC_(allow)(w);
  memset(w->known, 0, (size_t)M);
  memset(w->known + M, 1, (size_t)(w->Mp - M));
  double tol = rule->tol * nats, goal = tol - 2.0 * w->allowance, upper = INFINITY, lower = 0.0;
  if (goal < 4.0 * w->allowance) goal = 4.0 * w->allowance;
  double ceiling = RC_(log)((double)(M < w->seen ? M : w->seen)), trace = goal / (64.0 * (1.0 + ceiling));
  if (trace > 1e-6) trace = 1e-6;
  int done = 0;
  if (rule->method != RC_BLAHUT_ARIMOTO) {
    RC_(start)(w);
    RC_(open)(w);
    while (w->scans < rule->max_scans && !done) {
      RC_(solve_slots)(w, 0.5 * goal, trace);
      RC_(reduce)(w);
      RC_(cover)(w, trace);
      int all = RC_(filter)(w, w->scans < RC_STAGES && w->scans + 1 < rule->max_scans); /* the last scan bounds */
      w->scans++;
      double top = w->D[RC_(divergences)(w, w->lq2)], best = w->lower;
      lower = best > lower ? best : lower;
      if (!all) continue;
      top = top > best ? top : best; /* models without a slot are below the lower bound */
      upper = top < upper ? top : upper;
      done = upper - lower <= goal;
    }
    if (weights)
      for (ptrdiff_t k = 0; k < w->a; k++) weights[w->model[w->slot[k]]] = w->p[k];
  }
  if (!done && rule->max_rounds > 0) {
    RC_(load_all)(w);
    for (ptrdiff_t j = 0; j < M; j++) probs[j] = (w->a > 0 ? 1e-3 : 1.0) / (double)M;
    for (ptrdiff_t k = 0; k < w->a; k++) probs[w->slot[k]] += 0.999 * w->p[k];
    double start = lower;
    RC_(blahut_arimoto)(w, goal, rule->max_rounds, probs, &lower, &upper);
    if (weights && (rule->method == RC_BLAHUT_ARIMOTO || lower > start))
      for (ptrdiff_t j = 0; j < M; j++) weights[w->model[j]] = probs[j];
    done = upper - lower <= goal;
  }
  lower -= w->allowance * (1.0 + lower);
  upper += w->allowance * (1.0 + upper);
  upper = upper < ceiling * (1.0 + 0x1p-50) ? upper : ceiling * (1.0 + 0x1p-50);
  lower = lower > 0.0 ? lower : 0.0;
  out->lower = lower / nats * (1.0 - 0x1p-51);
  out->upper = upper / nats * (1.0 + 0x1p-51);
  out->scans = w->scans;
  out->steps = w->steps;
  out->status = out->upper - out->lower <= rule->tol ? RC_CERTIFIED : done ? RC_PRECISION_LIMIT : RC_ITERATION_LIMIT;
}

/* --- the leaf ------------------------------------------------------------------------------------------------- */

/* Samples of a strip: its float copy takes 512 KB where it can, and has four columns for the transpose. */
static ptrdiff_t RC_(strip)(ptrdiff_t M, ptrdiff_t C, ptrdiff_t n) {
  ptrdiff_t fit = 131072 / (M * C), least = (4 + C - 1) / C;
  ptrdiff_t strip = fit < least ? least : fit;
  return strip < n ? strip : n;
}

static size_t RC_(capacity_work)(ptrdiff_t M, ptrdiff_t C, ptrdiff_t n) {
  RC_(sample) w;
  size_t bytes = RC_(workspace)(&w, NULL, M, C);
  return bytes + (size_t)(RC_(strip)(M, C, n) * C * w.ld) * sizeof(float) + (size_t)(w.Mp + 8) * sizeof(double) + 256;
}

static ptrdiff_t RC_(capacity)(const void *rows, int wide, ptrdiff_t stride, ptrdiff_t M, ptrdiff_t n, ptrdiff_t C,
                          const rc_capacity_rule *rule, char *work, rc_capacity *out, double *weights) {
  RC_(sample) w;
  char *at = (char *)(((uintptr_t)work + 63) / 64 * 64);
  RC_(workspace)(&w, NULL, M, C);
  ptrdiff_t strip = RC_(strip)(M, C, n);
  float *copy = (float *)RC_(carve)(&at, (size_t)(strip * C * w.ld) * sizeof(float));
  double *probs = (double *)RC_(carve)(&at, (size_t)(w.Mp + 8) * sizeof(double));
  RC_(workspace)(&w, at, M, C);
  w.stride = stride;
  w.wide = wide;
  ptrdiff_t item = (ptrdiff_t)(wide ? sizeof(double) : sizeof(float));
  for (ptrdiff_t i = 0; i < n; i += strip) {
    ptrdiff_t m = n - i < strip ? n - i : strip;
    if (wide) RC_(spread_f64)((const double *)rows + i * C, stride, M, m * C, copy, w.ld);
    else RC_(spread_f32)((const float *)rows + i * C, stride, M, m * C, copy, w.ld);
    for (ptrdiff_t j = 0; j < m; j++) {
      w.x = copy + j * C * w.ld;
      w.rows = (const char *)rows + (i + j) * C * item;
      RC_(solve)(&w, rule, out + i + j, weights, probs);
      if (out[i + j].status == RC_REFUSED) return i + j;
    }
  }
  return -1;
}
