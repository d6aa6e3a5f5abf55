-- Functions.  Those of a hot path are written so that PostgreSQL can inline
-- them: no SET clause, every name and operator qualified.  All others run under
-- a pinned search_path.

-- step: function receipt_key
-- The key under which a receipt holds a strand's id: an id that fits its own
-- table's primary key may not fit a longer key.  Compare it COLLATE "C".
CREATE OR REPLACE FUNCTION strandd.receipt_key(id text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
	SELECT CASE
		WHEN pg_catalog.octet_length($1) OPERATOR(pg_catalog.<=) 1000
		 AND NOT pg_catalog.starts_with($1, 'sha256:') THEN $1
		ELSE 'sha256:' OPERATOR(pg_catalog.||) pg_catalog.encode(pg_catalog.sha256(
			pg_catalog.convert_to($1, pg_catalog.getdatabaseencoding())), 'hex')
	END
$$;

-- step: function channel
CREATE OR REPLACE FUNCTION strandd.channel(tag text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT pg_catalog.replace($1, ':', '_')
$$;

-- step: function new_id
-- A new strand id for the module whose prefix is given: 'dm' -> 'DM_' and the
-- first 48 bits of a version 4 UUID, all of them random.
CREATE OR REPLACE FUNCTION strandd.new_id(prefix text) RETURNS text
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
	SELECT pg_catalog.upper($1) OPERATOR(pg_catalog.||) '_' OPERATOR(pg_catalog.||)
		pg_catalog.substr(pg_catalog.translate(pg_catalog.gen_random_uuid()::pg_catalog.text, '-', ''), 1, 12)
$$;

-- step: function unrouted_tags
-- How many elements look like <module>:<action>, are no attributes, and are
-- attached nowhere.  Strict, because jsonpath's lax mode looks into elements that
-- are arrays; silent, because strict raises where tags are no array.
CREATE OR REPLACE FUNCTION strandd.unrouted_tags(tags jsonb, attached text[]) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT coalesce(pg_catalog.jsonb_array_length(
		pg_catalog.jsonb_path_query_array($1,
			'strict $[*] ? (@ like_regex "^[^:\\s]+:[^:\\s]+$" && !(@ like_regex "^(priority|timeout|original_strand|error):"))',
			'{}', true)
		OPERATOR(pg_catalog.-) coalesce($2, '{}'::pg_catalog.text[])), 0)
$$;

-- step: function qualified
CREATE OR REPLACE FUNCTION strandd.qualified(rel regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT format('%I.%I', n.nspname, c.relname)
	  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	 WHERE c.oid = $1
$$;

-- step: function prefix
-- 'dm' for dm_strands: names a module's own tables and begins its ids.
CREATE OR REPLACE FUNCTION strandd.prefix(tbl regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT coalesce(substring(c.relname::text FROM '^(.+)_strands$'), c.relname::text)
	  FROM pg_class c
	 WHERE c.oid = $1
$$;

-- step: function sibling
-- A name built around a table's own, in the table's schema.
CREATE OR REPLACE FUNCTION strandd.sibling(tbl regclass, pattern text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT format('%I.%I', n.nspname, format($2, c.relname))
	  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	 WHERE c.oid = $1
$$;

-- step: function lock_installation
-- One change of strandd's objects at a time.  Always taken before any table
-- lock, so that two changes cannot wait for each other.
CREATE OR REPLACE FUNCTION strandd.lock_installation() RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
	SELECT pg_advisory_xact_lock(hashtextextended('strandd installation', 0))
$$;

-- step: function database_identifier
-- This database and no copy of it: the cluster's system identifier and the
-- database's oid, which CREATE DATABASE ... TEMPLATE does not copy.
CREATE OR REPLACE FUNCTION strandd.database_identifier() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT format('%s/%s', s.system_identifier, d.oid)
	  FROM pg_control_system() s, pg_database d WHERE d.datname = current_database()
$$;

-- step: function check_table
-- Refuses what cannot be a module's table, and says what would help.
CREATE OR REPLACE FUNCTION strandd.check_table(tbl regclass) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c       pg_class%ROWTYPE;
	fault   text;
	remedy  text;
	shown   text := strandd.qualified(tbl);
BEGIN
	SELECT * INTO c FROM pg_class WHERE oid = tbl;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no table with the number %', tbl::oid
			USING ERRCODE = 'undefined_table', HINT = 'Name an existing table.';
	END IF;
	CASE
	WHEN c.relkind IN ('v', 'm') THEN
		fault := 'it is a view';
		remedy := 'Name the table that the view reads.';
	WHEN c.relkind = 'p' THEN
		fault := 'it is partitioned';
		remedy := 'Keep strands in an ordinary table: its rows are found by one index on (xact_id), which partitions do not share.';
	WHEN c.relispartition THEN
		fault := 'it is a partition of another table';
		remedy := 'Detach the partition, or keep strands in an ordinary table.';
	WHEN c.relkind = 'f' THEN
		fault := 'it is a foreign table';
		remedy := 'Attach the table in the database that holds it.';
	WHEN c.relkind <> 'r' THEN
		fault := 'it is not a table';
		remedy := 'Name an ordinary table.';
	WHEN c.relpersistence = 't' THEN
		fault := 'it is a temporary table';
		remedy := 'Other sessions cannot read it: name a permanent table.';
	WHEN c.relpersistence = 'u' THEN
		fault := 'it is unlogged';
		remedy := format('A crash empties it: ALTER TABLE %s SET LOGGED', shown);
	WHEN EXISTS (SELECT FROM pg_inherits i WHERE tbl IN (i.inhrelid, i.inhparent)) THEN
		fault := 'it inherits or is inherited from';
		remedy := 'Triggers and keys are not inherited: keep strands in a table of their own (ALTER TABLE ... NO INHERIT).';
	WHEN octet_length(c.relname::text) > 45 THEN
		fault := 'its name has more than 45 bytes';
		remedy := 'Rename it: the names of its triggers and indexes are made from it.';
	ELSE
		SELECT f.fault, f.remedy INTO fault, remedy FROM strandd.column_fault(tbl) f;
	END CASE;
	IF fault IS NOT NULL THEN
		RAISE EXCEPTION 'strandd cannot use %: %', shown, fault
			USING ERRCODE = 'wrong_object_type', HINT = remedy;
	END IF;
END
$$;

-- step: function column_fault
CREATE OR REPLACE FUNCTION strandd.column_fault(tbl regclass, OUT fault text, OUT remedy text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	shown text := strandd.qualified(tbl);
	a     record;
BEGIN
	SELECT t.attname, t.atttypid, l.collisdeterministic AS exact INTO a
	  FROM pg_attribute t LEFT JOIN pg_collation l ON l.oid = t.attcollation
	 WHERE t.attrelid = tbl AND t.attname = 'id' AND NOT t.attisdropped;
	IF NOT FOUND THEN
		fault := 'it has no column id';
		remedy := format('ALTER TABLE %s ADD COLUMN id text PRIMARY KEY', shown);
	ELSIF a.atttypid <> 'text'::regtype THEN
		fault := format('its column id is of type %s, not text', format_type(a.atttypid, NULL));
		remedy := format('ALTER TABLE %s ALTER COLUMN id TYPE text', shown);
	ELSIF NOT a.exact THEN
		fault := 'its column id has a collation that holds different texts for equal';
		remedy := format('ALTER TABLE %s ALTER COLUMN id TYPE text COLLATE "C"', shown);
	ELSIF NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute t
			ON t.attrelid = i.indrelid AND t.attnum = i.indkey[0]
			WHERE i.indrelid = tbl AND i.indisprimary AND i.indnkeyatts = 1
			AND i.indimmediate AND t.attname = 'id') THEN
		fault := 'its primary key is not the single column id';
		remedy := format('ALTER TABLE %s ADD PRIMARY KEY (id), not deferrable', shown);
	ELSIF NOT EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = tbl
			AND t.attname = 'tags' AND NOT t.attisdropped
			AND t.atttypid = 'jsonb'::regtype AND t.attgenerated = '') THEN
		fault := 'it has no plain column tags of type jsonb';
		remedy := format('ALTER TABLE %s ADD COLUMN tags jsonb', shown);
	ELSIF EXISTS (SELECT FROM pg_attribute t
			LEFT JOIN pg_attrdef d ON d.adrelid = t.attrelid AND d.adnum = t.attnum
			WHERE t.attrelid = tbl AND NOT t.attisdropped
			AND ((t.attname = 'xact_id' AND (t.atttypid <> 'xid8'::regtype OR NOT t.attnotnull
					OR pg_get_expr(d.adbin, d.adrelid) IS DISTINCT FROM 'pg_current_xact_id()'))
				OR (t.attname = 'tagged_at' AND (t.atttypid <> 'timestamptz'::regtype OR NOT t.attnotnull
					OR d.adbin IS NULL
					-- Many a table has such a column: it is ours beside our xact_id only.
					OR NOT EXISTS (SELECT FROM pg_attribute x WHERE x.attrelid = tbl
						AND x.attname = 'xact_id' AND NOT x.attisdropped))))) THEN
		fault := 'it has a column xact_id or tagged_at of its own, and strandd adds columns with these names';
		remedy := format('ALTER TABLE %s RENAME COLUMN ... TO ...', shown);
	END IF;
END
$$;

-- step: function check_tag
CREATE OR REPLACE FUNCTION strandd.check_tag(tag text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF tag IS NULL OR tag !~ '^[^:[:space:][:cntrl:]]+:[^:[:space:][:cntrl:]]+$' THEN
		RAISE EXCEPTION 'the tag % is not of the form <module>:<action>', coalesce(quote_literal(tag), 'NULL')
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Write one colon between two words without spaces, as in dm:evaluate_plan.';
	END IF;
	IF split_part(tag, ':', 1) IN ('priority', 'timeout', 'original_strand', 'error') THEN
		RAISE EXCEPTION 'the tag % is an attribute and cannot be routed', quote_literal(tag)
			USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Begin the tag with a module''s name; priority, timeout, original_strand and error are taken.';
	END IF;
	IF octet_length(tag) > 58 THEN
		RAISE EXCEPTION 'the channel of tag % has % bytes, 58 are possible', quote_literal(tag), octet_length(tag)
			USING ERRCODE = 'name_too_long',
			HINT = 'Shorten the tag: PostgreSQL allows 63 bytes, and ":high" is added to the channel.';
	END IF;
END
$$;

-- step: function routes
-- All routes of all receiving modules of this database.
CREATE OR REPLACE FUNCTION strandd.routes() RETURNS TABLE (
	receiver regclass, routes regclass, receipts regclass, route integer,
	source regclass, tag text, channel text, attached_at timestamptz,
	detached_at timestamptz, history pg_snapshot, "position" xid8,
	database_identifier text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	m record;
BEGIN
	FOR m IN SELECT r.receiver, r.routes, r.receipts FROM strandd.receivers r
			JOIN pg_class c ON c.oid = r.receiver
			JOIN pg_class t ON t.oid = r.routes
			JOIN pg_class p ON p.oid = r.receipts
			ORDER BY r.receiver::oid LOOP
		RETURN QUERY EXECUTE format('SELECT $1, $2, $3, r.route, r.source, r.tag, r.channel,'
			' r.attached_at, r.detached_at, r.history, r.position, r.database_identifier'
			' FROM %s r ORDER BY r.route', strandd.qualified(m.routes))
			USING m.receiver, m.routes, m.receipts;
	END LOOP;
END
$$;

-- step: function stamp_strand
-- BEFORE INSERT, called only where a writer copied xact_id along or left it out.
CREATE OR REPLACE FUNCTION strandd.stamp_strand() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
	NEW.xact_id := pg_catalog.pg_current_xact_id();
	NEW.tagged_at := pg_catalog.now();
	RETURN NEW;
END
$$;

-- step: function history_lock
-- Whoever writes a receipt about history holds this lock: the pass of
-- skip_history only tries for it, an UPDATE waits for it, so neither can
-- deadlock with the other.
CREATE OR REPLACE FUNCTION strandd.history_lock(receipts oid, route integer, id text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT pg_catalog.hashtextextended($3, ($1::pg_catalog.int8 OPERATOR(pg_catalog.<<) 31)
		OPERATOR(pg_catalog.#) $2::pg_catalog.int8)
$$;

-- step: function notify_text
-- The body of a table's notify function.  In an INSERT trigger OLD is NULL, so
-- that each tag is newly present.  pg_notify takes at most 7,999 bytes; longer
-- ids are left to the scan.  ":high" goes first: a listener sees it first.  No
-- name goes into a comment: a line break in it would end the comment.
CREATE OR REPLACE FUNCTION strandd.notify_text(tbl regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT format(E'\nBEGIN\n\t-- Written by strandd.attach; attach and detach write it anew.\n'
			'%s\tRETURN NULL;\nEND\n',
		coalesce(string_agg(format(
			E'\tIF (NEW.tags OPERATOR(pg_catalog.@>) %1$L) IS TRUE\n'
			'\t AND (OLD.tags OPERATOR(pg_catalog.@>) %1$L) IS NOT TRUE\n'
			'\t AND pg_catalog.octet_length(NEW.id) OPERATOR(pg_catalog.<) 8000 THEN\n'
			'\t\tIF (NEW.tags OPERATOR(pg_catalog.@>) ''["priority:high"]'') THEN\n'
			'\t\t\tPERFORM pg_catalog.pg_notify(%2$L, NEW.id);\n'
			'\t\tEND IF;\n'
			'\t\tPERFORM pg_catalog.pg_notify(%3$L, NEW.id);\n'
			'\tEND IF;\n',
			jsonb_build_array(t.tag), t.channel || ':high', t.channel), '' ORDER BY t.tag COLLATE "C"), ''))
	  FROM (SELECT DISTINCT r.tag, r.channel FROM strandd.routes() r
		 WHERE r.source = tbl AND r.detached_at IS NULL) t
$$;

-- step: function history_text
-- The part of keep_tags_of_<t>() that is there while a route's history is
-- unfinished: a row about to get a new xact_id would turn from history to news.
CREATE OR REPLACE FUNCTION strandd.history_text(tbl regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT string_agg(format(
			E'\tIF moved AND (OLD.tags OPERATOR(pg_catalog.@>) %1$L) IS TRUE\n'
			'\t AND pg_catalog.pg_visible_in_snapshot(OLD.xact_id, (SELECT r.history FROM %2$s r WHERE r.route = %3$s)) THEN\n'
			'\t\tPERFORM pg_catalog.pg_advisory_xact_lock(strandd.history_lock(%4$L::pg_catalog.regclass, %3$s, OLD.id));\n'
			'\t\tINSERT INTO %5$s (route, strand_id, state, finished_at)\n'
			'\t\tVALUES (%3$s, strandd.receipt_key(OLD.id), ''skipped'', pg_catalog.clock_timestamp())\n'
			'\t\tON CONFLICT DO NOTHING;\n'
			'\tEND IF;\n',
			jsonb_build_array(r.tag), strandd.qualified(r.routes), r.route, strandd.qualified(r.receipts),
			strandd.qualified(r.receipts)), '' ORDER BY r.receipts::oid, r.route)
	  FROM strandd.routes() r
	 WHERE r.source = tbl AND r.history IS NOT NULL AND r.detached_at IS NULL
$$;

-- step: function keep_text
-- The body of keep_tags_of_<t>(): attached tags stay; xact_id and tagged_at are
-- renewed when, and only when, an attached tag is new.
CREATE OR REPLACE FUNCTION strandd.keep_text(tbl regclass) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT format($body$
DECLARE
	bore  boolean := false;
	fresh boolean := false;
	moved boolean := false;
	kept  pg_catalog.jsonb := '[]';
BEGIN
	-- Written by strandd.attach; attach and detach write it anew.
%s	IF pg_catalog.jsonb_array_length(kept) OPERATOR(pg_catalog.>) 0 THEN
		NEW.tags := CASE WHEN pg_catalog.jsonb_typeof(NEW.tags) OPERATOR(pg_catalog.<>) 'null'
			THEN NEW.tags OPERATOR(pg_catalog.||) kept ELSE kept END;
	END IF;
%s	IF bore AND NEW.id OPERATOR(pg_catalog.<>) OLD.id THEN
		RAISE EXCEPTION 'the id of strand %% cannot change: it bears an attached tag', pg_catalog.quote_literal(OLD.id)
			USING ERRCODE = 'restrict_violation',
			HINT = 'Receipts name strands by their ids: write a new strand instead.';
	END IF;
	moved := fresh OR ((NEW.xact_id OPERATOR(pg_catalog.=) OLD.xact_id) IS NOT TRUE
		AND (pg_catalog.current_setting('strandd.restamp', true) OPERATOR(pg_catalog.=) 'on') IS TRUE);
%s	NEW.xact_id := CASE WHEN moved THEN pg_catalog.pg_current_xact_id() ELSE OLD.xact_id END;
	NEW.tagged_at := CASE WHEN fresh THEN pg_catalog.now() ELSE OLD.tagged_at END;
	RETURN NEW;
END
$body$,
		coalesce(string_agg(format(
			E'\tIF (OLD.tags OPERATOR(pg_catalog.@>) %1$L) IS TRUE THEN\n'
			'\t\tbore := true;\n'
			'\t\tIF (NEW.tags OPERATOR(pg_catalog.@>) %1$L) IS NOT TRUE THEN\n'
			'\t\t\tkept := kept OPERATOR(pg_catalog.||) %1$L;\n'
			'\t\tEND IF;\n'
			'\tEND IF;\n', jsonb_build_array(t.tag)), '' ORDER BY t.tag COLLATE "C"), ''),
		coalesce(string_agg(format(
			E'\tfresh := fresh OR ((NEW.tags OPERATOR(pg_catalog.@>) %1$L) IS TRUE\n'
			'\t\tAND (OLD.tags OPERATOR(pg_catalog.@>) %1$L) IS NOT TRUE);\n',
			jsonb_build_array(t.tag)), '' ORDER BY t.tag COLLATE "C"), ''),
		coalesce(strandd.history_text(tbl), ''))
	  FROM (SELECT DISTINCT r.tag FROM strandd.routes() r
		 WHERE r.source = tbl AND r.detached_at IS NULL) t
$$;

-- step: function write_function
-- Creates or replaces a trigger function, only where it differs: no lock on any
-- table, and nothing to do the second time.
CREATE OR REPLACE FUNCTION strandd.write_function(name text, body text, definer boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	f record;
BEGIN
	SELECT p.prosrc, p.prosecdef INTO f FROM pg_proc p WHERE p.oid = to_regprocedure(name || '()');
	IF FOUND AND f.prosrc = body AND f.prosecdef = definer THEN
		RETURN;
	END IF;
	EXECUTE format('CREATE OR REPLACE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql %s AS %L', name,
		CASE WHEN definer THEN 'SECURITY DEFINER SET search_path = pg_catalog, pg_temp'
			ELSE 'SECURITY INVOKER' END, body);
	IF definer THEN
		EXECUTE format('REVOKE ALL ON FUNCTION %s() FROM PUBLIC', name);
	END IF;
END
$$;

-- step: function write_trigger
-- Creates a trigger where it is missing or not as this version writes it.
-- Replacing takes the lock that creating takes: DROP TRIGGER would need a
-- stronger one and could deadlock with a reader that is about to write.
CREATE OR REPLACE FUNCTION strandd.write_trigger(tbl regclass, name text, function text,
	event text, condition text, always boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	wanted text := format('strandd 1: %s %s', event, condition);
	t      record;
BEGIN
	SELECT g.tgfoid, g.tgenabled, obj_description(g.oid, 'pg_trigger') AS made INTO t
	  FROM pg_trigger g WHERE g.tgrelid = tbl AND g.tgname = name;
	IF FOUND AND t.tgfoid = to_regprocedure(function || '()') AND t.made IS NOT DISTINCT FROM wanted
	   AND t.tgenabled = (CASE WHEN always THEN 'A' ELSE 'O' END) THEN
		RETURN;
	END IF;
	EXECUTE format('CREATE OR REPLACE TRIGGER %I %s ON %s FOR EACH ROW %s EXECUTE FUNCTION %s()',
		name, event, strandd.qualified(tbl), condition, function);
	EXECUTE format('ALTER TABLE %s ENABLE %s TRIGGER %I', strandd.qualified(tbl),
		CASE WHEN always THEN 'ALWAYS' ELSE '' END, name);
	EXECUTE format('COMMENT ON TRIGGER %I ON %s IS %L', name, strandd.qualified(tbl), wanted);
END
$$;

-- step: function write_stamps
-- The triggers that look after xact_id, tagged_at and attached tags.  ALWAYS:
-- a logical replication worker's rows must bear this cluster's transaction ids.
CREATE OR REPLACE FUNCTION strandd.write_stamps(tbl regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	relname text := (SELECT c.relname FROM pg_class c WHERE c.oid = tbl);
	keep    text := strandd.sibling(tbl, 'keep_tags_of_%s');
	later   text;
BEGIN
	PERFORM strandd.follow_renames();
	PERFORM strandd.write_function(keep, strandd.keep_text(tbl), strandd.history_text(tbl) IS NOT NULL);
	PERFORM strandd.write_trigger(tbl, format('zzz_%s_before_insert', relname), 'strandd.stamp_strand',
		'BEFORE INSERT', 'WHEN (NEW.xact_id IS DISTINCT FROM pg_current_xact_id() OR NEW.tagged_at IS NULL)', true);
	PERFORM strandd.write_trigger(tbl, format('zzz_%s_before_update', relname), keep,
		'BEFORE UPDATE', 'WHEN (OLD.tags IS DISTINCT FROM NEW.tags OR OLD.xact_id IS DISTINCT FROM NEW.xact_id'
		' OR OLD.tagged_at IS DISTINCT FROM NEW.tagged_at OR OLD.id IS DISTINCT FROM NEW.id)', true);
	SELECT string_agg(quote_ident(g.tgname), ', ') INTO later FROM pg_trigger g
	 WHERE g.tgrelid = tbl AND NOT g.tgisinternal AND g.tgtype & 3 = 3
	   AND g.tgname::text COLLATE "C" > format('zzz_%s_before_update', relname);
	IF later IS NOT NULL THEN
		RAISE WARNING 'trigger % on % runs after strandd''s own and could undo it', later, strandd.qualified(tbl)
			USING HINT = 'Give it a name that sorts before zzz.';
	END IF;
END
$$;

-- step: function wrote
-- Whether the body of a trigger function is one that strandd writes.
CREATE OR REPLACE FUNCTION strandd.wrote(body text) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT $1 LIKE '%Written by strandd.attach%'
$$;

-- step: function keep_former
-- Before a table's notify function is written for the first time: a text of the
-- user's own goes into the function's comment, from which uninstall takes it.
CREATE OR REPLACE FUNCTION strandd.keep_former(tbl regclass, name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	f record;
BEGIN
	SELECT p.prosrc, p.prorettype, l.lanname INTO f FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	 WHERE p.oid = to_regprocedure(name || '()');
	IF NOT FOUND OR strandd.wrote(f.prosrc)
	   OR regexp_replace(f.prosrc, '\s+', '', 'g') = regexp_replace(strandd.specified_text(tbl), '\s+', '', 'g') THEN
		RETURN;
	END IF;
	IF f.lanname <> 'plpgsql' OR f.prorettype <> 'trigger'::regtype THEN
		RAISE EXCEPTION 'function %() is not a trigger function in plpgsql, and strandd needs the name', name
			USING ERRCODE = 'duplicate_function', HINT = format('ALTER FUNCTION %s() RENAME TO ...', name);
	END IF;
	EXECUTE format('COMMENT ON FUNCTION %s() IS %L', name, 'before strandd: ' || f.prosrc);
	RAISE WARNING 'function %() was not as the specification has it: strandd has replaced its text', name
		USING HINT = 'Its comment holds the former text. Let a trigger of another name do what strandd does not.';
END
$$;

-- step: function write_announcements
CREATE OR REPLACE FUNCTION strandd.write_announcements(tbl regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	relname text := (SELECT c.relname FROM pg_class c WHERE c.oid = tbl);
	notify  text := strandd.sibling(tbl, 'notify_from_%s');
BEGIN
	PERFORM strandd.keep_former(tbl, notify);
	PERFORM strandd.write_function(notify, strandd.notify_text(tbl), false);
	PERFORM strandd.write_trigger(tbl, format('%s_notify', relname), notify, 'AFTER INSERT', '', false);
	PERFORM strandd.write_trigger(tbl, format('%s_notify_update', relname), notify,
		'AFTER UPDATE', 'WHEN (OLD.tags IS DISTINCT FROM NEW.tags)', false);
END
$$;

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
		EXECUTE format('UPDATE %s SET position = %L WHERE route = $1', strandd.qualified(r.routes), '0') USING r.route;
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
	IF strandd.columns_of(side.routes) <> 'route integer, source regclass, tag text, channel text,'
			' attached_at timestamp with time zone, detached_at timestamp with time zone, history pg_snapshot,'
			' history_position_xact xid8, history_position_hash bigint, position xid8, database_identifier text'
	   OR strandd.columns_of(side.receipts) <> 'route integer, strand_id text, state text, attempt integer,'
			' due_at timestamp with time zone, instance bigint, error text, sqlstate text, reply_ids text[],'
			' marked boolean, started_at timestamp with time zone, finished_at timestamp with time zone' THEN
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
-- settling transaction.  strand_id is COLLATE "C" for speed and exactness.
CREATE OR REPLACE FUNCTION strandd.prepare_receiver(tbl regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	side record;
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
		' UNIQUE (source, tag))', side.routes_name, '0');
	EXECUTE format('CREATE TABLE %s ('
		' route integer NOT NULL, strand_id text COLLATE "C" NOT NULL,'
		' state text NOT NULL CHECK (state IN (''running'', ''done'', ''retry'', ''failed'', ''expired'', ''withdrawn'', ''skipped'')),'
		' attempt integer NOT NULL DEFAULT 1, due_at timestamptz, instance bigint,'
		' error text, sqlstate text, reply_ids text[], marked boolean NOT NULL DEFAULT false,'
		' started_at timestamptz, finished_at timestamptz,'
		' PRIMARY KEY (route, strand_id))', side.receipts_name);
	EXECUTE format('CREATE INDEX %I ON %s (due_at) WHERE state IN (''running'', ''retry'')',
		strandd.prefix(tbl) || '_receipts_due', side.receipts_name);
	PERFORM strandd.register_receiver(tbl);
END
$$;

-- step: function wanted_indexes
CREATE OR REPLACE FUNCTION strandd.wanted_indexes(tbl regclass) RETURNS TABLE (name text, definition text, exact boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT format(w.pattern, c.relname), w.definition, w.exact
	  FROM pg_class c, (VALUES
		-- Not (xact_id, id): an id of 2,690 bytes that does not compress fits
		-- the primary key and would not fit that index.
		(1, 'idx_%s_xact_id', 'btree (xact_id, hashtextextended(id, (0)::bigint))', true),
		(2, 'idx_%s_xact_id_high', 'btree (xact_id, hashtextextended(id, (0)::bigint)) WHERE (tags @> ''["priority:high"]''::jsonb)', true),
		-- fastupdate = off: a flush of the pending list stalls a whole batch.
		(3, 'idx_%s_tags', 'gin (tags) WITH (fastupdate=off)', false),
		(4, 'idx_%s_created_at', 'btree (created_at DESC)', false)) AS w (n, pattern, definition, exact)
	 WHERE c.oid = tbl
	   AND (w.n <> 4 OR EXISTS (SELECT FROM pg_attribute a
		 WHERE a.attrelid = tbl AND a.attname = 'created_at' AND NOT a.attisdropped))
	 ORDER BY w.n
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
		 WHERE c.oid = tbl AND g.tgfoid = 'strandd.stamp_strand'::regproc),
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

-- step: function own_snapshot
-- The current snapshot, in which the running transaction itself counts as
-- still running.  (It leaves itself out of its list and may lie below xmax; its
-- own rows, written right after an attach, would look like history.)
CREATE OR REPLACE FUNCTION strandd.own_snapshot() RETURNS pg_snapshot
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE WHEN me < pg_snapshot_xmax(s)
		THEN format('%s:%s:%s', pg_snapshot_xmin(s), pg_snapshot_xmax(s),
			(SELECT string_agg(x::text, ',' ORDER BY x) FROM (SELECT pg_snapshot_xip(s) UNION SELECT me) u (x)))::pg_snapshot
		ELSE s END
	  FROM (SELECT pg_current_snapshot(), pg_current_xact_id_if_assigned()) t (s, me)
$$;

-- step: function holds_foreign
-- Whether a table holds xact_ids that this cluster has not reached, as one does
-- that was restored from another.  Without its index the table was never served,
-- and its xact_ids are of this cluster.
CREATE OR REPLACE FUNCTION strandd.holds_foreign(source regclass) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
	holds boolean;
BEGIN
	IF strandd.lacks_index(source) THEN
		RETURN false;
	END IF;
	EXECUTE format('SELECT EXISTS (SELECT FROM %s t WHERE t.xact_id >= pg_snapshot_xmax(pg_current_snapshot())'
		' AND t.xact_id IS DISTINCT FROM pg_current_xact_id_if_assigned())', strandd.qualified(source)) INTO holds;
	RETURN holds;
END
$$;

-- step: function lacks_index
-- The index is known by what it is: the table may just have been renamed.
CREATE OR REPLACE FUNCTION strandd.lacks_index(source regclass) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = $1 AND i.indisvalid
		AND substring(pg_get_indexdef(i.indexrelid) FROM ' USING (.*)$')
			= (SELECT w.definition FROM strandd.wanted_indexes($1) w LIMIT 1))
$$;

-- step: function attach
-- Attaches a route and returns its number.  Call it in a transaction of its own
-- and with a lock_timeout: it waits until no transaction that has written to the
-- source is still open, and holds new writers off until the commit.  Rows that
-- are there already become history (skip_history), unless deliver_existing, which
-- also calls off the unfinished history of a route that is attached.
CREATE OR REPLACE FUNCTION strandd.attach(tag text, source regclass, receiver regclass,
	deliver_existing boolean DEFAULT false) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	routes  text;
	known   record;
	history pg_snapshot;
	number  integer;
BEGIN
	PERFORM strandd.check_tag(attach.tag);
	PERFORM strandd.check_table(attach.source);
	PERFORM strandd.check_table(attach.receiver);
	IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
		RAISE EXCEPTION 'a route cannot be attached in a transaction of isolation level %', current_setting('transaction_isolation')
			USING ERRCODE = 'invalid_transaction_state',
			HINT = 'Its snapshot would be older than its lock: use READ COMMITTED.';
	END IF;
	PERFORM strandd.lock_installation();
	SELECT r.tag INTO known FROM strandd.routes() r
	 WHERE r.channel = strandd.channel(attach.tag) AND r.tag <> attach.tag AND r.detached_at IS NULL LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'the tags % and % have one channel, %', quote_literal(attach.tag), quote_literal(known.tag), strandd.channel(attach.tag)
			USING ERRCODE = 'duplicate_object', HINT = 'Listeners could not tell them apart: choose another tag.';
	END IF;
	PERFORM strandd.prepare_receiver(attach.receiver);
	PERFORM strandd.prepare_source(attach.source);
	SELECT r.* INTO known FROM strandd.routes() r
	 WHERE r.receiver = attach.receiver AND r.source = attach.source AND r.tag = attach.tag;
	IF FOUND AND known.detached_at IS NULL THEN
		IF deliver_existing THEN
			PERFORM strandd.call_off_history(known.routes, known.route);
		END IF;
		RETURN known.route;
	END IF;
	EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', strandd.qualified(attach.source));
	IF strandd.holds_foreign(attach.source) THEN
		RAISE EXCEPTION '% holds transaction ids of another cluster', strandd.qualified(attach.source)
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = format('Run strandctl adopt, or repeat SELECT * FROM strandd.restamp(%L, 1000) until it is finished.', strandd.qualified(attach.source));
	END IF;
	IF NOT deliver_existing THEN
		history := strandd.own_snapshot();
	END IF;
	SELECT strandd.qualified(r.routes) INTO STRICT routes FROM strandd.receivers r WHERE r.receiver = attach.receiver;
	EXECUTE format('INSERT INTO %s AS r (source, tag, channel, history, position, database_identifier)'
		' VALUES ($1, $2, strandd.channel($2), $3, coalesce(pg_snapshot_xmin($3), %L), strandd.database_identifier())'
		' ON CONFLICT (source, tag) DO UPDATE SET attached_at = now(), detached_at = NULL,'
		' history = excluded.history, history_position_xact = NULL, history_position_hash = NULL,'
		' position = excluded.position, database_identifier = excluded.database_identifier'
		' RETURNING r.route', routes, '0')
		INTO STRICT number USING attach.source, attach.tag, history;
	PERFORM strandd.write_stamps(attach.source);
	PERFORM strandd.write_announcements(attach.source);
	RETURN number;
END
$$;

-- step: function call_off_history
-- For a route that is attached: what its history has no receipt for yet is
-- delivered after all.  A position of 0 says that this was done already.
CREATE OR REPLACE FUNCTION strandd.call_off_history(routes regclass, route integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r record;
BEGIN
	EXECUTE format('SELECT * FROM %s r WHERE r.route = $1 FOR NO KEY UPDATE', strandd.qualified(routes)) INTO r USING route;
	IF r.history IS NOT NULL THEN
		EXECUTE format('UPDATE %s SET history = NULL, history_position_xact = NULL, history_position_hash = NULL,'
			' position = %L WHERE route = $1', strandd.qualified(routes), '0') USING route;
		PERFORM strandd.end_history(r.source);
	ELSIF r.position <> '0' THEN
		RAISE EXCEPTION 'route % from % is attached already: strands that were there before are delivered or have a receipt, skipped',
				r.tag, strandd.qualified(r.source)
			USING ERRCODE = 'duplicate_object',
			HINT = 'To send one of them, write a new strand. Before a first strandctl init: init --no-routes, then attach --deliver-existing.';
	END IF;
END
$$;

-- step: function attach_new
-- attach, unless the route was ever there: one that an operator detached stays
-- detached.
CREATE OR REPLACE FUNCTION strandd.attach_new(tag text, source regclass, receiver regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM strandd.routes() r WHERE r.tag = attach_new.tag
			AND r.source = attach_new.source AND r.receiver = attach_new.receiver) THEN
		PERFORM strandd.attach(attach_new.tag, attach_new.source, attach_new.receiver);
	END IF;
END
$$;

-- step: function detach
-- Ends a route: announced and kept no longer.  Its receipts stay, so that a
-- later attach delivers nothing twice.
CREATE OR REPLACE FUNCTION strandd.detach(tag text, source regclass, receiver regclass) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	known record;
BEGIN
	PERFORM strandd.lock_installation();
	SELECT r.route, r.routes, r.detached_at INTO known FROM strandd.routes() r
	 WHERE r.receiver = detach.receiver AND r.source = detach.source AND r.tag = detach.tag;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'no route leads % from % to %', quote_literal(detach.tag),
				strandd.qualified(detach.source), strandd.qualified(detach.receiver)
			USING ERRCODE = 'undefined_object', HINT = 'SELECT * FROM strandd.routes() shows those that there are.';
	END IF;
	IF known.detached_at IS NULL THEN
		PERFORM strandd.follow_renames();
		EXECUTE format('UPDATE %s SET detached_at = now() WHERE route = $1', strandd.qualified(known.routes)) USING known.route;
		PERFORM strandd.write_function(strandd.sibling(detach.source, 'notify_from_%s'), strandd.notify_text(detach.source), false);
		PERFORM strandd.write_function(strandd.sibling(detach.source, 'keep_tags_of_%s'),
			strandd.keep_text(detach.source), strandd.history_text(detach.source) IS NOT NULL);
	END IF;
	RETURN known.route;
END
$$;

-- step: function skip_history
-- One batch of a route's history: every row that the attach saw and that bears
-- the tag gets a final receipt, `skipped`.  Call it, a transaction each, until it
-- is finished; it goes on where it was.  A batch without progress (seen 0) found
-- a row that a producer is just updating: pause, then go on.
CREATE OR REPLACE FUNCTION strandd.skip_history(receiver regclass, route integer, batch integer DEFAULT 1000)
RETURNS TABLE (seen bigint, skipped bigint, finished boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
DECLARE
	m record;
	r record;
	b record;
BEGIN
	PERFORM strandd.lock_installation();
	SELECT strandd.qualified(v.routes) AS routes, strandd.qualified(v.receipts) AS receipts, v.receipts::oid AS number INTO m
	  FROM strandd.receivers v WHERE v.receiver = skip_history.receiver;
	IF FOUND THEN
		EXECUTE format('SELECT * FROM %s r WHERE r.route = $1 FOR NO KEY UPDATE', m.routes) INTO r USING route;
	END IF;
	IF m IS NULL OR r.route IS NULL THEN
		RAISE EXCEPTION 'there is no route % to %', route, coalesce(strandd.qualified(receiver), receiver::text)
			USING ERRCODE = 'undefined_object', HINT = 'SELECT * FROM strandd.routes() shows those that there are.';
	END IF;
	IF r.history IS NULL THEN
		RETURN QUERY SELECT 0::bigint, 0::bigint, true;
		RETURN;
	END IF;
	IF strandd.lacks_index(r.source) THEN
		RAISE EXCEPTION '% has no valid index on xact_id', strandd.qualified(r.source)
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = format('Run the statements that SELECT strandd.index_statements(%L) returns.', strandd.qualified(r.source));
	END IF;
	b := strandd.skip_page(strandd.qualified(r.source), m.receipts, m.number, r.route, r.tag, r.history,
		r.history_position_xact, r.history_position_hash, greatest(batch, 1));
	finished := b.rows_read < greatest(batch, 1) AND b.rows_passed = b.rows_read;
	EXECUTE format('UPDATE %s SET history = $2, history_position_xact = $3, history_position_hash = $4 WHERE route = $1', m.routes)
		USING route, CASE WHEN finished THEN NULL ELSE r.history END,
			CASE WHEN finished THEN NULL ELSE coalesce(b.last_xact, r.history_position_xact) END,
			CASE WHEN finished THEN NULL ELSE coalesce(b.last_hash, r.history_position_hash) END;
	IF finished THEN
		PERFORM strandd.end_history(r.source);
	END IF;
	RETURN QUERY SELECT b.rows_passed, b.rows_skipped, finished;
END
$$;

-- step: function skip_page
-- Reads a page in the order of the index and writes its receipts.  A row whose
-- lock is taken is left, and so is the position in front of it.
CREATE OR REPLACE FUNCTION strandd.skip_page(source text, receipts text, receipts_oid oid, route integer, tag text,
	history pg_snapshot, after_xact xid8, after_hash bigint, batch integer,
	OUT rows_read bigint, OUT rows_passed bigint, OUT rows_skipped bigint, OUT last_xact xid8, OUT last_hash bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format($sql$
		WITH page AS MATERIALIZED (
			SELECT t.id, t.xact_id AS x, hashtextextended(t.id, 0) AS h,
			       coalesce(t.tags @> $4, false) AND pg_visible_in_snapshot(t.xact_id, $1) AS old
			  FROM %1$s t
			 WHERE (t.xact_id, hashtextextended(t.id, 0)) %2$s ($2, $3) AND t.xact_id < pg_snapshot_xmax($1)
			 ORDER BY t.xact_id, hashtextextended(t.id, 0)
			 FETCH FIRST %3$s ROWS WITH TIES),
		tried AS MATERIALIZED (
			SELECT p.*, CASE WHEN p.old THEN pg_try_advisory_xact_lock(strandd.history_lock($6, $5, p.id)) ELSE true END AS free
			  FROM page p),
		written AS (
			INSERT INTO %4$s (route, strand_id, state, finished_at)
			SELECT $5, strandd.receipt_key(t.id), 'skipped', clock_timestamp() FROM tried t WHERE t.old AND t.free
			ON CONFLICT DO NOTHING RETURNING 1),
		stopped AS MATERIALIZED (
			SELECT t.x, t.h FROM tried t WHERE NOT t.free ORDER BY t.x, t.h LIMIT 1),
		passed AS MATERIALIZED (
			SELECT t.x, t.h FROM tried t LEFT JOIN stopped s ON true WHERE ((t.x, t.h) < (s.x, s.h)) IS NOT FALSE)
		SELECT (SELECT count(*) FROM page), (SELECT count(*) FROM passed), (SELECT count(*) FROM written), p.x, p.h
		  FROM (SELECT) one LEFT JOIN (SELECT x, h FROM passed ORDER BY x DESC, h DESC LIMIT 1) p ON true$sql$,
			source, CASE WHEN after_xact IS NULL THEN '>=' ELSE '>' END, batch, receipts)
		INTO rows_read, rows_passed, rows_skipped, last_xact, last_hash
		USING history, coalesce(after_xact, '0'), coalesce(after_hash, -9223372036854775808),
			jsonb_build_array(tag), route, receipts_oid;
END
$$;

-- step: function end_history
-- Takes the part about history out of keep_tags_of_<t>() again.  A role that may
-- not replace the function leaves it: then it costs a look-up and is right.
CREATE OR REPLACE FUNCTION strandd.end_history(source regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	keep text := strandd.sibling(source, 'keep_tags_of_%s');
BEGIN
	IF EXISTS (SELECT FROM pg_proc p WHERE p.oid = to_regprocedure(keep || '()') AND pg_has_role(p.proowner, 'USAGE')) THEN
		PERFORM strandd.write_function(keep, strandd.keep_text(source), strandd.history_text(source) IS NOT NULL);
	END IF;
END
$$;

-- step: procedure finish_histories
-- skip_history for every route, committing each batch: for installing by psql
-- alone.  Gives up after a minute without progress; call it again.
CREATE OR REPLACE PROCEDURE strandd.finish_histories(batch integer DEFAULT 1000)
LANGUAGE plpgsql AS $$
DECLARE
	r     record;
	b     record;
	done  bigint;
	idle  integer;
BEGIN
	FOR r IN SELECT v.receiver, v.route, v.tag FROM strandd.routes() v
			WHERE v.history IS NOT NULL AND v.detached_at IS NULL LOOP
		done := 0;
		idle := 0;
		LOOP
			SELECT * INTO b FROM strandd.skip_history(r.receiver, r.route, batch);
			COMMIT;
			EXIT WHEN b.finished;
			done := done OPERATOR(pg_catalog.+) b.seen;
			IF done OPERATOR(pg_catalog.%) 100000 OPERATOR(pg_catalog.<) b.seen THEN
				RAISE NOTICE 'history of %: % rows read', r.tag, done;
			END IF;
			idle := CASE WHEN b.seen OPERATOR(pg_catalog.>) 0 THEN 0 ELSE idle OPERATOR(pg_catalog.+) 1 END;
			IF idle OPERATOR(pg_catalog.>) 600 THEN
				RAISE WARNING 'history of % waits for a long transaction', r.tag
					USING HINT = 'Call strandd.finish_histories() again.';
				EXIT;
			ELSIF idle OPERATOR(pg_catalog.>) 0 THEN
				PERFORM pg_catalog.pg_sleep(0.1);
			END IF;
		END LOOP;
	END LOOP;
END
$$;

-- step: function restamp
-- One batch of rows whose xact_id this cluster has not reached gets the current
-- one.  No pinned search_path: the table's own triggers run inside.
CREATE OR REPLACE FUNCTION strandd.restamp(source regclass, batch integer DEFAULT 1000)
RETURNS TABLE (done bigint, finished boolean)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
BEGIN
	IF NOT strandd.holds_foreign(source) THEN
		RETURN QUERY SELECT 0::pg_catalog.int8, true;
		RETURN;
	END IF;
	PERFORM pg_catalog.set_config('strandd.restamp', 'on', true);
	EXECUTE pg_catalog.format($sql$
		WITH found AS MATERIALIZED (
			SELECT t.id FROM %1$s t
			 WHERE t.xact_id OPERATOR(pg_catalog.>=) pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())
			   AND (t.xact_id OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id()) IS NOT TRUE
			 ORDER BY t.xact_id, pg_catalog.hashtextextended(t.id, 0)
			 LIMIT %2$s FOR NO KEY UPDATE SKIP LOCKED),
		changed AS (
			UPDATE %1$s t SET xact_id = pg_catalog.pg_current_xact_id()
			  FROM found f WHERE t.id OPERATOR(pg_catalog.=) f.id RETURNING 1)
		SELECT pg_catalog.count(*) FROM changed$sql$, strandd.qualified(source), greatest(batch, 1)) INTO done;
	PERFORM pg_catalog.set_config('strandd.restamp', '', true);
	finished := false;
	RETURN NEXT;
END
$$;

-- step: function adopt
-- Carries on with the routes of a receiver whose recorded database identifier is
-- another cluster's.  One batch a call, until it is finished; done 0 without
-- finished means that it waits for a producer or took a step without rows.
--   continue: the same system, upgraded: nothing is changed
--   deliver:  what has no receipt will be delivered
--   skip:     what has no receipt becomes history
-- A history that was unfinished over there is finished first; strands written
-- here since, under numbers that its snapshot had passed, count as part of it.
CREATE OR REPLACE FUNCTION strandd.adopt(receiver regclass, mode text, batch integer DEFAULT 1000)
RETURNS TABLE (done bigint, finished boolean)
LANGUAGE plpgsql AS $$
DECLARE
	here pg_catalog.text := strandd.database_identifier();
	r    record;
	b    record;
BEGIN
	IF mode OPERATOR(pg_catalog.<>) ALL (ARRAY['continue', 'deliver', 'skip']) THEN
		RAISE EXCEPTION 'adopt knows no mode %', pg_catalog.quote_literal(mode)
			USING ERRCODE = 'invalid_parameter_value', HINT = 'continue, deliver or skip.';
	END IF;
	PERFORM strandd.lock_installation();
	SELECT * INTO r FROM strandd.foreign_route(receiver);
	IF r.route IS NULL THEN
		IF mode OPERATOR(pg_catalog.=) 'skip' AND r.unfinished IS NOT NULL THEN
			SELECT * INTO b FROM strandd.skip_history(r.whose, r.unfinished, batch);
			RETURN QUERY SELECT b.seen, false;
		ELSE
			RETURN QUERY SELECT 0::pg_catalog.int8, true;
		END IF;
		RETURN;
	END IF;
	IF r.unfinished IS NOT NULL THEN
		SELECT * INTO b FROM strandd.skip_history(r.whose, r.unfinished, batch);
		RETURN QUERY SELECT b.seen, false;
		RETURN;
	END IF;
	IF r.source IS NOT NULL AND mode OPERATOR(pg_catalog.=) 'continue' AND strandd.holds_foreign(r.source) THEN
		RAISE EXCEPTION '% holds transaction ids that this cluster has not reached: it is not the same system', strandd.qualified(r.source)
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'It was restored: adopt with deliver or skip.';
	ELSIF r.source IS NOT NULL AND mode OPERATOR(pg_catalog.<>) 'continue' THEN
		SELECT * INTO b FROM strandd.restamp(r.source, batch);
		IF NOT b.finished THEN
			RETURN QUERY SELECT b.done, false;
			RETURN;
		END IF;
	END IF;
	PERFORM strandd.adopt_source(receiver, r.number, mode, here);
	RETURN QUERY SELECT 0::pg_catalog.int8, false;
END
$$;

-- step: function foreign_route
-- The first route of a receiver that is another cluster's (source NULL where the
-- table is gone), and a route whose history is unfinished: of a receiver all of
-- whose routes are adopted, its own; else any on the foreign routes' sources,
-- because restamping those would make nonsense of the snapshot.
CREATE OR REPLACE FUNCTION strandd.foreign_route(receiver regclass, OUT route integer, OUT number oid,
	OUT source regclass, OUT whose regclass, OUT unfinished integer)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	here text := strandd.database_identifier();
BEGIN
	IF NOT EXISTS (SELECT FROM strandd.receivers v WHERE v.receiver = foreign_route.receiver) THEN
		RAISE EXCEPTION '% is no receiving module''s table', receiver
			USING ERRCODE = 'undefined_object', HINT = 'SELECT * FROM strandd.receivers shows those that there are.';
	END IF;
	SELECT v.route, v.source::oid, c.oid::regclass INTO route, number, source
	  FROM strandd.routes() v LEFT JOIN pg_class c ON c.oid = v.source
	 WHERE v.receiver = foreign_route.receiver AND v.database_identifier <> here
	 ORDER BY v.route LIMIT 1;
	SELECT v.receiver, v.route INTO whose, unfinished
	  FROM strandd.routes() v JOIN pg_class c ON c.oid = v.source
	 WHERE v.history IS NOT NULL AND v.detached_at IS NULL
	   AND CASE WHEN foreign_route.route IS NULL THEN v.receiver = foreign_route.receiver
		ELSE v.database_identifier <> here AND v.source IN (SELECT f.source FROM strandd.routes() f
			WHERE f.receiver = foreign_route.receiver AND f.database_identifier <> here) END
	 ORDER BY v.receiver::oid, v.route LIMIT 1;
END
$$;

-- step: function adopt_source
-- The last step for one source.  To make history of what is there, it needs a
-- lock and a snapshot like attach.
CREATE OR REPLACE FUNCTION strandd.adopt_source(receiver regclass, source oid, mode text, here text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	routes  text := (SELECT strandd.qualified(v.routes) FROM strandd.receivers v WHERE v.receiver = adopt_source.receiver);
	present boolean := EXISTS (SELECT FROM pg_class c WHERE c.oid = adopt_source.source);
	history pg_snapshot;
BEGIN
	IF mode = 'skip' AND present THEN
		IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
			RAISE EXCEPTION 'strands cannot be skipped in a transaction of isolation level %', current_setting('transaction_isolation')
				USING ERRCODE = 'invalid_transaction_state', HINT = 'Use READ COMMITTED.';
		END IF;
		EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', strandd.qualified(source));
		history := strandd.own_snapshot();
		EXECUTE format('UPDATE %s SET history = $3, history_position_xact = NULL, history_position_hash = NULL,'
			' position = pg_snapshot_xmin($3)'
			' WHERE source = $1 AND database_identifier <> $2 AND detached_at IS NULL', routes) USING source, here, history;
	ELSIF mode = 'deliver' THEN
		EXECUTE format('UPDATE %s SET position = %L WHERE source = $1 AND database_identifier <> $2', routes, '0')
			USING source, here;
	END IF;
	EXECUTE format('UPDATE %s SET database_identifier = $2 WHERE source = $1 AND database_identifier <> $2', routes)
		USING source, here;
	IF history IS NOT NULL THEN
		PERFORM strandd.write_stamps(source);
	END IF;
END
$$;

-- step: function refuse_reply
-- Says what is wrong with a reply, as an error of class SR; true if nothing is.
CREATE OR REPLACE FUNCTION strandd.refuse_reply(strand_id text, reply jsonb, columns text[]) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	named  text := format('the reply to strand %s', quote_literal(left(strand_id, 100)));
	faulty text;
BEGIN
	IF jsonb_typeof(reply) <> 'object' THEN
		RAISE EXCEPTION '% is not a JSON object: %', named, left(reply::text, 200)
			USING ERRCODE = 'SR001', HINT = 'A reply is an object whose keys are columns of the module''s table.';
	END IF;
	SELECT string_agg(quote_ident(k), ', ' ORDER BY k) INTO faulty
	  FROM jsonb_object_keys(reply) k WHERE k IN ('xact_id', 'tagged_at');
	IF faulty IS NOT NULL THEN
		RAISE EXCEPTION '% names reserved columns: %', named, faulty
			USING ERRCODE = 'SR001', HINT = 'PostgreSQL fills them: leave them out.';
	END IF;
	SELECT string_agg(quote_ident(k), ', ' ORDER BY k) INTO faulty
	  FROM jsonb_object_keys(reply) k WHERE k <> ALL (columns);
	IF faulty IS NOT NULL THEN
		RAISE EXCEPTION '% names unknown columns: %', named, left(faulty, 500)
			USING ERRCODE = 'SR001', HINT = format('The table has: %s.', array_to_string(columns, ', '));
	END IF;
	IF jsonb_typeof(reply->'tags') NOT IN ('array', 'null') THEN
		RAISE EXCEPTION '% has tags that are not an array: %', named, left((reply->'tags')::text, 200)
			USING ERRCODE = 'SR001', HINT = 'Write "tags": ["<module>:<action>"].';
	END IF;
	RETURN reply IS NOT NULL;
END
$$;

-- step: function update_strand
-- A reply {"update": "<id>", ...}: changes the module's own strand.  False
-- always, so that it can stand in a WHERE.  No pinned search_path: the table's
-- own triggers run inside.
CREATE OR REPLACE FUNCTION strandd.update_strand(tbl regclass, strand_id text, reply jsonb, columns text[]) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
	target  text := reply OPERATOR(pg_catalog.->>) 'update';
	origin  jsonb := pg_catalog.jsonb_build_array(pg_catalog.concat('original_strand:', strand_id));
	changes text;
	given   text;
	changed integer;
BEGIN
	IF (pg_catalog.jsonb_typeof(reply OPERATOR(pg_catalog.->) 'update') OPERATOR(pg_catalog.=) 'string') IS NOT TRUE
	   OR reply OPERATOR(pg_catalog.->>) 'id' OPERATOR(pg_catalog.<>) target THEN
		RAISE EXCEPTION 'the reply to strand % updates no strand, or changes its id', pg_catalog.quote_literal(pg_catalog.left(strand_id, 100))
			USING ERRCODE = 'SR001', HINT = 'Write {"update": "<id of a strand of this module>", ...} without another id.';
	END IF;
	PERFORM strandd.refuse_reply(strand_id, reply OPERATOR(pg_catalog.-) 'update', columns);
	-- Only what the reply holds is read: a missing key's domain may refuse NULL.
	SELECT pg_catalog.string_agg(pg_catalog.format('%1$I = r.%1$I, ', k), ''),
	       pg_catalog.string_agg(pg_catalog.format('%I %s, ', k, pg_catalog.format_type(a.atttypid, a.atttypmod)), '')
	         FILTER (WHERE a.attnum OPERATOR(pg_catalog.>) 0)
	  INTO changes, given
	  FROM pg_catalog.jsonb_object_keys(reply) k LEFT JOIN pg_catalog.pg_attribute a
	    ON a.attrelid OPERATOR(pg_catalog.=) tbl AND a.attname::pg_catalog.text OPERATOR(pg_catalog.=) k AND NOT a.attisdropped
	 WHERE k OPERATOR(pg_catalog.<>) ALL (ARRAY['update', 'id', 'tags']);
	IF 'updated_at' OPERATOR(pg_catalog.=) ANY (columns) AND NOT reply OPERATOR(pg_catalog.?) 'updated_at' THEN
		changes := pg_catalog.concat(changes, 'updated_at = pg_catalog.now(), ');
	END IF;
	EXECUTE pg_catalog.format('UPDATE %1$s AS t SET %2$s tags = strandd.tags_after_update(t.tags, %3$s, $3)'
		' FROM pg_catalog.jsonb_to_record($1) AS r (%4$s tags pg_catalog.jsonb) WHERE t.id OPERATOR(pg_catalog.=) $2',
		strandd.qualified(tbl), changes,
		CASE WHEN reply OPERATOR(pg_catalog.?) 'tags' THEN 'r.tags' ELSE 't.tags' END, given)
		USING reply OPERATOR(pg_catalog.-) 'update', target, origin;
	GET DIAGNOSTICS changed = ROW_COUNT;
	IF changed OPERATOR(pg_catalog.=) 0 THEN
		RAISE EXCEPTION 'the reply to strand % updates %, which % does not hold', pg_catalog.quote_literal(pg_catalog.left(strand_id, 100)),
				pg_catalog.quote_literal(pg_catalog.left(target, 100)), strandd.qualified(tbl)
			USING ERRCODE = 'SR002', HINT = 'A module updates strands of its own table.';
	END IF;
	RETURN false;
END
$$;

-- step: function tags_after_update
-- The reply's tags, what the strand said before about its origin, and the new
-- origin, none of them twice.  (Attached tags are kept by the table's trigger.)
CREATE OR REPLACE FUNCTION strandd.tags_after_update(before jsonb, reply jsonb, origin jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT b.base || coalesce((SELECT jsonb_agg(DISTINCT e) FROM jsonb_array_elements(
			coalesce(jsonb_path_query_array($1, 'strict $[*] ? (@ starts with "original_strand:")', '{}', true), '[]') || $3) e
			WHERE NOT b.base @> jsonb_build_array(e)), '[]')
	  FROM (SELECT CASE WHEN jsonb_typeof($2) <> 'null' THEN $2 ELSE '[]' END) b (base)
$$;

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
			AND p.proname IN ('receipt_key', 'channel', 'new_id', 'unrouted_tags', 'qualified', 'prefix', 'routes',
				'database_identifier', 'refuse_reply', 'update_strand', 'tags_after_update') LOOP
		EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', r.called, role);
	END LOOP;
	FOR r IN SELECT DISTINCT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.oid IN (SELECT s.source FROM strandd.sources s UNION SELECT v.receiver FROM strandd.receivers v) LOOP
		EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', r.nspname, role);
	END LOOP;
	FOR r IN SELECT strandd.qualified(c.oid) AS tbl FROM strandd.sources s JOIN pg_class c ON c.oid = s.source LOOP
		EXECUTE format('GRANT SELECT ON %s TO %I', r.tbl, role);
	END LOOP;
	FOR r IN SELECT strandd.qualified(c.oid) AS tbl, strandd.qualified(v.receipts) AS receipts, strandd.qualified(v.routes) AS routes
			FROM strandd.receivers v JOIN pg_class c ON c.oid = v.receiver LOOP
		EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %s, %s TO %I', r.tbl, r.receipts, role);
		EXECUTE format('GRANT SELECT, UPDATE ON %s TO %I', r.routes, role);
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
		   AND c.relname <> ALL (ARRAY['version', 'instance_seq', 'sources', 'receivers']))
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

-- step: nobody but the owner, unless granted
REVOKE ALL ON ALL ROUTINES IN SCHEMA strandd FROM PUBLIC;

-- step: installed
INSERT INTO strandd.version (version) VALUES (1) ON CONFLICT DO NOTHING;
