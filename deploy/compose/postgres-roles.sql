-- Runs once, when the cluster is made: the role of the services owns its database and is no superuser. The portal takes
-- its own role, which cannot log in. The password comes from a file, so it is in no command line.
\set password `cat /run/secrets/postgres_password`
create role transom login nosuperuser password :'password';
create database transom owner transom;
create role transom_portal nologin;
grant transom_portal to transom;
