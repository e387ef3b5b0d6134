-- role lab_owner
SELECT true FROM pg_roles WHERE rolname = 'lab_owner';

CREATE ROLE lab_owner NOLOGIN;
