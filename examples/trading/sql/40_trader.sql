-- The Trader: executes on paper.

-- The price that an order gets on a candle: the wanted one moved by 0.05 percent
-- against us, and never outside what was traded that day.
CREATE OR REPLACE FUNCTION trading.slip(wanted numeric, direction integer, low numeric, high numeric)
RETURNS numeric LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT least(greatest(wanted + direction * round(wanted * 0.0005, 2), low), high)
$$;

-- Handler of trader:execute_plan.
--
-- Entry: at the open of the candle after the plan's, slipped.  Exit, looked for
-- from the candle after that on, in order: at the stop (slipped; at the open
-- when the day opens beyond it), else at the target (a limit order: that price,
-- or the open when better), else after hold_days at the close, slipped.  A day
-- that touches both counts as stopped.
-- No next candle: the order waits, and no exit yet: the position stays open;
-- both are reported as they are.  One report goes to alpha and to the book.
CREATE OR REPLACE FUNCTION trading.execute_plan(strand dm_strands)
RETURNS SETOF jsonb LANGUAGE plpgsql SET search_path = pg_catalog, trading, pg_temp
AS $$
DECLARE
	o jsonb := strand.dm_decision;
	side integer := (o->'side')::integer;
	units bigint := (o->'units')::bigint;
	hold_days integer := (o->'hold_days')::integer;
	entry candle;
	price numeric(12,2);
	stop numeric(12,2);
	target numeric(12,2);
	wanted numeric(12,2);
	day candle;
	held integer := 0;
	reason text;
	exit_price numeric(12,2);
	fills jsonb := '[]';
	outcome jsonb := jsonb_build_object('status', 'waiting');
BEGIN
	SELECT * INTO entry FROM candle c
	WHERE c.symbol = strand.symbol AND c.day > (o->>'day')::date
	ORDER BY c.day LIMIT 1;
	IF FOUND THEN
		price := slip(entry.open, side, entry.low, entry.high);
		stop := price - side * (o->'stop_distance')::numeric;
		target := price + side * (o->'target_distance')::numeric;
		fills := jsonb_build_array(jsonb_build_object('day', entry.day, 'price', price,
			'units', side * units));
		outcome := jsonb_build_object('status', 'open');
	END IF;

	-- without an entry its day is NULL and no candle is after it
	FOR day IN SELECT * FROM candle c
		WHERE c.symbol = strand.symbol AND c.day > entry.day
		ORDER BY c.day LIMIT hold_days
	LOOP
		held := held + 1;
		IF side = 1 AND day.low <= stop OR side = -1 AND day.high >= stop THEN
			reason := 'stop';
			wanted := CASE side WHEN 1 THEN least(stop, day.open) ELSE greatest(stop, day.open) END;
			exit_price := slip(wanted, -side, day.low, day.high);
		ELSIF side = 1 AND day.high >= target OR side = -1 AND day.low <= target THEN
			reason := 'target';
			wanted := CASE side WHEN 1 THEN greatest(target, day.open) ELSE least(target, day.open) END;
			exit_price := wanted;
		ELSIF held = hold_days THEN
			reason := 'time';
			wanted := day.close;
			exit_price := slip(wanted, -side, day.low, day.high);
		END IF;
		EXIT WHEN reason IS NOT NULL;
	END LOOP;
	IF reason IS NOT NULL THEN
		fills := fills || jsonb_build_object('day', day.day, 'price', exit_price,
			'units', -side * units);
		outcome := jsonb_build_object('status', 'closed', 'reason', reason,
			'exit_day', day.day, 'exit_price', exit_price,
			'profit', side * units * (exit_price - price));
	END IF;

	RETURN NEXT jsonb_build_object('kind', 'execution',
		'symbol', strand.symbol, 'timeframe', strand.timeframe,
		'tr_execution', jsonb_build_object('plan', o->'plan', 'account', o->'account',
			'signal', o->'signal', 'side', side, 'units', units,
			'entry_day', entry.day, 'entry_price', price),
		'tr_fills', fills,
		'tr_slippage', jsonb_build_object('entry', side * (price - entry.open),
			'exit', -side * (exit_price - wanted)),
		'tr_outcome', outcome,
		'tags', '["alpha:execution_feedback", "dm:execution_feedback"]'::jsonb);
END $$;
