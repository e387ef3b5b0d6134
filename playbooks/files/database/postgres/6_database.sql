-- database lab
SELECT true FROM pg_database WHERE datname = 'lab';

CREATE DATABASE lab OWNER lab_owner TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8';
