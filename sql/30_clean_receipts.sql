-- The receipts of strands that are gone: of those that clean_strands deleted, and of
-- those that somebody deleted by hand, which a search finds.

-- step: function clean_receipts
-- Takes the receipts of one batch of strands that were gone `before`, on whatever
-- route, attached or not.  Until then they fence: a claim already under way, a late
-- announcement or a rescan must find them.  A strand that was written again
-- meanwhile keeps its receipts, and so does one that a handler is at work on.
-- dry_run counts each strand once, and so leaves out what the search has found.
CREATE OR REPLACE FUNCTION strandd.clean_receipts(before timestamptz, dry_run boolean DEFAULT false, after bigint DEFAULT 0)
RETURNS TABLE (strands bigint, receipts bigint, "position" bigint, finished boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
	g     record;
	r     record;
	keys  text[];
	taken bigint;
BEGIN
	SELECT o.n, o.source, o.gone_at, o.ids, o.found INTO g FROM strandd.gone o WHERE o.n > clean_receipts.after ORDER BY o.n LIMIT 1;
	finished := NOT FOUND OR g.gone_at >= before;
	strands := 0;
	receipts := 0;
	IF finished THEN
		RETURN NEXT;
		RETURN;
	END IF;
	"position" := g.n;
	strands := cardinality(g.ids);
	IF EXISTS (SELECT FROM pg_class c WHERE c.oid = g.source) THEN
		EXECUTE format('SELECT coalesce(array_agg(strandd.receipt_key(u.id)), ''{}'') FROM unnest($1) u (id)'
			' WHERE (SELECT t.id FROM %s t WHERE t.id = u.id) IS NULL', strandd.qualified(g.source)) INTO keys USING g.ids;
	ELSE
		keys := ARRAY(SELECT strandd.receipt_key(u.id) FROM unnest(g.ids) u (id));
	END IF;
	FOR r IN SELECT strandd.qualified(o.receipts) AS tbl, o.route FROM strandd.routes() o
			WHERE o.source = g.source AND NOT (dry_run AND g.found) LOOP
		EXECUTE format(CASE WHEN dry_run THEN
			'SELECT count(*) FROM %1$s p WHERE p.route = $1 AND p.strand_id = ANY ($2) AND p.state <> ''running'''
		ELSE
			'WITH free AS MATERIALIZED (SELECT p.strand_id FROM %1$s p WHERE p.route = $1 AND p.strand_id = ANY ($2)'
			'  AND p.state <> ''running'' FOR UPDATE SKIP LOCKED),'
			' removed AS (DELETE FROM %1$s p WHERE p.route = $1 AND p.strand_id = ANY (ARRAY(SELECT f.strand_id FROM free f)) RETURNING 1)'
			' SELECT count(*) FROM removed'
		END, r.tbl) INTO taken USING r.route, keys;
		receipts := receipts + taken;
	END LOOP;
	IF NOT dry_run THEN
		DELETE FROM strandd.gone o WHERE o.n = g.n;
	END IF;
	RETURN NEXT;
END
$$;

-- step: function search_receipts
-- Looks a page of a route's receipts through for strands that somebody deleted by
-- hand: their receipts go as those of clean_strands do.  It goes on where the last
-- call stopped, and begins again after the end.  (Of an id over 1,000 bytes an
-- ordinary receipt holds the hash alone: such a one stays.)
CREATE OR REPLACE FUNCTION strandd.search_receipts(receipts regclass, route integer, batch integer DEFAULT 1000)
RETURNS TABLE (seen bigint, orphans bigint, finished boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
DECLARE
	r    record;
	page record;
	gone text[];
BEGIN
	SELECT o.source INTO STRICT r FROM strandd.routes() o
	 WHERE o.receipts = search_receipts.receipts AND o.route = search_receipts.route;
	EXECUTE format('SELECT count(*) AS seen, max(p.strand_id) AS last, coalesce(array_agg(p.id) FILTER (WHERE p.id IS NOT NULL), ''{}'') AS ids'
		' FROM (SELECT p.strand_id, CASE WHEN p.state = ''running'' THEN NULL WHEN p.long_id IS NOT NULL THEN p.long_id'
		'   WHEN NOT starts_with(p.strand_id, ''sha256:'') THEN p.strand_id END AS id'
		'  FROM %s p WHERE p.route = $1 AND p.strand_id > $2 COLLATE "C" ORDER BY p.strand_id LIMIT $3) p', strandd.qualified(receipts))
		INTO page USING route, coalesce((SELECT s.strand_id FROM strandd.searches s
			WHERE s.receipts = search_receipts.receipts AND s.route = search_receipts.route), ''), greatest(batch, 1);
	-- A statement of its own: the receipt's collation would keep it off the source's key.
	gone := page.ids;
	IF EXISTS (SELECT FROM pg_class c WHERE c.oid = r.source) THEN
		EXECUTE format('SELECT array_agg(u.id) FROM unnest($1) u (id) WHERE (SELECT t.id FROM %s t WHERE t.id = u.id) IS NULL',
			strandd.qualified(r.source)) INTO gone USING page.ids;
	END IF;
	seen := page.seen;
	orphans := coalesce(cardinality(gone), 0);
	finished := page.seen < greatest(batch, 1);
	INSERT INTO strandd.gone (source, ids, found) SELECT r.source, gone, true WHERE orphans > 0;
	IF finished THEN
		DELETE FROM strandd.searches s WHERE s.receipts = search_receipts.receipts AND s.route = search_receipts.route;
	ELSE
		INSERT INTO strandd.searches AS s (receipts, route, strand_id) VALUES (search_receipts.receipts, search_receipts.route, page.last)
		ON CONFLICT ON CONSTRAINT searches_pkey DO UPDATE SET strand_id = excluded.strand_id;
	END IF;
	RETURN NEXT;
END
$$;
