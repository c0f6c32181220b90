-- The worker marks the notes that it has handled. Nullable, so that a release that does not know it goes on writing.
ALTER TABLE notes ADD COLUMN processed_at timestamptz;
CREATE INDEX notes_unprocessed ON notes (id) WHERE processed_at IS NULL;
