-- Attaching and detaching routes.

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
