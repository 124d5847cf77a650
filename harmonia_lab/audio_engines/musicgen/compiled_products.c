/* Products of a few rows with a large matrix, and of attention to a cache, at the speed at which memory is read.

Owns the arithmetic and the threads that share a product. `compiled_products.py` compiles it.

What it does that a general product doesn't: it asks for weights 4 outputs ahead of their use. And it doesn't wait for a
thread that the system hasn't started yet: threads take pieces of a product until none is left, so on a busy machine the
caller does what the others don't, where a barrier of OpenMP waits for them.

Shapes: x [rows, inputs], w [outputs, inputs], y [rows, outputs], all contiguous; inputs is a multiple of 32. An output
is summed in the same order whatever the number of rows and threads. */

#define _GNU_SOURCE
#include <immintrin.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef uint16_t half; /* a float16 number's bits */

#if defined(__AVX512F__)
#define WIDTH 16
#define MANY 4
#define FEW 2
typedef __m512 vec;
#define zero _mm512_setzero_ps
#define read_floats _mm512_loadu_ps
#define read_halves(at) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(at)))
#define multiply_add _mm512_fmadd_ps
#define sum _mm512_reduce_add_ps
#elif defined(__AVX2__) && defined(__F16C__) && defined(__FMA__)
#define WIDTH 8
#define MANY 2
#define FEW 1
typedef __m256 vec;
#define zero _mm256_setzero_ps
#define read_floats _mm256_loadu_ps
#define read_halves(at) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(at)))
#define multiply_add _mm256_fmadd_ps
static inline float sum(vec v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
#else
#error "The processor has no AVX2 with FMA and F16C."
#endif

/* COUNT outputs from `output` on, for ROWS rows. 64 bytes of weights, a cache line, at a time. */
#define OUTPUTS(TYPE, READ, ROWS, COUNT)                                                                               \
    {                                                                                                                  \
        const TYPE *weights = w + output * inputs;                                                                     \
        vec total[COUNT][ROWS];                                                                                        \
        for (int o = 0; o < COUNT; o++)                                                                                \
            for (int r = 0; r < ROWS; r++) total[o][r] = zero();                                                       \
        for (long line = 0; line < inputs; line += 64 / (long)sizeof(TYPE)) {                                          \
            for (int o = 0; o < COUNT; o++)                                                                            \
                _mm_prefetch((const char *)(weights + (COUNT + o) * inputs + line), _MM_HINT_T0);                      \
            for (long i = line; i < line + 64 / (long)sizeof(TYPE); i += WIDTH) {                                      \
                vec wide[COUNT];                                                                                       \
                for (int o = 0; o < COUNT; o++) wide[o] = READ(weights + o * inputs + i);                              \
                for (int r = 0; r < ROWS; r++) {                                                                       \
                    vec given = read_floats(x + r * inputs + i);                                                       \
                    for (int o = 0; o < COUNT; o++) total[o][r] = multiply_add(wide[o], given, total[o][r]);           \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
        for (int o = 0; o < COUNT; o++)                                                                                \
            for (int r = 0; r < ROWS; r++) y[r * outputs + output + o] = sum(total[o][r]);                             \
    }

/* COUNT is as many as the registers take: 16 sums (8 without AVX-512), with the weights and a row beside them. */
#define PRODUCT(NAME, TYPE, READ, ROWS, COUNT)                                                                         \
    static void NAME##_##ROWS(const TYPE *w, const float *x, float *y, long outputs, long inputs, long from,           \
                              long to) {                                                                               \
        long output = from;                                                                                            \
        for (; output + COUNT <= to; output += COUNT) OUTPUTS(TYPE, READ, ROWS, COUNT)                                 \
        for (; output < to; output++) OUTPUTS(TYPE, READ, ROWS, 1)                                                     \
    }

#define PRODUCTS(NAME, TYPE, READ)                                                                                     \
    PRODUCT(NAME, TYPE, READ, 1, 4)                                                                                    \
    PRODUCT(NAME, TYPE, READ, 2, 4)                                                                                    \
    PRODUCT(NAME, TYPE, READ, 3, MANY)                                                                                 \
    PRODUCT(NAME, TYPE, READ, 4, MANY)                                                                                 \
    PRODUCT(NAME, TYPE, READ, 5, FEW)                                                                                  \
    PRODUCT(NAME, TYPE, READ, 6, FEW)                                                                                  \
    PRODUCT(NAME, TYPE, READ, 7, FEW)                                                                                  \
    PRODUCT(NAME, TYPE, READ, 8, FEW)                                                                                  \
    static void NAME(const void *w, const float *x, float *y, long rows, long outputs, long inputs, long from,         \
                     long to) {                                                                                        \
        for (; rows > 0; rows -= 8, x += 8 * inputs, y += 8 * outputs) switch (rows) {                                 \
            case 1: NAME##_1(w, x, y, outputs, inputs, from, to); break;                                               \
            case 2: NAME##_2(w, x, y, outputs, inputs, from, to); break;                                               \
            case 3: NAME##_3(w, x, y, outputs, inputs, from, to); break;                                               \
            case 4: NAME##_4(w, x, y, outputs, inputs, from, to); break;                                               \
            case 5: NAME##_5(w, x, y, outputs, inputs, from, to); break;                                               \
            case 6: NAME##_6(w, x, y, outputs, inputs, from, to); break;                                               \
            case 7: NAME##_7(w, x, y, outputs, inputs, from, to); break;                                               \
            default: NAME##_8(w, x, y, outputs, inputs, from, to);                                                     \
            }                                                                                                          \
    }

PRODUCTS(with_halves, half, read_halves)
PRODUCTS(with_floats, float, read_floats)

/* Attention of one position for heads [from, to). A head's keys, and values, are `width` rows of numbers, one for each
   position, `row` apart; heads are `head` apart. queries, attended: [heads, width]. weights: [heads, positions]. */
static void score(const float *queries, const float *keys, float *weights, long width, long positions, long head,
                  long row, long from, long to) {
    for (long h = from; h < to; h++) {
        const float *query = queries + h * width, *key = keys + h * head;
        float *restrict out = weights + h * positions;
        for (long t = 0; t < positions; t++) out[t] = 0;
        for (long d = 0; d < width; d++, key += row) {
            _mm_prefetch((const char *)(key + row), _MM_HINT_T0);
            for (long t = 0; t < positions; t++) out[t] += query[d] * key[t];
        }
    }
}

static void weigh(const float *weights, const float *values, float *attended, long width, long positions, long head,
                  long row, long from, long to) {
    for (long h = from; h < to; h++)
        for (long d = 0; d < width; d++) {
            const float *value = values + h * head + d * row, *weight = weights + h * positions;
            vec total[4] = {zero(), zero(), zero(), zero()};
            long t = 0;
            for (; t + 4 * WIDTH <= positions; t += 4 * WIDTH) {
                for (int i = 0; i < 4 * WIDTH; i += 16) _mm_prefetch((const char *)(value + row + t + i), _MM_HINT_T0);
                for (int i = 0; i < 4; i++) {
                    const long at = t + i * WIDTH;
                    total[i] = multiply_add(read_floats(weight + at), read_floats(value + at), total[i]);
                }
            }
            float out = (sum(total[0]) + sum(total[1])) + (sum(total[2]) + sum(total[3]));
            for (; t < positions; t++) out += weight[t] * value[t];
            attended[h * width + d] = out;
        }
}

/* The one task that is shared, and who takes part. A second caller meanwhile does its task alone. */
struct task {
    int kind; /* 0 product with float32, 1 with float16, 2 scores, 3 weighted values */
    const void *w;
    const float *x;
    float *y;
    long rows, outputs, inputs; /* width, heads, positions */
    long head, row;
    long piece, pieces, threads;
};
static struct task shared;
static atomic_flag busy = ATOMIC_FLAG_INIT;
static atomic_long next;   /* the first piece that nobody has taken */
static atomic_int is_open; /* whether pieces may be taken */
static atomic_int inside;  /* helpers that may be reading `shared` */
static atomic_int epoch;   /* changes with each product */
static atomic_int asleep;
static long helpers;

static void run(const struct task *t, long from, long to) {
    switch (t->kind) {
    case 0: with_floats(t->w, t->x, t->y, t->rows, t->outputs, t->inputs, from, to); break;
    case 1: with_halves(t->w, t->x, t->y, t->rows, t->outputs, t->inputs, from, to); break;
    case 2: score(t->x, t->w, t->y, t->rows, t->inputs, t->head, t->row, from, to); break;
    default: weigh(t->x, t->w, t->y, t->rows, t->inputs, t->head, t->row, from, to);
    }
}

static void take_pieces(void) {
    for (long at; (at = atomic_fetch_add(&next, 1)) < shared.pieces;) {
        long from = at * shared.piece, to = from + shared.piece;
        run(&shared, from, to < shared.outputs ? to : shared.outputs);
    }
}

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* A helper watches for the next product for a tenth of a millisecond, about the time between two, then sleeps. */
static void *help(void *number) {
    int seen = 0;
    for (;;) {
        int64_t until = nanoseconds() + 100000;
        while (atomic_load(&epoch) == seen && nanoseconds() < until)
            for (int i = 0; i < 32; i++) _mm_pause();
        if (atomic_load(&epoch) == seen) {
            atomic_fetch_add(&asleep, 1);
            syscall(SYS_futex, &epoch, FUTEX_WAIT_PRIVATE, seen, 0, 0, 0);
            atomic_fetch_sub(&asleep, 1);
        }
        seen = atomic_load(&epoch);
        atomic_fetch_add(&inside, 1); /* before is_open is read: the caller closes it before it reads inside */
        if (atomic_load(&is_open) && (long)(intptr_t)number + 1 < shared.threads) take_pieces();
        atomic_fetch_sub(&inside, 1);
    }
    return 0;
}

/* Threads don't survive a fork. */
static void forked(void) {
    helpers = 0;
    atomic_store(&is_open, 0);
    atomic_store(&inside, 0);
    atomic_store(&asleep, 0);
    atomic_flag_clear(&busy);
}

static void hire(long wanted) {
    static int once;
    if (!once++) pthread_atfork(0, 0, forked);
    sigset_t all, before; /* signals are the program's own threads' */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (pthread_t thread; helpers < wanted; helpers++) {
        if (pthread_create(&thread, 0, help, (void *)(intptr_t)helpers)) break;
        pthread_detach(thread);
    }
    pthread_sigmask(SIG_SETMASK, &before, 0);
}

static void share(struct task task, long work) {
    if (task.threads < 2 || work < 1L << 17 || atomic_flag_test_and_set(&busy)) {
        run(&task, 0, task.outputs);
        return;
    }
    if (helpers < task.threads - 1) hire(task.threads - 1);
    task.pieces = (task.outputs + task.piece - 1) / task.piece;
    shared = task;
    atomic_store(&next, 0);
    atomic_store(&is_open, 1);
    atomic_fetch_add(&epoch, 1);
    if (atomic_load(&asleep)) syscall(SYS_futex, &epoch, FUTEX_WAKE_PRIVATE, INT_MAX, 0, 0, 0);
    take_pieces();
    atomic_store(&is_open, 0);
    for (int i = 0; atomic_load(&inside); i++) {
        if (i < 2000)
            _mm_pause();
        else
            sched_yield();
    }
    atomic_flag_clear(&busy);
}

/* Write x times w's rows to y, by at most `threads` threads. halves: w has float16 numbers, otherwise float32. */
void multiply(int halves, const void *w, const float *x, float *y, long rows, long outputs, long inputs, long threads) {
    long piece = threads > 0 ? (outputs + 8 * threads - 1) / (8 * threads) : outputs;
    struct task task = {halves ? 1 : 0, w, x, y, rows, outputs, inputs, 0, 0, (piece + 3) / 4 * 4, 0, threads};
    share(task, outputs * inputs);
}

/* One half of attention, as `score` and `weigh` say. values: whether x has weights, w values and y what is attended. */
void attend(int values, const float *w, const float *x, float *y, long heads, long width, long positions, long head,
            long row, long threads) {
    struct task task = {values ? 3 : 2, w, x, y, width, heads, positions, head, row, 1, 0, threads};
    share(task, heads * width * positions);
}
