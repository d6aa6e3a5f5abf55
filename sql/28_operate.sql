-- What operators do: withdrawing strands, deciding about failed ones, resuming
-- routes.  strandctl calls these for pages of strands; psql can call them too.
-- Each is one transaction's work and waits for nobody: whatever somebody else has
-- in hand just now is left and said.

-- step: function find_route
-- A route by its number, with the names of its tables.
CREATE OR REPLACE FUNCTION strandd.find_route(receiver regclass, route integer, OUT tag text, OUT source regclass,
	OUT routes text, OUT receipts text, OUT lock_seed bigint, OUT attached boolean, OUT history pg_snapshot)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	SELECT r.tag, r.source, strandd.qualified(r.routes), strandd.qualified(r.receipts), strandd.lock_seed(r.receipts, r.route),
	       r.detached_at IS NULL, r.history
	  INTO tag, source, routes, receipts, lock_seed, attached, history
	  FROM strandd.routes() r WHERE r.receiver = find_route.receiver AND r.route = find_route.route;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no route % to %', route, coalesce(strandd.qualified(receiver), receiver::text)
			USING ERRCODE = 'undefined_object', HINT = 'SELECT * FROM strandd.routes() shows those that there are.';
	END IF;
END
$$;

-- step: function lock_ids
-- Those of the strands that nobody has in hand: their locks are this transaction's.
CREATE OR REPLACE FUNCTION strandd.lock_ids(lock_seed bigint, ids text[]) RETURNS text[]
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
	SELECT coalesce(array_agg(u.id), '{}') FROM unnest($2) u (id)
	 WHERE pg_try_advisory_xact_lock(hashtextextended(u.id, $1))
$$;

-- step: function withdraw
-- Takes an unread strand off a route: it will not be delivered there.  `state` is
-- what its receipt says then; "locked" while a handler or somebody else has it in
-- hand; NULL where the route knows no such strand.  The lock comes first: the
-- statements after it see what its last holder has committed.
CREATE OR REPLACE FUNCTION strandd.withdraw(receiver regclass, route integer, id text, OUT done boolean, OUT state text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r record := strandd.find_route(receiver, route);
	n integer;
BEGIN
	done := false;
	IF cardinality(strandd.lock_ids(r.lock_seed, ARRAY[id])) = 0 THEN
		state := 'locked';
		RETURN;
	END IF;
	EXECUTE format('UPDATE %s p SET state = ''withdrawn'', due_at = NULL, finished_at = clock_timestamp()'
		' WHERE p.route = $1 AND p.strand_id = strandd.receipt_key($2) COLLATE "C" AND coalesce(p.state = ''retry'', false)', r.receipts)
		USING route, id;
	GET DIAGNOSTICS n = ROW_COUNT;
	IF n = 0 AND r.attached THEN
		EXECUTE format('INSERT INTO %s (route, strand_id, long_id, state, attempt, finished_at)'
			' SELECT $1, k.key, strandd.long_id(t.id), ''withdrawn'', 0, clock_timestamp()'
			'  FROM %s t, LATERAL strandd.receipt_key(t.id) k (key)'
			' WHERE t.id = $2 AND coalesce(t.tags @> jsonb_build_array($3), false)'
			'   AND NOT coalesce(pg_visible_in_snapshot(t.xact_id, $4), false)'
			' ON CONFLICT DO NOTHING', r.receipts, strandd.qualified(r.source)) USING route, id, r.tag, r.history;
		GET DIAGNOSTICS n = ROW_COUNT;
	END IF;
	done := n > 0;
	-- A strand of a history that is not all in receipts yet is as good as skipped.
	EXECUTE format('SELECT coalesce((SELECT p.state FROM %s p WHERE p.route = $1'
		'   AND p.strand_id = strandd.receipt_key($2) COLLATE "C"),'
		' (SELECT ''skipped'' FROM %s t WHERE t.id = $2 AND coalesce(t.tags @> jsonb_build_array($3), false)'
		'   AND $4 AND pg_visible_in_snapshot(t.xact_id, $5)))',
		r.receipts, strandd.qualified(r.source)) INTO state USING route, id, r.tag, r.attached, r.history;
END
$$;

-- step: function ids_in_state
-- Those of a source's strands that have a receipt in this state on any route.
CREATE OR REPLACE FUNCTION strandd.ids_in_state(source regclass, ids text[], state text) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r     record;
	more  text[];
	found text[] := '{}';
BEGIN
	FOR r IN SELECT o.route, strandd.qualified(o.receipts) AS receipts FROM strandd.routes() o
			WHERE o.source = ids_in_state.source LOOP
		EXECUTE format('SELECT array_agg(u.id) FROM unnest($1) u (id) WHERE (SELECT p.state FROM %s p'
			' WHERE p.route = $2 AND p.strand_id = strandd.receipt_key(u.id) COLLATE "C") = $3', r.receipts)
			INTO more USING ids, r.route, state;
		found := found || more;
	END LOOP;
	RETURN found;
END
$$;

-- step: function change_failed
-- Moves failed and expired receipts of these strands to another state, and says
-- for each strand what its receipt says then: "locked" where it was left.  The
-- coalesce, as in withdraw, keeps the partial index out: the key is the way in.
CREATE OR REPLACE FUNCTION strandd.change_failed(receipts text, route integer, ids text[], mine text[], changes text)
RETURNS TABLE (id text, outcome text, former text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY EXECUTE format($sql$
		WITH known AS MATERIALIZED (
			SELECT u.id, strandd.receipt_key(u.id) AS key, u.id = ANY ($3) AS mine,
			       (SELECT p.state FROM %1$s p WHERE p.route = $1 AND p.strand_id = strandd.receipt_key(u.id) COLLATE "C") AS state
			  FROM unnest($2) u (id)),
		changed AS (
			UPDATE %1$s p SET %2$s
			 WHERE p.route = $1 AND coalesce(p.state IN ('failed', 'expired'), false)
			   AND p.strand_id = ANY (ARRAY(SELECT k.key FROM known k WHERE k.mine AND k.state IN ('failed', 'expired')))
			RETURNING p.strand_id, p.state)
		SELECT k.id, coalesce((SELECT c.state FROM changed c WHERE c.strand_id = k.key COLLATE "C"),
		       CASE WHEN k.state IN ('failed', 'expired') THEN 'locked' ELSE k.state END), k.state
		  FROM known k$sql$, receipts, changes) USING route, ids, mine;
END
$$;

-- step: function retry_receipts
-- What retry does but for the tags.
CREATE OR REPLACE FUNCTION strandd.retry_receipts(receiver regclass, route integer, ids text[])
RETURNS TABLE (id text, outcome text, former text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r    record := strandd.find_route(receiver, route);
	free text[] := strandd.lock_ids(r.lock_seed, ids);
	held text[];
	here text[];
BEGIN
	-- With the strand's row in hand nobody marks it: a marker passes over what is locked.
	EXECUTE format('SELECT coalesce(array_agg(t.id), ''{}'') FROM (SELECT t.id FROM %s t WHERE t.id = ANY ($1)'
		' FOR NO KEY UPDATE SKIP LOCKED) t', strandd.qualified(r.source)) INTO held USING free;
	EXECUTE format('SELECT coalesce(array_agg(t.id), ''{}'') FROM %s t WHERE t.id = ANY ($1)', strandd.qualified(r.source))
		INTO here USING ids;
	RETURN QUERY SELECT c.id, CASE WHEN c.id = ANY (here) THEN c.outcome ELSE 'gone' END, c.former
	  FROM strandd.change_failed(r.receipts, route, ids, held,
		'state = ''retry'', attempt = 0, due_at = clock_timestamp(), finished_at = NULL, marked = false, instance = NULL') c;
END
$$;

-- step: function unmark
-- Takes a mark off the tags of strands whose rows are locked, but for those that
-- some route has in the state that the mark is about.  No pinned search_path: the
-- table's own triggers run inside.
CREATE OR REPLACE FUNCTION strandd.unmark(source regclass, ids text[], state text, mark text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE pg_catalog.format('UPDATE %s AS t SET tags = t.tags OPERATOR(pg_catalog.-) $3%s'
		' WHERE t.id OPERATOR(pg_catalog.=) ANY ($1) AND t.id OPERATOR(pg_catalog.<>) ALL ($2)'
		'   AND coalesce(t.tags OPERATOR(pg_catalog.@>) pg_catalog.jsonb_build_array($3), false)',
		strandd.qualified(source), CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute a
			WHERE a.attrelid OPERATOR(pg_catalog.=) source AND a.attname OPERATOR(pg_catalog.=) 'updated_at' AND NOT a.attisdropped)
			THEN ', updated_at = pg_catalog.now()' ELSE '' END)
		USING ids, strandd.ids_in_state(source, ids, state), mark;
END
$$;

-- step: function retry
-- Puts failed and expired strands back before their route's handler, with the
-- route's full number of attempts, and takes the mark off their tags unless another
-- route has failed with them.  `outcome` is "retry" for those; "gone" where the
-- strand is no more; "locked" where somebody else has it or its row in hand; else
-- the state of its receipt, NULL without one.  `former` is the state before.
CREATE OR REPLACE FUNCTION strandd.retry(receiver regclass, route integer, ids text[])
RETURNS TABLE (id text, outcome text, former text)
LANGUAGE plpgsql AS $$
DECLARE
	r record := strandd.find_route(receiver, route);
	x record;
BEGIN
	SELECT pg_catalog.array_agg(c.id) AS ids, pg_catalog.array_agg(c.outcome) AS outcomes, pg_catalog.array_agg(c.former) AS formers,
	       pg_catalog.array_agg(c.id) FILTER (WHERE c.outcome OPERATOR(pg_catalog.=) 'retry') AS back
	  INTO x FROM strandd.retry_receipts(receiver, route, ids) c;
	PERFORM strandd.unmark(r.source, x.back, 'failed', 'error:processing_failed');
	PERFORM strandd.unmark(r.source, x.back, 'failed', 'error:outcome_unknown');
	PERFORM strandd.unmark(r.source, x.back, 'expired', 'error:timeout');
	PERFORM pg_catalog.pg_notify('strandd:routes', r.tag);
	RETURN QUERY SELECT * FROM ROWS FROM (pg_catalog.unnest(x.ids), pg_catalog.unnest(x.outcomes), pg_catalog.unnest(x.formers)) u (a, b, c);
END
$$;

-- step: function discard
-- Gives failed and expired strands up: `withdrawn` receipts, which keep their error
-- and keep the strands from being delivered.  Returns what retry does.
CREATE OR REPLACE FUNCTION strandd.discard(receiver regclass, route integer, ids text[])
RETURNS TABLE (id text, outcome text, former text)
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
	SELECT c.* FROM strandd.find_route($1, $2) r,
		LATERAL strandd.change_failed(r.receipts, $2, $3, strandd.lock_ids(r.lock_seed, $3),
			'state = ''withdrawn'', due_at = NULL, finished_at = clock_timestamp()') c
$$;

-- step: function resume
-- Ends a route's suspension and wakes the daemons; whether it was suspended.
CREATE OR REPLACE FUNCTION strandd.resume(receiver regclass, route integer) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r record := strandd.find_route(receiver, route);
	n integer;
BEGIN
	EXECUTE format('UPDATE %s SET suspended_at = NULL, suspended_error = NULL, suspended_sqlstate = NULL'
		' WHERE route = $1 AND suspended_at IS NOT NULL', r.routes) USING route;
	GET DIAGNOSTICS n = ROW_COUNT;
	PERFORM pg_notify('strandd:routes', r.tag);
	RETURN n > 0;
END
$$;
