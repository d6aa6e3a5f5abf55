-- Deleting what is old.  Whoever cleans up (strandd, strandctl cleanup, psql) calls
--     SELECT * FROM strandd.clean_strands('ad_strands', now() - interval '7 days');
-- again and again, each call a transaction of its own, with after => the position
-- that the last one returned, until it is finished; and clean_receipts, of the next
-- file, likewise.

-- step: function clean_tables
-- The modules' tables.
CREATE OR REPLACE FUNCTION strandd.clean_tables() RETURNS TABLE (tbl regclass)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT c.oid::regclass FROM pg_class c
	 WHERE c.oid IN (SELECT s.source FROM strandd.sources s UNION SELECT r.receiver FROM strandd.receivers r)
	 ORDER BY c.oid::regclass::text COLLATE "C"
$$;

-- step: function clean_walk
-- By which column a table's strands are old, and along which index they are gone
-- through: `falling` or `rising` created_at, whichever is the index's own order, or
-- `xact`, also where the indexes that begin with created_at have equal ones in
-- different orders.  A created_at of another type says nothing for sure about an age.
CREATE OR REPLACE FUNCTION strandd.clean_walk(tbl regclass, OUT age text, OUT walk text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	shown text := strandd.qualified(tbl);
	own   smallint := (SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = tbl AND a.attname = 'created_at'
		AND NOT a.attisdropped AND a.atttypid = 'timestamptz'::regtype);
BEGIN
	SELECT a.attname INTO age FROM pg_attribute a
	 WHERE a.attrelid = tbl AND NOT a.attisdropped
	   AND (a.attnum = own OR own IS NULL AND a.attname = 'tagged_at' AND a.atttypid = 'timestamptz'::regtype);
	IF age IS NULL THEN
		RAISE EXCEPTION '% has neither a column created_at of type timestamptz nor tagged_at: no age is known', shown
			USING ERRCODE = 'undefined_column',
			HINT = format('ALTER TABLE %s ADD COLUMN created_at timestamptz DEFAULT now()', shown);
	END IF;
	-- Which index the planner takes is not ours to say: they must agree.
	SELECT CASE WHEN bool_or(i.indpred IS NULL AND i.indnkeyatts = 1) IS NOT TRUE THEN NULL
		WHEN count(DISTINCT i.indoption[0] & 1) > 1 OR bool_or(i.indnkeyatts > 1) THEN 'unclear'
		WHEN bool_and(i.indoption[0] & 1 = 1) THEN 'falling' ELSE 'rising' END INTO walk
	  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
	 WHERE i.indrelid = tbl AND i.indisvalid AND i.indkey[0] = own AND m.amname = 'btree';
	IF coalesce(walk, 'unclear') = 'unclear' AND NOT strandd.lacks_index(tbl) THEN
		walk := 'xact';
	ELSIF walk = 'unclear' THEN
		RAISE EXCEPTION 'indexes of % have strands of one created_at in different orders', shown
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Of those that begin with created_at leave one, on it alone.';
	ELSIF walk IS NULL THEN
		RAISE EXCEPTION '% has no index by which old strands could be found', shown
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = format('CREATE INDEX CONCURRENTLY ON %s (%I DESC)', shown, age);
	END IF;
END
$$;

-- step: function clean_rules
-- What the attached routes ask of a strand `t`, as SQL.  `rank`: 0 when each whose
-- tag it bears has a receipt that stays as it is, 1 when an operator may still
-- replay one, 2 when one is not final, 3 when a handler is at work.  A route asks
-- nothing of what is its history.  `locks`: the route's locks on it, tried.
CREATE OR REPLACE FUNCTION strandd.clean_rules(tbl regclass, OUT shown text, OUT age text, OUT walk text,
	OUT rank text, OUT locks text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	other record;
BEGIN
	shown := strandd.qualified(tbl);
	SELECT w.age, w.walk INTO age, walk FROM strandd.clean_walk(tbl) w;
	SELECT r.tag INTO other FROM strandd.routes() r
	 WHERE r.source = tbl AND r.detached_at IS NULL AND r.database_identifier <> strandd.database_identifier() LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'route % from % was attached in another database: nothing of it is deleted', other.tag, shown
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Run strandctl adopt.';
	END IF;
	SELECT format('greatest(0%s)', string_agg(format(
			', CASE WHEN coalesce(t.tags @> %L, false)%s THEN coalesce((SELECT CASE WHEN p.state IN (''done'', ''skipped'', ''withdrawn'')'
			' THEN 0 WHEN p.state IN (''failed'', ''expired'') THEN 1 WHEN p.state = ''running'' THEN 3 ELSE 2 END FROM %s p'
			' WHERE p.route = %s AND p.strand_id = strandd.receipt_key(t.id) COLLATE "C"), 2) END',
			b.bears, b.news, b.receipts, b.route), '')),
	       coalesce(string_agg(format('CASE WHEN coalesce(t.tags @> %L, false) THEN'
			' pg_try_advisory_xact_lock(hashtextextended(t.id, %s)) ELSE true END', b.bears, b.seed), ' AND '), 'true')
	  INTO rank, locks
	  FROM (SELECT r.route, strandd.qualified(r.receipts) AS receipts, strandd.lock_seed(r.receipts, r.route) AS seed,
			jsonb_build_array(r.tag) AS bears,
			CASE WHEN r.history IS NULL THEN '' ELSE format(' AND NOT pg_visible_in_snapshot(t.xact_id, %L)', r.history) END AS news
		  FROM strandd.routes() r WHERE r.source = tbl AND r.detached_at IS NULL) b;
END
$$;

-- step: function clean_page
-- Reads up to `batch` old strands from a position on (and what else of the last one's
-- moment is in its block): those that may be deleted, those that are kept, and where
-- to go on.  The plan is pinned: an index walk from the position costs the same
-- however large the table is, and steps over nothing that was deleted before it.
-- Many strands may have one created_at, that of their transaction.  The index has
-- those in the order of places, but a row that was updated in place stands where its
-- first version was, and shows the place of its last: in the same block always.  So
-- only blocks are in order, and a page ends with a block.
CREATE OR REPLACE FUNCTION strandd.clean_page(rules record, before timestamptz, batch integer, most integer, after text,
	OUT seen bigint, OUT kept bigint, OUT ids text[], OUT replayable bigint,
	OUT oldest_kept text, OUT oldest_kept_at timestamptz, OUT "position" text, OUT finished boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET "TimeZone" = 'UTC' SET "DateStyle" = 'ISO'
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_tidscan = on SET jit = off SET max_parallel_workers_per_gather = 0 AS $$
DECLARE
	at      text[] := string_to_array(coalesce(after, CASE rules.walk WHEN 'falling' THEN 'falling|infinity|(0,0)'
		WHEN 'rising' THEN 'rising|-infinity|(0,0)' ELSE 'xact|0|-9223372036854775808' END), '|');
	page    text := format(CASE rules.walk WHEN 'xact' THEN
		'SELECT row_number() OVER () AS n, l.* FROM (SELECT t.id, t.%3$I AS age, CASE WHEN t.%3$I < $1 THEN %2$s END AS rank,'
		'  t.xact_id::text AS x, hashtextextended(t.id, 0)::text AS y FROM %1$s t'
		' WHERE (t.xact_id, hashtextextended(t.id, 0)) %6$s ($2::xid8, $3::bigint)'
		' ORDER BY t.xact_id, hashtextextended(t.id, 0) FETCH FIRST %4$s ROWS WITH TIES) l'
	ELSE
		'WITH head AS MATERIALIZED (SELECT row_number() OVER () AS n, l.* FROM ('
		'  SELECT t.id, t.created_at AS age, %2$s AS rank, t.ctid::text AS place FROM %1$s t'
		'  WHERE t.created_at < $1 AND t.created_at %5$s= $2::timestamptz'
		'   AND (t.created_at %5$s $2::timestamptz OR t.ctid > $3::tid)'
		'  ORDER BY t.created_at %7$s LIMIT %4$s) l),'
		' last AS MATERIALIZED (SELECT h.n, h.age, split_part(ltrim(h.place, ''(''), '','', 1)::bigint AS block FROM head h WHERE h.n = %4$s)'
		' SELECT h.n, h.id, h.age, h.rank, l.age::text AS x, format(''(%%s,0)'', l.block + 1) AS y FROM head h LEFT JOIN last l USING (n)'
		' UNION ALL'
		-- IS TRUE: not along the index, which would go through all of that moment.
		' SELECT NULL, t.id, t.created_at, %2$s, NULL, NULL FROM %1$s t WHERE (t.created_at = (SELECT l.age FROM last l)) IS TRUE'
		'  AND t.ctid = ANY (ARRAY(SELECT format(''(%%s,%%s)'', l.block, o) FROM last l, generate_series(1, %8$s) o'
		'   EXCEPT SELECT h.place FROM head h)::tid[])'
	END, rules.shown, rules.rank, rules.age, batch, CASE rules.walk WHEN 'falling' THEN '<' ELSE '>' END,
		CASE WHEN after IS NULL THEN '>=' ELSE '>' END, CASE rules.walk WHEN 'falling' THEN 'DESC' ELSE 'ASC' END,
		-- More rows than this fit no block: each has 24 bytes and its pointer.
		current_setting('block_size')::integer / 28);
	reached record;
BEGIN
	IF at[1] <> rules.walk THEN
		RAISE EXCEPTION 'an index of % was made or dropped meanwhile', rules.shown
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Begin again, without a position.';
	END IF;
	EXECUTE format('WITH page AS MATERIALIZED (%s),'
		' first AS (SELECT k.id, k.age FROM page k WHERE k.rank > $4 ORDER BY k.age LIMIT 1)'
		' SELECT count(p.n) AS read, count(p.rank) AS old, count(*) FILTER (WHERE p.rank > $4) AS kept,'
		'  count(*) FILTER (WHERE p.age >= $1 AND p.age < ''infinity'') AS young,'
		'  count(*) FILTER (WHERE p.rank BETWEEN 1 AND $4) AS replayable,'
		'  coalesce(array_agg(p.id) FILTER (WHERE p.rank <= $4), ''{}'') AS ids,'
		'  (SELECT f.id FROM first f) AS kept_id, (SELECT f.age FROM first f) AS kept_at,'
		'  (SELECT concat_ws(''|'', l.x, l.y) FROM page l WHERE l.n = (SELECT max(m.n) FROM page m)) AS last'
		' FROM page p', page)
		INTO reached USING before, at[2], at[3], most;
	seen := reached.old;
	kept := reached.kept;
	ids := reached.ids;
	replayable := reached.replayable;
	oldest_kept := reached.kept_id;
	oldest_kept_at := reached.kept_at;
	-- Along xact_id ages need not rise, but a whole page of young strands is an end.
	finished := reached.read < batch OR reached.young = reached.read;
	"position" := CASE WHEN NOT finished THEN concat_ws('|', rules.walk, reached.last) END;
END
$$;

-- step: function clean_lock
-- Of these strands those that may be deleted now: locked, and judged again under
-- the lock, by snapshots that are younger than it.  A producer or a marker who is
-- at work on one keeps it, and so does whoever holds a route's lock on it: a worker,
-- or an operator who has it replayed.  Nothing is waited for.
CREATE OR REPLACE FUNCTION strandd.clean_lock(rules record, before timestamptz, most integer, candidates text[]) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
	judged text := format('SELECT array_agg(j.id) FILTER (WHERE j.rank = 0), array_agg(j.id) FILTER (WHERE j.rank BETWEEN 1 AND $2)'
		' FROM (SELECT t.id, %s AS rank FROM %s t WHERE t.id = ANY ($1) OFFSET 0) j', rules.rank, rules.shown);
	sure   text[];
	unsure text[];
	held   text[];
BEGIN
	EXECUTE format('SELECT array_agg(l.id) FROM (SELECT t.id FROM %s t WHERE t.id = ANY ($1) AND t.%I < $2 FOR UPDATE SKIP LOCKED) l',
		rules.shown, rules.age) INTO held USING candidates, before;
	EXECUTE judged INTO sure, unsure USING held, most;
	IF unsure IS NULL THEN
		RETURN coalesce(sure, '{}');
	END IF;
	candidates := coalesce(sure, '{}');
	EXECUTE format('SELECT array_agg(j.id) FROM (SELECT t.id, %s AS ours FROM %s t WHERE t.id = ANY ($1) OFFSET 0) j WHERE j.ours',
		rules.locks, rules.shown) INTO held USING unsure;
	EXECUTE judged INTO sure, unsure USING held, most;
	RETURN candidates || coalesce(sure, '{}') || coalesce(unsure, '{}');
END
$$;

-- step: function delete_strands
-- Deletes rows that are locked already.  What another table refers to, or a trigger
-- of the user's refuses, is found by halves and left; a lack of rights or of
-- resources is nobody's strand's fault and ends it.  No pinned search_path: the
-- user's triggers run inside.  The short lock_timeout is for rows of theirs.
CREATE OR REPLACE FUNCTION strandd.delete_strands(tbl regclass, ids text[], OUT gone text[], OUT error text)
LANGUAGE plpgsql SET lock_timeout = '100ms' SET enable_seqscan = off SET jit = off AS $$
DECLARE
	n     pg_catalog.int4 := pg_catalog.cardinality(ids);
	lower record;
	upper record;
BEGIN
	gone := '{}';
	IF n OPERATOR(pg_catalog.=) 0 THEN
		RETURN;
	END IF;
	BEGIN
		EXECUTE pg_catalog.format('WITH d AS (DELETE FROM %s t WHERE t.id OPERATOR(pg_catalog.=) ANY ($1) RETURNING t.id)'
			' SELECT coalesce(pg_catalog.array_agg(d.id), ''{}'') FROM d', strandd.qualified(tbl)) INTO gone USING ids;
		IF pg_catalog.cardinality(gone) OPERATOR(pg_catalog.<) n THEN
			error := 'a trigger of the table does not let strands be deleted';
		END IF;
		RETURN;
	EXCEPTION
		WHEN insufficient_privilege OR insufficient_resources OR operator_intervention OR system_error
		  OR internal_error OR invalid_transaction_state THEN
			RAISE;
		WHEN OTHERS THEN
			error := SQLERRM;
	END;
	IF n OPERATOR(pg_catalog.>) 1 THEN
		lower := strandd.delete_strands(tbl, ids[:n OPERATOR(pg_catalog./) 2]);
		upper := strandd.delete_strands(tbl, ids[n OPERATOR(pg_catalog./) 2 OPERATOR(pg_catalog.+) 1:]);
		gone := lower.gone OPERATOR(pg_catalog.||) upper.gone;
		error := coalesce(lower.error, upper.error);
	END IF;
END
$$;

-- step: function clean_strands
-- One batch of one table's strands that are older than `before`: deletes each that
-- has a final receipt on every route whose tag it bears, and keeps the others,
-- unless drop_unprocessed.  `busy` ones were locked by somebody, `refused` ones are
-- referred to (error says how); both are met again by the next run.  dry_run
-- changes and locks nothing.  LOCK TABLE: whoever attaches a route meanwhile has
-- finished, or waits.  (No pinned search_path: see delete_strands.)
CREATE OR REPLACE FUNCTION strandd.clean_strands(tbl regclass, before timestamptz, batch integer DEFAULT 1000,
	drop_unprocessed boolean DEFAULT false, dry_run boolean DEFAULT false, after text DEFAULT NULL)
RETURNS TABLE (seen bigint, deleted bigint, kept bigint, busy bigint, refused bigint,
	oldest_kept text, oldest_kept_at timestamptz, error text, "position" text, finished boolean)
LANGUAGE plpgsql AS $$
DECLARE
	most  pg_catalog.int4 := CASE WHEN drop_unprocessed THEN 2 ELSE 1 END;
	rules record;
	page  record;
	own   pg_catalog.text[];
	done  record;
BEGIN
	IF pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.<>) ALL (ARRAY['read committed', 'read uncommitted']) THEN
		RAISE EXCEPTION 'strands cannot be deleted in a transaction of isolation level %', pg_catalog.current_setting('transaction_isolation')
			USING ERRCODE = 'invalid_transaction_state', HINT = 'Its snapshot would be older than its locks: use READ COMMITTED.';
	END IF;
	IF NOT dry_run THEN
		EXECUTE pg_catalog.format('LOCK TABLE %s IN ROW EXCLUSIVE MODE', strandd.qualified(tbl));
		-- A constraint that waits for the COMMIT would fail the whole batch there.
		SET CONSTRAINTS ALL IMMEDIATE;
	END IF;
	SELECT * INTO rules FROM strandd.clean_rules(tbl);
	SELECT * INTO page FROM strandd.clean_page(rules, before, greatest(batch, 1), most, after);
	-- Locks on strands share the server's table of locks with everybody: 500 at most,
	-- of which what is in the last block of a page may be 291.
	IF page.replayable OPERATOR(pg_catalog.>) 500 AND NOT dry_run THEN
		SELECT * INTO page FROM strandd.clean_page(rules, before, 200, most, after);
	END IF;
	seen := page.seen;
	kept := page.kept;
	oldest_kept := page.oldest_kept;
	oldest_kept_at := page.oldest_kept_at;
	"position" := page."position";
	finished := page.finished;
	deleted := pg_catalog.cardinality(page.ids);
	busy := 0;
	refused := 0;
	IF NOT dry_run THEN
		own := strandd.clean_lock(rules, before, most, page.ids);
		SELECT * INTO done FROM strandd.delete_strands(tbl, own);
		deleted := pg_catalog.cardinality(done.gone);
		busy := pg_catalog.cardinality(page.ids) OPERATOR(pg_catalog.-) pg_catalog.cardinality(own);
		refused := pg_catalog.cardinality(own) OPERATOR(pg_catalog.-) pg_catalog.cardinality(done.gone);
		error := done.error;
		INSERT INTO strandd.gone (source, ids)
		SELECT tbl, done.gone WHERE pg_catalog.cardinality(done.gone) OPERATOR(pg_catalog.>) 0;
	END IF;
	RETURN NEXT;
END
$$;
