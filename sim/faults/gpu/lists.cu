/* What is asked of the lists of deviations, and what became of a fault. */

/* Whether two lists are the same, entry by entry: the same sums are evaluated in the same order. */
DEVICE int same(const struct deviations *a, const struct deviations *b)
{
    LANE;
    PER(i32, apart);
    LANES L(apart) = 0;
    UNROLLED
    for (int s = 0; s < STATES; s++) {
        if (a->count[s] != b->count[s]) return 0;
        LANES for (int k = lane; k < a->count[s]; k += 32) L(apart) |= ENTRY_OF(a, s, k) != ENTRY_OF(b, s, k);
    }
    return BALLOT(apart) == 0;
}

DEVICE i32 farthest(const struct deviations *a)
{
    LANE;
    PER(i32, far);
    LANES L(far) = 0;
    UNROLLED
    for (int s = 0; s < STATES; s++)
        LANES for (int k = lane; k < a->count[s]; k += 32) {
            i32 d = magnitude(DIFFERENCE(ENTRY_OF(a, s, k)));
            L(far) = d > L(far) ? d : L(far);
        }
    return HIGHEST(far);
}

/* Every code's deviation, dense. */
DEVICE void spread(const struct deviations *a, i32 dense, int sign)
{
    LANE;
    UNROLLED
    for (int s = 0; s < STATES; s++)
        LANES for (int k = lane; k < a->count[s]; k += 32) {
            i32 entry = ENTRY_OF(a, s, k);
            WORD(dense + FIRST(s) + UNIT(entry)) += sign * DIFFERENCE(entry);
        }
    SYNC;
}

DEVICE void cleared(i32 dense)
{
    LANE;
    LANES for (int e = lane; e < UNITS; e += 32) WORD(dense + e) = 0;
    SYNC;
}

/* Whether tick t moved a state beyond the tolerance, of which `dense` has what deviates after it less what did before. */
DEVICE int beyond(const struct net *net, i32 sample, i32 t, i32 dense)
{
    LANE;
    PER(i32, moved);
    LANES {
        L(moved) = 0;
        for (int e = lane; e < UNITS; e += 32)
            L(moved) |= magnitude(WORD(dense + e) + state_code(net, e, sample, t + 1) - state_code(net, e, sample, t)) > TOLERANCE;
    }
    int found = BALLOT(moved) != 0;
    SYNC;
    return found;
}

DEVICE u8 outcome_of(const struct net *net, int wrong, int output, int moving, int rejoin, int near)
{
    return net->outcomes[(((wrong * 2 + output) * 2 + moving) * 3 + rejoin + 1) * 2 + near];
}
