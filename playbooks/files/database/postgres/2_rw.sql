-- role lab_rw
SELECT true FROM pg_roles WHERE rolname = 'lab_rw';

CREATE ROLE lab_rw NOLOGIN;
