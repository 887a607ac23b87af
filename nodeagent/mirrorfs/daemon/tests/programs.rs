//! Programs that people run, on a mirror of two processes: SQLite in its journal modes, PostgreSQL.

mod support;

use std::path::Path;
use std::process::Command;

use support::Machines;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}:\n{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Commits rows in each journal mode; with a mapping larger than the database in one of them.
const WRITE: &str = r"
import sqlite3, sys
for mode, mmap in (('wal', 0), ('delete', 0), ('wal', 1 << 28), ('truncate', 0)):
    db = sqlite3.connect(f'{sys.argv[1]}/{mode}-{mmap}.db', isolation_level=None)
    assert db.execute(f'pragma journal_mode={mode}').fetchone()[0] == mode
    db.execute(f'pragma mmap_size={mmap}'); db.execute('pragma synchronous=full')
    db.execute('create table t(k integer primary key, v blob)')
    for n in range(60):
        db.execute('begin'); db.executemany('insert into t(v) values(?)', [(bytes([n]) * 3000,)] * 5); db.execute('commit')
    db.execute('delete from t where k % 3 = 0'); db.execute('vacuum'); db.close()
";

const CHECK: &str = r"
import sqlite3, sys
for mode, mmap in (('wal', 0), ('delete', 0), ('wal', 1 << 28), ('truncate', 0)):
    db = sqlite3.connect(f'{sys.argv[1]}/{mode}-{mmap}.db')
    assert db.execute('pragma integrity_check').fetchone()[0] == 'ok', mode
    assert db.execute('select count(*), sum(length(v)) from t').fetchone() == (200, 600000), mode
";

fn python(script: &str, folder: &Path) {
    run(Command::new("python3").args(["-c", script]).arg(folder));
}

#[test]
fn sqlite_in_its_journal_modes() {
    let mut machines = Machines::new(1);
    machines.start();
    python(WRITE, &machines.mount());
    python(CHECK, &machines.mount());
    machines.stop();
    python(CHECK, &machines.directory("a", 0));
    python(CHECK, &machines.directory("b", 0));
}

/// The folder of PostgreSQL 15's programs.
const POSTGRESQL: &str = "/usr/lib/postgresql/15/bin";

/// Runs a PostgreSQL program as the user that it insists on.
fn postgresql(program: &str, arguments: &[&str]) -> String {
    let program = format!("{POSTGRESQL}/{program}");
    assert!(Path::new(&program).exists(), "{program} is missing: install the Debian package postgresql-15");
    run(Command::new("runuser").args(["-u", "postgres", "--", &program]).args(arguments))
}

struct Postmaster<'m> {
    data: String,
    socket: &'m str,
}

impl Postmaster<'_> {
    fn start(&self) {
        let options = format!("-c listen_addresses='' -k {} -c max_connections=20", self.socket);
        let log = format!("{}/log", self.socket);
        postgresql("pg_ctl", &["-D", &self.data, "-w", "-o", &options, "-l", &log, "start"]);
    }

    fn query(&self, sql: &str) -> String {
        postgresql("psql", &["-h", self.socket, "-AtXq", "-v", "ON_ERROR_STOP=1", "-c", sql, "postgres"])
    }
}

impl Drop for Postmaster<'_> {
    fn drop(&mut self) {
        let program = format!("{POSTGRESQL}/pg_ctl");
        let arguments = ["-u", "postgres", "--", &program, "-D", &self.data, "-m", "immediate", "stop"];
        let _ = Command::new("runuser").args(arguments).output();
    }
}

#[test]
fn postgresql_runs_on_one_copy_and_starts_on_the_other() {
    let mut machines = Machines::new(1);
    machines.start();
    let sockets = tempfile::Builder::new().prefix("mirrorfs-pg-").tempdir().unwrap();
    let socket = sockets.path().to_str().unwrap();
    run(Command::new("chown").args(["postgres", socket, machines.mount().to_str().unwrap()]));
    let data = machines.mount().join("data").to_str().unwrap().to_string();
    postgresql("initdb", &["-D", &data, "-A", "trust", "--no-instructions"]);
    let rows = {
        let server = Postmaster { data: data.clone(), socket };
        server.start();
        postgresql("pgbench", &["-h", socket, "-i", "-q", "-s", "1", "postgres"]);
        postgresql("pgbench", &["-h", socket, "-c", "4", "-t", "100", "postgres"]);
        server.query("vacuum full pgbench_accounts");
        assert_eq!(server.query("select count(*) from pgbench_history").trim(), "400");
        // No shutdown: what is on the other side must be enough for crash recovery.
        server.query("select sum(abalance), count(*) from pgbench_accounts")
    };
    machines.stop();
    for side in ["a", "b"] {
        let data = machines.directory(side, 0).join("data").to_str().unwrap().to_string();
        let _ = std::fs::remove_file(Path::new(&data).join("postmaster.pid"));
        let server = Postmaster { data, socket };
        server.start();
        assert_eq!(server.query("select sum(abalance), count(*) from pgbench_accounts"), rows, "{side}");
    }
}
