-- role vault
SELECT true FROM pg_roles WHERE rolname = 'vault' AND rolcreaterole AND rolcanlogin AND NOT rolsuper;

DO $do$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'vault') THEN
    CREATE ROLE vault;
  END IF;
END $do$;
ALTER ROLE vault LOGIN CREATEROLE NOSUPERUSER;
