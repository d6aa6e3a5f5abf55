# shellcheck shell=bash
# What scripts/demo.sh shows when the market has run.  Sourced by it, never run;
# uses its owner_sql, heading, build, example, run and dsn.
# shellcheck disable=SC2154

thousands()
{
	sed -E ':a; s/^(-?[0-9]+)([0-9]{3})/\1,\2/; ta' <<<"$1"
}

# In the replay the market waits for its modules, so its pace says nothing; in
# the rush strands queue, so their age says nothing.
show_routes()
{
	heading "Strands by route, and how long each took in the replay, from tag to receipt"
	printf '  %-26s %9s %9s %12s %12s\n' '' replay rush p50 p99
	owner_sql -F ' ' -c "
		SELECT tag, count(*) FILTER (WHERE account = 'paper'), count(*) FILTER (WHERE account = 'rush'),
			round((percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)
				FILTER (WHERE account = 'paper'))::numeric, 2),
			round((percentile_cont(0.99) WITHIN GROUP (ORDER BY ms)
				FILTER (WHERE account = 'paper'))::numeric, 2)
		FROM (SELECT tag, account, 1000 * extract(epoch FROM finished_at - tagged_at) AS ms
			FROM trading.delivery) d
		GROUP BY tag ORDER BY array_position(ARRAY['dm:evaluate_plan', 'alpha:decision_feedback',
			'trader:execute_plan', 'alpha:execution_feedback', 'dm:execution_feedback'], tag)" |
		while read -r tag paper rushed p50 p99; do
			printf '  %-26s %9s %9s %9s ms %9s ms\n' "$tag" "$(thousands "$paper")" \
				"$(thousands "$rushed")" "$p50" "$p99"
		done
	owner_sql -F ' ' -c "
		SELECT count(*), round(count(*) / extract(epoch FROM max(finished_at) - min(finished_at)), 0),
			count(*) FILTER (WHERE state <> 'done')
		FROM trading.delivery WHERE account = 'rush'" | {
		read -r strands rate bad
		say "  The rush: $(thousands "$strands") strands at $(thousands "$rate") a second; not done: $bad"
	}
	say "  Orders at the Trader's broker, each key once: $(python3 "$example/broker.py" "$run/orders.sqlite" | wc -l)"
}

# chart FIRST LAST: reads one value a column and draws the curve, ten lines high.
chart()
{
	awk -v first="$1" -v last="$2" '
	function dollars(n) { return sprintf("%5d,%03d", n / 1000, n % 1000) }
	{ value[NR] = $1; if (NR == 1 || $1 < low) low = $1; if (NR == 1 || $1 > high) high = $1 }
	END {
		lines = 10
		split("▁ ▂ ▃ ▄ ▅ ▆ ▇ █", part, " ")
		for (line = lines; line >= 1; line--) {
			text = line == lines ? dollars(high) : line == 1 ? dollars(low) : "         "
			for (i = 1; i <= NR; i++) {
				eighths = int(1 + (value[i] - low) / (high > low ? high - low : 1) * (8 * lines - 1)) - 8 * (line - 1)
				text = text (eighths <= 0 ? " " : part[eighths > 8 ? 8 : eighths])
			}
			sub(/ +$/, "", text)
			print "  " text
		}
		printf "  %9s%s%*s\n", "", first, NR - length(first), last
	}'
}

show_account()
{
	heading "The paper account, in dollars at each close"
	owner_sql -c "
		SELECT trading.equity('paper', max(day))
		FROM (SELECT day, ntile(64) OVER (ORDER BY day) AS part FROM trading.candle) c
		GROUP BY part ORDER BY part" | chart 2000 2020
	owner_sql -F ' ' -c "
		SELECT plans, approved, refused, closed, still_open + waiting, capital, realised, unrealised, equity,
			trading.peak_risk('paper'), trading.peak_risk('rush'),
			(SELECT risk_budget FROM trading.account WHERE name = 'paper')
		FROM trading.result WHERE account = 'paper'" | {
		read -r plans approved refused closed open capital realised unrealised equity peak rushed budget
		say "  $plans plans: $approved approved, $refused refused; $closed positions closed, $open still open"
		say "  $(thousands "$capital") paid in, $(thousands "$realised") realised," \
			"$(thousands "$unrealised") open: $(thousands "$equity")"
		say "  risk budget $(thousands "$budget"); most at risk on one day:" \
			"$(thousands "$peak"), in the rush $(thousands "$rushed")"
	}
	heading "What alpha has learned"
	owner_sql -F ' ' -c "SELECT signal, outcomes, hits, hit_rate, profit FROM trading.learned
		WHERE account = 'paper' ORDER BY signal" |
		while read -r signal outcomes hits rate profit; do
			printf '  %-14s %4s positions, %4s with profit (%4s %%) %14s\n' \
				"$signal" "$outcomes" "$hits" "$rate" "$(thousands "$profit")"
		done
}

# strandctl's own table is wider than some terminals: its JSON, a line a receipt.
show_trace()
{
	local plan trace

	plan=$(owner_sql -c "SELECT plan_id FROM trading.book WHERE account = 'paper'
		ORDER BY profit DESC NULLS LAST LIMIT 1")
	heading "The best plan's way: strandctl trace $plan"
	trace=$("$build/strandctl" --json --dbname "$dsn" trace "$plan") || die "strandctl trace failed"
	owner_sql -v trace="$trace" -v plan="$plan" <<'END'
WITH RECURSIVE strand AS (
	SELECT s AS it, ARRAY[n] AS way FROM jsonb_array_elements((:'trace')::jsonb->'strands')
		WITH ORDINALITY AS r (s, n)
	UNION ALL
	SELECT c, way || n FROM strand, jsonb_array_elements(it->'children')
		WITH ORDINALITY AS r (c, n)
)
SELECT format('  %-22s %-10s %-25s %-6s %7s ms',
		CASE n WHEN 1 THEN repeat('  ', cardinality(way) - 2)
			|| CASE WHEN cardinality(way) > 1 THEN '└─' ELSE '' END || (it->>'id') END,
		CASE n WHEN 1 THEN it->>'kind' END,
		receipt->>'tag', receipt->>'state', round((receipt->'hop_ms')::numeric, 1))
FROM strand, jsonb_array_elements(it->'receipts') WITH ORDINALITY AS r (receipt, n)
ORDER BY way, n;
SELECT format(E'  %s on %s: %s %s at %s on %s,\n  out at %s on %s (%s), profit %s',
	signal, plan_day, CASE side WHEN 1 THEN 'bought' ELSE 'sold' END, units, entry_price,
	entry_day, exit_price, exit_day, exit_reason, profit)
FROM trading.book WHERE plan_id = :'plan';
END
}
