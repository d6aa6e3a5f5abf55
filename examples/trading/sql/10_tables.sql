-- The tables of the trading example, schema `trading`.
-- Money is numeric(14,2) and prices are numeric(12,2): exact, to the cent.

CREATE SCHEMA IF NOT EXISTS trading;

-- The market: one row a trading day.  Prices are rounded to cents as they are
-- loaded, because the file holds floats printed with six digits.
CREATE TABLE IF NOT EXISTS trading.candle (
	symbol text NOT NULL DEFAULT 'SPX',
	day date NOT NULL,
	open numeric(12,2) NOT NULL,
	high numeric(12,2) NOT NULL,
	low numeric(12,2) NOT NULL,
	close numeric(12,2) NOT NULL,
	adjclose numeric(12,2),
	volume bigint,
	PRIMARY KEY (symbol, day),
	CHECK (low <= open AND low <= close AND open <= high AND close <= high)
);

-- A paper account: how much it starts with, how much may be at risk at once
-- over all its open positions, and how much on one plan.
CREATE TABLE IF NOT EXISTS trading.account (
	name text PRIMARY KEY,
	capital numeric(14,2) NOT NULL,
	risk_budget numeric(14,2) NOT NULL,
	stake numeric(14,2) NOT NULL,
	CHECK (risk_budget >= 0 AND stake > 0)
);

INSERT INTO trading.account VALUES
	('paper', 250000.00, 10000.00, 4000.00),
	('rush', 250000.00, 10000.00, 4000.00)
ON CONFLICT DO NOTHING;

-- What alpha was told: the decision on each of its plans, and what came of the
-- approved ones.  Two tables to which rows are only added, because the two
-- answers may arrive in either order and at the same time: an UPDATE of one
-- row by both could deadlock one batch with another.
CREATE TABLE IF NOT EXISTS trading.alpha_decision (
	plan_id text PRIMARY KEY,
	account text NOT NULL,
	signal text NOT NULL,
	approved boolean NOT NULL
);
CREATE TABLE IF NOT EXISTS trading.alpha_outcome (
	plan_id text PRIMARY KEY,
	account text NOT NULL,
	signal text NOT NULL,
	exit_day date NOT NULL,			-- 'infinity' while the position is open
	profit numeric(14,2)
);
CREATE INDEX IF NOT EXISTS alpha_outcome_known
	ON trading.alpha_outcome (account, signal, exit_day);

-- The Decision Maker's book: one row for each approved plan.  Its risk counts
-- against the budget from the plan's day until the day before `open_until`.
CREATE TABLE IF NOT EXISTS trading.book (
	plan_id text PRIMARY KEY,
	number bigint GENERATED ALWAYS AS IDENTITY,	-- order of the decisions
	account text NOT NULL,
	symbol text NOT NULL,
	signal text NOT NULL,
	plan_day date NOT NULL,
	side integer NOT NULL CHECK (side IN (1, -1)),	-- 1 long, -1 short
	units bigint NOT NULL CHECK (units > 0),
	risk numeric(14,2) NOT NULL,
	open_before numeric(14,2) NOT NULL,		-- risk already open when it was approved
	open_until date NOT NULL DEFAULT 'infinity',
	entry_day date,
	entry_price numeric(12,2),
	exit_day date,
	exit_price numeric(12,2),
	exit_reason text,
	profit numeric(14,2),
	reported_at timestamptz				-- when the Trader's report was taken in
);
CREATE INDEX IF NOT EXISTS book_open ON trading.book (account, open_until);

-- What alpha's rule found at one candle's close.
DO $$ BEGIN
	CREATE TYPE trading.breakout AS (
		symbol text,
		day date,
		signal text,
		side integer,
		close numeric,
		level numeric,	-- the old high or low that the close cleared
		sigma numeric
	);
EXCEPTION WHEN duplicate_object THEN
	NULL;	-- loaded before
END $$;
