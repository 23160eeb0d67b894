/* The two inner loops of diml_nb, explained piece by piece in nbs/19_kernels.ipynb, which compiles this file on first use.
   With -DN -DM -DC (cells of A, cells of B, channels) it holds match_pairs and pull_pairs for that shape; without, keep_best. */

/* vectors */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX512F__)
enum { LANES = 16, SUMS = 24 };                     /* floats in a vector register; registers that hold sums */
#elif defined(__AVX__)
enum { LANES = 8, SUMS = 12 };
#elif defined(__aarch64__)
enum { LANES = 4, SUMS = 24 };
#else
enum { LANES = 4, SUMS = 12 };
#endif
typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef float Unaligned __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t Bits __attribute__((vector_size(4 * LANES)));
#define UP(x, y) (((x) + (y) - 1) / (y))
#define UNROLL _Pragma("GCC unroll 32")
#define INLINE static inline __attribute__((always_inline))

INLINE Vector pick(Bits where, Vector x, Vector y) { return (Vector)(((Bits)x & where) | ((Bits)y & ~where)); }

INLINE float sum(Vector x) {
    float s = 0;
    for (int l = 0; l < LANES; l++) s += x[l];
    return s;
}

#ifdef N

/* exponential */
INLINE Vector exponential(Vector x) {
    const float big = 12582912.0f;                  /* 1.5 * 2^23: adding it rounds to a whole number */
    x = pick(x > -80.0f, x, (Vector){} - 80.0f);
    Vector t = x * 1.44269504f + big, k = t - big, r = x - k * 0.693359375f + k * 2.12194440e-4f;
    Vector y = 1.9875691500e-4f * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f, y = y * r + 4.1665795894e-2f, y = y * r + 1.6666665459e-1f, y = y * r + 5.0000001201e-1f;
    return (Vector)((Bits)(y * r * r + r + 1.0f) + ((Bits)t << 23));
}

/* turn */
INLINE void transpose(Vector x[LANES]) {
#ifdef __clang__                                     /* which shuffles by constants only */
    Vector turned[LANES];
    UNROLL for (int i = 0; i < LANES; i++) UNROLL for (int l = 0; l < LANES; l++) turned[i][l] = x[l][i];
    memcpy(x, turned, sizeof turned);
#else
    UNROLL for (int half = LANES / 2; half; half /= 2)
        UNROLL for (int i = 0; i < LANES; i++) if (!(i & half)) {
            Bits low, high;
            UNROLL for (int l = 0; l < LANES; l++) {
                low[l] = l & half ? LANES + l - half : l;
                high[l] = l & half ? LANES + l : l + half;
            }
            Vector a = x[i], b = x[i + half];
            x[i] = __builtin_shuffle(a, b, low), x[i + half] = __builtin_shuffle(a, b, high);
        }
#endif
}

/* shape */
#define PADDED(blocks) (UP(N + 1, blocks) * (blocks))
#define BETTER(x, y) (PADDED(y) < PADDED(x) ? (y) : (x))
enum {
    VN = UP(N, LANES), VM = UP(M, LANES),
    REST = M > LANES && M % LANES <= 3 ? M % LANES : 0,          /* a few last columns are not worth a vector of their own */
    VP = REST ? VM - 1 : VM, WIDE = VP < 4 ? VP : 4,             /* vectors of the product; of these in registers */
    LEAST = UP(N + 1, SUMS / WIDE), BLOCKS = BETTER(BETTER(LEAST, LEAST + 1), BETTER(LEAST + 2, LEAST + 3)), ROWS = UP(N + 1, BLOCKS)
};

typedef struct {
    Vector local[N][VM], k[N][VM], k_turned[M][VN];              /* cosines, their kernel, and that with the cells of B first */
    Vector a_cells[C][VN], b_cells[C][UP(VM, WIDE) * WIDE];      /* whole vectors: the last one is padded */
    float rows[BLOCKS][C][ROWS];                                 /* the cells of A, and its global vector as one more, in blocks */
} Room;

static Room *empty_room(void) {
    Room *room = aligned_alloc(64, UP(sizeof(Room), 64) * 64);
    return memset(room, 0, sizeof(Room));
}

/* sums of rows */
INLINE void weigh(Vector *out, const Vector *rows, const float *by, const int count, const int width) {
    const int chains = width < 8 ? 8 / width : 1;    /* sums that do not wait for one another */
    Vector sums[8][VN > VM ? VN : VM] = {};
    UNROLL for (int n = 0; n < count; n += chains)
        UNROLL for (int s = 0; s < chains; s++) if (n + s < count)
            UNROLL for (int v = 0; v < width; v++) sums[s][v] += rows[(n + s) * width + v] * by[n + s];
    UNROLL for (int v = 0; v < width; v++) { out[v] = sums[0][v]; UNROLL for (int s = 1; s < chains; s++) out[v] += sums[s][v]; }
}

/* product */
INLINE void product(Room *room, const char *next, Vector cross[VM]) {
    for (int block = 0; block < BLOCKS; block++)
        for (int first = 0; first < VP; first += WIDE) {
            Vector sums[ROWS][WIDE] = {};
            for (int c = 0; c < C; c++) {
                int line = block * C + c;
                if (first == 0 && line < C * M / 16) __builtin_prefetch(next + 64 * line);
                UNROLL for (int i = 0; i < ROWS; i++)
                    UNROLL for (int v = 0; v < WIDE; v++) sums[i][v] += room->b_cells[c][first + v] * room->rows[block][c][i];
            }
            UNROLL for (int i = 0; i < ROWS; i++)
                UNROLL for (int v = 0; v < WIDE; v++)
                    if (block * ROWS + i <= N && first + v < VP) (block * ROWS + i < N ? room->local[block * ROWS + i] : cross)[first + v] = sums[i][v];
        }
    for (int m = M - REST; m < M; m++) {
        float by[C], dot = 0;
        Vector column[VN];
        for (int c = 0; c < C; c++) by[c] = ((float *)room->b_cells[c])[m], dot += by[c] * room->rows[N / ROWS][c][N % ROWS];
        weigh(column, room->a_cells[0], by, C, VN);
        for (int n = 0; n < N; n++) ((float *)room->local[n])[m] = ((float *)column)[n];
        ((float *)cross)[m] = dot;
    }
}

/* masses */
INLINE int masses(float *weight, int count, int padded, int power, const float *factor) {
    float total = 0;
    for (int i = 0; i < count; i++) {
        float x = (weight[i] > 0 ? weight[i] : 0) * (factor ? factor[i] : 1);
        weight[i] = power == 0 ? 1 : power == 1 ? x : x * x;
    }
    for (int i = 0; i < count; i++) total += weight[i];
    int empty = total <= 1.17549435e-38f;
    float share = 1 / (empty ? count : total);
    for (int i = 0; i < padded; i++) {
        float x = (empty ? 1 : weight[i]) * share;
        weight[i] = i >= count ? 0 : x > FLOOR ? x : FLOOR;
    }
    return empty;
}

/* kernel */
INLINE void turn(Room *room) {
    for (int v = 0; v < VM; v++)
        for (int w = 0; w < VN; w++) {
            Vector x[LANES];
            UNROLL for (int l = 0; l < LANES; l++) x[l] = w * LANES + l < N ? room->k[w * LANES + l][v] : (Vector){} + 1;
            transpose(x);
            UNROLL for (int l = 0; l < LANES; l++) if (v * LANES + l < M) room->k_turned[v * LANES + l][w] = x[l];
        }
}

INLINE int kernel(Room *room, float eps) {
    float most = 1;
    if (eps * SAFE < 2) {                            /* cosines span 2 at most: is it too much for this eps? */
        float least = most = ((float *)room->local[0])[0];
        for (int n = 0; n < N; n++)
            for (int m = 0; m < M; m++) {
                float x = ((float *)room->local[n])[m];
                most = x > most ? x : most, least = x < least ? x : least;
            }
        if (least - most < -eps * SAFE) return 0;
    }
    for (int n = 0; n < N; n++) {
        for (int v = 0; v < VM; v++) room->k[n][v] = exponential((room->local[n][v] - most) * (1 / eps));
        for (int m = M; m < VM * LANES; m++) ((float *)room->k[n])[m] = 1;
    }
    turn(room);
    return 1;
}

/* Sinkhorn */
INLINE float solve(Room *room, const Vector *a, const Vector *b, float tol, int max_iter, Vector *u, Vector *v) {
    Vector row[VN], column[VM], ones[VN];
    float err = 0;
    for (int i = 0; i < VN; i++) ones[i] = (Vector){} + 1;
    weigh(column, room->k[0], (float *)ones, N, VM);
    for (int step = 0; step < max_iter; step++) {
        for (int i = 0; i < VM; i++) v[i] = b[i] / column[i];
        weigh(row, room->k_turned[0], (float *)v, M, VN);
        for (int i = 0; i < VN; i++) u[i] = a[i] / row[i];
        weigh(column, room->k[0], (float *)u, N, VM);
        Vector wrong = {};
        for (int i = 0; i < VM; i++) { Vector gap = v[i] * column[i] - b[i]; wrong += pick(gap > 0, gap, -gap); }
        if ((err = sum(wrong)) < tol) break;
    }
    return err;
}

/* pairs */
void match_pairs(const float *a_local, const float *a_whole, const float *a_factor, const float *b_local, const float *b_whole, const float *b_factor,
                 const int64_t *i_p, const int64_t *j_p, int64_t pairs, int power, float eps, float tol, int max_iter,
                 float *similarity_p, float *err_p, uint8_t *fallback_p, float *local_pnm, float *plan_pnm) {
    Room *room = empty_room();
    for (int64_t p = 0; p < pairs; p++) {
        int64_t i = i_p[p], j = j_p[p], next = j_p[p + (p + 1 < pairs)];
        if (p == 0 || i != i_p[p - 1])
            for (int c = 0; c < C; c++) {
                for (int n = 0; n <= N; n++) room->rows[n / ROWS][c][n % ROWS] = n < N ? a_local[(i * C + c) * N + n] : a_whole[i * C + c];
                memcpy(room->a_cells[c], a_local + (i * C + c) * N, 4 * N);
            }
        for (int c = 0; c < C; c++) memcpy(room->b_cells[c], b_local + (j * C + c) * M, 4 * M);
        Vector a[VN], b[VM], u[VN] = {}, v[VM] = {}, s = {};
        weigh(a, room->a_cells[0], b_whole + j * C, C, VN);
        product(room, (const char *)(b_local + next * C * M), b);
        fallback_p[p] = masses((float *)a, N, VN * LANES, power, a_factor ? a_factor + i * N : 0)
                      | masses((float *)b, M, VM * LANES, power, b_factor ? b_factor + j * M : 0);
        int fits = kernel(room, eps);
        err_p[p] = fits ? solve(room, a, b, tol, max_iter, u, v) : -1;       /* -1: this pair needs logarithms */
        for (int n = 0; fits && n < N; n++)
            for (int w = 0; w < VM; w++) {
                Vector plan = room->k[n][w] * v[w] * ((float *)u)[n];
                s += plan * room->local[n][w];
                int64_t at = (p * N + n) * M + w * LANES, bytes = 4 * (w == VM - 1 ? M - w * LANES : LANES);
                if (plan_pnm) memcpy(plan_pnm + at, &plan, bytes), memcpy(local_pnm + at, &room->local[n][w], bytes);
            }
        similarity_p[p] = sum(s);
    }
    free(room);
}

/* pull */
INLINE void add(float *to, const Vector *x, int count) {
    for (int i = 0; i < count; i++) to[i] += ((float *)x)[i];
}

void pull_pairs(const float *a_local, const float *b_local, const int64_t *i_p, const int64_t *j_p, int64_t pairs,
                const float *grad_p, const float *slope_pnm, float *a_grad, float *b_grad) {
    Room *room = empty_room();
    for (int64_t p = 0; p < pairs; p++) {
        if (grad_p[p] == 0) continue;                /* nobody learns from this pair */
        for (int n = 0; n < N; n++) {
            memcpy(room->k[n], slope_pnm + (p * N + n) * M, 4 * M);
            for (int v = 0; v < VM; v++) room->k[n][v] *= grad_p[p];
        }
        turn(room);
        for (int c = 0; c < C; c++) {
            Vector pulled[VN], pushed[VM];
            int64_t a = (i_p[p] * C + c) * N, b = (j_p[p] * C + c) * M;
            weigh(pulled, room->k_turned[0], b_local + b, M, VN), add(a_grad + a, pulled, N);
            weigh(pushed, room->k[0], a_local + a, N, VM), add(b_grad + b, pushed, M);
        }
    }
    free(room);
}

#else

/* keys */
typedef int64_t Longs __attribute__((vector_size(4 * LANES)));

INLINE int any_above(const float *score, float least) {
    Bits above = {};
    int64_t seen = 0;
    UNROLL for (int v = 0; v < 4; v++) above |= ~(*(const Unaligned *)(score + v * LANES) <= least);      /* NaN, the bar of a list that is not full, lets all pass */
    UNROLL for (int l = 0; l < LANES / 2; l++) seen |= ((Longs)above)[l];
    return seen != 0;
}

INLINE int64_t ordered(const float *x) { int32_t i; memcpy(&i, x, 4); return i < 0 ? i ^ 0x7fffffff : i; }      /* a whole number in the order of the floats */
INLINE float number(int32_t i) { float x; i = i < 0 ? i ^ 0x7fffffff : i; memcpy(&x, &i, 4); return x; }
static int falling(const void *x, const void *y) { int64_t a = *(const int64_t *)x, b = *(const int64_t *)y; return (a < b) - (a > b); }

/* choose */
static void best_first(int64_t *key, int count, int keep) {       /* quickselect: the `keep` largest come to the front */
    for (int low = 0, high = count - 1; low < high;) {
        int64_t pivot = key[(low + high) / 2];
        int i = low, j = high;
        while (i <= j) {
            while (key[i] > pivot) i++;
            while (key[j] < pivot) j--;
            if (i <= j) { int64_t x = key[i]; key[i++] = key[j], key[j--] = x; }
        }
        if (keep <= j) high = j; else if (keep >= i) low = i; else return;
    }
}

/* keep */
void keep_best(const float *score_qg, int64_t queries, int64_t count, int64_t first, int keep, int room, int last,
               int64_t *key_qk, int32_t *filled_q, float *least_q) {
    for (int64_t q = 0; q < queries; q++) {
        const float *score = score_qg + q * count;
        int64_t *key = key_qk + q * room;
        for (int64_t g = 0, inside; g < count; g += inside) {
            inside = count - g < 4 * LANES ? count - g : 4 * LANES;
            if (inside == 4 * LANES && !any_above(score + g, least_q[q])) continue;
            for (int l = 0; l < inside; l++) if (!(score[g + l] <= least_q[q])) {
                key[filled_q[q]++] = ordered(score + g + l) << 32 | (0xffffffff - (first + g + l));
                if (filled_q[q] < room) continue;
                best_first(key, room, keep), filled_q[q] = keep;
                int64_t least = key[0];
                for (int k = 1; k < keep; k++) least = key[k] < least ? key[k] : least;
                least_q[q] = number(least >> 32);
            }
        }
        if (last) best_first(key, filled_q[q], keep), qsort(key, keep, sizeof *key, falling);
    }
}

#endif
