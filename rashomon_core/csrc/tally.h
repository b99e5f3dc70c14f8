/* Models one after another, in the order of their losses: who differs first, and how many before agree. */

/* Index of the lowest bit that is set. */
RC_INLINE int RC_(lowest_bit)(uint64_t x) {
#if defined(__GNUC__) || defined(__clang__)
  return __builtin_ctzll(x);
#else
  int b = 0;
  while (!((x >> b) & 1)) b++;
  return b;
#endif
}

/* Mark with k the samples that differ for the first time: rank[i] = k where A and R differ and seen has no bit yet. */
static void RC_(first_differing)(const uint64_t *A, const uint64_t *R, ptrdiff_t groups, ptrdiff_t P, uint64_t *seen,
                                 int32_t k, int32_t *rank) {
  for (ptrdiff_t g = 0; g < groups; g++)
    for (int w = 0; w < 8; w += VBN) {
      const uint64_t *a = A + g * P * 8 + w, *r = R + g * P * 8 + w;
      VB old = VB_LOAD(seen + g * 8 + w);
      VB d = VB_XOR(VB_LOAD(a), VB_LOAD(r));
      for (ptrdiff_t p = 1; p < P; p++) d = VB_OR_XOR(d, VB_LOAD(a + p * 8), VB_LOAD(r + p * 8));
      d = VB_ANDNOT(old, d);
      if (!VB_ANY(d)) continue;
      uint64_t fresh[VBN];
      VB_STORE(fresh, d);
      VB_STORE(seen + g * 8 + w, VB_XOR(old, d));
      for (int v = 0; v < VBN; v++)
        for (uint64_t rest = fresh[v]; rest; rest &= rest - 1)
          rank[g * RC_GROUP + (w + v) * 64 + RC_(lowest_bit)(rest)] = k;
    }
}

/* Bits set in x & y, words of up to 31 groups. */
RC_INLINE int64_t RC_(both_counts)(const uint64_t *x, const uint64_t *y, ptrdiff_t groups) {
#if RC_X86 && RC_LEVEL == 2
  __m512i total = _mm512_setzero_si512();
  for (ptrdiff_t g = 0; g < groups; g++)
    total = _mm512_add_epi64(total, _mm512_popcnt_epi64(_mm512_and_si512(_mm512_loadu_si512((const void *)(x + g * 8)),
                                                                         _mm512_loadu_si512((const void *)(y + g * 8)))));
  return _mm512_reduce_add_epi64(total);
#else
  uint64_t bytes[8] = {0};
  int64_t total = 0;
  for (ptrdiff_t g = 0; g < groups; g++)
    for (int w = 0; w < 8; w++) bytes[w] += RC_(byte_counts)(x[g * 8 + w] & y[g * 8 + w]);
  for (int w = 0; w < 8; w++) total += RC_(byte_sum)(bytes[w]);
  return total;
#endif
}

/* Add the bits set in each of n words to its lane; a lane takes 31 words. */
RC_INLINE void RC_(count_words)(const uint64_t *words, uint64_t *lanes, ptrdiff_t n) {
#if RC_X86 && RC_LEVEL == 2
  for (ptrdiff_t w = 0; w < n; w += 8)
    _mm512_storeu_si512((void *)(lanes + w), _mm512_add_epi64(_mm512_loadu_si512((const void *)(lanes + w)),
                                                              _mm512_popcnt_epi64(_mm512_loadu_si512((const void *)(words + w)))));
#else
  for (ptrdiff_t w = 0; w < n; w++) lanes[w] += RC_(byte_counts)(words[w]);
#endif
}

/* The sum of eight lanes. */
RC_INLINE int64_t RC_(counted)(const uint64_t *lanes) {
  int64_t total = 0;
  for (int w = 0; w < 8; w++) {
#if RC_X86 && RC_LEVEL == 2
    total += (int64_t)lanes[w];
#else
    total += RC_(byte_sum)(lanes[w]);
#endif
  }
  return total;
}

/* Vertical counters hold a number for each sample: bit b of it lies in plane b. */

/* How often earlier models gave the answers of each of K models, summed over the samples; then the K are counted in.
 * Every class has counters: [groups][C][bits][8]. They are read once for a batch: what they hold counts the models before
 * it, the pairs of the batch are counted apart. What a sample reads lies in the planes of its own class alone, so the
 * planes of all classes are put into one before their bits are counted. */
static void RC_(tally_few)(const uint64_t *const *A, const uint64_t *const *next, ptrdiff_t K, ptrdiff_t before, ptrdiff_t groups,
                           ptrdiff_t P, ptrdiff_t C, ptrdiff_t bits, uint64_t *counters, int64_t *votes) {
  assert(K >= 1 && K <= RC_BATCH && groups <= RC_TALLY && C <= RC_FEW && bits <= 32);
  RC_ALIGNED uint64_t own[RC_FEW][RC_BATCH][8], seen[RC_BATCH][8], lanes[32][RC_BATCH][8];
  ptrdiff_t old = 0, used = 0; /* bits of the models before, and of all */
  while (before >> old) old++;
  while ((before + K) >> used) used++;
  assert(used <= bits);
  memset(lanes, 0, (size_t)old * sizeof *lanes);
  for (ptrdiff_t c = 0; c < C; c++) memset(own[c][K], 0, (size_t)(RC_BATCH - K) * sizeof *own[c]);
  for (ptrdiff_t g = 0; g < groups; g++, counters += C * bits * 8) {
    for (ptrdiff_t k = 0; k < K; k++) {
      const uint64_t *a = A[k] + g * P * 8;
      for (ptrdiff_t p = 0; next && p < P; p++) RC_PREFETCH(next[k] + (g * P + p) * 8);
      for (int w = 0; w < 8; w += VBN) { /* who starts with the highest bits of a class: each one splits in two by the next */
        VB_STORE(own[0][k] + w, VB_NOT(VB_ZERO));
        for (ptrdiff_t p = P - 1; p >= 0; p--) {
          VB x = VB_LOAD(a + p * 8 + w);
          ptrdiff_t j = (C - 1) >> (p + 1);
          if ((C - 1) >> p == 2 * j) { /* no class has the last one's other half */
            VB_STORE(own[2 * j][k] + w, VB_ANDNOT(x, VB_LOAD(own[j][k] + w)));
            j--;
          }
          for (; j >= 0; j--) {
            VB both = VB_LOAD(own[j][k] + w);
            VB_STORE(own[2 * j + 1][k] + w, VB_AND(x, both));
            VB_STORE(own[2 * j][k] + w, VB_ANDNOT(x, both));
          }
        }
      }
    }
    for (ptrdiff_t b = 0; b < old; b++) {
      for (int w = 0; w < 8; w += VBN) { /* names, for the compiler keeps an array in memory */
        VB x0 = VB_ZERO, x1 = x0, x2 = x0, x3 = x0, x4 = x0, x5 = x0, x6 = x0, x7 = x0;
        for (ptrdiff_t c = 0; c < C; c++) {
          VB count = VB_LOAD(counters + (c * bits + b) * 8 + w);
          x0 = VB_OR_AND(x0, count, VB_LOAD(own[c][0] + w));
          x1 = VB_OR_AND(x1, count, VB_LOAD(own[c][1] + w));
          x2 = VB_OR_AND(x2, count, VB_LOAD(own[c][2] + w));
          x3 = VB_OR_AND(x3, count, VB_LOAD(own[c][3] + w));
          x4 = VB_OR_AND(x4, count, VB_LOAD(own[c][4] + w));
          x5 = VB_OR_AND(x5, count, VB_LOAD(own[c][5] + w));
          x6 = VB_OR_AND(x6, count, VB_LOAD(own[c][6] + w));
          x7 = VB_OR_AND(x7, count, VB_LOAD(own[c][7] + w));
        }
        VB_STORE(seen[0] + w, x0);
        VB_STORE(seen[1] + w, x1);
        VB_STORE(seen[2] + w, x2);
        VB_STORE(seen[3] + w, x3);
        VB_STORE(seen[4] + w, x4);
        VB_STORE(seen[5] + w, x5);
        VB_STORE(seen[6] + w, x6);
        VB_STORE(seen[7] + w, x7);
      }
      RC_(count_words)(seen[0], lanes[b][0], RC_BATCH * 8);
    }
    for (ptrdiff_t c = 0; c < C; c++)
      for (int w = 0; w < 8; w += VBN) { /* eight bits become a number of four, which is added */
        VB x0 = VB_LOAD(own[c][0] + w), x1 = VB_LOAD(own[c][1] + w), x2 = VB_LOAD(own[c][2] + w), x3 = VB_LOAD(own[c][3] + w);
        VB x4 = VB_LOAD(own[c][4] + w), x5 = VB_LOAD(own[c][5] + w), x6 = VB_LOAD(own[c][6] + w), x7 = VB_LOAD(own[c][7] + w);
        VB s0 = VB_SUM(x0, x1, x2), s1 = VB_SUM(x3, x4, x5), s2 = VB_SUM(s0, s1, x6);
        VB t0 = VB_MOST(x0, x1, x2), t1 = VB_MOST(x3, x4, x5), t2 = VB_MOST(s0, s1, x6), t3 = VB_AND(s2, x7);
        VB t4 = VB_SUM(t0, t1, t2), f0 = VB_MOST(t0, t1, t2), f1 = VB_AND(t4, t3);
        VB more[4] = {VB_XOR(s2, x7), VB_XOR(t4, t3), VB_XOR(f0, f1), VB_AND(f0, f1)}, carry = VB_ZERO;
        uint64_t *x = counters + c * bits * 8 + w;
        for (ptrdiff_t b = 0; b < used; b++, x += 8) {
          VB count = VB_LOAD(x), add = b < 4 ? more[b] : VB_ZERO;
          VB_STORE(x, VB_SUM(count, add, carry));
          carry = VB_MOST(count, add, carry);
        }
      }
  }
  for (ptrdiff_t b = 0; b < old; b++)
    for (ptrdiff_t k = 0; k < K; k++) votes[k] += RC_(counted)(lanes[b][k]) << b;
  for (ptrdiff_t i = 0; i < K; i += 4)
    for (ptrdiff_t j = 0; j <= i; j += 4) {
      const uint64_t *a[4], *b[4];
      int64_t differ[16];
      for (ptrdiff_t k = 0; k < 4; k++) {
        a[k] = A[i + k < K ? i + k : K - 1];
        b[k] = A[j + k < K ? j + k : K - 1];
      }
      RC_(pair_tile)(a, b, groups, P, differ);
      for (ptrdiff_t k = i; k < K && k < i + 4; k++)
        for (ptrdiff_t l = j; l < k && l < j + 4; l++) votes[k] += groups * RC_GROUP - differ[(k - i) * 4 + l - j];
    }
}

/* The same for many classes: models that decide like R, as most do, have counters [bits][RC_TALLY * 8]; the
 * answers of the others are counted one by one in votes [groups * RC_GROUP][C]. */
static int64_t RC_(tally_many)(const uint64_t *A, const uint64_t *R, ptrdiff_t groups, ptrdiff_t P, ptrdiff_t C, ptrdiff_t bits,
                               ptrdiff_t used, uint64_t *counters, int32_t *votes) {
  assert(groups <= RC_TALLY);
  int64_t total = 0;
  uint64_t own[RC_TALLY * 8];
  for (ptrdiff_t g = 0; g < groups; g++) {
    const uint64_t *a = A + g * P * 8;
    uint64_t d[8];
    RC_(difference)(a, R + g * P * 8, P, d);
    for (int w = 0; w < 8; w++) own[g * 8 + w] = ~d[w];
    for (int w = 0; w < 8; w++) {
      int32_t *v = votes + (g * RC_GROUP + w * 64) * C;
      const uint64_t *x = a + w;
      for (uint64_t rest = d[w]; rest; rest &= rest - 1) {
        int b = RC_(lowest_bit)(rest);
        uint64_t c = (x[0] >> b) & 1;
        for (ptrdiff_t p = 1; p < P; p++) c |= ((x[p * 8] >> b) & 1) << p;
        assert((ptrdiff_t)c < C);
        total += v[b * C + (ptrdiff_t)c]++;
      }
    }
  }
  for (ptrdiff_t b = 0; b < used; b++) total += RC_(both_counts)(counters + b * RC_TALLY * 8, own, groups) << b;
  for (ptrdiff_t b = 0; b < bits; b++) { /* own becomes the carry */
    uint64_t *x = counters + b * RC_TALLY * 8, any = 0;
    for (ptrdiff_t w = 0; w < groups * 8; w++) {
      uint64_t old = x[w];
      x[w] = old ^ own[w];
      own[w] &= old;
      any |= own[w];
    }
    if (!any) break;
  }
  return total;
}
