/* Scores to decisions, and the checks on the way. */

/* One row of more than 32 scores: the first largest, the sum in eight double lanes, the smallest. Sums of floats
 * cannot overflow a double; sums of doubles can. */
static ptrdiff_t RC_(wide_row_f32)(const float *s, ptrdiff_t C, double *sum, double *low) {
  VF top = VF_LOAD(s), least = top;
  VD total[8 / VDN];
  float one[VFN], peak, floor;
  double lanes[8];
  ptrdiff_t c = 0, end = C / (VFN > 8 ? VFN : 8) * (VFN > 8 ? VFN : 8);
  for (int l = 0; l < 8 / VDN; l++) total[l] = VD_SET(0.0);
  for (; c < end; c += 8) {
    for (int l = 0; l < 8 / VDN; l++)
      total[l] = VD_ADD(total[l], VF_WIDEN_LOAD(s + c + l * VDN, 0));
    for (int l = 0; l < 8 && (VFN <= 8 || c % VFN == 0); l += VFN) {
      VF x = VF_LOAD(s + c + l);
      top = VF_MAX(x, top);
      least = VF_MIN(x, least);
    }
  }
  for (int l = 0; l < 8 / VDN; l++) VD_STORE(lanes + l * VDN, total[l]);
  VF_STORE(one, top);
  peak = one[0];
  for (int l = 1; l < VFN; l++) peak = one[l] > peak ? one[l] : peak;
  VF_STORE(one, least);
  floor = one[0];
  for (int l = 1; l < VFN; l++) floor = one[l] < floor ? one[l] : floor;
  for (; c < C; c++) {
    lanes[c % 8] += (double)s[c];
    peak = s[c] > peak ? s[c] : peak;
    floor = s[c] < floor ? s[c] : floor;
  }
  *sum = rc_fold(lanes);
  *low = floor;
  for (c = 0; c + 64 <= C; c += 64) {
    int found = 0;
    for (int l = 0; l < 64; l++) found |= s[c + l] == peak;
    if (found) break;
  }
  while (c < C - 1 && s[c] != peak) c++;
  return c;
}

static ptrdiff_t RC_(wide_row_f64)(const double *s, ptrdiff_t C, double *sum, double *low) {
  VD top[8 / VDN], least[8 / VDN], total[8 / VDN];
  double tops[8], lows[8], lanes[8];
  for (int l = 0; l < 8 / VDN; l++) {
    top[l] = least[l] = VD_LOAD(s + l * VDN);
    total[l] = VD_SET(0.0);
  }
  ptrdiff_t c = 0;
  for (; c + 8 <= C; c += 8)
    for (int l = 0; l < 8 / VDN; l++) {
      VD x = VD_LOAD(s + c + l * VDN);
      top[l] = VD_MAX(x, top[l]);
      least[l] = VD_MIN(x, least[l]);
      total[l] = VD_ADD(total[l], x);
    }
  for (int l = 0; l < 8 / VDN; l++) {
    VD_STORE(tops + l * VDN, top[l]);
    VD_STORE(lows + l * VDN, least[l]);
    VD_STORE(lanes + l * VDN, total[l]);
  }
  for (; c < C; c++) {
    tops[c % 8] = s[c] > tops[c % 8] ? s[c] : tops[c % 8];
    lows[c % 8] = s[c] < lows[c % 8] ? s[c] : lows[c % 8];
    lanes[c % 8] += s[c];
  }
  for (int l = 1; l < 8; l++) {
    tops[0] = tops[l] > tops[0] ? tops[l] : tops[0];
    lows[0] = lows[l] < lows[0] ? lows[l] : lows[0];
  }
  *sum = rc_fold(lanes);
  *low = lows[0];
  for (c = 0; c < C - 1 && s[c] != tops[0];) c++;
  return c;
}

/* One row, any C: the first largest score, and whether the row passes its check. */
#define RC_DECIDE_ROW(T, NAME, WIDE)                                                                                  \
  static ptrdiff_t RC_(NAME)(const T *s, ptrdiff_t C, int check, double tolerance, int *bad) {                  \
    ptrdiff_t best = 0;                                                                                         \
    double sum, low;                                                                                            \
    int finite = 1;                                                                                             \
    if (C <= 32) {                                                                                              \
      T total = s[0], top = s[0], least = s[0], zero = s[0] - s[0];                                             \
      for (ptrdiff_t c = 1; c < C; c++) {                                                                       \
        T x = s[c];                                                                                             \
        best = x > top ? c : best;                                                                              \
        top = x > top ? x : top;                                                                                \
        least = x < least ? x : least;                                                                          \
        total += x;                                                                                             \
        zero += x - x;                                                                                          \
      }                                                                                                         \
      sum = (double)total;                                                                                      \
      low = (double)least;                                                                                              \
      finite = zero == 0;                                                                                       \
      if (check == RC_CHECK_PROBA) { /* in the precision of the scores, as the vector path has it */           \
        T off = total - (T)1;                                                                                   \
        off = off < 0 ? -off : off;                                                                             \
        *bad = !(off <= (T)tolerance) || !(least >= 0);                                                         \
        return best;                                                                                            \
      }                                                                                                         \
    } else {                                                                                                    \
      best = RC_(WIDE)(s, C, &sum, &low);                                                                       \
      finite = sum - sum == 0;                                                                                  \
      if (!finite && check == RC_CHECK_FINITE) { /* only too much for a sum, maybe */                           \
        finite = 1;                                                                                             \
        for (ptrdiff_t c = 0; c < C; c++) finite &= s[c] - s[c] == 0;                                           \
      }                                                                                                         \
    }                                                                                                           \
    double off = sum - 1.0;                                                                                     \
    int overflow = sizeof(T) == 8 && sum - sum != 0; /* no sum to divide by; floats are added as doubles */     \
    off = off < 0 ? -off : off;                                                                                 \
    *bad = check == RC_CHECK_PROBA         ? !(off <= tolerance) || !(low >= 0)                                 \
           : check == RC_CHECK_FINITE      ? !finite                                                            \
           : check == RC_CHECK_NONNEGATIVE ? !finite || !(low >= 0) || !(sum > 0) || overflow                   \
                                           : 0;                                                                 \
    if (check == RC_CHECK_LOG) { /* -infinity is a probability of 0; NaN and +infinity are not */               \
      int wrong = 0;                                                                                            \
      for (ptrdiff_t c = 0; c < C; c++) wrong |= !(s[c] < (T)INFINITY);                                         \
      *bad = wrong;                                                                                             \
    }                                                                                                           \
    return best;                                                                                                \
  }
RC_DECIDE_ROW(float, decide_row_f32, wide_row_f32)
RC_DECIDE_ROW(double, decide_row_f64, wide_row_f64)
#undef RC_DECIDE_ROW

/* Binary scores cut at a threshold: C == 1, or C == 2 with rule->cut set. The cut is exact: a double threshold is
 * rounded to the precision of the scores in the direction that leaves every comparison as it is. */
#define RC_DECIDE_CUT(T, NAME, ROW, NEXT)                                                                       \
  static ptrdiff_t RC_(NAME)(const T *s, ptrdiff_t n, ptrdiff_t C, const rc_rule *rule, uint8_t *o8, uint16_t *o16) { \
    int check = C == 1 ? rule->check : RC_CHECK_NONE;                                                           \
    T t = (T)rule->threshold;                                                                                   \
    if (rule->cut == RC_CUT_FROM && (double)t < rule->threshold) t = NEXT(t, (T)INFINITY);                      \
    if (rule->cut == RC_CUT_ABOVE) /* above t is from the next number on */                                     \
      t = (double)t > rule->threshold ? t : NEXT(t, (T)INFINITY);                                               \
    T low = check == RC_CHECK_FINITE || check == RC_CHECK_LOG ? (T)-INFINITY : 0;                               \
    T high = check == RC_CHECK_FINITE ? (T)INFINITY : check == RC_CHECK_LOG ? 0 : 1;                            \
    for (ptrdiff_t i = 0; i < n; i += 1024) { /* in pieces, so that the loops vectorise and bad rows are found */ \
      ptrdiff_t m = n - i < 1024 ? n - i : 1024;                                                                \
      const T *x = s + i * C + (C - 1);                                                                         \
      if (o8) {                                                                                                 \
        if (C == 1)                                                                                             \
          for (ptrdiff_t j = 0; j < m; j++) o8[i + j] = x[j] >= t;                                              \
        else                                                                                                    \
          for (ptrdiff_t j = 0; j < m; j++) o8[i + j] = x[j * C] >= t;                                          \
      }                                                                                                         \
      if (o16)                                                                                                  \
        for (ptrdiff_t j = 0; j < m; j++) o16[i + j] = x[j * C] >= t;                                           \
      int32_t bad = 0;                                                                                          \
      if (check == RC_CHECK_FINITE)                                                                             \
        for (ptrdiff_t j = 0; j < m; j++) bad |= !(x[j] - x[j] == 0);                                           \
      else if (check != RC_CHECK_NONE)                                                                          \
        for (ptrdiff_t j = 0; j < m; j++) bad |= !(x[j] >= low) | !(x[j] <= high);                              \
      if (C != 1 && rule->check != RC_CHECK_NONE)                                                               \
        for (ptrdiff_t j = 0; j < m && !bad; j++) RC_(ROW)(s + (i + j) * C, C, rule->check, rule->tolerance, &bad); \
      for (ptrdiff_t j = 0; j < m && bad; j++) {                                                                \
        int b;                                                                                                  \
        if (C == 1)                                                                                             \
          b = check == RC_CHECK_FINITE ? !(x[j] - x[j] == 0) : !(x[j] >= low) || !(x[j] <= high);               \
        else                                                                                                    \
          RC_(ROW)(s + (i + j) * C, C, rule->check, rule->tolerance, &b);                                       \
        if (b) return i + j;                                                                                    \
      }                                                                                                         \
    }                                                                                                           \
    return -1;                                                                                                  \
  }
RC_DECIDE_CUT(float, decide_cut_f32, decide_row_f32, nextafterf)
RC_DECIDE_CUT(double, decide_cut_f64, decide_row_f64, nextafter)
#undef RC_DECIDE_CUT

#define RC_DECIDE_ROWS(T, ROW)                                               \
  for (; i < n; i++) {                                                       \
    int bad;                                                                 \
    ptrdiff_t d = RC_(ROW)(s + i * C, C, rule->check, rule->tolerance, &bad); \
    if (bad) return i;                                                       \
    if (o8) o8[i] = (uint8_t)d;                                              \
    if (o16) o16[i] = (uint16_t)d;                                           \
  }                                                                          \
  return -1;

static ptrdiff_t RC_(decide_f64)(const double *s, ptrdiff_t n, ptrdiff_t C, const rc_rule *rule, uint8_t *o8, uint16_t *o16) {
  if (rule->cut != RC_CUT_NONE) return RC_(decide_cut_f64)(s, n, C, rule, o8, o16);
  ptrdiff_t i = 0;
  RC_DECIDE_ROWS(double, decide_row_f64)
}

#if RC_X86
/* Vector path for float rows of 2..32 classes: VFN samples at a time, one sample to a lane. Four classes of VFN rows
 * are loaded as 128-bit pieces and transposed in registers; the last piece overlaps the one before. */
#if RC_LEVEL == 2
#define RC_EVEN(a, b) _mm512_permutex2var_ps(a, _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0), b)
#define RC_ODD(a, b) _mm512_permutex2var_ps(a, _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1), b)
#define RC_INT __m512i
#define RC_INT_ZERO _mm512_setzero_si512()
/* best, index: where x > best */
#define RC_UPDATE(best, index, x, c)                                  \
  do {                                                                \
    __mmask16 m_ = _mm512_cmp_ps_mask(x, best, _CMP_GT_OQ);           \
    index = _mm512_mask_mov_epi32(index, m_, _mm512_set1_epi32(c));   \
    best = _mm512_mask_mov_ps(best, m_, x);                           \
  } while (0)
#define RC_AT_LEAST(a, b) _cvtmask16_u32(_mm512_cmp_ps_mask(a, b, _CMP_GE_OQ))
#define RC_WATCH(w, x, low) _mm512_max_epu32(w, _mm512_sub_epi32(_mm512_castps_si512(x), low))
#define RC_WATCH_SET(u) _mm512_set1_epi32((int)(u))
#define RC_WATCH_BAD(w, range) (_cvtmask16_u32(_mm512_cmpgt_epu32_mask(w, range)))
#define RC_SIGNS(x) (_cvtmask16_u32(_mm512_movepi32_mask(_mm512_castps_si512(x))))
#define RC_STORE_BYTES(p, index) _mm_storeu_si128((__m128i *)(p), _mm512_cvtepi32_epi8(index))
#define RC_STORE_WORDS(p, index) _mm256_storeu_si256((__m256i *)(p), _mm512_cvtepi32_epi16(index))
#define RC_ROW_BAD(sum, signs, tol)                                                                                 \
  (_cvtmask16_u32(_mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_sub_ps(sum, _mm512_set1_ps(1.0f))), tol, _CMP_NLE_UQ)) | \
   _cvtmask16_u32(_mm512_movepi32_mask(_mm512_castps_si512(signs))))
#elif RC_LEVEL == 1
#define RC_EVEN(a, b) \
  _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88)), 0xD8))
#define RC_ODD(a, b) \
  _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(a, b, 0xDD)), 0xD8))
#define RC_INT __m256i
#define RC_INT_ZERO _mm256_setzero_si256()
#define RC_UPDATE(best, index, x, c)                                                                       \
  do {                                                                                                     \
    __m256 m_ = _mm256_cmp_ps(x, best, _CMP_GT_OQ);                                                        \
    index = _mm256_blendv_epi8(index, _mm256_set1_epi32(c), _mm256_castps_si256(m_));                      \
    best = _mm256_blendv_ps(best, x, m_);                                                                  \
  } while (0)
#define RC_AT_LEAST(a, b) (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ))
#define RC_WATCH(w, x, low) _mm256_max_epu32(w, _mm256_sub_epi32(_mm256_castps_si256(x), low))
#define RC_WATCH_SET(u) _mm256_set1_epi32((int)(u))
#define RC_WATCH_BAD(w, range) (~_mm256_movemask_epi8(_mm256_cmpeq_epi32(_mm256_max_epu32(w, range), range)))
#define RC_SIGNS(x) _mm256_movemask_ps(x)
#define RC_STORE_WORDS(p, index) \
  _mm_storeu_si128((__m128i *)(p), _mm_packus_epi32(_mm256_castsi256_si128(index), _mm256_extracti128_si256(index, 1)))
#define RC_STORE_BYTES(p, index)                                                                                        \
  do {                                                                                                                  \
    __m128i w_ = _mm_packus_epi32(_mm256_castsi256_si128(index), _mm256_extracti128_si256(index, 1));                   \
    _mm_storel_epi64((__m128i *)(p), _mm_packus_epi16(w_, w_));                                                         \
  } while (0)
#define RC_ROW_BAD(sum, signs, tol)                                                                                       \
  (_mm256_movemask_ps(_mm256_cmp_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), _mm256_sub_ps(sum, _mm256_set1_ps(1.0f))), tol, _CMP_NLE_UQ)) | \
   _mm256_movemask_ps(signs))
#else
#define RC_EVEN(a, b) _mm_shuffle_ps(a, b, 0x88)
#define RC_ODD(a, b) _mm_shuffle_ps(a, b, 0xDD)
#define RC_INT __m128i
#define RC_INT_ZERO _mm_setzero_si128()
#define RC_UPDATE(best, index, x, c)                                                                       \
  do {                                                                                                     \
    __m128 m_ = _mm_cmpgt_ps(x, best);                                                                     \
    __m128i mi_ = _mm_castps_si128(m_);                                                                    \
    index = _mm_or_si128(_mm_and_si128(mi_, _mm_set1_epi32(c)), _mm_andnot_si128(mi_, index));             \
    best = _mm_or_ps(_mm_and_ps(m_, x), _mm_andnot_ps(m_, best));                                          \
  } while (0)
#define RC_AT_LEAST(a, b) (uint32_t)_mm_movemask_ps(_mm_cmpge_ps(a, b))
/* no unsigned maximum here: the bits above low and below low + range, signed, where both are positive floats */
#define RC_WATCH(w, x, low) \
  _mm_or_si128(w, _mm_or_si128(_mm_cmplt_epi32(_mm_castps_si128(x), low), _mm_cmpgt_epi32(_mm_castps_si128(x), most)))
#define RC_WATCH_SET(u) _mm_set1_epi32((int)(u))
#define RC_WATCH_BAD(w, range) _mm_movemask_epi8(w)
#define RC_SIGNS(x) _mm_movemask_ps(x)
#define RC_STORE_BYTES(p, index)                                                \
  do {                                                                          \
    int32_t v_[4];                                                              \
    _mm_storeu_si128((__m128i *)v_, index);                                     \
    for (int l_ = 0; l_ < 4; l_++) (p)[l_] = (uint8_t)v_[l_];                   \
  } while (0)
#define RC_STORE_WORDS(p, index)                                                \
  do {                                                                          \
    int32_t v_[4];                                                              \
    _mm_storeu_si128((__m128i *)v_, index);                                     \
    for (int l_ = 0; l_ < 4; l_++) (p)[l_] = (uint16_t)v_[l_];                  \
  } while (0)
#define RC_ROW_BAD(sum, signs, tol)                                                                             \
  (_mm_movemask_ps(_mm_cmpnle_ps(_mm_andnot_ps(_mm_set1_ps(-0.0f), _mm_sub_ps(sum, _mm_set1_ps(1.0f))), tol)) | \
   _mm_movemask_ps(signs))
#endif

#define RC_TAKE(x, c)            \
  do {                           \
    if ((c) == 0) {              \
      best = total = signs = x;  \
    } else {                     \
      RC_UPDATE(best, index, x, c); \
      total = VF_ADD(total, x);  \
      signs = VF_OR(signs, x);   \
    }                            \
  } while (0)

/* VFN rows from s on; C is a constant where the caller's is. Piece r holds rows r, 4 + r, ..., so that lane l ends up
 * with row l. Returns whether a row looks wrong: off in its sum (NaN and infinity are), or with a sign bit anywhere. */
RC_INLINE int RC_(decide_lanes)(const float *s, ptrdiff_t C, VF tolerance, uint8_t *o8, uint16_t *o16) {
  VF best = VF_SET(0.0f), total = best, signs = best;
  RC_INT index = RC_INT_ZERO;
  if (C == 2) {
    VF a = VF_LOAD(s), b = VF_LOAD(s + VFN);
    VF x = RC_EVEN(a, b), y = RC_ODD(a, b);
    RC_TAKE(x, 0);
    RC_TAKE(y, 1);
  } else {
    _Pragma("GCC unroll 8") for (ptrdiff_t c0 = 0; c0 < C; c0 += 4) {
      ptrdiff_t at = C >= 4 && c0 + 4 > C ? C - 4 : c0, skip = c0 - at;
      const float *p = s + at;
      VF r0 = RC_PIECE(p, C), r1 = RC_PIECE(p + C, C), r2 = RC_PIECE(p + 2 * C, C), r3 = RC_PIECE(p + 3 * C, C);
      VF a = RC_LOW(r0, r1), b = RC_LOW(r2, r3), h = RC_HIGH(r0, r1), k = RC_HIGH(r2, r3);
      if (skip < 1) { VF x = RC_LOW2(a, b); RC_TAKE(x, at); }
      if (skip < 2) { VF x = RC_HIGH2(a, b); RC_TAKE(x, at + 1); }
      if (skip < 3) { VF x = RC_LOW2(h, k); RC_TAKE(x, at + 2); }
      if (C >= 4) { VF x = RC_HIGH2(h, k); RC_TAKE(x, at + 3); }
    }
  }
  if (o8) RC_STORE_BYTES(o8, index);
  if (o16) RC_STORE_WORDS(o16, index);
  return RC_ROW_BAD(total, signs, tolerance) != 0;
}
/* 64 binary decisions as one word. A row is watched through the bits of its sum (or of P(1)), which order like the
 * float itself: from bits(low) on, at most range higher. Returns whether a row looks wrong. */
RC_INLINE int RC_(decide_word)(const float *s, ptrdiff_t C, int above, float t, uint32_t low, uint32_t range, uint64_t *word) {
  RC_INT watch = RC_INT_ZERO, from = RC_WATCH_SET(low), most = RC_WATCH_SET(RC_LEVEL == 0 ? low + range : range);
  VF signs = VF_SET(0.0f), cut = VF_SET(t);
  uint64_t bits = 0;
  _Pragma("GCC unroll 4") for (int j = 0; j < 64; j += VFN) {
    if (C == 1) {
      VF x = VF_LOAD(s + j);
      bits |= (uint64_t)RC_AT_LEAST(x, cut) << j;
      watch = RC_WATCH(watch, x, from);
    } else {
      VF a = VF_LOAD(s + 2 * j), b = VF_LOAD(s + 2 * j + VFN);
      VF x = RC_EVEN(a, b), y = RC_ODD(a, b), sum = VF_ADD(x, y);
      bits |= (uint64_t)(above ? RC_GREATER(y, x) : RC_AT_LEAST(y, cut)) << j;
      watch = RC_WATCH(watch, sum, from);
      signs = VF_OR(signs, VF_OR(x, y));
    }
  }
  *word = bits;
  return (RC_WATCH_BAD(watch, most) | RC_SIGNS(signs)) != 0;
}

#undef RC_TAKE
#undef RC_EVEN
#undef RC_ODD
#undef RC_INT
#undef RC_INT_ZERO
#undef RC_UPDATE
#undef RC_STORE_BYTES
#undef RC_STORE_WORDS
#undef RC_ROW_BAD
#undef RC_AT_LEAST
#undef RC_WATCH
#undef RC_WATCH_SET
#undef RC_WATCH_BAD
#undef RC_SIGNS

/* Rows as far as the lanes can take them (C == 3 reads one float beyond its rows). Rows that look wrong are decided
 * one by one: a -0 is legal, and the error has to name the row. */
#define RC_DECIDE_FIXED(C)                                                                                    \
  for (; i + VFN < n + (C != 3); i += VFN)                                                                    \
    if (RC_(decide_lanes)(s + i * (C), (C), tol, o8 ? o8 + i : NULL, o16 ? o16 + i : NULL) && checked)        \
      for (ptrdiff_t j = i; j < i + VFN; j++) {                                                               \
        int bad;                                                                                              \
        RC_(decide_row_f32)(s + j * (C), (C), RC_CHECK_PROBA, rule->tolerance, &bad);                         \
        if (bad) return j;                                                                                    \
      }
#endif

static ptrdiff_t RC_(decide_f32)(const float *s, ptrdiff_t n, ptrdiff_t C, const rc_rule *rule, uint8_t *o8, uint16_t *o16) {
  assert(n >= 0 && C >= 1 && (o8 == NULL || C <= 256));
  if (rule->cut != RC_CUT_NONE) return RC_(decide_cut_f32)(s, n, C, rule, o8, o16);
  ptrdiff_t i = 0;
#if RC_X86
  if (C >= 2 && C <= 32 && (rule->check == RC_CHECK_PROBA || rule->check == RC_CHECK_NONE)) {
    VF tol = VF_SET((float)rule->tolerance);
    int checked = rule->check == RC_CHECK_PROBA;
    switch (C) { /* constants let the pieces unroll */
      case 2: RC_DECIDE_FIXED(2); break;
      case 3: RC_DECIDE_FIXED(3); break;
      case 4: RC_DECIDE_FIXED(4); break;
      case 5: RC_DECIDE_FIXED(5); break;
      case 6: RC_DECIDE_FIXED(6); break;
      case 7: RC_DECIDE_FIXED(7); break;
      case 8: RC_DECIDE_FIXED(8); break;
      case 10: RC_DECIDE_FIXED(10); break;
      default: RC_DECIDE_FIXED(C); break;
    }
  }
#undef RC_DECIDE_FIXED
#endif
  RC_DECIDE_ROWS(float, decide_row_f32)
}
#undef RC_DECIDE_ROWS

static void RC_(bounds_f32)(const rc_rule *rule, ptrdiff_t C, rc_bounds *bounds) {
  float t = (float)rule->threshold, low = 0.0f, high = 1.0f, tolerance = (float)rule->tolerance;
  if (rule->cut == RC_CUT_FROM && (double)t < rule->threshold) t = nextafterf(t, INFINITY);
  if (rule->cut == RC_CUT_ABOVE && !((double)t > rule->threshold)) t = nextafterf(t, INFINITY);
  /* beyond a half the bounds below would be far apart from their guesses, or below 0 where bits order backwards */
  bounds->usable = C == 1 || (tolerance >= 0.0f && tolerance <= 0.5f);
  if (C == 2 && bounds->usable) { /* the smallest and largest sums that pass |sum - 1| <= tolerance */
    low = 1.0f - tolerance;
    high = 1.0f + tolerance;
    while (1.0f - low <= tolerance) low = nextafterf(low, 0.0f);
    while (1.0f - low > tolerance) low = nextafterf(low, 1.0f);
    while (high - 1.0f <= tolerance) high = nextafterf(high, INFINITY);
    while (high - 1.0f > tolerance) high = nextafterf(high, 1.0f);
  }
  bounds->cut = t;
  memcpy(&bounds->first, &low, 4);
  memcpy(&bounds->range, &high, 4);
  bounds->range -= bounds->first;
}

/* Binary probabilities straight to bits: C == 1, or C == 2, with RC_CHECK_PROBA. */
static ptrdiff_t RC_(decide_bits_f32)(const float *s, ptrdiff_t n, ptrdiff_t C, const rc_rule *rule, const rc_bounds *bounds,
                                      uint64_t *words) {
  ptrdiff_t i = 0;
#if RC_X86
  float t = bounds->cut;
  uint32_t first = bounds->first, range = bounds->range;
  for (; i + 64 <= n && bounds->usable; i += 64) {
    const float *x = s + i * C;
    int odd = C == 1 ? RC_(decide_word)(x, 1, 0, t, first, range, words + i / 64)
                     : RC_(decide_word)(x, 2, rule->cut == RC_CUT_NONE, t, first, range, words + i / 64);
    if (odd) {
      ptrdiff_t bad = RC_(decide_f32)(x, 64, C, rule, NULL, NULL);
      if (bad >= 0) return i + bad;
    }
  }
#else
  (void)bounds;
#endif
  for (; i < n; i += 64) {
    uint8_t d[64];
    ptrdiff_t m = n - i < 64 ? n - i : 64, bad = RC_(decide_f32)(s + i * C, m, C, rule, d, NULL);
    if (bad >= 0) return i + bad;
    words[i / 64] = 0;
    for (ptrdiff_t j = 0; j < m; j++) words[i / 64] |= (uint64_t)d[j] << j;
  }
  return -1;
}
