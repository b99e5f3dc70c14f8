/* A few vector words, redefined for each instruction set: VF holds VFN floats, VD holds VDN doubles, and the floats of a VF
 * widen into VF_PARTS VDs, straight from memory (half the instructions of splitting a register). RC_LEVEL 0 without x86 is
 * plain C with one lane. MIN and MAX are a < b ? a : b and a > b ? a : b, as x86 has them: the second operand wins when the
 * two are unordered or equal. VF_FMA is a * b + c, rounded once or twice: for bounds with room for either, never for
 * results. VI holds VFN 32-bit integers; VI_SWAP exchanges neighbours. VB holds the bits of VBN words:
 * VB_ANDNOT is ~a & b, VB_OR_AND a | (b & c), VB_OR_XOR a | (b ^ c), VB_ANY whether a bit is set; VB_SUM and VB_MOST the low and the high bit of a + b + c. RC_PIECE gathers four floats of every fourth row into
 * 128-bit lanes; RC_LOW, RC_HIGH, RC_LOW2 and RC_HIGH2 interleave singles and pairs inside those lanes: together they
 * transpose VFN rows of four floats. */
#undef VF
#undef VFN
#undef VD
#undef VDN
#undef VF_PARTS
#undef VF_LOAD
#undef VF_STORE
#undef VF_SET
#undef VF_ADD
#undef VF_SUB
#undef VF_MIN
#undef VF_MAX
#undef VF_OR
#undef VD_LOAD
#undef VD_STORE
#undef VD_SET
#undef VD_ADD
#undef VD_SUB
#undef VD_MUL
#undef VD_MIN
#undef VD_MAX
#undef VF_WIDEN_LOAD
#undef VF_MUL
#undef VF_FMA
#undef VI
#undef VI_LOAD
#undef VI_STORE
#undef VI_SUB
#undef VI_MAX
#undef VI_SWAP
#undef VB
#undef VBN
#undef VB_LOAD
#undef VB_STORE
#undef VB_ZERO
#undef VB_NOT
#undef VB_AND
#undef VB_ANDNOT
#undef VB_XOR
#undef VB_OR_AND
#undef VB_OR_XOR
#undef VB_ANY
#undef VB_SUM
#undef VB_MOST
#undef RC_PIECE
#undef RC_LOW
#undef RC_HIGH
#undef RC_LOW2
#undef RC_HIGH2
#undef RC_GREATER

#if RC_X86 && RC_LEVEL == 2
#define VF __m512
#define VFN 16
#define VD __m512d
#define VDN 8
#define VF_PARTS 2
#define VF_LOAD(p) _mm512_loadu_ps(p)
#define VF_STORE(p, x) _mm512_storeu_ps(p, x)
#define VF_SET(x) _mm512_set1_ps(x)
#define VF_ADD(a, b) _mm512_add_ps(a, b)
#define VF_SUB(a, b) _mm512_sub_ps(a, b)
#define VF_MIN(a, b) _mm512_min_ps(a, b)
#define VF_MAX(a, b) _mm512_max_ps(a, b)
#define VF_OR(a, b) _mm512_or_ps(a, b)
#define VD_LOAD(p) _mm512_loadu_pd(p)
#define VD_STORE(p, x) _mm512_storeu_pd(p, x)
#define VD_SET(x) _mm512_set1_pd(x)
#define VD_ADD(a, b) _mm512_add_pd(a, b)
#define VD_SUB(a, b) _mm512_sub_pd(a, b)
#define VD_MUL(a, b) _mm512_mul_pd(a, b)
#define VD_MIN(a, b) _mm512_min_pd(a, b)
#define VD_MAX(a, b) _mm512_max_pd(a, b)
#define VF_WIDEN_LOAD(p, part) _mm512_cvtps_pd(_mm256_loadu_ps((p) + 8 * (part)))
#define VF_MUL(a, b) _mm512_mul_ps(a, b)
#define VF_FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define VI __m512i
#define VI_LOAD(p) _mm512_loadu_si512((const void *)(p))
#define VI_STORE(p, x) _mm512_storeu_si512((void *)(p), x)
#define VI_SUB(a, b) _mm512_sub_epi32(a, b)
#define VI_MAX(a, b) _mm512_max_epi32(a, b)
#define VI_SWAP(x) _mm512_shuffle_epi32(x, _MM_PERM_CDAB)
#define RC_GREATER(a, b) _cvtmask16_u32(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ))
#define RC_PIECE(p, C)                                                                                                       \
  _mm512_insertf32x4(_mm512_insertf32x4(_mm512_insertf32x4(_mm512_castps128_ps512(_mm_loadu_ps(p)), _mm_loadu_ps((p) + 4 * (C)), 1), \
                                        _mm_loadu_ps((p) + 8 * (C)), 2), _mm_loadu_ps((p) + 12 * (C)), 3)
#define RC_LOW(a, b) _mm512_unpacklo_ps(a, b)
#define RC_HIGH(a, b) _mm512_unpackhi_ps(a, b)
#define RC_LOW2(a, b) _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)))
#define RC_HIGH2(a, b) _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)))
#define VB __m512i
#define VBN 8
#define VB_LOAD(p) _mm512_loadu_si512((const void *)(p))
#define VB_STORE(p, x) _mm512_storeu_si512((void *)(p), x)
#define VB_ZERO _mm512_setzero_si512()
#define VB_NOT(x) _mm512_ternarylogic_epi64(x, x, x, 0x0F)
#define VB_AND(a, b) _mm512_and_si512(a, b)
#define VB_ANDNOT(a, b) _mm512_andnot_si512(a, b)
#define VB_XOR(a, b) _mm512_xor_si512(a, b)
#define VB_OR_AND(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0xF8)
#define VB_OR_XOR(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0xF6)
#define VB_ANY(x) (_cvtmask8_u32(_mm512_test_epi64_mask(x, x)) != 0)
#define VB_SUM(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0x96)
#define VB_MOST(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0xE8)

#elif RC_X86 && RC_LEVEL == 1
#define VF __m256
#define VFN 8
#define VD __m256d
#define VDN 4
#define VF_PARTS 2
#define VF_LOAD(p) _mm256_loadu_ps(p)
#define VF_STORE(p, x) _mm256_storeu_ps(p, x)
#define VF_SET(x) _mm256_set1_ps(x)
#define VF_ADD(a, b) _mm256_add_ps(a, b)
#define VF_SUB(a, b) _mm256_sub_ps(a, b)
#define VF_MIN(a, b) _mm256_min_ps(a, b)
#define VF_MAX(a, b) _mm256_max_ps(a, b)
#define VF_OR(a, b) _mm256_or_ps(a, b)
#define VD_LOAD(p) _mm256_loadu_pd(p)
#define VD_STORE(p, x) _mm256_storeu_pd(p, x)
#define VD_SET(x) _mm256_set1_pd(x)
#define VD_ADD(a, b) _mm256_add_pd(a, b)
#define VD_SUB(a, b) _mm256_sub_pd(a, b)
#define VD_MUL(a, b) _mm256_mul_pd(a, b)
#define VD_MIN(a, b) _mm256_min_pd(a, b)
#define VD_MAX(a, b) _mm256_max_pd(a, b)
#define VF_WIDEN_LOAD(p, part) _mm256_cvtps_pd(_mm_loadu_ps((p) + 4 * (part)))
#define VF_MUL(a, b) _mm256_mul_ps(a, b)
#define VF_FMA(a, b, c) VF_ADD(VF_MUL(a, b), c)
#define VI __m256i
#define VI_LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define VI_STORE(p, x) _mm256_storeu_si256((__m256i *)(p), x)
#define VI_SUB(a, b) _mm256_sub_epi32(a, b)
#define VI_MAX(a, b) _mm256_max_epi32(a, b)
#define VI_SWAP(x) _mm256_shuffle_epi32(x, 0xB1)
#define RC_GREATER(a, b) (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ))
#define RC_PIECE(p, C) _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps((p) + 4 * (C)), 1)
#define RC_LOW(a, b) _mm256_unpacklo_ps(a, b)
#define RC_HIGH(a, b) _mm256_unpackhi_ps(a, b)
#define RC_LOW2(a, b) _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)))
#define RC_HIGH2(a, b) _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)))
#define VB __m256i
#define VBN 4
#define VB_LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define VB_STORE(p, x) _mm256_storeu_si256((__m256i *)(p), x)
#define VB_ZERO _mm256_setzero_si256()
#define VB_NOT(x) _mm256_xor_si256(x, _mm256_set1_epi32(-1))
#define VB_AND(a, b) _mm256_and_si256(a, b)
#define VB_ANDNOT(a, b) _mm256_andnot_si256(a, b)
#define VB_XOR(a, b) _mm256_xor_si256(a, b)
#define VB_OR_AND(a, b, c) _mm256_or_si256(a, _mm256_and_si256(b, c))
#define VB_OR_XOR(a, b, c) _mm256_or_si256(a, _mm256_xor_si256(b, c))
#define VB_ANY(x) (!_mm256_testz_si256(x, x))
#define VB_SUM(a, b, c) VB_XOR(a, VB_XOR(b, c))
#define VB_MOST(a, b, c) _mm256_or_si256(VB_AND(a, b), VB_AND(c, VB_XOR(a, b)))

#elif RC_X86
#define VF __m128
#define VFN 4
#define VD __m128d
#define VDN 2
#define VF_PARTS 2
#define VF_LOAD(p) _mm_loadu_ps(p)
#define VF_STORE(p, x) _mm_storeu_ps(p, x)
#define VF_SET(x) _mm_set1_ps(x)
#define VF_ADD(a, b) _mm_add_ps(a, b)
#define VF_SUB(a, b) _mm_sub_ps(a, b)
#define VF_MIN(a, b) _mm_min_ps(a, b)
#define VF_MAX(a, b) _mm_max_ps(a, b)
#define VF_OR(a, b) _mm_or_ps(a, b)
#define VD_LOAD(p) _mm_loadu_pd(p)
#define VD_STORE(p, x) _mm_storeu_pd(p, x)
#define VD_SET(x) _mm_set1_pd(x)
#define VD_ADD(a, b) _mm_add_pd(a, b)
#define VD_SUB(a, b) _mm_sub_pd(a, b)
#define VD_MUL(a, b) _mm_mul_pd(a, b)
#define VD_MIN(a, b) _mm_min_pd(a, b)
#define VD_MAX(a, b) _mm_max_pd(a, b)
#define VF_WIDEN_LOAD(p, part) _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)((p) + 2 * (part)))))
#define VF_MUL(a, b) _mm_mul_ps(a, b)
#define VF_FMA(a, b, c) VF_ADD(VF_MUL(a, b), c)
#define VI __m128i
#define VI_LOAD(p) _mm_loadu_si128((const __m128i *)(p))
#define VI_STORE(p, x) _mm_storeu_si128((__m128i *)(p), x)
#define VI_SUB(a, b) _mm_sub_epi32(a, b)
#define VI_MAX(a, b) RC_(max_epi32)(a, b)
#define VI_SWAP(x) _mm_shuffle_epi32(x, 0xB1)
RC_INLINE __m128i RC_(max_epi32)(__m128i a, __m128i b) {
  __m128i m = _mm_cmpgt_epi32(a, b);
  return _mm_or_si128(_mm_and_si128(m, a), _mm_andnot_si128(m, b));
}
#define RC_GREATER(a, b) (uint32_t)_mm_movemask_ps(_mm_cmpgt_ps(a, b))
#define RC_PIECE(p, C) _mm_loadu_ps(p)
#define RC_LOW(a, b) _mm_unpacklo_ps(a, b)
#define RC_HIGH(a, b) _mm_unpackhi_ps(a, b)
#define RC_LOW2(a, b) _mm_castpd_ps(_mm_unpacklo_pd(_mm_castps_pd(a), _mm_castps_pd(b)))
#define RC_HIGH2(a, b) _mm_castpd_ps(_mm_unpackhi_pd(_mm_castps_pd(a), _mm_castps_pd(b)))
#define VB __m128i
#define VBN 2
#define VB_LOAD(p) _mm_loadu_si128((const __m128i *)(p))
#define VB_STORE(p, x) _mm_storeu_si128((__m128i *)(p), x)
#define VB_ZERO _mm_setzero_si128()
#define VB_NOT(x) _mm_xor_si128(x, _mm_set1_epi32(-1))
#define VB_AND(a, b) _mm_and_si128(a, b)
#define VB_ANDNOT(a, b) _mm_andnot_si128(a, b)
#define VB_XOR(a, b) _mm_xor_si128(a, b)
#define VB_OR_AND(a, b, c) _mm_or_si128(a, _mm_and_si128(b, c))
#define VB_OR_XOR(a, b, c) _mm_or_si128(a, _mm_xor_si128(b, c))
#define VB_ANY(x) (_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_setzero_si128())) != 0xFFFF)
#define VB_SUM(a, b, c) VB_XOR(a, VB_XOR(b, c))
#define VB_MOST(a, b, c) _mm_or_si128(VB_AND(a, b), VB_AND(c, VB_XOR(a, b)))

#else
#define VF float
#define VFN 1
#define VD double
#define VDN 1
#define VF_PARTS 1
#define VF_LOAD(p) (*(p))
#define VF_STORE(p, x) (*(p) = (x))
#define VF_SET(x) (x)
#define VF_ADD(a, b) ((a) + (b))
#define VF_SUB(a, b) ((a) - (b))
#define VF_MIN(a, b) ((a) < (b) ? (a) : (b))
#define VF_MAX(a, b) ((a) > (b) ? (a) : (b))
#define VD_LOAD(p) (*(p))
#define VD_STORE(p, x) (*(p) = (x))
#define VD_SET(x) (x)
#define VD_ADD(a, b) ((a) + (b))
#define VD_SUB(a, b) ((a) - (b))
#define VD_MUL(a, b) ((a) * (b))
#define VD_MIN(a, b) ((a) < (b) ? (a) : (b))
#define VD_MAX(a, b) ((a) > (b) ? (a) : (b))
#define VF_WIDEN_LOAD(p, part) ((double)(p)[part])
#define VF_MUL(a, b) ((a) * (b))
#define VF_FMA(a, b, c) ((a) * (b) + (c))
#define VB uint64_t
#define VBN 1
#define VB_LOAD(p) (*(p))
#define VB_STORE(p, x) (*(p) = (x))
#define VB_ZERO 0
#define VB_NOT(x) (~(x))
#define VB_AND(a, b) ((a) & (b))
#define VB_ANDNOT(a, b) (~(a) & (b))
#define VB_XOR(a, b) ((a) ^ (b))
#define VB_OR_AND(a, b, c) ((a) | ((b) & (c)))
#define VB_OR_XOR(a, b, c) ((a) | ((b) ^ (c)))
#define VB_ANY(x) ((x) != 0)
#define VB_SUM(a, b, c) VB_XOR(a, VB_XOR(b, c))
#define VB_MOST(a, b, c) (VB_AND(a, b) | VB_AND(c, VB_XOR(a, b)))
#endif
