/* Structural similarity of image pairs: cosines, marginals, Sinkhorn, plan, and the gradients.
 *
 * Explained piece by piece in the chapter on kernels (nbs/19_kernels.ipynb), which compiles this
 * file on first use. The definition that it must agree with is `match` of the Python library.
 *
 * One build serves one shape. The sizes are constants, so that the compiler can lay the loops out
 * in registers; they are given on the command line:
 *   -DN=49 -DM=49    cells of image A and of image B
 *   -DC=128          channels
 *   -DMIN_MASS=1e-30f          a cell without mass gets this much, so that no division is by zero
 *   -DLOG_DOMAIN_RANGE=42.0f   scores that span more than this are left to the log domain
 * and, where the images B are whole numbers (without them they are floats, as the images A are):
 *   -DB_BITS=4       bits of a number of a cell of B, 4 or 8
 *   -DB_STEP=0.05f   a number of a cell of B is its code times this
 *   -DB_GLOBAL_STEP=0.007874f  the same of its global vectors, which have 8 bits
 *
 * Entry points: pairs_forward, pairs_backward. Both may run in several threads at once.
 *
 * Axes at the end of a name, as in Python: p pair, b image, n cell of A, m cell of B, c channel.
 * All arrays are C-contiguous, and none may overlap another.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "_internal/simd.h"

#if !defined(N) || !defined(M) || !defined(C) || !defined(MIN_MASS) || !defined(LOG_DOMAIN_RANGE)
#error "give the shape: -DN= -DM= -DC= -DMIN_MASS= -DLOG_DOMAIN_RANGE="
#endif

/* ==== arguments ==== */
// The images A, read only.
typedef struct {
    const float *local_bcn; // (images, C, N): the unit vector of each cell, channel by channel
    const float *global_bc; // (images, C): the unit vector of each whole image
    const float *factor_bn; // (images, N): multiplies the mass of each cell; NULL for 1
} ImagesA;

// What one byte or one float of a cell of B is, and how many of them an image has.
#ifdef B_BITS
typedef int8_t BNumber;
enum { B_NUMBERS = C * M * B_BITS / 8 };
#else
typedef float BNumber;
enum { B_NUMBERS = C * M };
#endif

// The images B, read only.
typedef struct {
    // (images, C, M); of 4 bits (images, C / 2, M), where channel 2 c has the lower half of a byte
    const BNumber *local_bcm;
    const BNumber *global_bc; // (images, C)
    const float *factor_bm;   // (images, M)
} ImagesB;

// How to weigh the cells and when to stop.
typedef struct {
    int32_t power;    // exponent of the masses: 0 (uniform), 1 or 2
    int32_t max_iter; // iterations at most, at least 1
    float eps;        // weight of the entropy, in the unit of the cost 1 - cosine; positive
    float tol;        // stop when the L1 error of the columns is below this
} Options;

// What is written for each pair.
typedef struct {
    float *similarity_p;     // (pairs,): sum of plan * cosine
    float *marginal_error_p; // (pairs,): L1 error of the columns; -1 where not solved
    uint8_t *used_uniform_p; // (pairs,): 1 where an image had no mass and got the uniform marginal
    float *cosine_pnm;       // (pairs, N, M): NULL together with plan_pnm if not wanted
    float *plan_pnm;         // (pairs, N, M): the transport plan
} Results;

enum Status { SUCCESS = 0, OUT_OF_MEMORY = 1 };

/* ==== sizes ==== */
// Blocks of rows are chosen so that the sums of a block fill the registers, and of the four
// smallest numbers of blocks the one that needs the fewest padding rows.
#define PADDED_ROWS(blocks) (CEIL_DIV(N + 1, blocks) * (blocks))
#define LESS_PADDING(x, y) (PADDED_ROWS(y) < PADDED_ROWS(x) ? (y) : (x))
enum {
    A_VECTORS = CEIL_DIV(N, LANES), // vectors that hold one number for each cell of A
    B_VECTORS = CEIL_DIV(M, LANES),
    // up to three last columns are computed by themselves: they are not worth a vector
    TAIL_COLS = M % LANES <= 3 && M > LANES ? M % LANES : 0,
    FULL_VECTORS = TAIL_COLS ? B_VECTORS - 1 : B_VECTORS, // of a row of cosines, without that tail
    BLOCK_VECTORS = FULL_VECTORS < 4 ? FULL_VECTORS : 4,  // of these, summed at the same time
    MIN_BLOCKS = CEIL_DIV(N + 1, SUM_REGISTERS / BLOCK_VECTORS),
    BLOCKS = LESS_PADDING(LESS_PADDING(MIN_BLOCKS, MIN_BLOCKS + 1),
                          LESS_PADDING(MIN_BLOCKS + 2, MIN_BLOCKS + 3)),
    BLOCK_ROWS = CEIL_DIV(N + 1, BLOCKS)
};

enum { CACHE_LINE = 64, B_LINES = B_NUMBERS * sizeof(BNumber) / CACHE_LINE }; // the first in bytes

/* ==== workspace ==== */
// Everything that one pair needs, small enough for the first caches. Made once for a call.
typedef struct {
    Vector local[N][B_VECTORS];    // cosines of the cells
    Vector kernel[N][B_VECTORS];   // K = exp((cosine - maximum) / eps)
    Vector kernel_t[M][A_VECTORS]; // K transposed
    Vector a_cells[C][A_VECTORS];  // the cells of A, the last vector padded
    Vector b_cells[C][CEIL_DIV(B_VECTORS, BLOCK_VECTORS) * BLOCK_VECTORS]; // the cells of B, padded
    float b_global[C];                                                     // the global vector of B
    // the cells of A and its global vector as one row more, in blocks
    float a_rows[BLOCKS][C][BLOCK_ROWS];
} Workspace;

// A workspace of zeros, on the heap; NULL where memory is short. The caller frees it.
static Workspace *new_workspace(void) {
    const size_t alignment = CACHE_LINE; // also the size of the widest vector
    Workspace *workspace =
        aligned_alloc(alignment, CEIL_DIV(sizeof(Workspace), alignment) * alignment);
    if (workspace)
        memset(workspace, 0, sizeof(Workspace));
    return workspace;
}

/* ==== weighted sum of rows ==== */
// out[v] = sum over i of weights[i] * rows[i][v], for `count` rows of `width` vectors each.
INLINE void weighted_row_sum(
    Vector *out, const Vector *rows, const float *weights, const int count, const int width) {
    const int chains = width < 8 ? 8 / width : 1; // sums that do not wait for one another
    Vector sums[8][A_VECTORS > B_VECTORS ? A_VECTORS : B_VECTORS] = {0};
    UNROLL
    for (int i = 0; i < count; i += chains) {
        UNROLL
        for (int chain = 0; chain < chains; chain++) {
            if (i + chain < count) {
                UNROLL
                for (int v = 0; v < width; v++)
                    sums[chain][v] += rows[(i + chain) * width + v] * weights[i + chain];
            }
        }
    }
    UNROLL
    for (int v = 0; v < width; v++) {
        out[v] = sums[0][v];
        UNROLL
        for (int chain = 1; chain < chains; chain++)
            out[v] += sums[chain][v];
    }
}

/* ==== cosines ==== */
// The last TAIL_COLS columns of the cosines, one at a time: each is the cells of A weighted by one
// cell of B. Their products with the global vector of A go to a_global_m.
INLINE void tail_columns(Workspace *workspace, float *a_global_m) {
    for (int m = M - TAIL_COLS; m < M; m++) {
        float b_cell[C];
        float dot = 0;
        Vector column[A_VECTORS];
        for (int c = 0; c < C; c++) {
            b_cell[c] = ((float *)workspace->b_cells[c])[m];
            dot += b_cell[c] * workspace->a_rows[N / BLOCK_ROWS][c][N % BLOCK_ROWS];
        }
        weighted_row_sum(column, workspace->a_cells[0], b_cell, C, A_VECTORS);
        for (int n = 0; n < N; n++)
            ((float *)workspace->local[n])[m] = ((float *)column)[n];
        a_global_m[m] = dot;
    }
}

// local[n][m] = <cell n of A, cell m of B>, and a_global[m] = <global vector of A, cell m of B>:
// the global vector is the row behind the N cells. `next_b` is the image B of the pair that comes
// next: its cache lines are asked for one by one, so that they have arrived when its turn comes.
INLINE void cosine_matrix(Workspace *workspace, const char *next_b, Vector a_global[B_VECTORS]) {
    for (int block = 0; block < BLOCKS; block++) {
        for (int first = 0; first < FULL_VECTORS; first += BLOCK_VECTORS) {
            // a block of the result stays in registers while all channels are added
            Vector sums[BLOCK_ROWS][BLOCK_VECTORS] = {0};
            for (int c = 0; c < C; c++) {
                int line = block * C + c;
                if (first == 0 && line < (int)B_LINES)
                    __builtin_prefetch(next_b + CACHE_LINE * line);
                UNROLL
                for (int i = 0; i < BLOCK_ROWS; i++) {
                    UNROLL
                    for (int v = 0; v < BLOCK_VECTORS; v++)
                        sums[i][v] +=
                            workspace->b_cells[c][first + v] * workspace->a_rows[block][c][i];
                }
            }
            UNROLL
            for (int i = 0; i < BLOCK_ROWS; i++) {
                int row = block * BLOCK_ROWS + i;
                UNROLL
                for (int v = 0; v < BLOCK_VECTORS; v++) {
                    if (row <= N && first + v < FULL_VECTORS)
                        (row < N ? workspace->local[row] : a_global)[first + v] = sums[i][v];
                }
            }
        }
    }
    tail_columns(workspace, (float *)a_global);
}

/* ==== marginals ==== */
// Turns products with the other image's global vector into masses with the sum 1, in place:
// mass[i] = (max(0, mass[i]) * factor[i])^power / total. `mass` has room for `padded` numbers, of
// which `count` are cells; the others become 0. Returns 1 if there was no mass: then it is uniform.
INLINE int marginal(float *mass, int count, int padded, int power, const float *factor) {
    float total = 0;
    for (int i = 0; i < count; i++) {
        float x = (mass[i] > 0 ? mass[i] : 0) * (factor ? factor[i] : 1);
        mass[i] = power == 0 ? 1 : power == 1 ? x : x * x;
    }
    for (int i = 0; i < count; i++)
        total += mass[i];
    int empty = total <= 1.17549435e-38f; // the smallest normal float
    float scale = 1 / (empty ? (float)count : total);
    for (int i = 0; i < padded; i++) {
        float x = (empty ? 1 : mass[i]) * scale;
        mass[i] = i >= count ? 0 : x > MIN_MASS ? x : MIN_MASS;
    }
    return empty;
}

/* ==== exponential ==== */
// exp(x), lane by lane, for x up to 88; arguments below -80 count as -80. x = k ln 2 + r with a
// whole number k and |r| <= ln 2 / 2: a polynomial (the coefficients of Cephes) gives exp(r), and
// adding k to the bits of the exponent multiplies it by 2^k.
INLINE Vector exponential(Vector x) {
    const float round_to_int = 12582912.0f; // 1.5 * 2^23: adding it rounds to a whole number
    x = blend(x > -80.0f, x, broadcast(-80.0f));
    Vector shifted = x * 1.44269504f + round_to_int; // x / ln 2
    Vector k = shifted - round_to_int;
    Vector r = x - k * 0.693359375f + k * 2.12194440e-4f; // ln 2 in two parts, for its last digits
    Vector y = 1.9875691500e-4f * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    return (Vector)((BitVector)(y * r * r + r + 1.0f) + ((BitVector)shifted << 23));
}

/* ==== transpose ==== */
// Transposes a square of LANES x LANES floats, in place.
INLINE void transpose(Vector x[LANES]) {
#ifdef __clang__ // whose shuffle takes constants only; it finds the shuffles of this loop itself
    Vector turned[LANES];
    UNROLL
    for (int i = 0; i < LANES; i++) {
        UNROLL
        for (int lane = 0; lane < LANES; lane++)
            turned[i][lane] = x[lane][i];
    }
    memcpy(x, turned, sizeof turned);
#else
    // swap the off-diagonal halves of the square, then those of its quarters, and so on
    UNROLL
    for (int half = LANES / 2; half; half /= 2) {
        UNROLL
        for (int i = 0; i < LANES; i++) {
            if (i & half)
                continue;
            IntVector low;
            IntVector high;
            UNROLL
            for (int lane = 0; lane < LANES; lane++) {
                low[lane] = lane & half ? LANES + lane - half : lane;
                high[lane] = lane & half ? LANES + lane : lane + half;
            }
            Vector a = x[i];
            Vector b = x[i + half];
            x[i] = __builtin_shuffle(a, b, low);
            x[i + half] = __builtin_shuffle(a, b, high);
        }
    }
#endif
}

// kernel_t = the transpose of kernel. Rows behind the last cell of A are filled with ones, so that
// the unused lanes of a sum are positive and can be divided by.
INLINE void transpose_kernel(Workspace *workspace) {
    for (int v = 0; v < B_VECTORS; v++) {
        for (int w = 0; w < A_VECTORS; w++) {
            Vector square[LANES];
            UNROLL
            for (int lane = 0; lane < LANES; lane++) {
                int n = w * LANES + lane;
                square[lane] = n < N ? workspace->kernel[n][v] : broadcast(1);
            }
            transpose(square);
            UNROLL
            for (int lane = 0; lane < LANES; lane++) {
                if (v * LANES + lane < M)
                    workspace->kernel_t[v * LANES + lane][w] = square[lane];
            }
        }
    }
}

/* ==== kernel ==== */
// K = exp((cosine - maximum) / eps) and its transpose. The cost is 1 - cosine; what is subtracted
// from all of it changes no plan. Returns 0 if K would underflow: this pair needs the log domain.
INLINE int gibbs_kernel(Workspace *workspace, float eps) {
    float maximum = 1;
    if (eps * LOG_DOMAIN_RANGE < 2) { // else no cosines, which span 2 at most, span too much
        float minimum = ((float *)workspace->local[0])[0];
        maximum = minimum;
        for (int n = 0; n < N; n++) {
            for (int m = 0; m < M; m++) {
                float x = ((float *)workspace->local[n])[m];
                maximum = x > maximum ? x : maximum;
                minimum = x < minimum ? x : minimum;
            }
        }
        if (minimum - maximum < -eps * LOG_DOMAIN_RANGE)
            return 0;
    }
    for (int n = 0; n < N; n++) {
        for (int v = 0; v < B_VECTORS; v++)
            workspace->kernel[n][v] = exponential((workspace->local[n][v] - maximum) * (1 / eps));
        for (int m = M; m < B_VECTORS * LANES; m++) // unused lanes: as in transpose_kernel
            ((float *)workspace->kernel[n])[m] = 1;
    }
    transpose_kernel(workspace);
    return 1;
}

/* ==== Sinkhorn ==== */
// Finds the scaling factors u, v of the plan diag(u) K diag(v) and returns the error of its column
// sums (L1); its row sums are exact. Algorithm 1 of Cuturi (2013), by u instead of x = 1 / u, and
// without its last update of v, which would make the columns exact instead of the rows:
//   1  u = 1
//   2  repeat at most max_iter times
//   3      v = b / (K' u)
//   4      u = a / (K v)
//   5      stop if sum |v * (K' u) - b| < tol
INLINE float sinkhorn(Workspace *workspace,
                      const Vector *a,
                      const Vector *b,
                      float tol,
                      int max_iter,
                      Vector *u,
                      Vector *v) {
    Vector row_sum[A_VECTORS];    // K v
    Vector column_sum[B_VECTORS]; // K'u
    Vector ones[A_VECTORS];
    float error = 0; // L1, of the columns
    // line 1, and K' u
    for (int i = 0; i < A_VECTORS; i++)
        ones[i] = broadcast(1);
    weighted_row_sum(column_sum, workspace->kernel[0], (float *)ones, N, B_VECTORS);
    for (int iteration = 0; iteration < max_iter; iteration++) {
        // line 3: now the column sums are b
        for (int i = 0; i < B_VECTORS; i++)
            v[i] = b[i] / column_sum[i];
        // line 4: now the row sums are a
        weighted_row_sum(row_sum, workspace->kernel_t[0], (float *)v, M, A_VECTORS);
        for (int i = 0; i < A_VECTORS; i++)
            u[i] = a[i] / row_sum[i];
        // line 5: L1 error of the columns; K' u also serves line 3 of the next iteration
        weighted_row_sum(column_sum, workspace->kernel[0], (float *)u, N, B_VECTORS);
        Vector lane_error = {0};
        for (int i = 0; i < B_VECTORS; i++) {
            Vector gap = v[i] * column_sum[i] - b[i];
            lane_error += blend(gap > 0, gap, -gap);
        }
        error = horizontal_sum(lane_error);
        if (error < tol)
            break;
    }
    return error;
}

/* ==== pairs ==== */
// Copies image i of A to the workspace, in both layouts that the products read.
INLINE void load_a(Workspace *workspace, const ImagesA *a, int64_t i) {
    for (int c = 0; c < C; c++) {
        const float *cells = a->local_bcn + (i * C + c) * N;
        for (int n = 0; n <= N; n++) // row N is the global vector
            workspace->a_rows[n / BLOCK_ROWS][c][n % BLOCK_ROWS] =
                n < N ? cells[n] : a->global_bc[i * C + c];
        memcpy(workspace->a_cells[c], cells, 4 * N);
    }
}

// Copies image j of B to the workspace, as floats.
INLINE void load_b(Workspace *workspace, const ImagesB *b, int64_t j) {
    const BNumber *numbers = b->local_bcm + j * B_NUMBERS;
    const BNumber *global = b->global_bc + j * C;
#ifndef B_BITS
    for (int c = 0; c < C; c++)
        memcpy(workspace->b_cells[c], numbers + c * M, 4 * M);
    memcpy(workspace->b_global, global, 4 * C);
#else
    const int channels_per_byte = 8 / B_BITS;
    for (int c = 0; c < C; c += channels_per_byte) {
        float *first = (float *)workspace->b_cells[c];
        for (int m = 0; m < M; m++) {
            int byte = *numbers++;
            if (channels_per_byte == 1) {
                first[m] = (float)byte * B_STEP;
            } else {
                // the lower half with its sign: 8 to 15 stand for -8 to -1
                first[m] = (float)(((byte & 15) ^ 8) - 8) * B_STEP;
                ((float *)workspace->b_cells[c + 1])[m] = (float)(byte >> 4) * B_STEP;
            }
        }
    }
    for (int c = 0; c < C; c++)
        workspace->b_global[c] = (float)global[c] * B_GLOBAL_STEP;
#endif
}

// The sum of plan * cosine with plan = diag(u) K diag(v). Writes cosines and plan of pair p where
// these are wanted.
INLINE float similarity(const Workspace *workspace,
                        const Vector *u,
                        const Vector *v,
                        const Results *results,
                        int64_t p) {
    Vector sum = {0};
    for (int n = 0; n < N; n++) {
        for (int w = 0; w < B_VECTORS; w++) {
            Vector plan = workspace->kernel[n][w] * v[w] * ((float *)u)[n];
            sum += plan * workspace->local[n][w];
            if (results->plan_pnm) {
                int64_t at = (p * N + n) * M + w * LANES;
                size_t bytes = 4 * (size_t)(w == B_VECTORS - 1 ? M - w * LANES : LANES);
                memcpy(results->plan_pnm + at, &plan, bytes);
                memcpy(results->cosine_pnm + at, &workspace->local[n][w], bytes);
            }
        }
    }
    return horizontal_sum(sum);
}

// Matches image i_p[p] of `a` with image j_p[p] of `b`, for p = 0 ... pairs - 1.
//
//   a, b      the images of both sides
//   i_p, j_p  (pairs,): positions in a and in b, which the caller has checked; pairs that share
//             their image of `a` should stand together, since that is loaded once for them
//   pairs     how many
//   options   masses and solver
//   results   where to write
//
// A pair whose kernel would underflow is not solved: its marginal_error_p is -1, its similarity_p
// 0, and its plan_pnm is not written. Returns SUCCESS, or OUT_OF_MEMORY before anything is written.
int pairs_forward(const ImagesA *a,
                  const ImagesB *b,
                  const int64_t *i_p,
                  const int64_t *j_p,
                  int64_t pairs,
                  const Options *options,
                  const Results *results) {
    Workspace *workspace = new_workspace();
    if (!workspace)
        return OUT_OF_MEMORY;
    for (int64_t p = 0; p < pairs; p++) {
        int64_t i = i_p[p];
        int64_t j = j_p[p];
        int64_t next_j = p + 1 < pairs ? j_p[p + 1] : j;
        if (p == 0 || i != i_p[p - 1])
            load_a(workspace, a, i);
        load_b(workspace, b, j);

        // cosines; and the products of each side's cells with the global vector of the other
        Vector mass_a[A_VECTORS];
        Vector mass_b[B_VECTORS];
        weighted_row_sum(mass_a, workspace->a_cells[0], workspace->b_global, C, A_VECTORS);
        cosine_matrix(workspace, (const char *)(b->local_bcm + next_j * B_NUMBERS), mass_b);

        // masses from these products
        const float *factor_a = a->factor_bn ? a->factor_bn + i * N : NULL;
        const float *factor_b = b->factor_bm ? b->factor_bm + j * M : NULL;
        int power = options->power;
        int empty_a = marginal((float *)mass_a, N, A_VECTORS * LANES, power, factor_a);
        int empty_b = marginal((float *)mass_b, M, B_VECTORS * LANES, power, factor_b);
        results->used_uniform_p[p] = (uint8_t)(empty_a | empty_b);

        // plan and similarity
        if (gibbs_kernel(workspace, options->eps)) {
            Vector u[A_VECTORS] = {0};
            Vector v[B_VECTORS] = {0};
            results->marginal_error_p[p] =
                sinkhorn(workspace, mass_a, mass_b, options->tol, options->max_iter, u, v);
            results->similarity_p[p] = similarity(workspace, u, v, results, p);
        } else {
            results->marginal_error_p[p] = -1;
            results->similarity_p[p] = 0;
        }
    }
    free(workspace);
    return SUCCESS;
}

/* ==== gradients ==== */
// to[i] += x[i] for `count` floats.
INLINE void add_to(float *to, const Vector *x, int count) {
    for (int i = 0; i < count; i++)
        to[i] += ((float *)x)[i];
}

// Adds the gradient of a loss L by the cells to a_grad and b_grad. The plan is a constant for the
// gradient, so that the value S of a pair depends on a cell through its cosines only.
//
//   a_local_bcn  (images of a, C, N)     b_local_bcm  (images of b, C, M): the cells
//   i_p, j_p     (pairs,): positions in a and in b, which the caller has checked
//   pairs        how many
//   grad_p       (pairs,): dL/dS of each pair; pairs with 0 are passed over
//   slope_pnm    (pairs, N, M): dS/dcosine; for S = sum of plan * cosine, this is the plan
//   a_grad_bcn   like a_local_bcn        b_grad_bcm   like b_local_bcm: what is added to
//
// Returns SUCCESS, or OUT_OF_MEMORY before anything is written.
int pairs_backward(const float *a_local_bcn,
                   const float *b_local_bcm,
                   const int64_t *i_p,
                   const int64_t *j_p,
                   int64_t pairs,
                   const float *grad_p,
                   const float *slope_pnm,
                   float *a_grad_bcn,
                   float *b_grad_bcm) {
    Workspace *workspace = new_workspace();
    if (!workspace)
        return OUT_OF_MEMORY;
    for (int64_t p = 0; p < pairs; p++) {
        if (grad_p[p] == 0)
            continue;
        // dL/dcosine, in both layouts
        for (int n = 0; n < N; n++) {
            memcpy(workspace->kernel[n], slope_pnm + (p * N + n) * M, 4 * M);
            for (int v = 0; v < B_VECTORS; v++)
                workspace->kernel[n][v] *= grad_p[p];
        }
        transpose_kernel(workspace);
        // one channel after another: dL/da[n] = sum over m of dL/dcosine[n][m] b[m], and vice versa
        for (int c = 0; c < C; c++) {
            Vector grad_a[A_VECTORS];
            Vector grad_b[B_VECTORS];
            int64_t a_offset = (i_p[p] * C + c) * N;
            int64_t b_offset = (j_p[p] * C + c) * M;
            weighted_row_sum(grad_a, workspace->kernel_t[0], b_local_bcm + b_offset, M, A_VECTORS);
            add_to(a_grad_bcn + a_offset, grad_a, N);
            weighted_row_sum(grad_b, workspace->kernel[0], a_local_bcn + a_offset, N, B_VECTORS);
            add_to(b_grad_bcm + b_offset, grad_b, M);
        }
    }
    free(workspace);
    return SUCCESS;
}
