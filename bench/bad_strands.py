#!/usr/bin/python3
"""What a strand costs whose handler raises an error.

A batch in which a handler fails is rolled back and run once more, with a savepoint
and a round trip for each strand.  The same backlog is settled with no bad strand,
with one in every hundred, and with nothing but bad ones (one attempt each, no
suspension), in turn, on a fresh database each, on a private server with fsync on.

    make bench && bench/bad_strands.py --build BUILD_DIRECTORY
"""

import argparse
import statistics

import built
import cluster as private
import service

HANDLER = """BEGIN
    IF strand.kind = 'bad' THEN RAISE EXCEPTION 'a bad strand'; END IF;
    RETURN NEXT jsonb_build_object('kind', 'decision', 'symbol', strand.symbol);
END"""
TAG = "dm:evaluate_plan"
CASES = (("none", 0), ("one in 100", 1), ("all", 100))


def seconds(cluster, bad, strands, workers):
    """From the first strand's start to the last one's end."""
    db = cluster.database()
    try:
        service.function(db, HANDLER, name="test.bench", argument="strand ad_strands")
        db.execute("INSERT INTO ad_strands (id, tags, symbol, kind) SELECT 'AD_' || i, jsonb_build_array(%s), 'SPX',"
                   " CASE WHEN i %% 100 < %s THEN 'bad' ELSE 'good' END FROM generate_series(1, %s) i", (TAG, bad, strands))
        route = {"tag": TAG, "source": "AD_strands", "handler": "test.bench", "attempts": 1, "suspend_after": 0}
        with private.Daemon(db, [route], {"workers": {"threads": workers, "batch": 100}, "log": {"level": "info"}}):
            private.wait_until(lambda: db.value("SELECT count(*) FROM dm_receipts") == strands, 300, 0.5)
        return float(db.value("SELECT extract(epoch FROM max(finished_at) - min(started_at)) FROM dm_receipts"))
    finally:
        db.drop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    built.add_option(parser)
    parser.add_argument("--strands", type=int, default=20000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    built.check(parser, args, "strandd")

    taken = {name: [] for name, _ in CASES}
    with private.Cluster(fsync=True) as cluster:
        for number in range(args.rounds):
            for name, bad in CASES:
                taken[name].append(seconds(cluster, bad, args.strands, args.workers))
                print(f"round {number + 1}, bad: {name:10}  {taken[name][-1]:7.2f} s", flush=True)
    batches = args.strands / 100
    none = statistics.median(taken["none"])
    print(f"\n{args.strands:,} strands in batches of 100, {args.workers} workers, medians of {args.rounds}")
    print(f"{'bad strands':12} {'strands/s':>10} {'ms a batch':>11} {'more than none':>15} {'ratio':>6}")
    for name, _ in CASES:
        t = statistics.median(taken[name])
        each = 1000 * t * args.workers / batches
        print(f"{name:12} {args.strands / t:10,.0f} {each:11.2f} {each - 1000 * none * args.workers / batches:12.2f} ms {t / none:6.1f}")


if __name__ == "__main__":
    main()
