-- Receipts for what was there before a route.

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
