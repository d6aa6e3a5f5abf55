-- Letting the market run.

-- Has everything that follows from a plan been said and heard?
CREATE OR REPLACE FUNCTION trading.settled(plan text)
RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, trading, pg_temp
AS $$
	SELECT coalesce((SELECT NOT d.approved OR
			EXISTS (SELECT FROM alpha_outcome o WHERE o.plan_id = plan)
			AND EXISTS (SELECT FROM book b WHERE b.plan_id = plan AND b.reported_at IS NOT NULL)
		FROM alpha_decision d WHERE d.plan_id = plan), false)
$$;

-- Replays the candles: closes one day after the other, lets alpha publish, and
-- opens the next day when everybody has done with the last one.  No order
-- between strands is promised, so the clock of a simulation has to wait for its
-- modules; with that the account comes out the same to the cent whatever the
-- number of workers, batches and daemons, and however often they are killed.
-- An interrupted replay may simply be called again.
CREATE OR REPLACE PROCEDURE trading.replay(for_account text DEFAULT 'paper',
	of_symbol text DEFAULT 'SPX', patience interval DEFAULT '60 seconds')
LANGUAGE plpgsql
AS $$
DECLARE
	close_of date;
	found_there trading.breakout;
	plan text;
	patient_until timestamptz;
BEGIN
	FOR close_of IN SELECT day FROM trading.candle WHERE symbol = of_symbol ORDER BY day LOOP
		SELECT * INTO found_there FROM trading.detect(of_symbol, close_of);
		CONTINUE WHEN NOT FOUND;
		COMMIT;		-- a plan's time counts from here, not from the search
		SELECT * INTO plan FROM trading.publish(for_account, found_there);
		COMMIT;
		patient_until := clock_timestamp() + patience;
		WHILE NOT trading.settled(plan) LOOP
			IF clock_timestamp() > patient_until THEN
				RAISE EXCEPTION 'the plan % of % is not settled after %', plan, close_of, patience
					USING HINT = 'Does strandd run, with the routes of trading.conf?'
					' "strandctl trace" shows how far the plan came.';
			END IF;
			PERFORM pg_sleep(0.0005);
		END LOOP;
	END LOOP;
END $$;

-- A rush: the plans of all candles at once, `copies` of each, in one transaction
-- and with the days shuffled.  Which of them are approved depends on who comes
-- first; that the budget holds does not.  Returns how many.
CREATE OR REPLACE FUNCTION trading.rush(for_account text DEFAULT 'rush',
	of_symbol text DEFAULT 'SPX', copies integer DEFAULT 8)
RETURNS bigint LANGUAGE sql SET search_path = pg_catalog, trading, pg_temp
AS $$
	SELECT count(*)
	FROM (SELECT day FROM candle WHERE symbol = of_symbol
		ORDER BY hashtextextended(day::text, 0)) shuffled,
		detect(of_symbol, shuffled.day) AS b,
		publish(for_account, b, copies)
$$;
