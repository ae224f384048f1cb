/* Upset the word of element e of the states as tick t reads it; by how much that moves its code. */
DEVICE i32 upset(const struct net *net, struct deviations *a, i32 e, i32 flip, i32 one, i32 zero, i32 sample, i32 t)
{
    LANE;
    i32 moved = 0;
    UNROLLED
    for (int s = 0; s < STATES; s++) {
        if (e < FIRST(s) || e >= FIRST(s + 1)) continue;
        const i32 unit = e - FIRST(s);
        PER(i32, place);
        LANES {
            L(place) = -1;
            for (int k = lane; k < a->count[s]; k += 32) if (UNIT(ENTRY_OF(a, s, k)) == unit) L(place) = k;
        }
        const i32 at = HIGHEST(place), to = at < 0 ? a->count[s] : at;
        const i32 before = at < 0 ? 0 : DIFFERENCE(ENTRY_OF(a, s, at));
        const i32 after = changed(net, e, before, flip, one, zero, sample, t);
        if (after == before) continue;
        SYNC;
        /* Behind a new entry come zeros up to a multiple of four. */
        LANES if (lane <= (at < 0 ? -(to + 1) & 3 : 0)) ENTRY_OF(a, s, to + lane) = lane ? 0 : ENTRY(after, unit);
        SYNC;
        a->count[s] += at < 0;
        a->mass[s] += magnitude(after) - magnitude(before);
        moved = after - before;
    }
    return moved;
}

/* Faults that may last: a wrong weight, sum or value of the drive (`struct wound`), or upsets of up to SLOTS words of states
 * in each of the ticks `place_first` to `place_last`. One warp follows one.
 *
 * Tasks are chunks of TASK places of a sample. Without `single` every place is injected in every sample: `outcome`
 * [samples][places] and `distance` [samples][TICKS + 1], by the first tick, are stored. With it each place has its sample,
 * and `rows` [places][6] are the columns label, rejoin, distance_max, distance_end, differ_end, output_differs. */
KERNEL hold(i32 tasks, i32 chunks, i32 *counter, i32 places, i32 single, const i32 *place_sample, const i32 *place_first,
            const i32 *place_last, const i32 *place_weight, const i32 *place_row, const i32 *place_column,
            const i32 *place_delta, const i32 *place_element, const i32 *place_flip, const i32 *place_one,
            const i32 *place_zero, i8 *outcome, i32 *distance, i32 *rows, i32 near_limit, NET_ARGUMENTS)
{
    LANE;
    struct net whole = NET_VALUES;
    const struct net *net = &whole;
    AREA;
    const u8 masked = outcome_of(net, 0, 0, 0, 0, 1);
    for (;;) {
        PER(i32, taken);
        LANES L(taken) = lane == 0 ? ADD(counter, 1) : 0;
        const i32 task = FROM(taken, 0);
        if (task >= tasks) break;
        const i32 chunk = task % chunks, start = chunk * TASK, stop = start + TASK < places ? start + TASK : places;
        for (i32 base = start; base < stop; base += 32) {
            PER(i32, at);
            PER(i32, weight);
            PER(i32, row);
            PER(i32, column);
            PER(i32, delta);
            PER(i32, live);
            PER(i32, became);
            PERS(i32, held, HELDS);
            LANES {
                L(at) = base + lane < stop ? base + lane : stop - 1;
                L(weight) = place_weight[L(at)];
                L(row) = place_row[L(at)];
                L(column) = place_column[L(at)];
                L(delta) = place_delta[L(at)];
                const i32 sample = single ? place_sample[L(at)] : task / chunks;
                i32 any = 0;
                UNROLLED
                for (int h = 0; h < HELDS; h++) {
                    LK(held, h) = dive(net, h, L(weight), L(row), L(column), L(delta),
                                       place_flip[L(at) * SLOTS], place_one[L(at) * SLOTS], place_zero[L(at) * SLOTS],
                                       sample);
                    any |= LK(held, h);
                }
                /* A weight that is what it was, or whose input is 0, changes nothing. */
                L(live) = base + lane < stop && (!L(weight) || (L(delta) && (any || !OF_DRIVE(L(weight)))));
                L(became) = masked;
                if (single && base + lane < stop) {
                    i32 *mine = rows + 6 * L(at);
                    mine[0] = net->label[sample];
                    UNROLLED
                    for (int k = 1; k < 6; k++) mine[k] = 0;
                }
            }
            SYNC;
            for (u32 left = BALLOT(live); left; left &= left - 1) {
                const int q = FIRST_SET(left);
                const i32 number = FROM(at, q), begin = place_first[number], last = place_last[number];
                const i32 sample = single ? place_sample[number] : task / chunks, settled = net->settled[sample];
                struct wound wound = {FROM(weight, q), FROM(row, q), FROM(column, q), FROM(delta, q), last,
                                      place_flip[number * SLOTS], place_one[number * SLOTS], place_zero[number * SLOTS]};
                UNROLLED
                for (int h = 0; h < HELDS; h++) wound.held[h] = FROM(held[h], q);
                struct deviations old = {lists}, new_ = {lists + LISTED};
                UNROLLED
                for (int s = 0; s < STATES; s++) old.count[s] = old.mass[s] = 0;
                /* By how much the words that the next tick reads are off what was latched. */
                i32 element[SLOTS], moved[SLOTS];
                UNROLLED
                for (int k = 0; k < SLOTS; k++) {
                    element[k] = place_element[number * SLOTS + k];
                    moved[k] = element[k] < 0 ? 0 : upset(net, &old, element[k], place_flip[number * SLOTS + k],
                                                          place_one[number * SLOTS + k], place_zero[number * SLOTS + k],
                                                          sample, begin);
                }
                i32 t = begin, off = 0, most = 0, differ = 0, moving = 0, latest = -1, deviates = 0, over = 0, repeats = 0;
                for (i32 going = begin < TICKS && !OF_READOUT(wound.weight); going;) {
                    deviates = tick(net, sample, t, sums, &old, &new_, &wound);
                    t++;
                    over = t > last;
                    if (deviates) latest = t - 1;
                    const int end = t == TICKS || repeats || (over && !deviates);
                    if (end || single) {
                        off = deviates ? farthest(&new_) : 0;
                        most = off > most ? off : most;
                    }
                    if (end) {
                        UNROLLED
                        for (int s = 0; s < STATES; s++) differ += new_.count[s];
                        if (off > near_limit && !repeats) {
                            cleared(sums);
                            spread(&old, sums, -1);
                            spread(&new_, sums, 1);
                            UNROLLED
                            for (int k = 0; k < SLOTS; k++) {
                                LANES if (lane == 0 && moved[k]) WORD(sums + element[k]) += moved[k];
                                SYNC;
                            }
                            moving = beyond(net, sample, t - 1, sums);
                        }
                    }
                    UNROLLED
                    for (int k = 0; k < SLOTS; k++) {
                        moved[k] = over || element[k] < 0 ? 0 : upset(net, &new_, element[k], place_flip[number * SLOTS + k],
                                                                      place_one[number * SLOTS + k],
                                                                      place_zero[number * SLOTS + k], sample, t);
                    }
                    /* The next tick latches what this one did, where the fault-free run and the fault stand still. */
                    repeats = t > settled && (over || last >= TICKS) && same(&old, &new_);
                    const i32 list = old.list;
                    old = new_;
                    new_.list = list;
                    going = !end;
                }
                struct verdict v = {0, 0, net->label[sample]};
                if (!over || deviates) v = read_out(net, sample, &old, &wound);
                const i32 rejoin = latest < 0 ? 0 : deviates ? -1 : latest + 1 - begin;
                const u8 found = outcome_of(net, v.wrong, v.output, moving, rejoin < 0 ? -1 : rejoin > 0, off <= near_limit);
                LANES if (lane == q) L(became) = found;
                if (single) {
                    LANES if (lane == 0) {
                        i32 *mine = rows + 6 * number;
                        mine[0] = v.label; mine[1] = rejoin; mine[2] = most; mine[3] = off; mine[4] = differ;
                        mine[5] = v.output;
                    }
                } else if (off) {
                    LANES if (lane == 0) HIGHER(distance + sample * (TICKS + 1) + begin, off);
                }
                SYNC;
            }
            LANES if (base + lane < stop) outcome[(i64)(single ? 0 : task / chunks) * places + base + lane] = L(became);
        }
    }
}
