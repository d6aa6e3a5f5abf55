-- What makes a table a source or a receiver: columns, routes and receipts, indexes.

-- step: function rewind_routes
-- For a source that gets its column xact_id while routes from it are known, as
-- an interrupted uninstall leaves them: its rows bear number 0 then and lie below
-- the routes' positions.  Receipts keep what was delivered from coming again; a
-- history that is not all in receipts can no longer be told from news.
CREATE OR REPLACE FUNCTION strandd.rewind_routes(tbl regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT * FROM strandd.routes() o WHERE o.source = tbl LOOP
		IF r.history IS NOT NULL AND r.detached_at IS NULL THEN
			RAISE EXCEPTION '% lost its column xact_id before the history of route % was finished', strandd.qualified(tbl), r.tag
				USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = format('Finish strandctl uninstall; or SELECT strandd.detach(%L, %L, %L), repeat this, and attach the route again.',
					r.tag, strandd.qualified(tbl), strandd.qualified(r.receiver));
		END IF;
		-- A daemon at work sees by attached_at that its position is none any more.
		EXECUTE format('UPDATE %s SET position = %L, attached_at = clock_timestamp() WHERE route = $1',
			strandd.qualified(r.routes), '0') USING r.route;
	END LOOP;
END
$$;

-- step: function prepare_source
-- Makes a table one that strands are sent from.  The columns get a constant
-- default first and their real one second: old rows are not rewritten and hold
-- xact_id 0, which is older than any snapshot.  Where a notify function exists
-- already (the specification's own, say), it stays until the first attach.
CREATE OR REPLACE FUNCTION strandd.prepare_source(tbl regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	shown   text := strandd.qualified(tbl);
	present text[];
BEGIN
	PERFORM strandd.check_table(tbl);
	PERFORM strandd.lock_installation();
	PERFORM strandd.register_receivers();
	SELECT array_agg(a.attname::text) INTO present FROM pg_attribute a
	 WHERE a.attrelid = tbl AND a.attname IN ('xact_id', 'tagged_at') AND NOT a.attisdropped;
	IF ('xact_id' = ANY (present)) IS NOT TRUE THEN
		PERFORM strandd.rewind_routes(tbl);
	END IF;
	IF cardinality(present) IS DISTINCT FROM 2 THEN
		EXECUTE format('ALTER TABLE %s ADD COLUMN IF NOT EXISTS xact_id xid8 NOT NULL DEFAULT %L,'
			' ADD COLUMN IF NOT EXISTS tagged_at timestamptz NOT NULL DEFAULT now()', shown, '0');
		EXECUTE format('ALTER TABLE %s ALTER COLUMN xact_id SET DEFAULT pg_current_xact_id()', shown);
	END IF;
	PERFORM strandd.write_stamps(tbl);
	IF to_regprocedure(strandd.sibling(tbl, 'notify_from_%s') || '()') IS NULL
	   OR EXISTS (SELECT FROM strandd.routes() r WHERE r.source = tbl AND r.detached_at IS NULL) THEN
		PERFORM strandd.write_announcements(tbl);
	END IF;
	DELETE FROM strandd.sources s WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = s.source);
	INSERT INTO strandd.sources (source) VALUES (tbl) ON CONFLICT DO NOTHING;
END
$$;

-- step: function columns_of
CREATE OR REPLACE FUNCTION strandd.columns_of(rel regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT string_agg(format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
	  FROM pg_attribute a
	 WHERE a.attrelid = rel AND a.attnum > 0 AND NOT a.attisdropped
$$;

-- step: function side_tables
-- A receiver's routes and receipts: those that are registered, whatever the
-- receiver is called by now; where one of them is gone, the table that bears the
-- name it would be given.
CREATE OR REPLACE FUNCTION strandd.side_tables(tbl regclass, OUT routes_name text, OUT routes regclass,
	OUT receipts_name text, OUT receipts regclass)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	home text := (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = tbl);
BEGIN
	routes_name := format('%I.%I', home, strandd.prefix(tbl) || '_routes');
	receipts_name := format('%I.%I', home, strandd.prefix(tbl) || '_receipts');
	SELECT o.oid, p.oid INTO routes, receipts FROM strandd.receivers r
	  LEFT JOIN pg_class o ON o.oid = r.routes LEFT JOIN pg_class p ON p.oid = r.receipts
	 WHERE r.receiver = tbl;
	routes := coalesce(routes, to_regclass(routes_name));
	receipts := coalesce(receipts, to_regclass(receipts_name));
END
$$;

-- step: function upgrade_side_tables
-- Adds what an older version's routes and receipts lack; nothing is rewritten.
CREATE OR REPLACE FUNCTION strandd.upgrade_side_tables(routes regclass, receipts regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF strandd.columns_of(routes) LIKE '% position xid8, database_identifier text' THEN
		EXECUTE format('ALTER TABLE %s ADD COLUMN suspended_at timestamptz,'
			' ADD COLUMN suspended_error text, ADD COLUMN suspended_sqlstate text', strandd.qualified(routes));
	END IF;
	IF strandd.columns_of(receipts) LIKE '% started_at timestamp with time zone, finished_at timestamp with time zone' THEN
		EXECUTE format('ALTER TABLE %s ADD COLUMN long_id text', strandd.qualified(receipts));
	END IF;
END
$$;

-- step: function register_receiver
-- Checks a receiver's routes and receipts and puts them down in
-- strandd.receivers; false where it has neither.  One without the other is no
-- start: receipts name routes by number, and what was delivered is known by
-- receipts only.
CREATE OR REPLACE FUNCTION strandd.register_receiver(tbl regclass) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	side  record;
	other regclass;
BEGIN
	side := strandd.side_tables(tbl);
	PERFORM strandd.upgrade_side_tables(side.routes, side.receipts);
	IF strandd.columns_of(side.routes) <> 'route integer, source regclass, tag text, channel text,'
			' attached_at timestamp with time zone, detached_at timestamp with time zone, history pg_snapshot,'
			' history_position_xact xid8, history_position_hash bigint, position xid8, database_identifier text,'
			' suspended_at timestamp with time zone, suspended_error text, suspended_sqlstate text'
	   OR strandd.columns_of(side.receipts) <> 'route integer, strand_id text, state text, attempt integer,'
			' due_at timestamp with time zone, instance bigint, error text, sqlstate text, reply_ids text[],'
			' marked boolean, started_at timestamp with time zone, finished_at timestamp with time zone, long_id text' THEN
		RAISE EXCEPTION '% or % exists and is not a table that strandd made', side.routes_name, side.receipts_name
			USING ERRCODE = 'duplicate_table', HINT = format('Rename it: the module of %s needs the name.', strandd.qualified(tbl));
	END IF;
	SELECT r.receiver INTO other FROM strandd.receivers r
	 WHERE (r.routes = side.routes OR r.receipts = side.receipts) AND r.receiver <> tbl;
	IF FOUND THEN
		RAISE EXCEPTION '% and % share the prefix %', strandd.qualified(tbl), strandd.qualified(other), quote_literal(strandd.prefix(tbl))
			USING ERRCODE = 'duplicate_table',
			HINT = 'Rename one: routes and receipts are named by the prefix, and a table that is renamed keeps its own.';
	END IF;
	IF (side.routes IS NULL) <> (side.receipts IS NULL) THEN
		RAISE EXCEPTION '% has lost its table %', strandd.qualified(tbl),
				CASE WHEN side.routes IS NULL THEN side.routes_name ELSE side.receipts_name END
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = format('Bring it back from a backup; or drop %s too, then every strand that is there becomes history, delivered or not.',
				strandd.qualified(coalesce(side.routes, side.receipts)));
	END IF;
	INSERT INTO strandd.receivers AS r (receiver, routes, receipts)
	SELECT tbl, side.routes, side.receipts WHERE side.routes IS NOT NULL
	ON CONFLICT (receiver) DO UPDATE SET routes = excluded.routes, receipts = excluded.receipts
	 WHERE (r.routes, r.receipts) <> (excluded.routes, excluded.receipts);
	RETURN side.routes IS NOT NULL;
END
$$;

-- step: function register_receivers
-- All that are known and still there, before functions are written by what
-- strandd.routes() shows: it leaves out a receiver whose tables are gone.
CREATE OR REPLACE FUNCTION strandd.register_receivers() RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
	DELETE FROM strandd.receivers r WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = r.receiver);
	SELECT strandd.register_receiver(r.receiver) FROM strandd.receivers r;
$$;

-- step: function prepare_receiver
-- Makes a table one that a module owns: its routes and receipts beside it.
-- No foreign key between them: it would lock the route's one row in every
-- settling transaction.  strand_id is COLLATE "C" for speed and exactness;
-- long_id is the strand's id where strand_id is its hash and it will be asked for.
CREATE OR REPLACE FUNCTION strandd.prepare_receiver(tbl regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	side  record;
	index record;
BEGIN
	PERFORM strandd.check_table(tbl);
	PERFORM strandd.lock_installation();
	PERFORM strandd.register_receivers();
	IF strandd.register_receiver(tbl) THEN
		RETURN;
	END IF;
	side := strandd.side_tables(tbl);
	EXECUTE format('CREATE TABLE %s ('
		' route integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,'
		' source regclass NOT NULL, tag text NOT NULL, channel text NOT NULL,'
		' attached_at timestamptz NOT NULL DEFAULT now(), detached_at timestamptz,'
		' history pg_snapshot, history_position_xact xid8, history_position_hash bigint,'
		' position xid8 NOT NULL DEFAULT %L, database_identifier text NOT NULL,'
		' suspended_at timestamptz, suspended_error text, suspended_sqlstate text,'
		' UNIQUE (source, tag))', side.routes_name, '0');
	EXECUTE format('CREATE TABLE %s ('
		' route integer NOT NULL, strand_id text COLLATE "C" NOT NULL,'
		' state text NOT NULL CHECK (state IN (''running'', ''done'', ''retry'', ''failed'', ''expired'', ''withdrawn'', ''skipped'')),'
		' attempt integer NOT NULL DEFAULT 1, due_at timestamptz, instance bigint,'
		' error text, sqlstate text, reply_ids text[], marked boolean NOT NULL DEFAULT false,'
		' started_at timestamptz, finished_at timestamptz, long_id text,'
		' PRIMARY KEY (route, strand_id))', side.receipts_name);
	PERFORM strandd.register_receiver(tbl);
	FOR index IN SELECT w.* FROM strandd.wanted_indexes(side.receipts_name::regclass) w LOOP
		EXECUTE format('CREATE INDEX %I ON %s USING %s', index.name, side.receipts_name, index.definition);
	END LOOP;
END
$$;

-- step: function refuse_renamed
-- For whoever is about to make a module's table that is not there: its routes
-- may belong to the same table under another name.
CREATE OR REPLACE FUNCTION strandd.refuse_renamed(home name, prefix text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	wanted text := prefix || '_strands';
	found  regclass;
BEGIN
	SELECT c.oid INTO found FROM strandd.receivers r JOIN pg_class c ON c.oid = r.receiver
	 WHERE r.routes = to_regclass(format('%I.%I', home, prefix || '_routes'))
	   AND to_regclass(format('%I.%I', home, wanted)) IS NULL;
	IF found IS NOT NULL THEN
		RAISE EXCEPTION '% is the module''s table %, renamed or moved', strandd.qualified(found), wanted
			USING ERRCODE = 'duplicate_table',
			HINT = format('The specification''s tables are known by their names: ALTER TABLE %s RENAME TO %s, in schema %I.',
				strandd.qualified(found), wanted, home);
	END IF;
END
$$;

-- step: function wanted_indexes
-- Of a module's table, or of a receiver's receipts: those of receipts are partial,
-- so that an ordinary `done` receipt costs its primary key alone.
CREATE OR REPLACE FUNCTION strandd.wanted_indexes(tbl regclass) RETURNS TABLE (name text, definition text, exact boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT u.name, u.definition, u.exact
	  FROM (SELECT w.n, format(w.pattern, c.relname), w.definition, w.exact
		  FROM pg_class c, (VALUES
			-- Not (xact_id, id): an id of 2,690 bytes that does not compress fits
			-- the primary key and would not fit that index.
			(1, 'idx_%s_xact_id', 'btree (xact_id, hashtextextended(id, (0)::bigint))', true),
			(2, 'idx_%s_xact_id_high', 'btree (xact_id, hashtextextended(id, (0)::bigint)) WHERE (tags @> ''["priority:high"]''::jsonb)', true),
			-- fastupdate = off: a flush of the pending list stalls a whole batch.
			(3, 'idx_%s_tags', 'gin (tags) WITH (fastupdate=off)', false),
			(4, 'idx_%s_created_at', 'btree (created_at DESC)', false)) AS w (n, pattern, definition, exact)
		 WHERE c.oid = tbl AND NOT EXISTS (SELECT FROM strandd.receivers r WHERE r.receipts = tbl)
		   AND (w.n <> 4 OR EXISTS (SELECT FROM pg_attribute a
			 WHERE a.attrelid = tbl AND a.attname = 'created_at' AND NOT a.attisdropped))
		UNION ALL
		SELECT w.n, format(w.pattern, c.relname), w.definition, true
		  FROM strandd.receivers r JOIN pg_class c ON c.oid = r.receipts, (VALUES
			(1, '%s_due', 'btree (route, due_at) WHERE (state = ANY (ARRAY[''running''::text, ''retry''::text]))'),
			(2, '%s_failed', 'btree (route, finished_at) WHERE (state = ANY (ARRAY[''failed''::text, ''expired''::text]))'),
			(3, '%s_unmarked', 'btree (route, strand_id) WHERE ((state = ANY (ARRAY[''failed''::text, ''expired''::text])) AND (NOT marked))')) AS w (n, pattern, definition)
		 WHERE r.receipts = tbl) AS u (n, name, definition, exact)
	 ORDER BY u.n
$$;

-- step: function index_statements
-- What is to be run, one statement at a time and outside a transaction, until
-- the table has its indexes: invalid leftovers of a build that was cancelled are
-- dropped and built again.  (No IF NOT EXISTS: after a build that failed, the
-- same statement again would find the invalid index and be content.)
CREATE OR REPLACE FUNCTION strandd.index_statements(tbl regclass) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	home  text := (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = tbl);
	w     record;
	i     record;
	ready boolean;
BEGIN
	FOR w IN SELECT * FROM strandd.wanted_indexes(tbl) LOOP
		SELECT x.indrelid, x.indisvalid, c.oid, c.reloptions, m.amname,
		       substring(pg_get_indexdef(c.oid) FROM ' USING (.*)$') AS definition INTO i
		  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		  LEFT JOIN pg_index x ON x.indexrelid = c.oid LEFT JOIN pg_am m ON m.oid = c.relam
		 WHERE n.nspname = home AND c.relname = w.name;
		ready := FOUND;
		IF ready AND i.indrelid IS DISTINCT FROM tbl::oid THEN
			RAISE EXCEPTION 'the name %.% is taken by something else', quote_ident(home), quote_ident(w.name)
				USING ERRCODE = 'duplicate_object', HINT = format('Rename it: an index of %s needs the name.', strandd.qualified(tbl));
		END IF;
		IF ready AND NOT (i.indisvalid AND (i.definition = w.definition OR NOT w.exact)) THEN
			RETURN NEXT format('DROP INDEX CONCURRENTLY IF EXISTS %I.%I', home, w.name);
			ready := false;
		END IF;
		IF NOT ready THEN
			RETURN NEXT format('CREATE INDEX CONCURRENTLY %I ON %s USING %s',
				w.name, strandd.qualified(tbl), w.definition);
		ELSIF i.amname = 'gin' AND NOT coalesce('fastupdate=off' = ANY (i.reloptions), false) THEN
			RETURN NEXT format('ALTER INDEX %I.%I SET (fastupdate = off)', home, w.name);
			RETURN NEXT format('SELECT pg_catalog.gin_clean_pending_list(%L::pg_catalog.regclass)', format('%I.%I', home, w.name));
		END IF;
	END LOOP;
END
$$;

-- step: function rename_steps
-- What lets strandd's objects on a source follow the table's name and schema: its
-- stamp trigger still bears the name that the table had.  Phase 1 gives up names
-- and phase 2 takes them: two tables may have swapped theirs.
CREATE OR REPLACE FUNCTION strandd.rename_steps(tbl regclass) RETURNS TABLE (phase integer, statement text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	WITH t AS (
		SELECT c.oid, c.relname AS now, n.nspname AS home, substring(g.tgname::text FROM '^zzz_(.*)_before_insert$') AS was
		  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_trigger g ON g.tgrelid = c.oid
		 WHERE c.oid = tbl AND g.tgfoid = 'strandd.stamp_strand'::regproc
		   -- a longer one, which check_table refuses, must not stand in the others' way
		   AND octet_length(c.relname::text) <= 45),
	triggers AS (
		SELECT t.*, g.tgname, g.tgfoid, format(p.own, t.now) AS trigger_name, p.called
		  FROM t, pg_trigger g, (VALUES ('zzz_%s_before_insert', NULL), ('zzz_%s_before_update', 'keep_tags_of_%s'),
			('%s_notify', 'notify_from_%s'), ('%s_notify_update', NULL)) AS p (own, called)
		 WHERE g.tgrelid = t.oid AND g.tgname = format(p.own, t.was)),
	functions AS (
		SELECT f.oid, f.proname, n.nspname, t.home, format('strandd_%s', f.oid) AS moving, format(t.called, t.now) AS name
		  FROM triggers t JOIN pg_proc f ON f.oid = t.tgfoid JOIN pg_namespace n ON n.oid = f.pronamespace
		 WHERE f.proname = format(t.called, t.was) AND (t.now <> t.was OR n.nspname <> t.home)),
	indexes AS (
		SELECT c.oid, c.relname, t.home, format('strandd_%s', c.oid) AS moving, w.name
		  FROM t, strandd.wanted_indexes(tbl) w, pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		 WHERE i.indrelid = t.oid AND t.now <> t.was AND c.relname = 'idx_' || t.was || substr(w.name, length('idx_' || t.now) + 1))
	SELECT 2, format('ALTER TRIGGER %I ON %I.%I RENAME TO %I', tgname, home, now, trigger_name) FROM triggers WHERE now <> was
	UNION ALL
	SELECT 1, format('ALTER FUNCTION %I.%I() RENAME TO %I', nspname, proname, moving) FROM functions
	UNION ALL
	SELECT 2, format('ALTER FUNCTION %1$I.%2$I() SET SCHEMA %3$I; ALTER FUNCTION %3$I.%2$I() RENAME TO %4$I', nspname, moving, home, name)
	  FROM functions
	UNION ALL
	SELECT 1, format('ALTER INDEX %I.%I RENAME TO %I', home, relname, moving) FROM indexes
	UNION ALL
	SELECT 2, format('ALTER INDEX %I.%I RENAME TO %I', home, moving, name) FROM indexes
$$;

-- step: function follow_renames
-- For all sources: the name that one needs may be another's old one.
CREATE OR REPLACE FUNCTION strandd.follow_renames() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	step text;
BEGIN
	FOREACH step IN ARRAY ARRAY(SELECT r.statement FROM strandd.sources s JOIN pg_class c ON c.oid = s.source,
			LATERAL strandd.rename_steps(s.source) r ORDER BY r.phase) LOOP
		EXECUTE step;
	END LOOP;
END
$$;
