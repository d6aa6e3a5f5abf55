-- Restores the specification's plain state: its tables, indexes, triggers and
-- functions stay, all strands stay; routes, receipts and schema strandd go.
-- Stop strandd first.

-- step: what is built on it
SELECT 'SELECT strandd.refuse_dependants()'
 WHERE pg_catalog.to_regprocedure('strandd.refuse_dependants()') IS NOT NULL
\gexec

-- step: sources
SELECT pg_catalog.format('SELECT strandd.restore_specification(%s::oid::regclass)', t.tgrelid)
  FROM pg_catalog.pg_trigger t
  JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = 'strandd' AND p.proname = 'stamp_strand'
\gexec

-- step: routes and receipts
SELECT 'SELECT strandd.drop_receivers()'
 WHERE pg_catalog.to_regprocedure('strandd.drop_receivers()') IS NOT NULL
\gexec

-- step: schema strandd
DROP SCHEMA IF EXISTS strandd CASCADE;
