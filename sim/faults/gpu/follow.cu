/* What does not depend on the net: the words for the 32 lanes of a warp, and the run over flips of states.
 *
 * One warp follows one flip. What deviates from the fault-free run is a list in shared memory, entries
 * `difference << 12 | unit` by state; a tick adds the columns of what is listed, four sums of 8 bits a word, and computes
 * the units whose sum leaves the range in which their code stands (`slack`). On a card the text is CUDA; elsewhere, for
 * tests, it is C in which each block of LANES is a loop over 32 lanes.
 *
 * Before it stand the sizes of the net (STATES, UNITS, TICKS, TOLERANCE, PLACES, SUMS), behind it its functions.
 */
#ifdef CARD
typedef signed char i8; typedef unsigned char u8; typedef short i16; typedef unsigned short u16; typedef int i32;
typedef unsigned int u32; typedef long long i64; typedef unsigned long long u64;
#define DEVICE static __device__ __forceinline__
#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS, 1)
#define LANES
#define LANE const int lane = threadIdx.x & 31
#define PER(type, name) type name
#define PERS(type, name, count) type name[count]
#define L(name) name
#define LK(name, k) name[k]
#define SYNC __syncwarp()
#define BALLOT(name) __ballot_sync(~0u, name)
#define TOTAL(name) __reduce_add_sync(~0u, name)
#define HIGHEST(name) __reduce_max_sync(~0u, name)
#define LOWEST(name) __reduce_min_sync(~0u, name)
#define FROM(name, k) __shfl_sync(~0u, name, k)
#define FIRST_SET(x) (__ffs(x) - 1)
#define BITS_SET(x) __popc(x)
#define ADD(pointer, value) atomicAdd(pointer, value)
#define HIGHER(pointer, value) atomicMax(pointer, value)
#define UNROLLED _Pragma("unroll")
#define BALLOT_BITS(name) BALLOT(name)
#define EVERY(index, count) \
    for (i64 index = (i64)blockIdx.x * blockDim.x + threadIdx.x; index < count; index += (i64)gridDim.x * blockDim.x)
struct __align__(8) pair { u32 x, y; };
struct __align__(16) quad { i32 entry[4]; };
#else
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
typedef int8_t i8; typedef uint8_t u8; typedef int16_t i16; typedef uint16_t u16; typedef int32_t i32;
typedef uint32_t u32; typedef int64_t i64; typedef uint64_t u64;
#define DEVICE static inline
#define KERNEL void
#define LANES for (int lane = 0; lane < 32; lane++)
#define LANE
#define PER(type, name) type name[32]
#define PERS(type, name, count) type name[count][32]
#define L(name) name[lane]
#define LK(name, k) name[k][lane]
#define SYNC
#define FROM(name, k) name[k]
#define FIRST_SET(x) __builtin_ctz(x)
#define BITS_SET(x) __builtin_popcount(x)
#define UNROLLED
#define BALLOT_BITS(name) BALLOT((const i32 *)(name))
#define EVERY(index, count) for (i64 index = 0; index < count; index++)
struct pair { u32 x, y; };
struct quad { i32 entry[4]; };
static u32 BALLOT(const i32 *x) { u32 m = 0; LANES m |= (u32)(x[lane] != 0) << lane; return m; }
static i32 TOTAL(const i32 *x) { i32 m = 0; LANES m += x[lane]; return m; }
static i32 HIGHEST(const i32 *x) { i32 m = x[0]; LANES m = x[lane] > m ? x[lane] : m; return m; }
static i32 LOWEST(const i32 *x) { i32 m = x[0]; LANES m = x[lane] < m ? x[lane] : m; return m; }
static i32 ADD(i32 *p, i32 value) { i32 old = *p; *p += value; return old; }
static void HIGHER(i32 *p, i32 value) { if (value > *p) *p = value; }
#endif

#define UNIT(entry) ((entry) & 4095)
#define DIFFERENCE(entry) ((entry) >> 12)
#define ENTRY(difference, unit) ((i32)((u32)(difference) << 12) | (unit))
#define BIAS 0x80808080u
#define EMPTIED(total, x, y) do { \
        UNROLLED \
        for (int j = 0; j < 4; j++) { total[j] += BYTE(x, j); total[4 + j] += BYTE(y, j); } \
        x = y = 0; \
    } while (0)
/* Of the eight units of a lane, which begin with those of one word, the bit of unit j. */
#define MASK(j) (1u << (8 * ((j) & 3) + ((j) >> 2)))
#define PAIR(pointer) (*(const struct pair *)(pointer))
/* Four sums of a word are `s0 + 256 s1 + ...`, so that words add as numbers while each is within 8 bits. */
#define BYTE(word, j) ((i32)(i8)((((word) + BIAS) ^ BIAS) >> 8 * (j)))

/* What a warp keeps in words of shared memory, named by their number: deviations by state, from START(state) on, with
 * entries of 0 behind them up to a multiple of four, and sums that 8 bits do not hold. */
#ifdef CARD
extern __shared__ i32 memory[];
#else
static i32 memory[2 * LISTED + SUMS] __attribute__((aligned(16)));
#endif
#define WORD(k) memory[k]
#define ENTRY_OF(a, state, k) WORD((a)->list + START(state) + (k))
#define QUAD(a, state, k) (*(const struct quad *)&ENTRY_OF(a, state, k))
struct deviations { i32 list, count[STATES], mass[STATES]; };

struct verdict { i32 output, wrong, label; };

/* Philox 4x32 of ten rounds (philox.py): the first word of a counter. */
DEVICE u32 philox(u32 low, u32 high, u32 counter)
{
    u32 a = counter, b = 0, c = 0, d = 0;
    UNROLLED
    for (int round = 0; round < 10; round++) {
        u64 left = (u64)0xD2511F53u * a, right = (u64)0xCD9E8D57u * c;
        a = (u32)(right >> 32) ^ b ^ low;
        b = (u32)right;
        c = (u32)(left >> 32) ^ d ^ high;
        d = (u32)left;
        low += 0x9E3779B9u;
        high += 0xBB67AE85u;
    }
    return a;
}

DEVICE i32 magnitude(i32 x) { return x < 0 ? -x : x; }

/* What deviates of a unit. */
DEVICE i32 deviation(const struct deviations *a, int state, i32 unit)
{
    for (int k = 0; k < a->count[state]; k++)
        if (UNIT(ENTRY_OF(a, state, k)) == unit) return DIFFERENCE(ENTRY_OF(a, state, k));
    return 0;
}
