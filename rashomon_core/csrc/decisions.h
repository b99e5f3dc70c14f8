/* Everything that runs on bit planes: XOR, AND and popcount. */

#if !(RC_X86 && RC_LEVEL == 2)
/* Bits set in each byte of a word. */
RC_INLINE uint64_t RC_(byte_counts)(uint64_t x) {
  x -= (x >> 1) & 0x5555555555555555u;
  x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
  return (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
}
/* Sum of the eight bytes of a word, whatever their size. */
RC_INLINE int64_t RC_(byte_sum)(uint64_t x) {
  x = (x & 0x00ff00ff00ff00ffu) + ((x >> 8) & 0x00ff00ff00ff00ffu);
  return (int64_t)((x * 0x0001000100010001u) >> 48);
}
#endif

/* The eight words of a group on which a and b differ. */
RC_INLINE void RC_(difference)(const uint64_t *a, const uint64_t *b, ptrdiff_t P, uint64_t *out) {
  for (int w = 0; w < 8; w++) out[w] = a[w] ^ b[w];
  for (ptrdiff_t p = 1; p < P; p++)
    for (int w = 0; w < 8; w++) out[w] |= a[p * 8 + w] ^ b[p * 8 + w];
}

/* --- pairwise counts -------------------------------------------------------------------------------------------- */

#if RC_X86 && RC_LEVEL == 2
/* 4 x 4 pairs of models at a time; the 16 counts stay in registers. With one plane the four words of the left models
 * are shared by the columns; with several, a column at a time is fused over the planes by a | (b ^ c), which needs
 * four registers and reads the left words again (from the first-level cache, at half the price of the arithmetic).
 * Names instead of arrays: the compiler keeps arrays of fused words in memory (measured: 2.5 times slower). */
#define RC_WORD(p) _mm512_loadu_si512((const void *)(p))
#define RC_COUNT(t, d) t = _mm512_add_epi64(t, _mm512_popcnt_epi64(d))
#define RC_FUSE(d, x, y) d = _mm512_ternarylogic_epi64(d, x, y, 0xF6)
#define RC_COLUMN(j)                                                                          \
  do {                                                                                        \
    __m512i y = RC_WORD(b[j] + at);                                                           \
    __m512i d0 = _mm512_xor_si512(RC_WORD(a0 + at), y), d1 = _mm512_xor_si512(RC_WORD(a1 + at), y); \
    __m512i d2 = _mm512_xor_si512(RC_WORD(a2 + at), y), d3 = _mm512_xor_si512(RC_WORD(a3 + at), y); \
    _Pragma("GCC unroll 4") for (ptrdiff_t p = 1; p < P; p++) {                               \
      y = RC_WORD(b[j] + at + p * 8);                                                         \
      RC_FUSE(d0, RC_WORD(a0 + at + p * 8), y);                                               \
      RC_FUSE(d1, RC_WORD(a1 + at + p * 8), y);                                               \
      RC_FUSE(d2, RC_WORD(a2 + at + p * 8), y);                                               \
      RC_FUSE(d3, RC_WORD(a3 + at + p * 8), y);                                               \
    }                                                                                         \
    RC_COUNT(t0##j, d0);                                                                      \
    RC_COUNT(t1##j, d1);                                                                      \
    RC_COUNT(t2##j, d2);                                                                      \
    RC_COUNT(t3##j, d3);                                                                      \
  } while (0)
#define RC_ZERO(i) t##i##0 = _mm512_setzero_si512(), t##i##1 = t##i##0, t##i##2 = t##i##0, t##i##3 = t##i##0
#define RC_REDUCE(i)                             \
  counts[i * 4] = _mm512_reduce_add_epi64(t##i##0);     \
  counts[i * 4 + 1] = _mm512_reduce_add_epi64(t##i##1); \
  counts[i * 4 + 2] = _mm512_reduce_add_epi64(t##i##2); \
  counts[i * 4 + 3] = _mm512_reduce_add_epi64(t##i##3)
RC_INLINE void RC_(pairs_4x4)(const uint64_t *const *a, const uint64_t *const *b, ptrdiff_t groups, ptrdiff_t P,
                              int64_t *counts) {
  const uint64_t *a0 = a[0], *a1 = a[1], *a2 = a[2], *a3 = a[3];
  __m512i RC_ZERO(0), RC_ZERO(1), RC_ZERO(2), RC_ZERO(3);
  for (ptrdiff_t g = 0; g < groups; g++) {
    ptrdiff_t at = g * P * 8;
    RC_COLUMN(0);
    RC_COLUMN(1);
    RC_COLUMN(2);
    RC_COLUMN(3);
  }
  RC_REDUCE(0);
  RC_REDUCE(1);
  RC_REDUCE(2);
  RC_REDUCE(3);
}
#undef RC_WORD
#undef RC_COUNT
#undef RC_FUSE
#undef RC_COLUMN
#undef RC_ZERO
#undef RC_REDUCE
#else
/* 2 x 2 pairs at a time; bytes hold the counts of up to 31 words before they are summed. */
RC_INLINE void RC_(pairs_2x2)(const uint64_t *const *a, const uint64_t *const *b, ptrdiff_t groups, ptrdiff_t P,
                              int64_t *counts) {
#if RC_X86 && RC_LEVEL == 1
  const __m256i low = _mm256_set1_epi8(15);
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i none = _mm256_setzero_si256();
  __m256i total[2][2] = {{none, none}, {none, none}};
  for (ptrdiff_t g0 = 0; g0 < groups; g0 += 15) {
    ptrdiff_t g1 = g0 + 15 < groups ? g0 + 15 : groups;
    __m256i bytes[2][2] = {{none, none}, {none, none}};
    for (ptrdiff_t h = 2 * g0; h < 2 * g1; h++) { /* halves of a group */
      __m256i diff[2][2] = {{none, none}, {none, none}};
      for (ptrdiff_t p = 0; p < P; p++) {
        ptrdiff_t at = ((h >> 1) * P + p) * 8 + (h & 1) * 4;
        __m256i x[2] = {_mm256_loadu_si256((const __m256i *)(a[0] + at)), _mm256_loadu_si256((const __m256i *)(a[1] + at))};
        for (int j = 0; j < 2; j++) {
          __m256i y = _mm256_loadu_si256((const __m256i *)(b[j] + at));
          for (int i = 0; i < 2; i++) {
            diff[i][j] = _mm256_or_si256(diff[i][j], _mm256_xor_si256(x[i], y));
          }
        }
      }
      for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
          __m256i d = diff[i][j];
          __m256i c0 = _mm256_shuffle_epi8(table, _mm256_and_si256(d, low));
          __m256i c1 = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(d, 4), low));
          bytes[i][j] = _mm256_add_epi8(bytes[i][j], _mm256_add_epi8(c0, c1));
        }
    }
    for (int i = 0; i < 2; i++)
      for (int j = 0; j < 2; j++) total[i][j] = _mm256_add_epi64(total[i][j], _mm256_sad_epu8(bytes[i][j], none));
  }
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < 2; j++) {
      int64_t t[4];
      _mm256_storeu_si256((__m256i *)t, total[i][j]);
      counts[i * 2 + j] = t[0] + t[1] + t[2] + t[3];
    }
#else
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < 2; j++) {
      int64_t total = 0;
      for (ptrdiff_t g0 = 0; g0 < groups; g0 += 31) {
        ptrdiff_t g1 = g0 + 31 < groups ? g0 + 31 : groups;
        uint64_t bytes[8] = {0};
        for (ptrdiff_t g = g0; g < g1; g++) {
          uint64_t diff[8];
          RC_(difference)(a[i] + g * P * 8, b[j] + g * P * 8, P, diff);
          for (int w = 0; w < 8; w++) bytes[w] += RC_(byte_counts)(diff[w]);
        }
        for (int w = 0; w < 8; w++) total += RC_(byte_sum)(bytes[w]);
      }
      counts[i * 2 + j] = total;
    }
#endif
}
#endif

/* counts[i * 4 + j]: samples on which a[i] and b[j] differ, four models each. */
RC_INLINE void RC_(pair_tile)(const uint64_t *const *a, const uint64_t *const *b, ptrdiff_t groups, ptrdiff_t P, int64_t *counts) {
#if RC_X86 && RC_LEVEL == 2
  switch (P) { /* constants let the planes unroll */
    case 1: RC_(pairs_4x4)(a, b, groups, 1, counts); break;
    case 2: RC_(pairs_4x4)(a, b, groups, 2, counts); break;
    case 3: RC_(pairs_4x4)(a, b, groups, 3, counts); break;
    case 4: RC_(pairs_4x4)(a, b, groups, 4, counts); break;
    default: RC_(pairs_4x4)(a, b, groups, P, counts); break;
  }
#else
  for (int h = 0; h < 4; h++) {
    int64_t quarter[4];
    int i0 = h & 2, j0 = (h & 1) * 2;
    if (P == 1) RC_(pairs_2x2)(a + i0, b + j0, groups, 1, quarter);
    else RC_(pairs_2x2)(a + i0, b + j0, groups, P, quarter);
    for (int i = 0; i < 2; i++)
      for (int j = 0; j < 2; j++) counts[(i0 + i) * 4 + j0 + j] = quarter[i * 2 + j];
  }
#endif
}

static void RC_(pair_counts)(const uint64_t *A, ptrdiff_t sa, ptrdiff_t na, const uint64_t *B, ptrdiff_t sb, ptrdiff_t nb,
                             ptrdiff_t groups, ptrdiff_t P, int64_t *out, ptrdiff_t ldo) {
  assert(na >= 1 && na <= 4 && nb >= 1 && nb <= 4 && P >= 1 && groups >= 0);
  const uint64_t *a[4], *b[4]; /* beyond the edge the last model stands in and its counts are dropped */
  int64_t counts[16];
  for (int i = 0; i < 4; i++) a[i] = A + (i < na ? i : na - 1) * sa;
  for (int j = 0; j < 4; j++) b[j] = B + (j < nb ? j : nb - 1) * sb;
  RC_(pair_tile)(a, b, groups, P, counts);
  for (ptrdiff_t i = 0; i < na; i++)
    for (ptrdiff_t j = 0; j < nb; j++) out[i * ldo + j] += counts[i * 4 + j];
}

/* --- against a reference ---------------------------------------------------------------------------------------- */

static int64_t RC_(versus)(const uint64_t *A, const uint64_t *R, ptrdiff_t groups, ptrdiff_t P, const uint64_t *mask,
                           uint64_t *any) {
#if RC_X86 && RC_LEVEL == 2
  __m512i total = _mm512_setzero_si512();
  for (ptrdiff_t g = 0; g < groups; g++) {
    const uint64_t *a = A + g * P * 8, *r = R + g * P * 8;
    __m512i d = _mm512_xor_si512(_mm512_loadu_si512((const void *)a), _mm512_loadu_si512((const void *)r));
    for (ptrdiff_t p = 1; p < P; p++)
      d = _mm512_ternarylogic_epi64(d, _mm512_loadu_si512((const void *)(a + p * 8)),
                                    _mm512_loadu_si512((const void *)(r + p * 8)), 0xF6);
    if (mask) d = _mm512_and_si512(d, _mm512_loadu_si512((const void *)(mask + g * 8)));
    if (any) _mm512_storeu_si512((void *)(any + g * 8), _mm512_or_si512(d, _mm512_loadu_si512((const void *)(any + g * 8))));
    total = _mm512_add_epi64(total, _mm512_popcnt_epi64(d));
  }
  return _mm512_reduce_add_epi64(total);
#else
  int64_t total = 0;
  for (ptrdiff_t g0 = 0; g0 < groups; g0 += 31) {
    ptrdiff_t g1 = g0 + 31 < groups ? g0 + 31 : groups;
    uint64_t bytes[8] = {0};
    for (ptrdiff_t g = g0; g < g1; g++) {
      uint64_t d[8];
      RC_(difference)(A + g * P * 8, R + g * P * 8, P, d);
      if (mask)
        for (int w = 0; w < 8; w++) d[w] &= mask[g * 8 + w];
      if (any)
        for (int w = 0; w < 8; w++) any[g * 8 + w] |= d[w];
      for (int w = 0; w < 8; w++) bytes[w] += RC_(byte_counts)(d[w]);
    }
    for (int w = 0; w < 8; w++) total += RC_(byte_sum)(bytes[w]);
  }
  return total;
#endif
}

static void RC_(versus_weighted)(const uint64_t *A, const uint64_t *R, ptrdiff_t groups, ptrdiff_t P,
                                 const uint64_t *mask, const double *w, double *lanes) {
#if RC_X86 && RC_LEVEL == 2
  __m512d sum = _mm512_loadu_pd(lanes);
#else
  double sum[8];
  memcpy(sum, lanes, sizeof sum);
#endif
  for (ptrdiff_t g = 0; g < groups; g++) {
    uint64_t d[8];
    RC_(difference)(A + g * P * 8, R + g * P * 8, P, d);
    for (int k = 0; k < 8; k++) {
      uint64_t word = mask ? d[k] & mask[g * 8 + k] : d[k];
      if (!word) continue; /* adding zeros changes nothing */
      const double *x = w + g * RC_GROUP + k * 64;
      for (int q = 0; q < 8; q++) {
#if RC_X86 && RC_LEVEL == 2
        sum = _mm512_mask_add_pd(sum, (__mmask8)(word >> (8 * q)), sum, _mm512_loadu_pd(x + 8 * q));
#else
        uint64_t byte = word >> (8 * q);
        for (int l = 0; l < 8; l++) {
          uint64_t keep = 0 - ((byte >> l) & 1), u;
          double v;
          memcpy(&u, x + 8 * q + l, 8);
          u &= keep;
          memcpy(&v, &u, 8);
          sum[l] += v;
        }
#endif
      }
    }
  }
#if RC_X86 && RC_LEVEL == 2
  _mm512_storeu_pd(lanes, sum);
#else
  memcpy(lanes, sum, sizeof sum);
#endif
}

/* The decisions of whole groups, from their planes. */
static void RC_(decode)(const uint64_t *A, ptrdiff_t groups, ptrdiff_t P, uint16_t *out) {
  for (ptrdiff_t g = 0; g < groups; g++)
    for (int w = 0; w < 8; w++) {
      uint16_t *d = out + g * RC_GROUP + w * 64;
      for (int l = 0; l < 64; l++) d[l] = 0;
      for (ptrdiff_t p = 0; p < P; p++) {
        uint64_t word = A[(g * P + p) * 8 + w];
        for (int l = 0; l < 64; l++) d[l] = (uint16_t)(d[l] | ((word >> l) & 1) << p);
      }
    }
}

/* --- votes and cells ---------------------------------------------------------------------------------------------- */

static void RC_(votes_u8)(const uint8_t *d, ptrdiff_t sd, ptrdiff_t K, ptrdiff_t n, ptrdiff_t C, int32_t *votes, ptrdiff_t ldv) {
  for (ptrdiff_t k0 = 0; k0 < K; k0 += 255) { /* a byte counts to 255 */
    ptrdiff_t k1 = k0 + 255 < K ? k0 + 255 : K;
    ptrdiff_t i = 0;
    for (; i + 64 <= n; i += 64) {
      uint8_t rest[64]; /* votes of the last class are what the others leave */
      for (int l = 0; l < 64; l++) rest[l] = (uint8_t)(k1 - k0);
      for (ptrdiff_t c = 0; c < C; c++) {
        uint8_t count[64];
        if (c < C - 1) {
#if RC_X86 && RC_LEVEL == 2
          __m512i total = _mm512_setzero_si512(), code = _mm512_set1_epi8((char)c), minus = _mm512_set1_epi8(-1);
          for (ptrdiff_t k = k0; k < k1; k++) {
            __mmask64 m = _mm512_cmpeq_epi8_mask(_mm512_loadu_si512((const void *)(d + k * sd + i)), code);
            total = _mm512_mask_sub_epi8(total, m, total, minus);
          }
          _mm512_storeu_si512((void *)count, total);
#else
          memset(count, 0, 64);
          for (ptrdiff_t k = k0; k < k1; k++) {
            const uint8_t *x = d + k * sd + i;
            for (int l = 0; l < 64; l++) count[l] = (uint8_t)(count[l] + (x[l] == (uint8_t)c));
          }
#endif
          for (int l = 0; l < 64; l++) rest[l] = (uint8_t)(rest[l] - count[l]);
        } else {
          memcpy(count, rest, 64);
        }
        int32_t *v = votes + c * ldv + i;
        for (int l = 0; l < 64; l++) v[l] += count[l];
      }
    }
    for (ptrdiff_t k = k0; k < k1; k++)
      for (ptrdiff_t j = i; j < n; j++) {
        assert(d[k * sd + j] < C);
        votes[d[k * sd + j] * ldv + j]++;
      }
  }
}

/* The same for two classes from words of decisions; ones[i] += models that say 1. */
static void RC_(votes_bits)(const uint64_t *words, ptrdiff_t sw, ptrdiff_t K, ptrdiff_t n, int32_t *zeros, int32_t *ones) {
  for (ptrdiff_t k0 = 0; k0 < K; k0 += 255) {
    int32_t k1 = (int32_t)(k0 + 255 < K ? k0 + 255 : K), size = k1 - (int32_t)k0;
    for (ptrdiff_t i = 0; i < n; i += 64) {
      uint8_t count[64] = {0};
      ptrdiff_t m = n - i < 64 ? n - i : 64;
#if RC_X86 && RC_LEVEL == 2
      __m512i total = _mm512_setzero_si512(), one = _mm512_set1_epi8(1);
      for (ptrdiff_t k = k0; k < k1; k++)
        total = _mm512_mask_add_epi8(total, _cvtu64_mask64(words[k * sw + i / 64]), total, one);
      _mm512_storeu_si512((void *)count, total);
#else
      for (ptrdiff_t k = k0; k < k1; k++) {
        uint64_t word = words[k * sw + i / 64];
        for (int b = 0; b < 8; b++) { /* eight bits to eight bytes */
          uint64_t spread, old;
          spread = ((word >> (8 * b)) & 0xff) * 0x0101010101010101u & 0x8040201008040201u;
          spread = (spread + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
          memcpy(&old, count + 8 * b, 8);
          old += spread;
          memcpy(count + 8 * b, &old, 8);
        }
      }
#endif
      if (m == 64)
        for (int l = 0; l < 64; l++) {
          ones[i + l] += count[l];
          zeros[i + l] += size - count[l];
        }
      else
        for (ptrdiff_t l = 0; l < m; l++) {
          ones[i + l] += count[l];
          zeros[i + l] += size - count[l];
        }
    }
  }
}

static void RC_(cell_counts)(const uint64_t *A, ptrdiff_t groups, ptrdiff_t P, const uint64_t *masks, ptrdiff_t cells,
                             ptrdiff_t C, int64_t *out) {
  ptrdiff_t words = groups * 8;
  for (ptrdiff_t g0 = 0; g0 < groups; g0 += 16) { /* the planes of 16 groups stay in cache for all cells */
    ptrdiff_t g1 = g0 + 16 < groups ? g0 + 16 : groups;
    for (ptrdiff_t c = 0; c < C; c++) {
      uint64_t is[16 * 8]; /* samples decided as c */
      for (ptrdiff_t g = g0; g < g1; g++) {
        uint64_t *x = is + (g - g0) * 8;
        const uint64_t *a = A + g * P * 8;
        for (int w = 0; w < 8; w++) x[w] = c & 1 ? a[w] : ~a[w];
        for (ptrdiff_t p = 1; p < P; p++)
          for (int w = 0; w < 8; w++) x[w] &= (c >> p) & 1 ? a[p * 8 + w] : ~a[p * 8 + w];
      }
      for (ptrdiff_t cell = 0; cell < cells; cell++) {
        const uint64_t *m = masks + cell * words + g0 * 8;
#if RC_X86 && RC_LEVEL == 2
        __m512i total = _mm512_setzero_si512();
        for (ptrdiff_t g = 0; g < g1 - g0; g++)
          total = _mm512_add_epi64(total, _mm512_popcnt_epi64(_mm512_and_si512(_mm512_loadu_si512((const void *)(is + g * 8)),
                                                                               _mm512_loadu_si512((const void *)(m + g * 8)))));
        out[cell * C + c] += _mm512_reduce_add_epi64(total);
#else
        uint64_t bytes[8] = {0};
        int64_t total = 0;
        for (ptrdiff_t g = 0; g < g1 - g0; g++)
          for (int w = 0; w < 8; w++) bytes[w] += RC_(byte_counts)(is[g * 8 + w] & m[g * 8 + w]);
        for (int w = 0; w < 8; w++) total += RC_(byte_sum)(bytes[w]);
        out[cell * C + c] += total;
#endif
      }
    }
  }
}

/* --- the anchor of benches ---------------------------------------------------------------------------------------- */

static uint64_t RC_(popcount_peak)(ptrdiff_t n) {
  /* The instructions of the pair kernel with one plane, on registers: XOR, popcount, add. */
#if RC_X86 && RC_LEVEL == 2
  __m512i x[4], y[4], total[4][4];
  for (int i = 0; i < 4; i++) {
    x[i] = _mm512_set1_epi64(0x9e3779b97f4a7c15 * (i + 1));
    y[i] = _mm512_set1_epi64(0x9e3779b97f4a7c15 * (i + 5));
    for (int j = 0; j < 4; j++) total[i][j] = _mm512_setzero_si512();
  }
  for (ptrdiff_t r = 0; r < n; r += 16) {
    __asm__ volatile("" : "+v"(x[0]), "+v"(x[1]), "+v"(x[2]), "+v"(x[3])); /* new data, as far as the compiler knows */
    _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) _Pragma("GCC unroll 4") for (int j = 0; j < 4; j++)
        total[i][j] = _mm512_add_epi64(total[i][j], _mm512_popcnt_epi64(_mm512_xor_si512(x[i], y[j])));
  }
  uint64_t sum = 0;
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) sum += (uint64_t)_mm512_reduce_add_epi64(total[i][j]);
  return sum;
#elif RC_X86 && RC_LEVEL == 1
  const __m256i low = _mm256_set1_epi8(15), none = _mm256_setzero_si256();
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  __m256i x[2] = {_mm256_set1_epi64x(0x9e3779b97f4a7c15), _mm256_set1_epi64x(0x3c6ef372fe94f82a)};
  __m256i y[2] = {_mm256_set1_epi64x(0x517cc1b727220a95), _mm256_set1_epi64x(0x2545f4914f6cdd1d)};
  __m256i total = none;
  for (ptrdiff_t r = 0; r < n; r += 60) { /* 4 pairs of 30 half groups */
    __m256i bytes[2][2] = {{none, none}, {none, none}};
    for (int h = 0; h < 30; h++) {
      __asm__ volatile("" : "+x"(x[0]), "+x"(x[1]));
      for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
          __m256i d = _mm256_xor_si256(x[i], y[j]);
          __m256i c0 = _mm256_shuffle_epi8(table, _mm256_and_si256(d, low));
          __m256i c1 = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(d, 4), low));
          bytes[i][j] = _mm256_add_epi8(bytes[i][j], _mm256_add_epi8(c0, c1));
        }
    }
    for (int i = 0; i < 2; i++)
      for (int j = 0; j < 2; j++) total = _mm256_add_epi64(total, _mm256_sad_epu8(bytes[i][j], none));
  }
  uint64_t t[4];
  _mm256_storeu_si256((__m256i *)t, total);
  return t[0] + t[1] + t[2] + t[3];
#else
  uint64_t x[8], y[8], sum = 0;
  for (int w = 0; w < 8; w++) x[w] = 0x9e3779b97f4a7c15u * (uint64_t)(w + 1), y[w] = 0x517cc1b727220a95u * (uint64_t)(w + 1);
  for (ptrdiff_t r = 0; r < n; r += 31) {
    uint64_t bytes[8] = {0};
    for (int g = 0; g < 31; g++)
      for (int w = 0; w < 8; w++) {
        bytes[w] += RC_(byte_counts)(x[w] ^ y[w]);
        x[w] += y[w]; /* new data; eight adds to about a hundred operations */
      }
    for (int w = 0; w < 8; w++) sum += (uint64_t)RC_(byte_sum)(bytes[w]);
  }
  return sum;
#endif
}
