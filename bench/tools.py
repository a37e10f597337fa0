"""How each tool is called. One entry a tool: what differs between tools is all here.

Commands are lists; {words} in them are replaced:
  {vault}   the repository's folder        {state}   keys, caches: a folder of its own
  {at}      how the tool is told of the repository: one or more arguments, `at` of the tool or,
            where it lies on an S3 server, `s3_at`
  {name}    its name in the bucket there   {endpoint}  that server's address, without scheme
  {source}  the folder that is backed up   {target}  an empty folder to restore into
  {file}    one file, absolute             {inside}  the same, relative to {source}
  {step}    first, unchanged, changed: the name of this backup, where a tool needs one
  {dsn}     the database
An entry that a tool doesn't have is None, and shows as a dash.
"""

import os
from dataclasses import dataclass, field

PASSWORD = "for benchmarks only"


@dataclass
class Tool:
    name: str
    program: str
    version: list
    init: list  # of commands
    backup: list
    restore: list
    # Where {source} is found under {target} after a restore.
    restored: str
    restore_file: list
    restored_file: str  # the file {output} is what the command prints
    verify: list
    listing: list
    # Backs up the output of pg_dump on standard input; or, with {dsn}, by itself.
    dump: list = None
    restore_dump: list = None
    env: dict = field(default_factory=dict)
    at: list = field(default_factory=lambda: ["{vault}"])
    # None: it can't use S3 by itself.
    s3_at: list = None
    s3_env: dict = field(default_factory=dict)
    note: str = ""


TOOLS = [
    Tool(
        name="keephold",
        program="keephold",
        version=["keephold", "--version"],
        # No locks, as the peers have none; the immutable attribute would only slow the cleaning up between rounds.
        init=[["keephold", "init", "--lock", "none", "{at}",
               "--keys", "{state}/keys"]],
        backup=["keephold", "backup", "--quiet", "--lock", "none", "{at}",
                "--keys", "{state}/keys", "{source}"],
        # As the peers and tar, none of which waits for the disk.
        restore=["keephold", "restore", "--no-sync", "--quiet", "{at}", "--identity",
                 "{state}/keys/carry-off/restore.agekey", "--target", "{target}", "latest"],
        restored="{target}{source}",
        restore_file=["keephold", "restore", "--quiet", "{at}", "--identity",
                      "{state}/keys/carry-off/restore.agekey", "--target", "{target}",
                      "latest", "{file}"],
        restored_file="{target}{file}",
        # The key that signs reports is made once. A vault without locks is a finding, and so exit 3: what counts
        # is that all was read and found whole.
        verify=["sh", "-c",
                "test -d {state}/verifier || keephold-verify init --dir {state}/verifier >&2 && "
                "keephold-verify run --lock none {at} "
                "--identity {state}/keys/carry-off/verifier.agekey "
                "--signers {state}/keys/signing_key.pub "
                "--report-key {state}/verifier/report_key --out {state}/reports --level deep "
                ">{state}/verified; grep -Eq 'integrity .deep. +passed' {state}/verified"],
        listing=["keephold", "ls", "--recursive", "{at}", "--identity",
                 "{state}/keys/carry-off/restore.agekey", "latest"],
        dump=["keephold", "backup", "--quiet", "--lock", "none", "{at}",
              "--keys", "{state}/keys", "--postgres", "{dsn}"],
        restore_dump=["keephold", "dump", "{at}", "--identity",
                      "{state}/keys/carry-off/restore.agekey", "latest", "shop"],
        env={"KEEPHOLD_CACHE": "{state}/cache"},
        at=["--vault", "file://{vault}"],
        s3_at=["--vault", "s3://bench/{name}", "--endpoint", "http://{endpoint}"],
        note="zstd 2, AES-256-GCM; signs what it writes",
    ),
    Tool(
        name="restic",
        program="restic",
        version=["restic", "version"],
        init=[["restic", "init", "--repository-version", "2"]],
        backup=["restic", "backup", "--compression", "auto", "{source}"],
        restore=["restic", "restore", "latest", "--target", "{target}"],
        restored="{target}{source}",
        restore_file=["restic", "restore", "latest", "--target", "{target}",
                      "--include", "{file}"],
        restored_file="{target}{file}",
        verify=["restic", "check", "--read-data"],
        listing=["restic", "ls", "--long", "latest"],
        dump=["restic", "backup", "--compression", "auto", "--stdin", "--stdin-filename", "dump"],
        restore_dump=["restic", "dump", "latest", "/dump"],
        s3_at=["s3:http://{endpoint}/bench/{name}"],
        env={"RESTIC_REPOSITORY": "{at}", "RESTIC_PASSWORD": PASSWORD,
             "RESTIC_CACHE_DIR": "{state}/cache", "RESTIC_PROGRESS_FPS": "0.01"},
        note="zstd default, AES-256-CTR with Poly1305",
    ),
    Tool(
        name="rustic",
        program="rustic",
        version=["rustic", "--version"],
        init=[["rustic", "--no-progress", "init", "--set-compression", "3"]],
        backup=["rustic", "--no-progress", "backup", "{source}"],
        restore=["rustic", "--no-progress", "restore", "latest:{source}", "{target}"],
        restored="{target}",
        restore_file=["rustic", "--no-progress", "dump", "latest:{file}"],
        restored_file="{output}",
        verify=["rustic", "--no-progress", "check", "--read-data"],
        listing=["rustic", "--no-progress", "ls", "--long", "latest"],
        # Without --force, 0.11.4 takes standard input for unchanged since its last backup:
        # it reads nothing, exits 0, and the new snapshot holds the old dump.
        dump=["rustic", "--no-progress", "backup", "--force", "--stdin-filename", "dump", "-"],
        restore_dump=["rustic", "--no-progress", "dump", "latest:dump"],
        s3_at=["opendal:s3"],
        s3_env={"OPENDAL_BUCKET": "bench", "OPENDAL_ROOT": "/{name}", "OPENDAL_REGION": "us-east-1",
                "OPENDAL_ENDPOINT": "http://{endpoint}", "OPENDAL_ACCESS_KEY_ID": "bench",
                "OPENDAL_SECRET_ACCESS_KEY": "bench-secret"},
        env={"RUSTIC_REPOSITORY": "{at}", "RUSTIC_PASSWORD": PASSWORD,
             "RUSTIC_CACHE_DIR": "{state}/cache", "HOME": "{state}"},
        note="zstd 3, AES-256-CTR with Poly1305",
    ),
    Tool(
        name="Borg",
        program="borg",
        version=["borg", "--version"],
        init=[["borg", "init", "--encryption", "repokey-blake2"]],
        backup=["borg", "create", "--compression", "zstd,3", "::{step}", "{source}"],
        restore=["borg", "extract", "::{step}"],
        restored="{target}{source}",
        restore_file=["borg", "extract", "::{step}", "{file_without_slash}"],
        restored_file="{target}{file}",
        verify=["borg", "check", "--verify-data"],
        listing=["borg", "list", "::{step}"],
        dump=["borg", "create", "--compression", "zstd,3", "--stdin-name", "dump", "::{step}", "-"],
        restore_dump=["borg", "extract", "--stdout", "::{step}"],
        env={"BORG_REPO": "{vault}", "BORG_PASSPHRASE": PASSWORD, "BORG_BASE_DIR": "{state}",
             "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes"},
        note="zstd 3, AES-256-CTR with BLAKE2b; one thread",
    ),
    Tool(
        name="bupstash",
        program="bupstash",
        version=["bupstash", "--version"],
        init=[["bupstash", "new-key", "-o", "{state}/key"], ["bupstash", "init"]],
        backup=["bupstash", "put", "--quiet", "--compression", "zstd:3", "step={step}", "{source}"],
        restore=["bupstash", "restore", "--quiet", "--into", "{target}", "step={step}"],
        restored="{target}",
        restore_file=["bupstash", "get", "--quiet", "--pick", "{inside}", "step={step}"],
        restored_file="{output}",
        # It has no command that reads all data and compares.
        verify=None,
        listing=["bupstash", "list-contents", "--quiet", "step={step}"],
        dump=["bupstash", "put", "--quiet", "--compression", "zstd:3", "step={step}", "-"],
        restore_dump=["bupstash", "get", "--quiet", "step={step}"],
        env={"BUPSTASH_REPOSITORY": "{vault}", "BUPSTASH_KEY": "{state}/key",
             "BUPSTASH_SEND_LOG": "{state}/send.log", "BUPSTASH_QUERY_CACHE": "{state}/query",
             "HOME": "{state}"},
        note="zstd 3, libsodium boxes",
    ),
]


def fill(command, **words):
    """The command, or the text, with its {words} replaced."""
    joined = {**words, "at": " ".join(words.get("at", []))}
    if isinstance(command, str):
        return command.format(**joined)
    return [filled for part in command
            for filled in (words["at"] if part == "{at}" else [part.format(**joined)])]


def environment(tool, path, **words):
    """What the tool's processes see: nothing of the settings of whoever runs this."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR", "USER")
            if name in os.environ}
    # A threshold of malloc would be the user's; libpq's settings reach pg_dump.
    kept |= {name: value for name, value in os.environ.items() if name.startswith("PG")}
    own = {**tool.env, **(S3_ENV | tool.s3_env if words["endpoint"] else {})}
    return {**kept, "PATH": path, **{k: fill(v, **words) for k, v in own.items()}}


# No server on loopback checks these.
S3_ENV = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "bench",
          "AWS_SECRET_ACCESS_KEY": "bench-secret"}
