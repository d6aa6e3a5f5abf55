-- The specification's five routes.  Each is attached once: a route that an
-- operator has detached stays so.  Routes of one source are attached together:
-- the first attach replaces the specification's own trigger function.

-- step: isolation that an attach needs, for this session
SET default_transaction_isolation = 'read committed';

-- step: routes from AD_strands
DO $$
DECLARE
	home text := pg_catalog.quote_ident(current_schema());
BEGIN
	PERFORM strandd.attach_new('dm:evaluate_plan', (home || '.ad_strands')::regclass, (home || '.dm_strands')::regclass);
END
$$;

-- step: routes from DM_strands
DO $$
DECLARE
	home text := pg_catalog.quote_ident(current_schema());
BEGIN
	PERFORM strandd.attach_new('alpha:decision_feedback', (home || '.dm_strands')::regclass, (home || '.ad_strands')::regclass);
	PERFORM strandd.attach_new('trader:execute_plan', (home || '.dm_strands')::regclass, (home || '.tr_strands')::regclass);
END
$$;

-- step: routes from TR_strands
DO $$
DECLARE
	home text := pg_catalog.quote_ident(current_schema());
BEGIN
	PERFORM strandd.attach_new('alpha:execution_feedback', (home || '.tr_strands')::regclass, (home || '.ad_strands')::regclass);
	PERFORM strandd.attach_new('dm:execution_feedback', (home || '.tr_strands')::regclass, (home || '.dm_strands')::regclass);
END
$$;

-- step: what was there before becomes history
CALL strandd.finish_histories();
