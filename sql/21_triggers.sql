-- The triggers of a source: what they do, and writing them.

-- step: function stamp_strand
-- BEFORE INSERT, called only where a writer gave xact_id or tagged_at a value of its
-- own: copied along, left out or made up.
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
		'BEFORE INSERT', 'WHEN (NEW.xact_id IS DISTINCT FROM pg_current_xact_id() OR NEW.tagged_at IS DISTINCT FROM now())', true);
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
