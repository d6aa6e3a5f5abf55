-- What 90_uninstall.sql calls.

-- step: function specified_text
-- The body that the specification gives a table's notify function; for a table
-- that the specification does not know, the same for the tags attached to it.
CREATE OR REPLACE FUNCTION strandd.specified_text(tbl regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	WITH specified (relname, tag, n) AS (VALUES
		('ad_strands', 'dm:evaluate_plan', 1),
		('dm_strands', 'alpha:decision_feedback', 1),
		('dm_strands', 'trader:execute_plan', 2),
		('tr_strands', 'alpha:execution_feedback', 1),
		('tr_strands', 'dm:execution_feedback', 2)),
	wanted AS (
		SELECT s.tag, s.n::bigint FROM specified s JOIN pg_class c ON c.relname = s.relname WHERE c.oid = tbl
		UNION ALL
		SELECT r.tag, row_number() OVER (ORDER BY r.tag COLLATE "C") FROM strandd.routes() r
		 WHERE r.source = tbl AND r.detached_at IS NULL
		   AND NOT EXISTS (SELECT FROM specified s JOIN pg_class c ON c.relname = s.relname WHERE c.oid = tbl))
	SELECT format(E'\nBEGIN\n%s    RETURN NEW;\nEND;\n', string_agg(format(
			E'    IF NEW.tags @> %L THEN\n        PERFORM pg_notify(%L, NEW.id::text);\n    END IF;\n    \n',
			jsonb_build_array(w.tag), strandd.channel(w.tag)), '' ORDER BY w.n))
	  FROM wanted w
	HAVING count(*) > 0
$$;

-- step: function former_text
CREATE OR REPLACE FUNCTION strandd.former_text(tbl regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT substring(obj_description(to_regprocedure(strandd.sibling(tbl, 'notify_from_%s') || '()'), 'pg_proc')
		FROM '^before strandd: (.*)$')
$$;

-- step: function restore_specification
-- Takes everything of strandd's off one source and puts back the trigger
-- function that was there before, or the specification's plain one.
CREATE OR REPLACE FUNCTION strandd.restore_specification(tbl regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	shown   text := strandd.qualified(tbl);
	relname text := (SELECT c.relname FROM pg_class c WHERE c.oid = tbl);
	notify  text := strandd.sibling(tbl, 'notify_from_%s');
	plain   text;
	tags    regclass;
	ours    boolean;
BEGIN
	PERFORM strandd.lock_installation();
	PERFORM strandd.follow_renames();
	plain := coalesce(strandd.former_text(tbl), strandd.specified_text(tbl));
	tags := to_regclass(strandd.sibling(tbl, 'idx_%s_tags'));
	ours := EXISTS (SELECT FROM pg_proc p WHERE p.oid = to_regprocedure(notify || '()') AND strandd.wrote(p.prosrc));
	EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', shown);
	EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', relname || '_notify_update', shown);
	EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', format('zzz_%s_before_insert', relname), shown);
	EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', format('zzz_%s_before_update', relname), shown);
	EXECUTE format('DROP FUNCTION IF EXISTS %s()', strandd.sibling(tbl, 'keep_tags_of_%s'));
	IF ours AND plain IS NULL THEN
		EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', relname || '_notify', shown);
		EXECUTE format('DROP FUNCTION %s()', notify);
	ELSIF ours THEN
		EXECUTE format('CREATE OR REPLACE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql AS %L', notify, plain);
		EXECUTE format('COMMENT ON TRIGGER %I ON %s IS NULL', relname || '_notify', shown);
		IF strandd.former_text(tbl) IS NOT NULL THEN
			EXECUTE format('COMMENT ON FUNCTION %s() IS NULL', notify);
		END IF;
	END IF;
	EXECUTE format('ALTER TABLE %s DROP COLUMN IF EXISTS xact_id, DROP COLUMN IF EXISTS tagged_at', shown);
	IF tags IS NOT NULL THEN
		EXECUTE format('ALTER INDEX %s RESET (fastupdate)', strandd.qualified(tags));
	END IF;
	DELETE FROM strandd.sources s WHERE s.source = tbl;
END
$$;

-- step: function drop_receivers
-- Drops all routes and receipts.
CREATE OR REPLACE FUNCTION strandd.drop_receivers() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT strandd.qualified(c.oid) AS tbl FROM strandd.receivers v
			JOIN pg_class c ON c.oid IN (v.routes, v.receipts) LOOP
		EXECUTE format('DROP TABLE %s', r.tbl);
	END LOOP;
	DELETE FROM strandd.receivers;
END
$$;

-- step: function refuse_dependants
-- Uninstalling drops nothing of the user's own: what is built on schema strandd,
-- on routes and receipts or on the added columns is named instead.
CREATE OR REPLACE FUNCTION strandd.refuse_dependants() RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	named text;
BEGIN
	WITH side (oid) AS (
		SELECT unnest(ARRAY[r.routes::oid, r.receipts::oid]) FROM strandd.receivers r),
	own (classid, objid, attnum) AS (
		SELECT 'pg_class'::regclass, c.oid, 0 FROM pg_class c
		 WHERE c.relnamespace = 'strandd'::regnamespace OR c.oid IN (TABLE side)
		UNION ALL
		SELECT 'pg_type'::regclass, t.oid, 0 FROM pg_type t
		 WHERE t.typnamespace = 'strandd'::regnamespace OR t.typrelid IN (TABLE side)
		UNION ALL
		SELECT 'pg_proc'::regclass, p.oid, 0 FROM pg_proc p WHERE p.pronamespace = 'strandd'::regnamespace
		UNION ALL
		SELECT 'pg_class'::regclass, a.attrelid, a.attnum FROM pg_attribute a JOIN pg_trigger g ON g.tgrelid = a.attrelid
		 WHERE g.tgfoid = 'strandd.stamp_strand'::regproc AND a.attname IN ('xact_id', 'tagged_at')),
	others (classid, objid, attnum) AS (
		SELECT d.classid::regclass, d.objid, d.objsubid
		  FROM own o JOIN pg_depend d ON d.refclassid = o.classid AND d.refobjid = o.objid AND o.attnum IN (0, d.refobjsubid)
		 WHERE d.deptype = 'n'
		   AND NOT (d.classid = 'pg_trigger'::regclass AND coalesce(obj_description(d.objid, 'pg_trigger'), '') LIKE 'strandd %')
		UNION ALL
		SELECT 'pg_class'::regclass, c.oid, 0 FROM pg_class c
		 WHERE c.relnamespace = 'strandd'::regnamespace AND c.relkind NOT IN ('i', 't')
		   AND c.relname <> ALL (ARRAY['version', 'instance_seq', 'sources', 'receivers', 'cleanup', 'gone', 'gone_n_seq', 'searches']))
	SELECT string_agg(DISTINCT CASE WHEN v.rulename = '_RETURN' THEN pg_describe_object('pg_class'::regclass, v.ev_class, 0)
		ELSE pg_describe_object(d.classid, d.objid, d.attnum) END, ', ') INTO named
	  FROM others d LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
	  LEFT JOIN pg_rewrite v ON d.classid = 'pg_rewrite'::regclass AND v.oid = d.objid
	 -- a receipt's own CHECK depends on its own columns
	 WHERE k.conrelid IS NULL OR k.conrelid NOT IN (TABLE side);
	IF named IS NOT NULL THEN
		RAISE EXCEPTION 'uninstall would take away what these are built on: %', named
			USING ERRCODE = 'dependent_objects_still_exist', HINT = 'Drop them, and run it again.';
	END IF;
END
$$;
