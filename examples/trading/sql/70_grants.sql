-- Who may do what, beside the grants on the modules' own tables
-- (strandd.grant_service, strandd.grant_producer).

-- The role that strandd runs as: the handlers run with its rights.
CREATE OR REPLACE FUNCTION trading.grant_service(role name)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA trading TO %I', role);
	EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA trading TO %I', role);
	EXECUTE format('GRANT INSERT ON trading.alpha_decision, trading.alpha_outcome,
		trading.book TO %I', role);
	EXECUTE format('GRANT UPDATE ON trading.book TO %I', role);
END $$;

-- The role that replays the market: it reads here and writes AD_strands only.
CREATE OR REPLACE FUNCTION trading.grant_producer(role name)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	EXECUTE format('GRANT USAGE ON SCHEMA trading TO %I', role);
	EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA trading TO %I', role);
END $$;
