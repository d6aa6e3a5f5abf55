-- The specification's three modules, in the first schema of the search_path.
-- Tables that are there already stay as they are and are added to.

-- step: isolation that an attach needs, for this session
SET default_transaction_isolation = 'read committed';

-- step: none of them is there under another name
DO $$
BEGIN
	PERFORM strandd.refuse_renamed(current_schema(), p.prefix)
	   FROM pg_catalog.unnest(ARRAY['ad', 'dm', 'tr']) AS p (prefix);
END
$$;

-- step: table AD_strands
CREATE TABLE IF NOT EXISTS AD_strands (
    id TEXT PRIMARY KEY,
    module TEXT DEFAULT 'alpha',
    kind TEXT,
    symbol TEXT,
    timeframe TEXT,
    session_bucket TEXT,
    regime TEXT,
    sig_sigma FLOAT8,
    sig_confidence FLOAT8,
    sig_direction TEXT,
    trading_plan JSONB,
    signal_pack JSONB,
    dsi_evidence JSONB,
    regime_context JSONB,
    event_context JSONB,
    module_intelligence JSONB,
    curator_feedback JSONB,
    tags JSONB,
    created_at TIMESTAMPTZ DEFAULT NOW(),
    updated_at TIMESTAMPTZ DEFAULT NOW()
);

-- step: table DM_strands
CREATE TABLE IF NOT EXISTS DM_strands (
    id TEXT PRIMARY KEY,
    module TEXT DEFAULT 'dm',
    kind TEXT,
    symbol TEXT,
    timeframe TEXT,
    session_bucket TEXT,
    regime TEXT,
    dm_alpha JSONB,
    dm_budget JSONB,
    dm_decision JSONB,
    risk_metrics JSONB,
    portfolio_impact JSONB,
    asymmetries JSONB,
    curator_decisions JSONB,
    tags JSONB,
    created_at TIMESTAMPTZ DEFAULT NOW(),
    updated_at TIMESTAMPTZ DEFAULT NOW()
);

-- step: table TR_strands
CREATE TABLE IF NOT EXISTS TR_strands (
    id TEXT PRIMARY KEY,
    module TEXT DEFAULT 'trader',
    kind TEXT,
    symbol TEXT,
    timeframe TEXT,
    session_bucket TEXT,
    regime TEXT,
    tr_execution JSONB,
    tr_outcome JSONB,
    tr_venue_performance JSONB,
    tr_slippage JSONB,
    tr_latency JSONB,
    tr_fills JSONB,
    tags JSONB,
    created_at TIMESTAMPTZ DEFAULT NOW(),
    updated_at TIMESTAMPTZ DEFAULT NOW()
);

-- step: AD_strands as a module's table
DO $$
DECLARE
	t regclass := pg_catalog.format('%I.ad_strands', current_schema())::regclass;
BEGIN
	PERFORM strandd.prepare_source(t), strandd.prepare_receiver(t);
END
$$;

-- step: DM_strands as a module's table
DO $$
DECLARE
	t regclass := pg_catalog.format('%I.dm_strands', current_schema())::regclass;
BEGIN
	PERFORM strandd.prepare_source(t), strandd.prepare_receiver(t);
END
$$;

-- step: TR_strands as a module's table
DO $$
DECLARE
	t regclass := pg_catalog.format('%I.tr_strands', current_schema())::regclass;
BEGIN
	PERFORM strandd.prepare_source(t), strandd.prepare_receiver(t);
END
$$;

-- step: triggers that an older version wrote on other sources
SELECT pg_catalog.format('DO $$ BEGIN PERFORM strandd.write_stamps(%s::oid::regclass); END $$', c.oid)
  FROM strandd.sources s JOIN pg_catalog.pg_class c ON c.oid = s.source
 WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE')
\gexec

-- step: indexes of receipts that an older version made
SELECT s.statement
  FROM strandd.receivers r, strandd.index_statements(r.receipts) AS s (statement)
\gexec

-- step: indexes
SELECT s.statement
  FROM pg_catalog.unnest(ARRAY['ad_strands', 'dm_strands', 'tr_strands']) AS t (name),
       strandd.index_statements(pg_catalog.format('%I.%I', current_schema(), t.name)::regclass) AS s (statement)
\gexec
