/* Which models could exceed the lower bound, from the float copy: first without logarithms; those get slots. */

/* Which of 16 floats are not at most `limit`, and the lowest of them. */
RC_INLINE uint32_t RC_(above16)(const float *x, float limit) {
  uint32_t m = 0;
#if RC_X86
  for (int l = 0; l < 16; l += VFN) m |= (uint32_t)RC_GREATER(VF_LOAD(x + l), VF_SET(limit)) << l;
#else
  for (int l = 0; l < 16; l++) m |= (uint32_t)(x[l] > limit) << l;
#endif
  return m;
}
/* Which of 16 floats are not below those at `most`. */
RC_INLINE uint32_t RC_(reaching16)(const float *x, const float *most) {
  uint32_t m = 0;
#if RC_X86
  for (int l = 0; l < 16; l += VFN) m |= (uint32_t)RC_GREATER(VF_LOAD(most + l), VF_LOAD(x + l)) << l;
#else
  for (int l = 0; l < 16; l++) m |= (uint32_t)(most[l] > x[l]) << l;
#endif
  return ~m & 0xffffu;
}
RC_INLINE int RC_(count)(uint32_t m) {
#if defined(__GNUC__) || defined(__clang__)
  return __builtin_popcount(m);
#else
  int n = 0;
  for (; m; m &= m - 1) n++;
  return n;
#endif
}
RC_INLINE int RC_(lowest)(uint32_t m) {
#if defined(__GNUC__) || defined(__clang__)
  return __builtin_ctz(m);
#else
  int l = 0;
  while (!(m >> l & 1)) l++;
  return l;
#endif
}

/* In each of 16 lanes the model with the largest chi, above `limit`, gets a slot; the largest of all comes first. */
static void RC_(farthest)(RC_(sample) *w, float limit) {
  float best[16];
  int32_t at[16];
  ptrdiff_t from = w->n;
  for (ptrdiff_t j = 0; j < w->n; j++) w->chi[w->model[j]] = -1.0f;
  for (ptrdiff_t k = w->M; k < w->Mp; k++) w->chi[k] = -1.0f; /* lanes beyond the last model repeat the first */
  for (int l = 0; l < 16; l += VFN) {
    VF most = VF_SET(-1.0f);
    for (ptrdiff_t k = l; k < w->Mp; k += 16) most = VF_MAX(VF_LOAD(w->chi + k), most);
    VF_STORE(best + l, most);
  }
  uint32_t open = 0xffffu; /* lanes whose first largest is still to be found */
  for (int32_t k = 0; k < (int32_t)w->Mp && open; k += 16) {
    uint32_t hit = RC_(reaching16)(w->chi + k, best) & open;
    open &= ~hit;
    for (; hit; hit &= hit - 1) at[RC_(lowest)(hit)] = k;
  }
  int top = 0;
  for (int l = 1; l < 16; l++) top = best[l] > best[top] ? l : top;
  for (int l = 0; l < 16; l++) {
    int lane = l == 0 ? top : l == top ? 0 : l;
    if (best[lane] > limit) RC_(load)(w, at[lane] + lane);
  }
  if (w->n == 0) RC_(load)(w, 0); /* all at no distance */
  RC_(settle)(w, from);
}

/* Every model without a slot gets one. */
static void RC_(load_all)(RC_(sample) *w) {
  ptrdiff_t from = w->n;
  for (ptrdiff_t k = 0; k < w->M; k++)
    if (!w->known[k]) RC_(load)(w, k);
  RC_(settle)(w, from);
}

/* Up to this lower bound (nats) the fourth-order bound of filter is the sharper one. */
#define RC_NARROW_ROWS 0.3
/* More models than this beyond those with slots come in stages, of which there are at most so many. */
#define RC_STAGE 64
#define RC_STAGES 3

/* Fills chi and returns the limit up to which it proves that the divergence of a model from q' (in q2) does not exceed
 * the lower bound L; negative where it cannot. With u_c = z_c / q_c - 1, one of these:
 *   D(z || q) <= log(1 + sum q u^2)
 *   D(z || q) <= sum q kappa_c u^2               kappa(r) = (r log r - r + 1) / (r - 1)^2
 *   D(z || q) <= sum q (u^2 / 2 - u^3 / 6 + lambda_c u^4)    lambda(r) = (r log r - r + 1 - (r-1)^2/2 + (r-1)^3/6) / (r - 1)^4
 * kappa_c and lambda_c at the smallest ratio r = z_c / q_c of the class over the models: both fall with r, being averages
 * of derivatives that do. They are taken on the float copy, which is off by a share `rho` of each score. The first two are
 * norms: by Minkowski's inequality the exact one is at most the computed one plus what copy and rounded q are off. The
 * third has a derivative that grows with u (it is convex, lambda being at least 1/12): at most its value at the ends. It
 * is taken on t = sqrt(q) u, whose rounded factor goes out of each term but for relative errors. */
static double RC_(by_moments)(RC_(sample) *w) {
  double slack = 1e-13 + 4.0 * w->allowance, eps = 0x1p-24, rho = w->spread, L = w->lower, mean_kappa = 0, moved = 0, limit;
  double *ratio = w->logs, *log_ratio = w->logs + w->Cp;
  int usable = L > 0.0 && rho < 1e-2, narrow = L < RC_NARROW_ROWS, by_log;
  for (ptrdiff_t c = 0; c < w->live; c++) {
    double r = w->least[c] * (1.0 - 2.0 * rho) / w->q2[c];
    ratio[c] = r > 0.9 ? 0.9 : r < 1e-12 ? 1e-12 : r;
  }
  RC_(log_array)(ratio, w->live, log_ratio);
  for (ptrdiff_t c = 0; c < w->live && usable; c++) {
    double q = w->q2[c], r = ratio[c], top = w->largest[c] * (1.0 + 2.0 * rho) + RC_TINY;
    int weak = q < 1e-18; /* too small for floats: nothing to the bound, or no filter */
    if (weak) {
      double part = top * top / q + q;
      usable = part <= 1e-3 * L;
      slack += part;
    }
    double e = r - 1.0, f = r > 1e-12 ? r * log_ratio[c] - e : 1.0;
    if (narrow) {
      double lambda = (r > 1e-12 ? (f - 0.5 * e * e + e * e * e / 6.0) / (e * e * e * e) : 1.0 / 3.0) * (1.0 + 1e-9);
      double u = top / q - 1.0, v = w->least[c] * (1.0 - 2.0 * rho) / q - 1.0;
      double high = u - 0.5 * u * u + 4.0 * lambda * u * u * u, low = v - 0.5 * v * v + 4.0 * lambda * v * v * v;
      high = high < 0.0 ? -high : high;
      low = low < 0.0 ? -low : low;
      moved += weak ? 0.0 : top * (high > low ? high : low);
      w->kf[c] = (float)lambda;
    } else {
      double kappa = r > 1e-12 ? f / (e * e) * (1.0 + 1e-12) : 1.0;
      w->kf[c] = (float)kappa * (1.0f + 0x1p-22f);
      mean_kappa += q * kappa;
    }
  }
  if (narrow) {
    by_log = 0;
    /* scores and quotients are off by rho + 4 ulp; sums of terms that are at least half their absolute values */
    limit = (L - slack - (rho + 4.0 * eps) * moved) * (1.0 - (RC_(roundings)(w->live) + 16.0) * 8.0 * eps);
  } else {
    double wide = RC_(exp)(L) - 1.0;
    by_log = wide >= L / mean_kappa;
    double T = ((by_log ? wide : L) - slack) * (1.0 - 1e-9), s = T > 0.0 ? sqrt(T) * (1.0 - rho) - rho - 2.0 * eps : 0.0;
    limit = s > 0.0 ? s * s * (1.0 - (RC_(roundings)(w->live) + 12.0) * 2.0 * eps) : 0.0;
  }
  if (!usable || !(limit > 0x1p-80)) return -1.0;
  for (ptrdiff_t c = 0; c < w->live; c++) {
    double q = w->q2[c];
    int weak = q < 1e-18;
    if (narrow) {
      float s = (float)sqrt(q);
      double square = (double)s * (double)s;
      w->qf[c] = weak ? 0.0f : s;
      w->wf[c] = weak ? 0.0f : (float)((double)s / q);
      w->bf[c] = weak ? 0.0f : (float)(1.0 / (6.0 * (double)s));
      w->kf[c] = weak ? 0.0f : (float)((double)w->kf[c] / square);
    } else {
      w->qf[c] = (float)q;
      w->wf[c] = weak ? 0.0f : (float)((by_log ? 1.0 : (double)w->kf[c]) / q);
    }
  }
  if (narrow) RC_(quartics)(w);
  else RC_(distances)(w);
  return limit;
}

/* The same from D = S - E itself, S = -sum x log q and E = -sum x log x (once a sample) of the float copy: sums of terms of
 * one sign, so each is off by at most a share `off` of itself: 13 units of 2^-24 of a term (see log_f), those of the sums, 3
 * of the operations at the end (scores beyond 1 are of the other sign, but less than a hundredth). Changing each score by at most a share
 * `rho` moves D by at most rho sum x |log x/q| + 1.01 rho, and sum x |log x/q| <= D + 2 as x log q/x <= q - x. */
static double RC_(by_divergence)(RC_(sample) *w) {
  double eps = 0x1p-24, rho = w->spread, L = w->lower, off = (RC_(roundings)(w->live) + 20.0) * 1.01 * eps;
  double limit = (L - 1e-13 - 4.0 * w->allowance - 3.2 * rho - 0.05 * off) / (1.0 + 1.1 * rho) * (1.0 - 4.0 * eps);
  if (!(rho < 1e-2 && limit > 0.9 * L && 20.0 * off * RC_(log)((double)w->live + 2.0) < L)) return -1.0;
  if (!w->entropy_known) RC_(entropy)(w);
  for (ptrdiff_t c = 0; c < w->live; c++) w->qf[c] = (float)w->lq2[c];
  RC_(crosses)(w);
  for (ptrdiff_t k = 0; k < w->Mp; k++) {
    float S = w->chi[k], E = w->entropies[k];
    w->chi[k] = (S - E) + (float)off * (S + E);
  }
  return limit;
}

/* How many models exceed the limit and have no slot, more or less: some slots do not. */
static ptrdiff_t RC_(beyond)(const RC_(sample) *w, double limit) {
  ptrdiff_t found = -w->n;
  if (limit < 0.0) return w->M;
  for (ptrdiff_t k = 0; k < w->Mp; k += 16) found += RC_(count)(RC_(above16)(w->chi + k, (float)limit));
  return found;
}

/* Gives a slot to every model whose divergence from q' may exceed the lower bound. in_stages: where many models pass,
 * only the farthest get slots; they raise the bound, and then fewer pass. Says whether all did. */
static int RC_(filter)(RC_(sample) *w, int in_stages) {
  double limit = w->entropy_known ? -1.0 : RC_(by_moments)(w);
  ptrdiff_t from = w->n, found = RC_(beyond)(w, limit);
  if (found > RC_STAGE && 8 * found > w->M) { /* logarithms of all in floats are cheaper than those many in double */
    double sharp = RC_(by_divergence)(w);
    limit = sharp > 0.0 ? sharp : limit;
    found = RC_(beyond)(w, limit);
  }
  if (limit < 0.0) {
    RC_(load_all)(w);
    return 1;
  }
  if (in_stages && found > RC_STAGE) {
    RC_(farthest)(w, (float)limit);
    return 0;
  }
  for (ptrdiff_t k = 0; k < w->Mp; k += 16) {
    for (uint32_t far = RC_(above16)(w->chi + k, (float)limit); far; far &= far - 1) {
      ptrdiff_t j = k + RC_(lowest)(far);
      if (!w->known[j]) RC_(load)(w, j);
    }
  }
  RC_(settle)(w, from);
  return 1;
}

/* A few models to start from: the ones farthest from the mean, in chi-squared. */
static void RC_(start)(RC_(sample) *w) {
  for (ptrdiff_t c = 0; c < w->live; c++) {
    double q = w->mean[c] > 1e-18 ? w->mean[c] : 1e-18;
    w->qf[c] = (float)w->mean[c];
    w->wf[c] = (float)(1.0 / q);
  }
  RC_(distances)(w);
  RC_(farthest)(w, -1.0f);
}
