-- The last of the functions: whatever is made before is closed to others.

-- step: nobody but the owner, unless granted
REVOKE ALL ON ALL ROUTINES IN SCHEMA strandd FROM PUBLIC;

-- step: installed
INSERT INTO strandd.version (version) VALUES (2) ON CONFLICT DO NOTHING;
