-- lab_rw may read and change rows of tables to come
SELECT count(*) = 4 FROM pg_default_acl, aclexplode(defaclacl) AS acl
WHERE defaclrole = 'lab_owner'::regrole AND defaclobjtype = 'r' AND acl.grantee = 'lab_rw'::regrole
AND acl.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE');

ALTER DEFAULT PRIVILEGES FOR ROLE lab_owner IN SCHEMA public
GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO lab_rw;
