-- only members may use the schema, and not make tables
SELECT has_schema_privilege('lab_rw', 'public', 'USAGE') AND NOT EXISTS (
  SELECT FROM pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) AS acl
  WHERE nspname = 'public' AND acl.grantee = 0);

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO lab_rw;
