/* A weight that is wrong from before the inference to its end, 0 for none: its place in the matrix, by how much it is off,
 * and how far values of the drive that follow from it are off at unit `row`. Behind it stand how it is read back. */
struct wound { i32 weight, row, column, delta, held[HELDS]; };

#define SIGNED(code, bits) ((i32)((u32)(code) << (32 - (bits))) >> (32 - (bits)))
#define UNSIGNED(code, bits) ((i32)((u32)(code) & (0xffffffffu >> (32 - (bits)))))

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
