/* What does not depend on the net: lists of deviations, sums of columns, and the runs over faults.
 *
 * Before it stand the types, the sizes of the net (STATES, UNITS, TICKS, TOLERANCE) and `struct net`; behind it the
 * tick and the readout of the net. A deviation is an element of the states with the difference of its code from the
 * fault-free run's after as many ticks.
 */
#include <stdlib.h>
#include <string.h>

struct deviations {
    i32 count[STATES];     /* how many elements of each state deviate */
    i32 mass[STATES];      /* the sum of their absolute differences */
    i32 unit[UNITS];       /* by state, from its first element on: units within the state */
    i32 difference[UNITS];
};

struct verdict { i32 output, label_differs, label; };

/* The row of RESULT in engine.py, packed. */
struct __attribute__((packed)) result {
    u8 outcome;
    i32 label, rejoin, distance_max, distance_end, differ_end;
    u8 output_differs, aborted, flags;
    i32 corrected;
};

struct run {
    const i32 *rows, *held, *read; /* fault-free codes, rows one behind the other */
    const i64 *row_of;             /* [samples][TICKS + 1] */
    const i64 *usual;              /* [samples][2]: label, states that the last tick moves beyond the tolerance */
    const u8 *outcomes;            /* [label][output][moving][rejoin + 1][near] */
    const u8 *reaches;             /* [UNITS]: whether a tick reads the element */
    i64 near;
};

/* Where a fault-free index may go without another code of the table, by unit, of one row; `row` says which. */
struct bounds { const i32 *row; i32 low[UNITS], high[UNITS]; };

typedef i8 v64i8 __attribute__((vector_size(64), aligned(1), may_alias));
typedef i8 v32i8 __attribute__((vector_size(32), aligned(1), may_alias));
typedef i16 v32i16 __attribute__((vector_size(64), may_alias));

/* `width` sums, a multiple of 256: the fault-free ones, and what deviations add from columns of int8 weights up to
 * `largest`. Columns are summed in the narrowest type that holds them, and by repeated addition where most deviations
 * are by a few codes. */
static inline __attribute__((always_inline)) void add_columns(
    i32 *sums, const i32 *usual, const i8 *weights, int width, int largest, int count, i32 mass, const i32 *unit,
    const i32 *difference)
{
    for (int panel = 0; panel < width; panel += 256) {
        i32 *out = sums + panel;
        const i32 *plain = usual + panel;
        if ((i64)mass * largest <= 127 && mass <= 6 * count) {
            v64i8 a[4];
            memset(a, 0, sizeof a);
            for (int k = 0; k < count; k++) {
                const v64i8 *w = (const v64i8 *)(weights + (i64)unit[k] * width + panel);
                i32 d = difference[k];
                if (d == 1) {
                    _Pragma("GCC unroll 4") for (int j = 0; j < 4; j++) a[j] += w[j];
                } else if (d == -1) {
                    _Pragma("GCC unroll 4") for (int j = 0; j < 4; j++) a[j] -= w[j];
                } else {
                    for (i32 n = d < 0 ? -d : d; n > 0; n--) {
                        _Pragma("GCC unroll 4") for (int j = 0; j < 4; j++) a[j] += d < 0 ? -w[j] : w[j];
                    }
                }
            }
            i8 flat[256];
            memcpy(flat, a, sizeof a);
            for (int i = 0; i < 256; i++) out[i] = plain[i] + flat[i];
        } else if ((i64)mass * largest <= 32767) {
            i16 flat[256];
            v32i16 a[8];
            memset(a, 0, sizeof a);
            for (int k = 0; k < count; k++) {
                const v32i8 *w = (const v32i8 *)(weights + (i64)unit[k] * width + panel);
                i16 d = (i16)difference[k];
                _Pragma("GCC unroll 8") for (int j = 0; j < 8; j++)
                    a[j] += __builtin_convertvector(w[j], v32i16) * d;
            }
            memcpy(flat, a, sizeof a);
            for (int i = 0; i < 256; i++) out[i] = plain[i] + flat[i];
        } else {
            for (int i = 0; i < 256; i++) out[i] = plain[i];
            for (int k = 0; k < count; k++) {
                const i8 *w = weights + (i64)unit[k] * width + panel;
                for (int i = 0; i < 256; i++) out[i] += w[i] * difference[k];
            }
        }
    }
}

/* The same of a few sums, up to 64, whose columns lie `width` apart. */
static inline __attribute__((always_inline)) void add_few(
    i32 *sums, const i8 *weights, int width, int count, const i32 *unit, const i32 *difference)
{
    for (int k = 0; k < count; k++) {
        const i8 *w = weights + (i64)unit[k] * width;
        for (int i = 0; i < width; i++) sums[i] += w[i] * difference[k];
    }
}

/* Append what differs of `size` codes to a list. */
static inline __attribute__((always_inline)) int append(
    i32 *unit, i32 *difference, int count, i32 *mass, int element, i32 apart)
{
    unit[count] = element;
    difference[count] = apart;
    *mass += apart < 0 ? -apart : apart;
    return count + (apart != 0);
}

static int net_tick(const struct net *net, const i32 *c, const i32 *next, const i32 *held,
                    const struct bounds *bounds, const struct deviations *old, struct deviations *new);
static void net_bounds(const i32 *c, struct bounds *found);
static void net_read(const struct net *net, const i32 *c, const i32 *held, const i32 *read,
                     const struct deviations *old, struct verdict *found);

static int same(const struct deviations *a, const struct deviations *b)
{
    for (int s = 0; s < STATES; s++) {
        if (a->count[s] != b->count[s] || a->mass[s] != b->mass[s]) return 0;
        size_t bytes = sizeof(i32) * (size_t)a->count[s];
        if (memcmp(a->unit + FIRST[s], b->unit + FIRST[s], bytes)) return 0;
        if (memcmp(a->difference + FIRST[s], b->difference + FIRST[s], bytes)) return 0;
    }
    return 1;
}

static i32 farthest(const struct deviations *a)
{
    i32 far = 0;
    for (int s = 0; s < STATES; s++)
        for (int k = FIRST[s]; k < FIRST[s] + a->count[s]; k++)
            far = abs(a->difference[k]) > far ? abs(a->difference[k]) : far;
    return far;
}

/* Whether a tick from `old` on codes `c` to `new` on `next` moves a state beyond the tolerance. What counts is what
 * ticks latch: of the flip itself, `old` is null. */
static int moves(const i32 *c, const i32 *next, const struct deviations *old, const struct deviations *new)
{
    i32 step[UNITS];
    for (int e = 0; e < UNITS; e++) step[e] = next[e] - c[e];
    for (int s = 0; s < STATES; s++) {
        for (int k = FIRST[s]; old && k < FIRST[s] + old->count[s]; k++)
            step[FIRST[s] + old->unit[k]] -= old->difference[k];
        for (int k = FIRST[s]; k < FIRST[s] + new->count[s]; k++)
            step[FIRST[s] + new->unit[k]] += new->difference[k];
    }
    int beyond = 0;
    for (int e = 0; e < UNITS; e++) beyond |= abs(step[e]) > TOLERANCE;
    return beyond;
}

static int state_of(int element)
{
    int s = 0;
    while (s + 1 < STATES && element >= FIRST[s + 1]) s++;
    return s;
}

static void flipped(struct deviations *found, int element, i32 difference)
{
    int s = state_of(element);
    memset(found->count, 0, sizeof found->count);
    memset(found->mass, 0, sizeof found->mass);
    found->count[s] = difference != 0;
    found->mass[s] = abs(difference);
    found->unit[FIRST[s]] = element - FIRST[s];
    found->difference[FIRST[s]] = difference;
}

struct place { const i32 *held, *read; const i64 *row_of, *usual; };

static struct place placed(const struct run *run, i64 sample)
{
    struct place p = {run->held + sample * HELD, run->read + sample * READ, run->row_of + sample * (TICKS + 1),
                      run->usual + sample * 2};
    return p;
}

static u8 outcome_of(const struct run *run, const struct verdict *v, int moving, int rejoin, int near)
{
    return run->outcomes[(((v->label_differs * 2 + v->output) * 2 + moving) * 3 + rejoin + 1) * 2 + near];
}

/* Row of the fault-free codes of a tick. */
static const i32 *row(const struct run *run, const struct place *p, i64 tick)
{
    return run->rows + p->row_of[tick] * WIDTH;
}

/* Bounds of a row, from the SLOTS that a thread keeps: a sample's ticks share them. */
static const struct bounds *bounds_of(struct bounds *kept, const i32 *c)
{
    struct bounds *b = kept + (uintptr_t)c / (sizeof(i32) * WIDTH) % SLOTS;
    if (b->row != c) {
        b->row = c;
        net_bounds(c, b);
    }
    return b;
}

i64 bytes_kept(void) { return SLOTS * (i64)sizeof(struct bounds); }

/* Faults `[first, last)` of a queue (see fast/queue.py), those that flip bits of one state once; `bounds` [samples + 1]
 * says where those of each sample are; `kept` [SLOTS] is zero. */
void relax(const struct net *net, const struct run *run, struct bounds *kept, i64 first, i64 last, const i64 *queue,
           const i64 *bounds, struct result *results)
{
    struct deviations lists[2];
    i64 sample = 0;
    for (i64 i = first; i < last; i++) {
        const i64 *q = queue + 2 * i;
        if (q[1] < 0) continue;
        while (bounds[sample + 1] <= i) sample++;
        i64 number = q[0] & 0xFFFFFFFF, begin = q[1] >> 32, tick = begin;
        int element = (int)(q[0] >> 32);
        if (tick < TICKS && !run->reaches[element]) continue;
        struct place p = placed(run, sample);
        struct result *r = results + number;
        struct verdict v = {0, 0, (i32)p.usual[0]};
        int old = 0, moving = p.usual[1] > 0;
        i64 latest = -1;
        i32 far = 0, end = 0;
        i32 code = row(run, &p, tick)[element];
        flipped(&lists[0], element, (code ^ (i32)q[1]) - code);
        while (tick < TICKS) {
            const i32 *c = row(run, &p, tick), *next = row(run, &p, tick + 1);
            int deviates = net_tick(net, c, next, p.held, bounds_of(kept, c), &lists[old], &lists[1 - old]);
            if (!deviates) break;
            end = farthest(&lists[1 - old]);
            far = end > far ? end : far;
            if (tick > begin && c == next && same(&lists[0], &lists[1])) {
                moving = 0;
                tick = TICKS - 1;
            } else if (tick == TICKS - 1) {
                moving = moves(c, next, tick > begin ? &lists[old] : 0, &lists[1 - old]);
            }
            old = 1 - old;
            latest = tick++;
        }
        int apart = tick == TICKS;
        i32 left = 0;
        if (apart) {
            net_read(net, row(run, &p, TICKS), p.held, p.read, &lists[old], &v);
            for (int s = 0; s < STATES && latest >= 0; s++) left += lists[old].count[s];
        }
        if (latest < 0 && !v.output) continue;
        if (!apart) end = 0;
        i32 rejoin = latest == TICKS - 1 ? -1 : latest >= 0 ? (i32)(latest + 1 - begin) : 0;
        r->label = v.label;
        r->rejoin = rejoin;
        r->distance_max = far;
        r->distance_end = end;
        r->differ_end = left;
        r->output_differs = (u8)v.output;
        r->outcome = outcome_of(run, &v, moving, rejoin < 0 ? -1 : rejoin > 0, end <= run->near);
    }
}

/* One trajectory of flips in the ticks `begin` to `final`, in which the fault-free run stands still if there are
 * several: what becomes of each, `stride` apart, and how far its states are off at the end. */
static void follow(const struct net *net, const struct run *run, struct bounds *kept, const struct place *p, i64 begin,
                   i64 final, int element, i32 difference, u8 *outcome, i64 stride, i32 *distance, u8 masked, u8 healed)
{
    struct deviations lists[2];
    int old = 0;
    flipped(&lists[0], element, difference);
    if (final == TICKS) {
        struct verdict v = {0, 0, (i32)p->usual[0]};
        net_read(net, row(run, p, TICKS), p->held, p->read, &lists[0], &v);
        outcome[TICKS * stride] = v.output ? outcome_of(run, &v, p->usual[1] > 0, 0, 1) : masked;
    }
    if (!run->reaches[element]) {
        for (i64 t = begin; t <= final && t < TICKS; t++) outcome[t * stride] = masked;
        return;
    }
    /* After n ticks the flip of tick `TICKS - n` is at its end, if it is one of these. */
    for (i64 tick = begin; tick < TICKS; tick++) {
        const i32 *c = row(run, p, tick), *next = row(run, p, tick + 1);
        i64 ends = TICKS - (tick + 1 - begin);
        int deviates = net_tick(net, c, next, p->held, bounds_of(kept, c), &lists[old], &lists[1 - old]);
        if (!deviates) {
            u8 found = tick == begin ? masked : healed;
            for (i64 t = begin; t <= (ends < final ? ends : final); t++) outcome[t * stride] = found;
            return;
        }
        int still = tick > begin && c == next && same(&lists[0], &lists[1]);
        if (still || ends <= final) {
            struct verdict v = {0, 0, (i32)p->usual[0]};
            i32 end = farthest(&lists[1 - old]);
            int moving = still ? 0 : moves(c, next, tick > begin ? &lists[old] : 0, &lists[1 - old]);
            net_read(net, row(run, p, TICKS), p->held, p->read, &lists[1 - old], &v);
            u8 found = outcome_of(run, &v, moving, -1, end <= run->near);
            i64 lowest = still ? begin : ends;
            for (i64 t = lowest; t <= (ends < final ? ends : final); t++) {
                outcome[t * stride] = found;
                distance[t] = end > distance[t] ? end : distance[t];
            }
            if (still) return;
        }
        old = 1 - old;
    }
}

/* Every flip of elements `[first, last)` of one state of `bits` bits, in samples `[from, to)` of `samples`:
 * `outcome` [elements][bits][TICKS + 1][samples], `distance` [samples][TICKS + 1]. */
void sweep(const struct net *net, const struct run *run, struct bounds *kept, i64 from, i64 to, i64 samples, i64 first,
           i64 last, i64 bits, i64 is_signed, u8 *outcome, i32 *distance)
{
    struct verdict none = {0, 0, 0};
    u8 masked = outcome_of(run, &none, 0, 0, 1), healed = outcome_of(run, &none, 0, 1, 1);
    for (i64 sample = from; sample < to; sample++) {
        struct place p = placed(run, sample);
        i32 *off = distance + sample * (TICKS + 1);
        i64 settled = TICKS;
        while (settled > 0 && p.row_of[settled - 1] == p.row_of[TICKS]) settled--;
        for (i64 tick = 0; tick <= settled; tick++) {
            const i32 *c = row(run, &p, tick);
            for (i64 e = first; e < last; e++) {
                for (i64 bit = 0; bit < bits; bit++) {
                    i32 change = c[e] >> bit & 1 ? -(1 << bit) : 1 << bit;
                    if (is_signed && bit == bits - 1) change = -change;
                    u8 *at = outcome + ((e - first) * bits + bit) * (TICKS + 1) * samples + sample;
                    follow(net, run, kept, &p, tick, tick == settled ? TICKS : tick, (int)e, change, at, samples, off,
                           masked, healed);
                }
            }
        }
    }
}
