-- Everything of strandd's that does not belong to one module: schema strandd.
--
-- Run the files of this folder in the order of their numbers, as the ordinary
-- role that owns the module tables (CREATE on the database is enough), with
-- `psql -v ON_ERROR_STOP=1 -f FILE`, or let `strandctl init` run them.  On a
-- database in use set a lock_timeout (PGOPTIONS='-c lock_timeout=2s') and run a
-- file again when it gives up: every step can be repeated.

-- step: the database's encoding
-- Ids travel as text in UTF8: of other encodings some have no such form, and one
-- of them would stop a whole page of others.
DO $$
BEGIN
	IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8' THEN
		RAISE EXCEPTION 'database % has the encoding %, strandd needs UTF8', pg_catalog.current_database(),
				pg_catalog.getdatabaseencoding()
			USING ERRCODE = 'feature_not_supported',
			HINT = 'Restore a dump of it into a database made with CREATE DATABASE ... TEMPLATE template0 ENCODING ''UTF8''.';
	END IF;
END
$$;

-- step: schema strandd
CREATE SCHEMA IF NOT EXISTS strandd;

-- step: the schema is ours
-- Whoever may create schemas could have made this one first and filled it with
-- functions that later run as the installing role.
DO $$
DECLARE
	holder pg_catalog.name;
BEGIN
	SELECT pg_catalog.pg_get_userbyid(n.nspowner) INTO STRICT holder
	  FROM pg_catalog.pg_namespace n
	 WHERE n.nspname OPERATOR(pg_catalog.=) 'strandd';
	IF NOT pg_catalog.pg_has_role(holder, 'USAGE') THEN
		RAISE EXCEPTION 'schema strandd belongs to role %, not to %', holder, current_user
			USING ERRCODE = 'insufficient_privilege',
			HINT = 'Install as that role, or drop the schema if strandd did not make it.';
	END IF;
END
$$;

-- step: version
CREATE TABLE IF NOT EXISTS strandd.version (
	version      integer NOT NULL PRIMARY KEY,
	installed_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);

-- step: not older than what is installed
DO $$
DECLARE
	newest integer;
BEGIN
	SELECT max(version) INTO newest FROM strandd.version;
	IF newest OPERATOR(pg_catalog.>) 2 THEN
		RAISE EXCEPTION 'this database holds version % of strandd''s SQL, these files are version 2', newest
			USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = 'Install with the newer package.';
	END IF;
END
$$;

-- step: numbers of daemon instances, each used once
CREATE SEQUENCE IF NOT EXISTS strandd.instance_seq AS bigint;

-- step: tables that strands are written to
CREATE TABLE IF NOT EXISTS strandd.sources (
	source regclass NOT NULL PRIMARY KEY
);

-- step: tables of receiving modules, with their routes and receipts
CREATE TABLE IF NOT EXISTS strandd.receivers (
	receiver regclass NOT NULL PRIMARY KEY,
	routes   regclass NOT NULL,
	receipts regclass NOT NULL
);

-- step: the cleanup's last completed run
-- One row at most.  The service writes it; a run by hand does not move its dates.
CREATE TABLE IF NOT EXISTS strandd.cleanup (
	last        boolean NOT NULL DEFAULT true PRIMARY KEY,
	started_at  timestamptz NOT NULL,
	finished_at timestamptz NOT NULL,
	deleted     bigint NOT NULL,
	kept        bigint NOT NULL,
	receipts    bigint NOT NULL
);

-- step: strands that are gone, until their receipts may follow
-- A row a batch, and not a row a strand or a mark on each receipt: a strand more
-- costs its id.  `found`: by the search, which may find what another row holds.
CREATE TABLE IF NOT EXISTS strandd.gone (
	n       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	source  regclass NOT NULL,
	gone_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	ids     text[] NOT NULL,
	found   boolean NOT NULL DEFAULT false
);

-- step: how far the search for receipts without a strand has come
CREATE TABLE IF NOT EXISTS strandd.searches (
	receipts  regclass NOT NULL,
	route     integer NOT NULL,
	strand_id text COLLATE "C" NOT NULL,
	PRIMARY KEY (receipts, route)
);
