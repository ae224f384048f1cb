/* What is wrong besides states, by number, 0 for nothing: a weight from before the inference to its end, its place in the
 * matrix and by how much it is off; or the result of a map at unit `row`, whose bits are upset up to tick `last`; or a value
 * of the drive there. `held`: how far values of the drive are off at unit `row` because of it. */
struct wound { i32 weight, row, column, delta, last, flip, one, zero, held[HELDS]; };

#define SIGNED(code, bits) ((i32)((u32)(code) << (32 - (bits))) >> (32 - (bits)))
#define UNSIGNED(code, bits) ((i32)((u32)(code) & (0xffffffffu >> (32 - (bits)))))

#define UPSET(code, bits, flip, one, zero) (((((code) & (i32)(0xffffffffu >> (32 - (bits)))) ^ (flip)) | (one)) & ~(zero))

/* What deviates of a unit, by all lanes. */
DEVICE i32 sought(const struct deviations *a, int state, i32 unit)
{
    LANE;
    PER(i32, seen);
    LANES {
        L(seen) = 0;
        for (int k = lane; k < a->count[state]; k += 32)
            if (UNIT(ENTRY_OF(a, state, k)) == unit) L(seen) = DIFFERENCE(ENTRY_OF(a, state, k));
    }
    return TOTAL(seen);
}
