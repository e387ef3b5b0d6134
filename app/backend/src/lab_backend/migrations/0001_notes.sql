CREATE TABLE notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    text text NOT NULL CHECK (char_length(text) BETWEEN 1 AND 500),
    instance text NOT NULL CHECK (char_length(instance) <= 100),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Makes creating a note safe to repeat: the same key is the same note.
    request_key uuid NOT NULL UNIQUE
);
COMMENT ON TABLE notes IS 'What visitors of the page have written';
