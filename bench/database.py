"""A throw-away PostgreSQL cluster with a sample database of a shop."""

import glob
import os
import pwd
import re
import shutil
import subprocess

# Rows are as long as those of such tables are, about half of their bytes is entropy,
# and 3.7 million of them come to a dump of about 700 MB.
SCHEMA = """
SELECT setseed(0.42);
CREATE TABLE customer (id bigint PRIMARY KEY, name text NOT NULL, mail text NOT NULL,
    joined timestamptz NOT NULL, credit numeric(12,2) NOT NULL, note text);
INSERT INTO customer SELECT i, 'Customer ' || i, md5(i::text) || '@example.org',
    timestamptz '2024-01-01' + i * interval '37 seconds', (random() * 10000)::numeric(12,2),
    repeat(substr(md5((i % 5000)::text), 1, 12) || ' ', 6)
  FROM generate_series(1, {scale} * 200000) i;
CREATE TABLE purchase (id bigint PRIMARY KEY, customer bigint NOT NULL, at timestamptz NOT NULL,
    state text NOT NULL, total numeric(12,2) NOT NULL, lines jsonb NOT NULL);
INSERT INTO purchase SELECT i, 1 + (random() * ({scale} * 200000 - 1))::bigint,
    timestamptz '2024-01-01' + i * interval '11 seconds',
    (ARRAY['new','paid','sent','done'])[1 + i % 4], (random() * 500)::numeric(12,2),
    jsonb_build_array(
      jsonb_build_object('sku', substr(md5(random()::text), 1, 10), 'count', 1 + i % 7,
        'price', (random() * 90)::numeric(8,2)),
      jsonb_build_object('sku', substr(md5(random()::text), 1, 10), 'count', 1 + i % 3,
        'price', (random() * 90)::numeric(8,2)))
  FROM generate_series(1, {scale} * 1000000) i;
CREATE TABLE event (id bigint PRIMARY KEY, at timestamptz NOT NULL, who bigint NOT NULL,
    what text NOT NULL, detail text NOT NULL);
INSERT INTO event SELECT i, timestamptz '2024-01-01' + i * interval '5 seconds',
    (random() * {scale} * 200000)::bigint, (ARRAY['view','search','basket','login','mail'])[1 + i % 5],
    '/shop/' || (i % 997) || '/item/' || md5(random()::text) || '?from=' || md5((i % 1000)::text)
      || '&session=' || md5(random()::text) || repeat(' -', (i % 40)::int)
  FROM generate_series(1, {scale} * 2500000) i;
CREATE INDEX ON purchase (customer);
CREATE INDEX ON event (who);
ANALYZE;
"""
# Every fiftieth row of each table, strewn over it.
CHANGE = """
UPDATE customer SET credit = credit + {seed} WHERE (id * 7919) % 50 = {seed} % 50;
UPDATE purchase SET state = 'back {seed}' WHERE (id * 7919) % 50 = {seed} % 50;
UPDATE event SET what = 'seen {seed}' WHERE (id * 7919) % 50 = {seed} % 50;
"""


class Cluster:
    def __init__(self, folder):
        self.folder = folder
        homes = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"),
                       key=lambda path: int(re.search(r"/(\d+)/bin", path)[1]))
        initdb = homes[-1] if homes else shutil.which("initdb")
        if not initdb:
            raise SystemExit("bench/run: no PostgreSQL server here: apt-get install postgresql")
        self.bin = os.path.dirname(os.path.realpath(initdb))
        self.log = os.path.join(folder, "cluster.log")

    def server(self, *argv):
        """Runs a program as somebody whom the server accepts: it refuses root."""
        become = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            become = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        with open(self.log, "ab") as log:
            subprocess.run(argv, check=True, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                           cwd="/", env={**os.environ, "LC_ALL": "C.UTF-8"}, **become)

    def start(self):
        data = os.path.join(self.folder, "pgdata")
        os.makedirs(data, mode=0o700)
        open(self.log, "ab").close()
        if os.geteuid() == 0:
            shutil.chown(data, "postgres", "postgres")
            # The server's account must be able to reach its folder.
            reach(data)
        self.server(f"{self.bin}/initdb", "-D", data, "-U", "bench", "-A", "trust",
                    "--no-sync", "-E", "UTF8", "--locale", "C.UTF-8")
        options = (f"-c listen_addresses='' -c unix_socket_directories={data} "
                   "-c fsync=off -c shared_buffers=256MB -c max_wal_size=4GB -c autovacuum=off")
        self.server(f"{self.bin}/pg_ctl", "-D", data, "-w", "-t", "120", "-o", options,
                    "-l", os.path.join(data, "server.log"), "start")
        self.data = data
        os.environ.update(PGHOST=data, PGUSER="bench", PGDATABASE="shop")
        self.dsn = f"postgresql://bench@/shop?host={data}"
        self.sql("CREATE DATABASE shop", database="postgres")

    def sql(self, text, database="shop"):
        subprocess.run([f"{self.bin}/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database],
                       input=text, text=True, check=True, stdout=subprocess.DEVNULL)

    def fill(self, scale):
        self.sql(SCHEMA.format(scale=scale))

    def change(self, seed):
        self.sql(CHANGE.format(seed=seed))
        return "2 % of the rows, strewn"

    def stop(self):
        if hasattr(self, "data"):
            self.server(f"{self.bin}/pg_ctl", "-D", self.data, "-m", "immediate", "stop")


def reach(path):
    while (path := os.path.dirname(path)) != "/":
        mode = os.stat(path).st_mode & 0o7777
        if not mode & 0o001:
            raise SystemExit(f"bench/run: {path} is closed to the account postgres, which runs "
                             "the database: choose another --work")
