-- vault may give lab_rw
SELECT admin_option FROM pg_auth_members WHERE roleid = 'lab_rw'::regrole AND member = 'vault'::regrole;

-- With ADMIN OPTION, or PostgreSQL 16 and later do not let it put its users into the group.
GRANT lab_rw TO vault WITH ADMIN OPTION;
