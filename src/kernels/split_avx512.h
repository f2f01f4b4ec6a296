/* Numbers into bfloat16 pieces by AVX512_BF16, 32 at a time: round to nearest even, subnormal is 0. What split_plain.h
 * has in plain C, with the same bits. */
#define NUMBERS __m512  /* 16 float32 */
#define WORDS __m512i   /* 16 words of two bfloat16 */
#define SPLIT static inline __attribute__((always_inline))

/* the first n of 16 numbers and zeros; n may be negative */
SPLIT NUMBERS some_numbers(const float *a, ptrdiff_t n) {
    return n >= 16 ? _mm512_loadu_ps(a) : n > 0 ? _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), a) : _mm512_setzero_ps();
}

SPLIT void store_words(uint16_t *to, WORDS w) { _mm512_storeu_si512(to, w); }

/* whether a piece is inf or NaN */
SPLIT uint32_t special_words(WORDS w) {
    const WORDS exponent = _mm512_set1_epi16(0x7f80);
    return _mm512_cmpeq_epi16_mask(_mm512_and_si512(w, exponent), exponent) != 0;
}

/* 32 numbers a, b in a row -> a piece of each, in their order; a, b become what is left of them */
SPLIT WORDS split_row(NUMBERS *a, NUMBERS *b) {
    const WORDS w = (WORDS)_mm512_cvtne2ps_pbh(*b, *a);
    *a -= (NUMBERS)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(w)), 16);
    *b -= (NUMBERS)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(w, 1)), 16);
    return w;
}

/* 16 columns of an even and an odd row -> a piece of each, side by side */
SPLIT WORDS split_pairs(NUMBERS *even, NUMBERS *odd) {
    const WORDS low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(*even));
    const WORDS high = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(*odd)), 16);
    *even -= (NUMBERS)_mm512_slli_epi32(low, 16);
    *odd -= (NUMBERS)high;
    return _mm512_or_si512(low, high);
}

/* w[i] word j <-> w[j] word i */
SPLIT void transpose_words(WORDS w[16]) {
    WORDS t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(w[i], w[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(w[i], w[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            w[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + 2 + j]);
            w[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + 2 + j]);
        }
    /* words j, j + 4, ... of four rows are in w[j], w[4 + j], ...: quarters of them change places */
    for (int j = 0; j < 4; j++) {
        t[j] = _mm512_shuffle_i32x4(w[j], w[4 + j], 0x88);
        t[4 + j] = _mm512_shuffle_i32x4(w[8 + j], w[12 + j], 0x88);
        t[8 + j] = _mm512_shuffle_i32x4(w[j], w[4 + j], 0xdd);
        t[12 + j] = _mm512_shuffle_i32x4(w[8 + j], w[12 + j], 0xdd);
    }
    for (int j = 0; j < 4; j++) {
        w[j] = _mm512_shuffle_i32x4(t[j], t[4 + j], 0x88);
        w[8 + j] = _mm512_shuffle_i32x4(t[j], t[4 + j], 0xdd);
        w[4 + j] = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0x88);
        w[12 + j] = _mm512_shuffle_i32x4(t[8 + j], t[12 + j], 0xdd);
    }
}
