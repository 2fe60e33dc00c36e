CREATE TABLE products (name text PRIMARY KEY, origin text NOT NULL);
INSERT INTO products VALUES ('apple', 'the orchard'), ('bread', 'the oven'), ('cheese', 'the hills');
