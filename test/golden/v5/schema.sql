CREATE SCHEMA "postgres_input";

REVOKE ALL ON SCHEMA "postgres_input" FROM PUBLIC;

DO '
DECLARE grantee name;
BEGIN
  FOR grantee IN
    SELECT DISTINCT pg_get_userbyid(a.grantee) FROM pg_namespace n, aclexplode(n.nspacl) a
    WHERE n.nspname = ''postgres_input'' AND a.grantee NOT IN (0, n.nspowner)
  LOOP
    EXECUTE format(''REVOKE ALL ON SCHEMA %I FROM %I'', ''postgres_input'', grantee);
  END LOOP;
END';

COMMENT ON SCHEMA "postgres_input" IS 'Made by dapper-postgres-input; removed with its last input.';

DO '
DECLARE owner record;
BEGIN
  SELECT r.rolname, r.rolsuper INTO owner
  FROM pg_namespace n
  JOIN pg_database d ON d.datname = current_database()
  JOIN pg_roles r
    ON r.oid = CASE pg_get_userbyid(n.nspowner) WHEN ''pg_database_owner'' THEN d.datdba ELSE n.nspowner END
  WHERE n.nspname = ''postgres_input'';
  IF NOT owner.rolsuper AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    RAISE insufficient_privilege USING MESSAGE = format(
      ''schema %I belongs to %I, who could make use of the rights of a superuser that installs: install as that role'',
      ''postgres_input'', owner.rolname);
  END IF;
END';

DO '
BEGIN
  IF obj_description(''"postgres_input"''::regnamespace, ''pg_namespace'') = ''Made by dapper-postgres-input; removed with its last input.''
     AND NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = ''"postgres_input"''::regnamespace)
     AND NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = ''"postgres_input"''::regnamespace) THEN
    DROP SCHEMA "postgres_input";
  END IF;
EXCEPTION WHEN insufficient_privilege OR dependent_objects_still_exist THEN NULL;
END';
