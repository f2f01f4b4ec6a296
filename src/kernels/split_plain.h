/* Numbers into bfloat16 pieces in plain C: round to nearest even, subnormal is 0. */
typedef struct NUMBERS { float f[16]; } NUMBERS;   /* 16 float32 */
typedef struct WORDS { uint16_t h[16][2]; } WORDS; /* 16 words of two bfloat16 */

/* the first n of 16 numbers and zeros; n may be negative */
static NUMBERS some_numbers(const float *a, ptrdiff_t n) {
    NUMBERS v;
    for (ptrdiff_t j = 0; j < 16; j++) v.f[j] = j < n ? a[j] : 0;
    return v;
}

static void store_words(uint16_t *to, WORDS w) { memcpy(to, &w, sizeof w); }

/* whether a piece is inf or NaN */
static uint32_t special_words(WORDS w) {
    uint32_t special = 0;
    for (int j = 0; j < 16; j++) special |= (w.h[j][0] & 0x7f80) == 0x7f80 || (w.h[j][1] & 0x7f80) == 0x7f80;
    return special;
}

/* a number -> its piece, and what is left of it */
static uint16_t split_number(float *a) {
    uint32_t u;
    memcpy(&u, a, 4);
    const uint32_t size = u & 0x7fffffffu;
    uint32_t r = (u + 0x7fffu + ((u >> 16) & 1u)) & 0xffff0000u;
    r = size > 0x7f800000u ? (u | 0x400000u) & 0xffff0000u : r;
    r = size < 0x800000u ? u & 0x80000000u : r;
    float part;
    memcpy(&part, &r, 4);
    *a -= part;
    return (uint16_t)(r >> 16);
}

/* 32 numbers a, b in a row -> a piece of each, in their order; a, b become what is left of them */
static WORDS split_row(NUMBERS *a, NUMBERS *b) {
    WORDS w;
    for (int j = 0; j < 16; j++) w.h[j / 2][j % 2] = split_number(&a->f[j]);
    for (int j = 0; j < 16; j++) w.h[8 + j / 2][j % 2] = split_number(&b->f[j]);
    return w;
}

/* 16 columns of an even and an odd row -> a piece of each, side by side */
static WORDS split_pairs(NUMBERS *even, NUMBERS *odd) {
    WORDS w;
    for (int j = 0; j < 16; j++) {
        w.h[j][0] = split_number(&even->f[j]);
        w.h[j][1] = split_number(&odd->f[j]);
    }
    return w;
}

/* w[i] word j <-> w[j] word i */
static void transpose_words(WORDS w[16]) {
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < i; j++)
            for (int p = 0; p < 2; p++) {
                const uint16_t h = w[i].h[j][p];
                w[i].h[j][p] = w[j].h[i][p];
                w[j].h[i][p] = h;
            }
}
