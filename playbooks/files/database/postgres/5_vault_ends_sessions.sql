-- vault may end sessions
SELECT true FROM pg_auth_members WHERE roleid = 'pg_signal_backend'::regrole AND member = 'vault'::regrole;

GRANT pg_signal_backend TO vault;
