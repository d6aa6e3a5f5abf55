-- The Alpha Detector: finds breakouts, publishes them as trading plans, and
-- learns from the answers.

-- What the rule sees at the close of `on_day`: that candle and the 55 before it,
-- never one that came later.  At most one row; the first rule that fires wins.
-- sigma is the standard deviation of the last 20 daily moves in points, to the
-- cent; a close must clear the old high (or low) by a quarter of it.
CREATE OR REPLACE FUNCTION trading.detect(of_symbol text, on_day date)
RETURNS SETOF trading.breakout
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, trading, pg_temp
AS $$
BEGIN
	RETURN QUERY WITH seen AS (
		SELECT c.day, c.high, c.low, c.close,
			c.close - lead(c.close) OVER newest AS move,
			row_number() OVER newest AS age		-- 1 is on_day itself
		FROM (SELECT * FROM candle
			WHERE symbol = of_symbol AND day <= on_day
			ORDER BY day DESC LIMIT 56) c
		WINDOW newest AS (ORDER BY c.day DESC)
	), facts AS (
		SELECT max(s.close) FILTER (WHERE age = 1 AND day = on_day) AS close,
			round(stddev_samp(move) FILTER (WHERE age <= 20), 2) AS sigma,
			count(move) FILTER (WHERE age <= 20) AS moves,
			count(*) FILTER (WHERE age > 1) AS past,
			max(high) FILTER (WHERE age BETWEEN 2 AND 21) AS high_20,
			min(low) FILTER (WHERE age BETWEEN 2 AND 21) AS low_20,
			max(high) FILTER (WHERE age > 1) AS high_55,
			min(low) FILTER (WHERE age > 1) AS low_55
		FROM seen s
	)
	SELECT of_symbol, on_day, r.signal, r.side, f.close, r.level, f.sigma
	FROM facts f
	CROSS JOIN LATERAL (VALUES
		(1, 'breakout_55',   1, 55, f.high_55, f.close - f.high_55),
		(2, 'breakout_20',   1, 20, f.high_20, f.close - f.high_20),
		(3, 'breakdown_55', -1, 55, f.low_55,  f.low_55 - f.close),
		(4, 'dip_20',        1, 20, f.low_20,  f.low_20 - f.close)
	) AS r (rank, signal, side, lookback, level, excess)
	WHERE f.moves = 20 AND f.sigma > 0 AND f.past >= r.lookback
		AND r.excess >= 0.25 * f.sigma
	ORDER BY r.rank LIMIT 1;
END $$;

-- What alpha knew of a kind of signal at the close of a day.  A paper position's
-- whole life is reported as soon as it is computed; an outcome counts from its
-- exit day on, or the past would learn from the future.
CREATE OR REPLACE FUNCTION trading.known(of_account text, of_signal text, on_day date,
	OUT outcomes bigint, OUT hits bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, trading, pg_temp
AS $$
	SELECT count(*), count(*) FILTER (WHERE profit > 0)
	FROM alpha_outcome
	WHERE account = of_account AND signal = of_signal AND exit_day <= on_day
$$;

-- An id in the specification's form, the same for the same words: publishing a
-- plan a second time changes nothing.
CREATE OR REPLACE FUNCTION trading.id_for(prefix text, words text)
RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT prefix || '_' || left(encode(sha256(convert_to(words, 'UTF8')), 'hex'), 12)
$$;

-- Publishes a breakout as a plan and returns its id; with `copies` above 1 as
-- several that differ in their ids only.  A plain INSERT, as any producer would
-- write it; search_path is the one that this file was loaded with, because the
-- modules' tables live in a schema of the operator's choice.
CREATE OR REPLACE FUNCTION trading.publish(for_account text, b trading.breakout,
	copies integer DEFAULT 1)
RETURNS SETOF text LANGUAGE plpgsql SET search_path FROM CURRENT
AS $$
DECLARE
	past record;
BEGIN
	SELECT * INTO past FROM trading.known(for_account, b.signal, b.day);
	RETURN QUERY WITH plan AS (
		SELECT trading.id_for('AD', concat_ws('/', for_account, b.symbol, b.day, copy)) AS id
		FROM generate_series(1, copies) AS copy
	), written AS (
		INSERT INTO ad_strands (id, kind, symbol, timeframe, sig_sigma, sig_confidence,
			sig_direction, trading_plan, signal_pack, tags)
		SELECT plan.id, 'signal', b.symbol, '1d',
			abs(b.close - b.level) / b.sigma,
			(past.hits + 1.0) / (past.outcomes + 2),
			CASE b.side WHEN 1 THEN 'long' ELSE 'short' END,
			jsonb_build_object('account', for_account, 'day', b.day,
				'signal', b.signal, 'side', b.side, 'close', b.close,
				'stop_distance', 4 * b.sigma, 'target_distance', 4 * b.sigma,
				'hold_days', 20, 'outcomes', past.outcomes, 'hits', past.hits),
			jsonb_build_object('signal', b.signal, 'level', b.level, 'sigma', b.sigma),
			'["dm:evaluate_plan"]'
		FROM plan
		ON CONFLICT DO NOTHING
	)
	SELECT plan.id FROM plan;
END $$;

-- Handler of alpha:decision_feedback: remembers what became of the plan.
CREATE OR REPLACE FUNCTION trading.learn_decision(strand dm_strands)
RETURNS SETOF jsonb LANGUAGE plpgsql SET search_path = pg_catalog, trading, pg_temp
AS $$
DECLARE
	d jsonb := strand.dm_decision;
BEGIN
	INSERT INTO alpha_decision (plan_id, account, signal, approved)
	VALUES (d->>'plan', d->>'account', d->>'signal', (d->>'approved')::boolean);
END $$;

-- Handler of alpha:execution_feedback: one more outcome of this kind of signal.
CREATE OR REPLACE FUNCTION trading.learn_outcome(strand tr_strands)
RETURNS SETOF jsonb LANGUAGE plpgsql SET search_path = pg_catalog, trading, pg_temp
AS $$
DECLARE
	e jsonb := strand.tr_execution;
	o jsonb := strand.tr_outcome;
BEGIN
	INSERT INTO alpha_outcome (plan_id, account, signal, exit_day, profit)
	VALUES (e->>'plan', e->>'account', e->>'signal',
		coalesce((o->>'exit_day')::date, 'infinity'), (o->>'profit')::numeric);
END $$;
