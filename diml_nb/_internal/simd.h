/* Vectors of floats, as wide as the registers of the machine that compiles this.
 *
 * Written with the vector extensions of GCC and clang, so that one source serves AVX-512, AVX, SSE
 * and NEON: +, *, / and comparisons of vectors work lane by lane. Included by ot/pair.c and
 * retrieval/topk.c. Compile with -fno-strict-aliasing: vectors are also read as arrays of floats.
 */
#pragma once

#include <stdint.h>

/* ==== vectors ==== */
// LANES: floats in one register. SUM_REGISTERS: registers that a loop may fill with running sums,
// which leaves some for its operands (AVX-512 and NEON have 32 registers, the others 16).
#if defined(__AVX512F__)
enum { LANES = 16, SUM_REGISTERS = 24 };
#elif defined(__AVX__)
enum { LANES = 8, SUM_REGISTERS = 12 };
#elif defined(__aarch64__)
enum { LANES = 4, SUM_REGISTERS = 24 };
#else
enum { LANES = 4, SUM_REGISTERS = 12 };
#endif

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef float UnalignedVector __attribute__((vector_size(4 * LANES), aligned(4)));
// also what a comparison gives: -1 in the lanes where it is true, else 0
typedef int32_t IntVector __attribute__((vector_size(4 * LANES)));
// the bits of floats; unsigned, so that an addition may wrap around
typedef uint32_t BitVector __attribute__((vector_size(4 * LANES)));

#define CEIL_DIV(x, y) (((x) + (y) - 1) / (y))
#define UNROLL _Pragma("GCC unroll 32") // before a loop of few steps, whose number is a constant
#define INLINE static inline __attribute__((always_inline))

// A vector that holds x in every lane.
INLINE Vector broadcast(float x) {
    return (Vector){0} + x;
}

// Lane by lane: x where the condition is true, else y.
INLINE Vector blend(IntVector condition, Vector x, Vector y) {
    return (Vector)(((IntVector)x & condition) | ((IntVector)y & ~condition));
}

// The sum of all lanes.
INLINE float horizontal_sum(Vector x) {
    float sum = 0;
    for (int lane = 0; lane < LANES; lane++)
        sum += x[lane];
    return sum;
}
