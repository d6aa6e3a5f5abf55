-- What the settle statement calls.

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

-- step: function timeouts
-- Of a strand's `timeout:<seconds>` tags: the smallest that makes sense, or NULL,
-- and how many make none.  More than 15 digits on a side make none.
CREATE OR REPLACE FUNCTION strandd.timeouts(tags jsonb) RETURNS numeric[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT ARRAY[pg_catalog.min(CASE WHEN t.fits THEN pg_catalog.substr(t.tag, 9)::pg_catalog.numeric END),
			pg_catalog.count(*) FILTER (WHERE NOT t.fits)::pg_catalog.numeric]
	  FROM (SELECT e.tag, e.tag OPERATOR(pg_catalog.~) '^timeout:[0-9]{1,15}(\.[0-9]{1,15})?$' AS fits
		  FROM (SELECT q OPERATOR(pg_catalog.#>>) '{}' AS tag FROM pg_catalog.jsonb_path_query($1,
			'strict $[*] ? (@ starts with "timeout:")', '{}', true) q) e) t
$$;

-- step: function long_id
-- What a receipt keeps beside a key that is a hash.
CREATE OR REPLACE FUNCTION strandd.long_id(id text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
	SELECT CASE WHEN strandd.receipt_key($1) OPERATOR(pg_catalog.<>) $1 THEN $1 END
$$;

-- step: function lost_claim
-- For a settle whose receipts another one has changed: its transaction must not stand.
CREATE OR REPLACE FUNCTION strandd.lost_claim() RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RAISE EXCEPTION 'a receipt was changed by another while its strand was handled' USING ERRCODE = 'serialization_failure';
END
$$;
