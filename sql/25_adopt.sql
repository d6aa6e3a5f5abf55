-- Carrying on in another cluster or database.

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
