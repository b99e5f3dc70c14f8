/* Labels of any integer type to bytes, decisions to bit planes, conversions of scores. */

#define RC_FAR 4096 /* bytes ahead of what is being encoded */

#define RC_NARROW(T)                                                                                  \
  do {                                                                                                \
    const T *x = (const T *)labels;                                                                   \
    for (ptrdiff_t i = 0; i < n; i += 1024) {                                                         \
      ptrdiff_t m = n - i < 1024 ? n - i : 1024;                                                      \
      uint64_t bad = 0; /* negative values are huge as unsigned ones */                               \
      for (ptrdiff_t j = 0; j < m; j++) bad |= (uint64_t)((uint64_t)(int64_t)x[i + j] > top);         \
      if (bad)                                                                                        \
        for (ptrdiff_t j = 0; j < m; j++)                                                             \
          if ((uint64_t)(int64_t)x[i + j] > top) return i + j;                                        \
      if (o8)                                                                                         \
        for (ptrdiff_t j = 0; j < m; j++) o8[i + j] = (uint8_t)x[i + j];                              \
      if (o16)                                                                                        \
        for (ptrdiff_t j = 0; j < m; j++) o16[i + j] = (uint16_t)x[i + j];                            \
    }                                                                                                 \
  } while (0)

static ptrdiff_t RC_(narrow)(const void *labels, int type, ptrdiff_t n, uint64_t limit, uint8_t *o8, uint16_t *o16) {
  uint64_t top = limit - 1;
  switch (type) {
    case RC_I8: RC_NARROW(int8_t); break;
    case RC_U8: {
      const uint8_t *x = (const uint8_t *)labels;
      uint8_t largest = 0;
      for (ptrdiff_t i = 0; i < n; i += 64) RC_PREFETCH((const void *)((uintptr_t)x + (size_t)(n + i))); /* read soon */
      for (ptrdiff_t i = 0; i < n; i++) largest = x[i] > largest ? x[i] : largest;
      if (largest > top) RC_NARROW(uint8_t);
      if (o8 && o8 != x) memcpy(o8, x, (size_t)n);
      if (o16)
        for (ptrdiff_t i = 0; i < n; i++) o16[i] = x[i];
      break;
    }
    case RC_I16: RC_NARROW(int16_t); break;
    case RC_U16: RC_NARROW(uint16_t); break;
    case RC_I32: RC_NARROW(int32_t); break;
    case RC_U32: RC_NARROW(uint32_t); break;
    case RC_I64: RC_NARROW(int64_t); break;
    default: RC_NARROW(uint64_t); break;
  }
  return -1;
}
#undef RC_NARROW

/* Planes first..first+count-1 of one group from 512 bytes: bit b of a byte goes to plane first + b. */
static void RC_(encode_group)(const uint8_t *d, ptrdiff_t first, ptrdiff_t count, uint64_t *group) {
  for (ptrdiff_t w = 0; w < 8; w++) {
    const uint8_t *x = d + 64 * w;
#if RC_X86 && RC_LEVEL == 2
    __m512i v = _mm512_loadu_si512((const void *)x);
    for (ptrdiff_t b = 0; b < count; b++)
      group[(first + b) * 8 + w] = _cvtmask64_u64(_mm512_test_epi8_mask(v, _mm512_set1_epi8((char)(1 << b))));
#elif RC_X86 && RC_LEVEL == 1
    __m256i v0 = _mm256_loadu_si256((const __m256i *)x), v1 = _mm256_loadu_si256((const __m256i *)(x + 32));
    for (ptrdiff_t b = 0; b < count; b++) {
      __m128i by = _mm_cvtsi32_si128(7 - (int)b);
      uint64_t lo = (uint32_t)_mm256_movemask_epi8(_mm256_sll_epi16(v0, by));
      uint64_t hi = (uint32_t)_mm256_movemask_epi8(_mm256_sll_epi16(v1, by));
      group[(first + b) * 8 + w] = lo | hi << 32;
    }
#elif RC_X86
    for (ptrdiff_t b = 0; b < count; b++) {
      __m128i by = _mm_cvtsi32_si128(7 - (int)b);
      uint64_t word = 0;
      for (int q = 0; q < 4; q++) {
        __m128i v = _mm_loadu_si128((const __m128i *)(x + 16 * q));
        word |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_sll_epi16(v, by)) << (16 * q);
      }
      group[(first + b) * 8 + w] = word;
    }
#else
    for (ptrdiff_t b = 0; b < count; b++) {
      uint64_t word = 0;
      for (int q = 0; q < 64; q++) word |= (uint64_t)((x[q] >> b) & 1) << q;
      group[(first + b) * 8 + w] = word;
    }
#endif
  }
}

/* Planes of n labels; returns the first that is not below `limit`, or -1. */
static ptrdiff_t RC_(planes_u8)(const uint8_t *labels, ptrdiff_t n, uint64_t limit, ptrdiff_t P, uint64_t *planes) {
  uint8_t most[64] = {0}, largest = 0;
  for (ptrdiff_t i = 0; i < n; i += RC_GROUP, planes += P * 8) {
    const uint8_t *x = labels + i;
    uint8_t last[RC_GROUP];
    if (n - i < RC_GROUP) {
      memset(last, 0, RC_GROUP);
      x = memcpy(last, x, (size_t)(n - i));
    } else { /* past the end of a page no hardware looks ahead */
      for (ptrdiff_t j = 0; j < RC_GROUP; j += 64) RC_PREFETCH((const void *)((uintptr_t)x + RC_FAR + (size_t)j));
    }
    RC_(encode_group)(x, 0, P, planes);
    for (ptrdiff_t w = 0; w < RC_GROUP; w += 64)
      for (int j = 0; j < 64; j++) most[j] = x[w + j] > most[j] ? x[w + j] : most[j];
  }
  for (int j = 0; j < 64; j++) largest = most[j] > largest ? most[j] : largest;
  return (uint64_t)largest >= limit ? RC_(narrow)(labels, RC_U8, n, limit, NULL, NULL) : -1;
}

static void RC_(encode_u8)(const uint8_t *labels, ptrdiff_t n, ptrdiff_t P, uint64_t *planes) {
  RC_(planes_u8)(labels, n, 256, P, planes);
}

static void RC_(encode_u16)(const uint16_t *labels, ptrdiff_t n, ptrdiff_t P, uint64_t *planes) {
  for (ptrdiff_t i = 0; i < n; i += RC_GROUP, planes += P * 8) {
    ptrdiff_t m = n - i < RC_GROUP ? n - i : RC_GROUP;
    uint8_t low[RC_GROUP] = {0}, high[RC_GROUP] = {0};
    for (ptrdiff_t j = 0; j < m; j++) {
      low[j] = (uint8_t)labels[i + j];
      high[j] = (uint8_t)(labels[i + j] >> 8);
    }
    RC_(encode_group)(low, 0, P < 8 ? P : 8, planes);
    if (P > 8) RC_(encode_group)(high, 8, P - 8, planes);
  }
}

/* --- conversions ------------------------------------------------------------------------------------------------ */

static void RC_(half_to_float)(const uint16_t *in, ptrdiff_t n, float *out) {
  ptrdiff_t i = 0;
#if RC_X86 && RC_LEVEL == 2
  for (; i + 16 <= n; i += 16) _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(in + i))));
#elif RC_X86 && RC_LEVEL == 1
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(in + i))));
#endif
  for (; i < n; i++) {
    uint32_t h = in[i], sign = (h & 0x8000u) << 16, rest = h & 0x7fffu, u;
    float f;
    if (rest >= 0x7c00u) {
      u = 0x7f800000u | (rest & 0x3ffu) << 13; /* infinity, NaN */
      memcpy(&f, &u, 4);
    } else if (rest >= 0x400u) {
      u = (rest << 13) + (112u << 23);
      memcpy(&f, &u, 4);
    } else {
      f = (float)rest * 0x1p-24f; /* subnormal halves are exact floats */
    }
    memcpy(&u, &f, 4);
    u |= sign;
    memcpy(&out[i], &u, 4);
  }
}

static void RC_(exp_array)(const double *x, ptrdiff_t n, double *out) {
  for (ptrdiff_t i = 0; i < n; i++) out[i] = RC_(exp)(x[i]);
}

static void RC_(log_array)(const double *x, ptrdiff_t n, double *out) {
  for (ptrdiff_t i = 0; i < n; i++) out[i] = RC_(log)(x[i]);
}

#define RC_TRANSFORM(T, NAME)                                                                                   \
  static ptrdiff_t RC_(NAME)(const T *s, ptrdiff_t n, ptrdiff_t C, int kind, int renormalize, double tolerance, \
                             double *out) {                                                                     \
    ptrdiff_t bad = -1;                                                                                         \
    if (C == 1) { /* P(class 1), its logarithm, or its logit */                                                 \
      for (ptrdiff_t i = 0; i < n; i++) {                                                                       \
        double x = (double)s[i];                                                                                \
        out[i] = kind == RC_LOGITS && x > 0 ? -x : x;                                                           \
      }                                                                                                         \
      if (kind != RC_PROBA) RC_(exp_array)(out, n, out);                                                        \
      if (kind == RC_LOGITS) /* e / (1 + e) with e = exp(-|x|), or 1 / (1 + e) */                               \
        for (ptrdiff_t i = 0; i < n; i++) out[i] = (s[i] > 0 ? 1.0 : out[i]) / (1.0 + out[i]);                  \
      return -1;                                                                                                \
    }                                                                                                           \
    int soft = kind == RC_LOGITS || (kind == RC_LOG_PROBA && renormalize);                                      \
    for (ptrdiff_t i = 0; i < n; i++) {                                                                         \
      double top = soft ? (double)s[i * C] : 0.0;                                                               \
      if (soft)                                                                                                 \
        for (ptrdiff_t c = 1; c < C; c++) top = (double)s[i * C + c] > top ? (double)s[i * C + c] : top;        \
      for (ptrdiff_t c = 0; c < C; c++) out[i * C + c] = (double)s[i * C + c] - top;                            \
    }                                                                                                           \
    if (kind != RC_PROBA) RC_(exp_array)(out, n * C, out);                                                      \
    for (ptrdiff_t i = 0; i < n; i++) {                                                                         \
      double lanes[8] = {0}, *row = out + i * C;                                                                \
      RC_(sum_lanes)(row, NULL, C, lanes);                                                                      \
      double sum = rc_fold(lanes);                                                                              \
      if (kind == RC_LOG_PROBA && !renormalize) {                                                               \
        double off = sum - 1.0;                                                                                 \
        if (!((off < 0 ? -off : off) <= tolerance) && bad < 0) bad = i;                                         \
      } else {                                                                                                  \
        if (!(sum > 0) && bad < 0) bad = i;                                                                     \
        for (ptrdiff_t c = 0; c < C && (kind != RC_PROBA || renormalize); c++) row[c] /= sum;                   \
      }                                                                                                         \
    }                                                                                                           \
    return bad;                                                                                                 \
  }
static void RC_(sum_lanes)(const double *x, const double *w, ptrdiff_t n, double *lanes);
RC_TRANSFORM(float, transform_f32)
RC_TRANSFORM(double, transform_f64)
#undef RC_TRANSFORM
