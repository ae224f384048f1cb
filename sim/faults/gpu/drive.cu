/* Whether tick t moved a state. What counts is what ticks latch: of the flip itself, `old` is null. */
DEVICE int moves(const struct net *net, i32 sample, i32 t, i32 dense, const struct deviations *old,
                 const struct deviations *new_)
{
    cleared(dense);
    if (old) spread(old, dense, -1);
    spread(new_, dense, 1);
    return beyond(net, sample, t, dense);
}

/* Flips of states in groups that share sample and tick: tasks of at most TASK flips, taken one behind the other.
 *
 * Where `drawn` is 0, places of a group are all of `[task_first, group_last)`: `outcome` [samples][TICKS + 1][places] and
 * `distance` [samples][TICKS + 1] are stored, and where the fault-free run stands still one trajectory is that of a flip in
 * each tick left. Otherwise fault k has the place that Philox draws for k: `counts` [TICKS + 1][places][8] is added to, and
 * the numbers of faults with an outcome in the bits `kept` are listed in `list`; with `drawn` 2 `outcome` [faults] is stored. */
KERNEL follow(const i32 *task_group, const i32 *task_first, i32 tasks, i32 *counter, const i32 *group_sample,
              const i32 *group_tick, const i32 *group_last, i8 *outcome, i32 *distance, i32 *counts, i32 *list, i32 *listed,
              const i32 *place_element, const i32 *place_mask, i32 places, i32 seed_low, i32 seed_high, i32 drawn, i32 kept, i32 near_limit, NET_ARGUMENTS)
{
    LANE;
    struct net whole = NET_VALUES;
    const struct net *net = &whole;
    AREA;
    const u8 masked = outcome_of(net, 0, 0, 0, 0, 1), healed = outcome_of(net, 0, 0, 0, 1, 1);
    for (;;) {
        PER(i32, taken);
        LANES L(taken) = lane == 0 ? ADD(counter, 1) : 0;
        const i32 task = FROM(taken, 0);
        if (task >= tasks) break;
        const i32 group = task_group[task], sample = group_sample[group], begin = group_tick[group];
        i32 stop = task_first[task] + TASK;
        if (stop > group_last[group]) stop = group_last[group];
        const i32 settled = net->settled[sample], shared = !drawn && begin == settled;
        for (i32 base = task_first[task]; base < stop; base += 32) {
            PER(i32, place);
            PER(i32, element);
            PER(i32, change);
            LANES {
                const i32 number = base + lane < stop ? base + lane : stop - 1;
                L(place) = drawn ? (i32)((u64)philox(seed_low, seed_high, number) * places >> 32) : number;
                L(element) = place_element[L(place)];
                L(change) = changed(net, L(element), 0, place_mask[L(place)], 0, 0, sample, begin);
            }
            const i32 end = stop - base < 32 ? stop - base : 32;
            for (i32 q = 0; q < end; q++) {
                const i32 at = FROM(place, q), e = FROM(element, q), d = FROM(change, q);
                struct deviations old = {lists}, new_ = {lists + LISTED};
                UNROLLED
                for (int s = 0; s < STATES; s++) {
                    const int here = e >= FIRST(s) && e < FIRST(s + 1);
                    old.count[s] = here;
                    old.mass[s] = here ? magnitude(d) : 0;
                    LANES if (here && lane < 4) ENTRY_OF(&old, s, lane) = lane ? 0 : ENTRY(d, e - FIRST(s));
                }
                SYNC;
                u8 found = masked;
                i32 off = 0, t = begin, ever = 0, going = t < TICKS;
                if (shared || !going) {
                    const struct verdict v = read_out(net, sample, &old);
                    if (v.output) found = outcome_of(net, v.wrong, 1, net->moving[sample], 0, 1);
                    if (shared) {
                        LANES if (lane == 0) outcome[((i64)sample * (TICKS + 1) + TICKS) * places + at] = found;
                    }
                }
                while (going) {
                    const int deviates = tick(net, sample, t, sums, &old, &new_);
                    const int first = t == begin;
                    t++;
                    const int still = deviates && t > settled && !first && same(&old, &new_);
                    const int finish = t == TICKS || !deviates || still;
                    if (shared || finish) {
                        off = 0;
                        found = ever ? healed : masked;
                        if (deviates) {
                            const struct verdict v = read_out(net, sample, &new_);
                            off = farthest(&new_);
                            found = outcome_of(net, v.wrong, v.output, 0, -1, off <= near_limit);
                            const u8 moving = outcome_of(net, v.wrong, v.output, 1, -1, off <= near_limit);
                            if (moving != found && !still && moves(net, sample, t - 1, sums, first ? 0 : &old, &new_)) found = moving;
                        }
                        if (shared) {
                            i32 ends = TICKS - (t - begin);
                            const i32 low = finish ? begin : ends;
                            for (; ends >= low; ends--) {
                                LANES if (lane == 0) {
                                    outcome[((i64)sample * (TICKS + 1) + ends) * places + at] = found;
                                    if (off) HIGHER(distance + sample * (TICKS + 1) + ends, off);
                                }
                            }
                        }
                    }
                    ever |= deviates;
                    const struct deviations swapped = old;
                    old = new_;
                    new_.list = swapped.list;
                    going = !finish;
                }
                if (drawn) {
                    LANES if (lane == 0) {
                        ADD(counts + ((i64)begin * places + at) * 8 + found, 1);
                        if (kept >> found & 1) list[ADD(listed, 1)] = base + q;
                        if (drawn == 2) outcome[base + q] = found;
                    }
                } else if (!shared) {
                    LANES if (lane == 0) {
                        outcome[((i64)sample * (TICKS + 1) + begin) * places + at] = found;
                        if (off) HIGHER(distance + sample * (TICKS + 1) + begin, off);
                    }
                }
                SYNC;
            }
        }
    }
}
