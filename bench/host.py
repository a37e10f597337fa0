"""A host with its keys, and a vault on an S3 server at the end of a line, or in a folder."""

import json
import os
import shutil
import subprocess

from measure import Failed, run

HERE = os.path.dirname(os.path.realpath(__file__))


def program(name, path):
    found = shutil.which(name, path=":".join([*path, os.path.join(HERE, "../target/release")]))
    if not found:
        raise SystemExit(f"{name} isn't built: cargo build --release --workspace")
    return found


class Line:
    """An S3 server behind a line; `server` is the address of a real one, or `sink`, which has memory
    ready for `room` MiB."""

    def __init__(self, path, server="sink", latency_ms=0, mbit=0, log="-", packs=0, room=0):
        self.log = log
        argv = [program("s3line", path), server, str(latency_ms), str(mbit), log, str(packs),
                str(room)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.endpoint = self.process.stdout.readline().strip()
        if not self.endpoint.startswith("http"):
            raise SystemExit(f"s3line: {self.endpoint}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def requests(self):
        """How many requests there were since the last call."""
        with open(self.log) as log:
            count = len(log.read().splitlines())
        open(self.log, "w").close()
        return count


class Host:
    """Keys and caches in the folder `home`; the vault at `url`."""

    def __init__(self, home, path, url, endpoint=None):
        shutil.rmtree(home, ignore_errors=True)
        os.makedirs(home)
        self.home, self.path = home, path
        self.log = f"{home}/log"
        self.target = ["--vault", url] + (["--endpoint", endpoint] if endpoint else
                                          ["--lock", "none"])
        self.identity = f"{home}/keys/carry-off/restore.agekey"
        self.verifier = f"{home}/keys/carry-off/verifier.agekey"
        self.env = {"HOME": home, "PATH": os.environ["PATH"], "AWS_REGION": "us-east-1",
                    "AWS_ACCESS_KEY_ID": os.environ.get("AWS_ACCESS_KEY_ID", "bench"),
                    "AWS_SECRET_ACCESS_KEY": os.environ.get("AWS_SECRET_ACCESS_KEY", "bench-secret")}
        self.run("init", "--host", "bench", *self.target, "--keys", f"{home}/keys")

    def run(self, *arguments, name="keephold", accept=(0,)):
        argv = [program(name, self.path), *arguments]
        cost = run(argv, env=self.env, log=self.log)
        if cost.status not in accept:
            raise Failed(f"exit {cost.status}: {' '.join(argv[:3])} …: see {self.log}")
        return cost

    def backup(self, source):
        # 3: with warnings, such as that the identities still lie here.
        return self.run("backup", "--quiet", "--host", "bench", *self.target, "--keys",
                        f"{self.home}/keys", "--cache", f"{self.home}/cache", source, accept=(0, 3))

    def restore(self, to, *paths):
        shutil.rmtree(to, ignore_errors=True)
        # Elsewhere: no cache, no keys but the identity.
        return self.run("restore", "--quiet", *self.target, "--identity", self.identity, "latest",
                        "--target", to, *paths)

    def verify(self, level):
        home = self.home
        if not os.path.exists(f"{home}/verifier"):
            self.run("init", "--dir", f"{home}/verifier", name="keephold-verify")
        # 3: findings, such as that an unpinned vault and one without locks are.
        return self.run("run", "--level", level, *self.target, "--identity", self.verifier,
                        "--signers", f"{home}/keys/signing_key.pub", "--report-key",
                        f"{home}/verifier/report_key", "--out", f"{home}/reports",
                        name="keephold-verify", accept=(0, 3))


def show(what, cost, **more):
    print(f"{what:44} {cost.seconds:9.2f} s  cpu {cost.cpu_seconds:8.2f} s  "
          f"{cost.peak_bytes / 2**20:7.1f} MiB" + "".join(f"  {k} {v}" for k, v in more.items()),
          flush=True)
    return {"what": what, **cost.json(), **more}


def save(work, name, rows):
    os.makedirs(f"{work}/results", exist_ok=True)
    with open(f"{work}/results/{name}.json", "w") as out:
        json.dump({"load": os.getloadavg(), "rows": rows}, out, indent=1)
