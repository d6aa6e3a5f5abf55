-- The Decision Maker: sizes a plan, approves or refuses it under the account's
-- risk budget, and keeps the book.

-- Risk open at the close of `on_day`, whatever the order in which plans come:
-- every position that does not end on or before that day counts, also one whose
-- plan bears a later day.  So on no day can the positions' risks add up to more
-- than the budget: of those open on a day, the last one decided counted all
-- others.
CREATE OR REPLACE FUNCTION trading.open_risk(of_account text, on_day date)
RETURNS numeric LANGUAGE sql STABLE SET search_path = pg_catalog, trading, pg_temp
AS $$
	SELECT coalesce(sum(risk), 0.00) FROM book
	WHERE account = of_account AND open_until > on_day
$$;

-- Handler of dm:evaluate_plan.  Reads the book and writes it, so its route must
-- be `serial`: two decisions at once would both see the same free budget.
--
-- A plan gets the account's stake, or half of it when this kind of signal has
-- more often lost than won, or what is left of the budget when that is less; in
-- whole units, each risking the plan's stop distance.  No unit fits: refused.
--
-- Answers alpha on a strand of its own, and for an approved plan then sends
-- the order to the Trader by updating that same strand (the specification's
-- pattern 3).
CREATE OR REPLACE FUNCTION trading.evaluate_plan(strand ad_strands)
RETURNS SETOF jsonb LANGUAGE plpgsql SET search_path = pg_catalog, trading, pg_temp
AS $$
DECLARE
	plan jsonb := strand.trading_plan;
	plan_day date := (plan->>'day')::date;
	unit_risk numeric(12,2) := (plan->>'stop_distance')::numeric;
	decision_id text := id_for('DM', strand.id);
	acct account;
	stake numeric(14,2);
	open_before numeric(14,2);
	units bigint;
	decision jsonb;
BEGIN
	SELECT * INTO acct FROM account WHERE name = plan->>'account';
	IF NOT FOUND THEN
		RAISE EXCEPTION 'plan % is for an unknown account: %', strand.id,
			coalesce(plan->>'account', 'none named')
			USING ERRCODE = 'SRFIN';	-- another attempt would say the same
	END IF;
	IF plan_day IS NULL OR unit_risk IS NULL OR unit_risk <= 0 THEN
		RAISE EXCEPTION 'plan % lacks a day or a stop distance above zero', strand.id
			USING ERRCODE = 'SRFIN';
	END IF;

	stake := acct.stake;
	IF 2 * ((plan->>'hits')::bigint + 1) < (plan->>'outcomes')::bigint + 2 THEN
		stake := stake / 2;
	END IF;
	open_before := open_risk(acct.name, plan_day);
	units := div(least(stake, acct.risk_budget - open_before), unit_risk);

	decision := jsonb_build_object('plan', strand.id, 'account', acct.name,
		'signal', plan->'signal', 'day', plan->'day', 'approved', units > 0,
		'units', greatest(units, 0), 'risk', greatest(units, 0) * unit_risk,
		'reason', CASE
			WHEN units > 0 THEN 'within the risk budget'
			WHEN open_before + unit_risk > acct.risk_budget THEN 'no room in the risk budget'
			ELSE 'one unit risks more than the stake'
		END);
	RETURN NEXT jsonb_build_object('id', decision_id, 'kind', 'decision',
		'symbol', strand.symbol, 'timeframe', strand.timeframe, 'dm_decision', decision,
		'dm_budget', jsonb_build_object('risk_budget', acct.risk_budget,
			'open_before', open_before, 'stake', stake),
		'tags', '["alpha:decision_feedback"]'::jsonb);
	IF units <= 0 THEN
		RETURN;
	END IF;

	INSERT INTO book (plan_id, account, symbol, signal, plan_day, side, units, risk, open_before)
	VALUES (strand.id, acct.name, strand.symbol, plan->>'signal', plan_day,
		(plan->>'side')::integer, units, units * unit_risk, open_before);
	RETURN NEXT jsonb_build_object('update', decision_id,
		'dm_decision', decision || jsonb_build_object('side', plan->'side',
			'stop_distance', plan->'stop_distance', 'target_distance', plan->'target_distance',
			'hold_days', plan->'hold_days'),
		'tags', '["trader:execute_plan"]'::jsonb);
END $$;

-- Handler of dm:execution_feedback: the book learns how the position went.  From
-- its exit day on, its risk is free again.
CREATE OR REPLACE FUNCTION trading.keep_book(strand tr_strands)
RETURNS SETOF jsonb LANGUAGE plpgsql SET search_path = pg_catalog, trading, pg_temp
AS $$
DECLARE
	e jsonb := strand.tr_execution;
	o jsonb := strand.tr_outcome;
BEGIN
	UPDATE book SET
		entry_day = (e->>'entry_day')::date,
		entry_price = (e->>'entry_price')::numeric,
		exit_day = (o->>'exit_day')::date,
		exit_price = (o->>'exit_price')::numeric,
		exit_reason = o->>'reason',
		profit = (o->>'profit')::numeric,
		open_until = coalesce((o->>'exit_day')::date, 'infinity'),
		reported_at = clock_timestamp()
	WHERE plan_id = e->>'plan';
	IF NOT FOUND THEN
		RAISE EXCEPTION 'report % is about a plan that is not in the book: %', strand.id,
			coalesce(e->>'plan', 'none named')
			USING ERRCODE = 'SRFIN';
	END IF;
END $$;
