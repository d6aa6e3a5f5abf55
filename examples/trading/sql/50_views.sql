-- Looking at a paper account and at the strands: nothing here is used by the
-- handlers.

-- Profit or loss of every position at the close of a day: realised ones as they
-- ended, open ones at that day's close.
CREATE OR REPLACE FUNCTION trading.equity(of_account text, on_day date)
RETURNS numeric LANGUAGE sql STABLE SET search_path = pg_catalog, trading, pg_temp
AS $$
	SELECT a.capital + coalesce(sum(CASE
		WHEN b.exit_day <= on_day THEN b.profit
		ELSE b.side * b.units * (c.close - b.entry_price) END), 0)
	FROM account a
	LEFT JOIN book b ON b.account = a.name AND b.entry_day <= on_day
	LEFT JOIN candle c ON c.symbol = b.symbol AND c.day = on_day
	WHERE a.name = of_account
	GROUP BY a.capital
$$;

-- The most that was ever at risk at once, by date: on the day of each plan.
CREATE OR REPLACE FUNCTION trading.peak_risk(of_account text)
RETURNS numeric LANGUAGE sql STABLE SET search_path = pg_catalog, trading, pg_temp
AS $$
	SELECT coalesce(max(at_risk), 0) FROM (
		SELECT (SELECT sum(o.risk) FROM book o
			WHERE o.account = b.account AND o.plan_day <= b.plan_day
				AND o.open_until > b.plan_day) AS at_risk
		FROM book b WHERE b.account = of_account) peaks
$$;

-- One line for each account.
CREATE OR REPLACE VIEW trading.result AS
SELECT a.name AS account, a.capital,
	d.plans, d.approved, d.plans - d.approved AS refused,
	b.closed, b.still_open, b.waiting,
	b.realised, e.equity - a.capital - b.realised AS unrealised, e.equity
FROM trading.account a
CROSS JOIN LATERAL (SELECT count(*) AS plans, count(*) FILTER (WHERE approved) AS approved
	FROM trading.alpha_decision WHERE account = a.name) d
CROSS JOIN LATERAL (SELECT count(exit_day) AS closed,
		count(*) FILTER (WHERE entry_day IS NOT NULL AND exit_day IS NULL) AS still_open,
		count(*) FILTER (WHERE entry_day IS NULL) AS waiting,
		coalesce(sum(profit), 0.00) AS realised
	FROM trading.book WHERE account = a.name) b
CROSS JOIN LATERAL (SELECT trading.equity(a.name, (SELECT max(day) FROM trading.candle))
	AS equity) e;

-- What alpha has learned: the hit rate of each kind of signal.
CREATE OR REPLACE VIEW trading.learned AS
SELECT account, signal, count(profit) AS outcomes,
	count(*) FILTER (WHERE profit > 0) AS hits,
	round(100.0 * count(*) FILTER (WHERE profit > 0) / nullif(count(profit), 0), 1) AS hit_rate,
	sum(profit) AS profit
FROM trading.alpha_outcome GROUP BY account, signal;

-- Every delivery on the five routes, with the time from the strand's tag to the
-- receipt.  (The ids of this example are short, so a receipt's key is the id.)
CREATE OR REPLACE VIEW trading.delivery AS
SELECT q.tag, s.id, s.trading_plan->>'account' AS account, r.state, s.tagged_at, r.finished_at
FROM dm_routes q JOIN dm_receipts r USING (route) JOIN ad_strands s ON s.id = r.strand_id
WHERE q.source = 'ad_strands'::regclass
UNION ALL
SELECT q.tag, s.id, s.dm_decision->>'account' AS account, r.state, s.tagged_at, r.finished_at
FROM ad_routes q JOIN ad_receipts r USING (route) JOIN dm_strands s ON s.id = r.strand_id
WHERE q.source = 'dm_strands'::regclass
UNION ALL
SELECT q.tag, s.id, s.dm_decision->>'account' AS account, r.state, s.tagged_at, r.finished_at
FROM tr_routes q JOIN tr_receipts r USING (route) JOIN dm_strands s ON s.id = r.strand_id
WHERE q.source = 'dm_strands'::regclass
UNION ALL
SELECT q.tag, s.id, s.tr_execution->>'account' AS account, r.state, s.tagged_at, r.finished_at
FROM ad_routes q JOIN ad_receipts r USING (route) JOIN tr_strands s ON s.id = r.strand_id
WHERE q.source = 'tr_strands'::regclass
UNION ALL
SELECT q.tag, s.id, s.tr_execution->>'account' AS account, r.state, s.tagged_at, r.finished_at
FROM dm_routes q JOIN dm_receipts r USING (route) JOIN tr_strands s ON s.id = r.strand_id
WHERE q.source = 'tr_strands'::regclass;
