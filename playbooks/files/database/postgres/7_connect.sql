-- only members may connect
SELECT has_database_privilege('lab_rw', 'lab', 'CONNECT') AND NOT EXISTS (
  SELECT FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) AS acl
  WHERE datname = 'lab' AND acl.grantee = 0);

REVOKE ALL ON DATABASE lab FROM PUBLIC;
GRANT CONNECT ON DATABASE lab TO lab_rw, vault;
