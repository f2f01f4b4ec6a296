/* The operations of AMX on tiles of 16 rows of 64 bytes. One configuration for a call of the table: it is released at
 * its end, so that nothing that comes later pays for tiles, and the configuration that the caller had is put back.
 * (The contents of tiles belong to nobody across a call, by the ABI.) */
#include <stdint.h>
#include <string.h>

typedef struct amx_configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} amx_configuration;

/* 8 tiles, all of them whole */
static const amx_configuration amx_tiles __attribute__((aligned(64))) = {
    1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

/* The intrinsics do not say which memory they read and write. */
#define AMX_FENCE __asm__ volatile("" : : : "memory");

#define TILE_REGISTERS
#define TILE_FILE
#define TILE_FILE_ARGUMENT
#define TILES_BEGIN                                                                     \
    amx_configuration before_ __attribute__((aligned(64)));                             \
    __asm__ volatile("sttilecfg %0" : "=m"(before_));                                   \
    __asm__ volatile("ldtilecfg %0" : : "m"(amx_tiles));
#define TILES_END                                                                       \
    _tile_release();                                                                    \
    if (before_.palette) __asm__ volatile("ldtilecfg %0" : : "m"(before_));
#define TILE_ZERO(t) _tile_zero(t)
#define TILE_LOAD(t, from, stride)       \
    do {                                 \
        AMX_FENCE                        \
        _tile_loadd(t, from, stride);    \
    } while (0)
#define TILE_STORE(t, to, stride)        \
    do {                                 \
        _tile_stored(t, to, stride);     \
        AMX_FENCE                        \
    } while (0)
#define TILE_PRODUCT(c, a, b) _tile_dpbf16ps(c, a, b)
