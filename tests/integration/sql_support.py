"""What the SQL tests share: the plain specification, notifications, open work."""

import select

import psycopg2.extensions

# The specification's tables, triggers and indexes, as one would write them
# without strandd.
COMMON = "id TEXT PRIMARY KEY, module TEXT DEFAULT '{module}', kind TEXT, symbol TEXT, timeframe TEXT, session_bucket TEXT, regime TEXT"
LAST = "tags JSONB, created_at TIMESTAMPTZ DEFAULT NOW(), updated_at TIMESTAMPTZ DEFAULT NOW()"
MODULES = {
    "AD": ("alpha", "sig_sigma FLOAT8, sig_confidence FLOAT8, sig_direction TEXT, trading_plan JSONB, signal_pack JSONB,"
                    " dsi_evidence JSONB, regime_context JSONB, event_context JSONB, module_intelligence JSONB, curator_feedback JSONB",
           ["dm:evaluate_plan"]),
    "DM": ("dm", "dm_alpha JSONB, dm_budget JSONB, dm_decision JSONB, risk_metrics JSONB, portfolio_impact JSONB,"
                 " asymmetries JSONB, curator_decisions JSONB",
           ["alpha:decision_feedback", "trader:execute_plan"]),
    "TR": ("trader", "tr_execution JSONB, tr_outcome JSONB, tr_venue_performance JSONB, tr_slippage JSONB, tr_latency JSONB, tr_fills JSONB",
           ["alpha:execution_feedback", "dm:execution_feedback"]),
}


def plain_specification():
    ddl = []
    for prefix, (module, own, tags) in MODULES.items():
        t = f"{prefix}_strands"
        ddl.append(f"CREATE TABLE {t} ({COMMON.format(module=module)}, {own}, {LAST})")
        checks = "".join(f"IF NEW.tags @> '[\"{tag}\"]' THEN PERFORM pg_notify('{tag.replace(':', '_')}', NEW.id::text); END IF; "
                         for tag in tags)
        ddl.append(f"CREATE OR REPLACE FUNCTION notify_from_{t.lower()}() RETURNS TRIGGER AS $$ BEGIN {checks} RETURN NEW; END; $$ LANGUAGE plpgsql")
        ddl.append(f"CREATE TRIGGER {t.lower()}_notify AFTER INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION notify_from_{t.lower()}()")
        ddl.append(f"CREATE INDEX idx_{t}_tags ON {t} USING GIN(tags)")
        ddl.append(f"CREATE INDEX idx_{t}_created_at ON {t}(created_at DESC)")
    return ddl


def catalog(db):
    """What a database is made of, comparable: bodies without comments and space."""
    return {
        "schemas": db.execute("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1"),
        "relations": db.execute("SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"),
        "columns": db.execute(
            "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)"
            " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
            " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped"
            " ORDER BY c.relname, a.attnum"),
        "indexes": db.execute("SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class c ON c.oid = indrelid"
                              " WHERE relnamespace = 'public'::regnamespace ORDER BY 1"),
        "triggers": db.execute("SELECT pg_get_triggerdef(oid), tgenabled, obj_description(oid, 'pg_trigger') FROM pg_trigger"
                               " WHERE NOT tgisinternal ORDER BY 1"),
        "functions": db.execute("SELECT proname, regexp_replace(prosrc, '\\s+', ' ', 'g'), prosecdef, proconfig FROM pg_proc"
                                " WHERE pronamespace = 'public'::regnamespace ORDER BY 1"),
    }


class Ears:
    """A session that listens."""

    def __init__(self, db, *channels):
        self.conn = db.connect()
        with self.conn.cursor() as cur:
            for channel in channels:
                cur.execute("LISTEN " + psycopg2.extensions.quote_ident(channel, cur))

    def heard(self):
        """[(channel, payload)] since the last call.  A notification of a commit
        that is over reaches a listener with its next answer at the latest."""
        with self.conn.cursor() as cur:
            cur.execute("SELECT 1")
        while select.select([self.conn], [], [], 0.05)[0]:
            self.conn.poll()
        got = [(n.channel, n.payload) for n in self.conn.notifies]
        self.conn.notifies.clear()
        return got


ALL_CHANNELS = [tag.replace(":", "_") + suffix for _, _, tags in MODULES.values() for tag in tags for suffix in ("", ":high")]


def open_work(db, tag, source, receiver):
    """Ids that a route has still to deliver, as strandd sees it."""
    routes, receipts, route = db.execute(
        "SELECT strandd.qualified(routes), strandd.qualified(receipts), route FROM strandd.routes()"
        " WHERE tag = %s AND source = %s::regclass AND receiver = %s::regclass", (tag, source, receiver))[0]
    return [r[0] for r in db.execute(
        f"SELECT t.id FROM {source} t, {routes} o WHERE o.route = %s AND t.tags @> jsonb_build_array(o.tag)"
        f" AND t.xact_id >= o.position AND NOT coalesce(pg_visible_in_snapshot(t.xact_id, o.history), false)"
        f" AND NOT EXISTS (SELECT FROM {receipts} r WHERE r.route = o.route AND r.strand_id = strandd.receipt_key(t.id) COLLATE \"C\")"
        f" ORDER BY t.id", (route,))]
