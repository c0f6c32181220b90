-- Expand only: a release may add tables and nullable columns; what it no longer needs goes in a later one,
-- so that the release before it runs on the same schema.
CREATE TABLE notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body text NOT NULL CHECK (length(body) BETWEEN 1 AND 2000),
    instance text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE beats (
    instance text PRIMARY KEY,
    version text NOT NULL,
    count bigint NOT NULL DEFAULT 1,
    at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE items (
    id integer PRIMARY KEY,
    name text NOT NULL,
    price_cents integer NOT NULL CHECK (price_cents >= 0)
);

INSERT INTO items (id, name, price_cents)
SELECT n, 'Item ' || n, 100 + n * 25 FROM generate_series(1, 200) AS n;
