-- Functions: this file and those up to 39.  Those of a hot path are written so
-- that PostgreSQL can inline them: no SET clause, every name and operator
-- qualified.  All others run under a pinned search_path.

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

-- step: function lock_seed
-- What a route's advisory locks on strands are hashed with: whoever writes a
-- receipt holds pg_advisory_xact_lock(hashtextextended(<strand id>, <seed>)), and
-- only tries for it.
CREATE OR REPLACE FUNCTION strandd.lock_seed(receipts regclass, route integer) RETURNS bigint
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT hashtextextended(format('strandd %s %s', $1::oid, $2), 0)
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

-- step: an older version of routes, which returned fewer columns
DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.oid = pg_catalog.to_regprocedure('strandd.routes()')
			AND ('suspended_at' = ANY (p.proargnames)) IS NOT TRUE) THEN
		DROP FUNCTION strandd.routes();
	END IF;
END
$$;

-- step: function routes
-- All routes of all receiving modules of this database.
CREATE OR REPLACE FUNCTION strandd.routes() RETURNS TABLE (
	receiver regclass, routes regclass, receipts regclass, route integer,
	source regclass, tag text, channel text, attached_at timestamptz,
	detached_at timestamptz, history pg_snapshot, "position" xid8,
	database_identifier text, suspended_at timestamptz, suspended_error text)
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
			' r.attached_at, r.detached_at, r.history, r.position, r.database_identifier, r.suspended_at, r.suspended_error'
			' FROM %s r ORDER BY r.route', strandd.qualified(m.routes))
			USING m.receiver, m.routes, m.receipts;
	END LOOP;
END
$$;
