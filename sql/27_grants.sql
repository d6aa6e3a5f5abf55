-- What the roles of strandd and of producers need.

-- step: function check_role
-- GRANT takes public, quoted too, for everyone.
CREATE OR REPLACE FUNCTION strandd.check_role(role name) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = role) THEN
		RAISE EXCEPTION 'there is no role %', quote_ident(role)
			USING ERRCODE = 'undefined_object', HINT = format('CREATE ROLE %I LOGIN', role);
	END IF;
END
$$;

-- step: function grant_service
-- What the role that strandd runs as must be able to do, and nothing more.
-- Repeat it after a module was added.
CREATE OR REPLACE FUNCTION strandd.grant_service(role name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r record;
BEGIN
	PERFORM strandd.check_role(role);
	EXECUTE format('GRANT USAGE ON SCHEMA strandd TO %I', role);
	EXECUTE format('GRANT SELECT ON strandd.version, strandd.sources, strandd.receivers TO %I', role);
	EXECUTE format('GRANT USAGE ON SEQUENCE strandd.instance_seq TO %I', role);
	FOR r IN SELECT p.oid::regprocedure::text AS called FROM pg_proc p
			WHERE p.pronamespace = 'strandd'::regnamespace
			AND p.proname IN ('receipt_key', 'lock_seed', 'channel', 'new_id', 'unrouted_tags', 'qualified', 'prefix', 'routes',
				'database_identifier', 'refuse_reply', 'update_strand', 'tags_after_update',
				'timeouts', 'long_id', 'lost_claim') LOOP
		EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', r.called, role);
	END LOOP;
	FOR r IN SELECT DISTINCT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.oid IN (SELECT s.source FROM strandd.sources s UNION SELECT v.receiver FROM strandd.receivers v) LOOP
		EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', r.nspname, role);
	END LOOP;
	-- What failed or expired is marked on the strand itself.
	FOR r IN SELECT strandd.qualified(c.oid) AS tbl,
			(SELECT string_agg(quote_ident(a.attname), ', ') FROM pg_attribute a WHERE a.attrelid = c.oid
				AND a.attname IN ('tags', 'updated_at') AND NOT a.attisdropped) AS marked
			FROM strandd.sources s JOIN pg_class c ON c.oid = s.source LOOP
		EXECUTE format('GRANT SELECT, UPDATE (%s) ON %s TO %I', r.marked, r.tbl, role);
	END LOOP;
	FOR r IN SELECT strandd.qualified(c.oid) AS tbl, strandd.qualified(v.receipts) AS receipts, strandd.qualified(v.routes) AS routes
			FROM strandd.receivers v JOIN pg_class c ON c.oid = v.receiver LOOP
		EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %s, %s TO %I', r.tbl, r.receipts, role);
		EXECUTE format('GRANT SELECT, UPDATE ON %s TO %I', r.routes, role);
	END LOOP;
END
$$;

-- step: function grant_cleanup
-- What cleaning up needs on top of grant_service: to delete.  Not part of it,
-- because a service that never cleans up has no need to delete anything.
CREATE OR REPLACE FUNCTION strandd.grant_cleanup(role name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r record;
BEGIN
	PERFORM strandd.grant_service(role);
	EXECUTE format('GRANT SELECT, INSERT, UPDATE ON strandd.cleanup TO %I', role);
	EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON strandd.gone, strandd.searches TO %I', role);
	FOR r IN SELECT p.oid::regprocedure::text AS called FROM pg_proc p
			WHERE p.pronamespace = 'strandd'::regnamespace
			AND p.proname IN ('clean_tables', 'clean_strands', 'clean_rules', 'clean_walk', 'clean_page', 'clean_lock',
				'delete_strands', 'clean_receipts', 'search_receipts', 'lacks_index', 'wanted_indexes') LOOP
		EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', r.called, role);
	END LOOP;
	FOR r IN SELECT strandd.qualified(c.tbl) AS tbl FROM strandd.clean_tables() c LOOP
		EXECUTE format('GRANT SELECT, DELETE ON %s TO %I', r.tbl, role);
	END LOOP;
	FOR r IN SELECT strandd.qualified(v.receipts) AS receipts FROM strandd.receivers v JOIN pg_class c ON c.oid = v.receiver LOOP
		EXECUTE format('GRANT DELETE ON %s TO %I', r.receipts, role);
	END LOOP;
END
$$;

-- step: function grant_producer
-- What a producer must be able to do: write, read back, and update (pattern 3).
-- Triggers run whatever the producer may call: it needs nothing of schema strandd.
CREATE OR REPLACE FUNCTION strandd.grant_producer(role name, tbl regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM strandd.check_role(role);
	PERFORM strandd.check_table(tbl);
	EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', (SELECT n.nspname FROM pg_class c
		JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = tbl), role);
	EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %s TO %I', strandd.qualified(tbl), role);
END
$$;
