/* The operations of AMX on tiles of 16 rows of 64 bytes, in plain C, for tests on CPUs without it: bfloat16 numbers and
 * results that are subnormal count as 0, sums over even and odd k are made in two chains, then the C of before is
 * added; all of it rounded to nearest even (Intel 64 and IA-32 Architectures SDM, TDPBF16PS). */
#include <stdint.h>
#include <string.h>

typedef union emulated_tile {
    float f[16][16];
    uint16_t h[16][32];
    unsigned char bytes[16][64];
} emulated_tile;

#define TILE_REGISTERS emulated_tile tiles[8];
#define TILE_FILE emulated_tile *tiles,
#define TILE_FILE_ARGUMENT tiles,
#define TILES_BEGIN
#define TILES_END
#define TILE_ZERO(t) memset(tiles[t].bytes, 0, sizeof tiles[t].bytes)
#define TILE_LOAD(t, from, stride) emulated_load(&tiles[t], from, stride)
#define TILE_STORE(t, to, stride) emulated_store(&tiles[t], to, stride)
#define TILE_PRODUCT(c, a, b) emulated_product(&tiles[c], &tiles[a], &tiles[b])

static void emulated_load(emulated_tile *t, const void *from, ptrdiff_t stride) {
    for (int r = 0; r < 16; r++) memcpy(t->bytes[r], (const char *)from + r * stride, 64);
}

static void emulated_store(const emulated_tile *t, void *to, ptrdiff_t stride) {
    for (int r = 0; r < 16; r++) memcpy((char *)to + r * stride, t->bytes[r], 64);
}

/* a bfloat16 as a float, and a float: 0 with the same sign if it is subnormal */
static inline float emulated_flushed(uint32_t u) {
    float f;
    if ((u & 0x7f800000u) == 0) u &= 0x80000000u;
    memcpy(&f, &u, 4);
    return f;
}

static inline float emulated_result(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return emulated_flushed(u);
}

static void emulated_product(emulated_tile *c, const emulated_tile *a, const emulated_tile *b) {
    for (int m = 0; m < 16; m++) {
        float even[16] = {0}, odd[16] = {0};
        for (int k = 0; k < 16; k++) {
            const float x = emulated_flushed((uint32_t)a->h[m][2 * k] << 16);
            const float y = emulated_flushed((uint32_t)a->h[m][2 * k + 1] << 16);
            for (int n = 0; n < 16; n++) {
                even[n] = emulated_result(even[n] + x * emulated_flushed((uint32_t)b->h[k][2 * n] << 16));
                odd[n] = emulated_result(odd[n] + y * emulated_flushed((uint32_t)b->h[k][2 * n + 1] << 16));
            }
        }
        for (int n = 0; n < 16; n++) c->f[m][n] = emulated_result(c->f[m][n] + emulated_result(even[n] + odd[n]));
    }
}
