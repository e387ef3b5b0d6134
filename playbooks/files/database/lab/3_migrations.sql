-- list of migrations
SELECT to_regclass('public.schema_migrations') IS NOT NULL;

-- The owner's alone.
CREATE TABLE schema_migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());
ALTER TABLE schema_migrations OWNER TO lab_owner;
