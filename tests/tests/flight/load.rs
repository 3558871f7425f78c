//! Load: 64 clients read and write for a minute, without an error; then the server is killed while they go on.
//!
//! Money moves between accounts, so that every reader sees whether a transaction is whole. Each client that writes knows what
//! was acknowledged to it and what it had asked for when the server was killed: a server on the same directory must have all
//! of the former, and of the latter all or nothing.
//!
//! `CAIRN_LOAD_SECONDS` sets the time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow_flight::sql::client::PreparedStatement;
use arrow_flight::sql::{EndTransaction, TableExistsOption, TableNotExistOption};
use bytes::Bytes;
use cairn_tests::ServerProcess;
use cairn_tests::answer::render;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::{Client, status};

const SECONDS: u64 = 60;
/// 64 clients in all.
const WRITERS: u64 = 24;
const PAYERS: u64 = 16;
const LOADERS: u64 = 4;
const READERS: u64 = 20;
const ACCOUNTS: u64 = 200;
/// What each account has in the beginning.
const CREDIT: i64 = 1_000;
/// Rows of one bulk ingest.
const BATCH_ROWS: i64 = 250;
/// Attempts at a transaction that conflicts with others.
const ATTEMPTS_MAX: u32 = 1_000;
/// No answer takes longer, on a machine that is busy with this.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// What the server may hold: far more than it needs, far less than everything it was sent and asked for.
const MEMORY_BYTES_MAX: u64 = 1 << 30;

const SETUP: [&str; 4] = [
    "CREATE TABLE accounts (id BIGINT PRIMARY KEY, amount BIGINT NOT NULL)",
    "CREATE TABLE payments (client BIGINT, n BIGINT, payer BIGINT NOT NULL, payee BIGINT NOT NULL, amount BIGINT NOT NULL,
     PRIMARY KEY (client, n))",
    "CREATE TABLE entries (client BIGINT, n BIGINT, v BIGINT NOT NULL, PRIMARY KEY (client, n))",
    "CREATE TABLE batches (client BIGINT, n BIGINT, v BIGINT)",
];

/// Accounts whose amount is not what the payments make of it, as one statement sees both tables.
const UNBALANCED: &str = "SELECT a.id, a.amount, p.amount FROM accounts a LEFT JOIN (
         SELECT account, sum(amount) AS amount FROM (
             SELECT payee AS account, amount FROM payments UNION ALL SELECT payer, -amount FROM payments
         ) GROUP BY account
     ) p ON p.account = a.id WHERE a.amount <> 1000 + coalesce(p.amount, 0)";

#[tokio::test(flavor = "multi_thread")]
async fn under_load_nothing_fails_and_nothing_is_lost() {
    let seconds = std::env::var("CAIRN_LOAD_SECONDS").map_or(SECONDS, |text| text.parse().unwrap());
    let program = Path::new(env!("CARGO_BIN_EXE_cairn-test-process"));
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("db");
    let server = ServerProcess::start(program, &root).unwrap();
    let url = format!("http://{}", server.address());
    let mut client = Client::connect(&url).await;
    for sql in SETUP {
        client.update(sql).await;
    }
    let accounts: Vec<String> = (0..ACCOUNTS).map(|id| format!("({id}, {CREDIT})")).collect();
    client.update(&format!("INSERT INTO accounts VALUES {}", accounts.join(", "))).await;

    let killed = Arc::new(AtomicBool::new(false));
    let writers = start(WRITERS, &url, &killed, Writer::new).await;
    let payers = start(PAYERS, &url, &killed, Payer::new).await;
    let loaders = start(LOADERS, &url, &killed, Loader::new).await;
    let readers = start(READERS, &url, &killed, Reader::new).await;

    let begun = Instant::now();
    let mut memory = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(Duration::from_millis(250)).await;
        memory = memory.max(server.memory_bytes().unwrap());
        assert!(memory <= MEMORY_BYTES_MAX, "the server holds {memory} bytes");
        if [ended(&writers), ended(&payers), ended(&loaders), ended(&readers)].contains(&true) {
            // Which one, and why, is told below.
            break;
        }
    }
    killed.store(true, Ordering::SeqCst);
    server.kill().unwrap();
    let (writers, payers) = (known(writers).await, known(payers).await);
    let (loaders, readers) = (known(loaders).await, known(readers).await);
    assert!(begun.elapsed() >= Duration::from_secs(seconds), "a client ended before the server");
    let changes: u64 = writers.iter().map(|w| w.acknowledged).sum();
    let payments: usize = payers.iter().map(|p| p.paid.len()).sum();
    let conflicts: u64 = payers.iter().map(|p| p.conflicts).sum();
    let batches: i64 = loaders.iter().map(|l| l.loaded).sum();
    let reads: u64 = readers.iter().map(|r| r.read).sum();
    println!(
        "in {seconds} s: {changes} changes, {payments} transactions after {conflicts} conflicts, {batches} batches, {reads} reads, \
         {} MiB at most",
        memory >> 20
    );
    assert!(writers.iter().all(|w| w.acknowledged > 0) && payers.iter().all(|p| !p.paid.is_empty()));
    assert!(loaders.iter().all(|l| l.loaded > 0) && readers.iter().all(|r| r.read > 0));

    let server = ServerProcess::start(program, &root).unwrap();
    let mut client = Client::connect(&format!("http://{}", server.address())).await;
    entries_are_there(&mut client, &writers).await;
    payments_are_there(&mut client, &payers).await;
    batches_are_there(&mut client, &loaders).await;
    for finding in client.rows("VERIFY").await {
        // A kill may leave objects that nothing refers to.
        let left_over = finding[2] == "warning" && finding[1] == "unreferenced objects";
        assert!(finding[2] == "ok" || left_over, "VERIFY finds {finding:?}");
    }
    assert!(server.stop().unwrap(), "the server did not end well");
}

/// A client with one thing to do, over and over.
trait Role: Send + 'static {
    fn step(&mut self) -> impl Future<Output = Result<(), Status>> + Send;
}

/// Starts `count` clients; each ends when the server is killed, and with a panic when anything fails before.
async fn start<R: Role, F: Future<Output = R>>(
    count: u64,
    url: &str,
    killed: &Arc<AtomicBool>,
    make: impl Fn(u64, Client) -> F,
) -> Vec<JoinHandle<R>> {
    let mut started = Vec::new();
    for number in 0..count {
        let mut role = make(number, Client::connect(url).await).await;
        let killed = Arc::clone(killed);
        started.push(tokio::spawn(async move {
            loop {
                match tokio::time::timeout(ANSWER_MAX, role.step()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) if killed.load(Ordering::SeqCst) => return role,
                    Ok(Err(status)) => panic!("client {number}: {status}"),
                    Err(_) => panic!("client {number}: no answer within {ANSWER_MAX:?}"),
                }
            }
        }));
    }
    started
}

fn ended<R>(clients: &[JoinHandle<R>]) -> bool {
    clients.iter().any(JoinHandle::is_finished)
}

async fn known<R>(clients: Vec<JoinHandle<R>>) -> Vec<R> {
    let mut known = Vec::with_capacity(clients.len());
    for client in clients {
        known.push(client.await.unwrap());
    }
    known
}

/// Rows of integers; NULL, the one other thing these tables answer, is the smallest.
async fn ask(client: &mut Client, sql: &str, within: Option<&Bytes>) -> Result<Vec<Vec<i64>>, Status> {
    let info = client.0.execute(sql.to_owned(), within.cloned()).await.map_err(status)?;
    let (schema, batches) = client.fetch(info).await?;
    let rows = render(&schema, &batches).rows();
    Ok(rows.iter().map(|row| row.iter().map(|cell| cell.parse().unwrap_or(i64::MIN)).collect()).collect())
}

fn integers(columns: &[(&str, &[i64])]) -> RecordBatch {
    let column = |values: &[i64]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
    RecordBatch::try_from_iter(columns.iter().map(|(name, values)| (*name, column(values)))).unwrap()
}

/// Inserts, updates and deletes rows of its own, each change a commit.
struct Writer {
    number: i64,
    client: Client,
    insert: PreparedStatement<Channel>,
    rng: StdRng,
    rows: BTreeMap<i64, i64>,
    next: i64,
    asked: Option<Change>,
    acknowledged: u64,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Put { n: i64, v: i64 },
    Delete { n: i64 },
}

impl Change {
    fn apply(self, rows: &mut BTreeMap<i64, i64>) {
        match self {
            Self::Put { n, v } => rows.insert(n, v),
            Self::Delete { n } => rows.remove(&n),
        };
    }
}

impl Writer {
    async fn new(number: u64, mut client: Client) -> Self {
        let insert = "INSERT INTO entries VALUES ($1, $2, $3)".to_owned();
        let insert = client.0.prepare(insert, None).await.unwrap();
        let rng = StdRng::seed_from_u64(number);
        let number = i64::try_from(number).unwrap();
        Self { number, client, insert, rng, rows: BTreeMap::new(), next: 0, asked: None, acknowledged: 0 }
    }

    async fn insert(&mut self, v: i64) -> Result<i64, Status> {
        let row = integers(&[("1", &[self.number]), ("2", &[self.next]), ("3", &[v])]);
        self.asked = Some(Change::Put { n: self.next, v });
        self.next += 1;
        self.insert.set_parameters(row).unwrap();
        self.insert.execute_update().await.map_err(status)
    }

    async fn change(&mut self, n: i64, v: i64) -> Result<i64, Status> {
        let place = format!("WHERE client = {} AND n = {n}", self.number);
        let (change, sql) = match v % 2 {
            0 => (Change::Put { n, v }, format!("UPDATE entries SET v = {v} {place}")),
            _ => (Change::Delete { n }, format!("DELETE FROM entries {place}")),
        };
        self.asked = Some(change);
        self.client.0.execute_update(sql, None).await.map_err(status)
    }
}

impl Role for Writer {
    async fn step(&mut self) -> Result<(), Status> {
        let v = self.rng.random_range(0..1_000_000);
        let old = self.rng.random_range(0..self.next.max(1));
        let changed = match self.rows.contains_key(&old) && self.rng.random_bool(0.3) {
            true => self.change(old, v).await?,
            false => self.insert(v).await?,
        };
        assert_eq!(changed, 1, "{:?}", self.asked);
        self.asked.take().unwrap().apply(&mut self.rows);
        self.acknowledged += 1;
        Ok(())
    }
}

async fn entries_are_there(client: &mut Client, writers: &[Writer]) {
    let mut found: BTreeMap<i64, BTreeMap<i64, i64>> = BTreeMap::new();
    for row in ask(client, "SELECT client, n, v FROM entries", None).await.unwrap() {
        let twice = found.entry(row[0]).or_default().insert(row[1], row[2]);
        assert_eq!(twice, None, "{row:?}");
    }
    for Writer { number, rows, asked, .. } in writers {
        let mut with_asked = rows.clone();
        if let Some(change) = asked {
            change.apply(&mut with_asked);
        }
        let found = found.remove(number).unwrap_or_default();
        if found != *rows && found != with_asked {
            let lost: Vec<_> = rows.iter().filter(|(n, v)| found.get(n) != Some(v)).collect();
            let more: Vec<_> = found.iter().filter(|(n, v)| rows.get(n) != Some(v)).collect();
            panic!("writer {number}: {lost:?} are lost, {more:?} are there, {asked:?} was asked for");
        }
    }
    assert!(found.is_empty(), "rows nobody wrote: {found:?}");
}

/// Moves money between two accounts and writes that down, in one transaction.
struct Payer {
    number: i64,
    client: Client,
    rng: StdRng,
    paid: BTreeSet<Payment>,
    asked: Option<Payment>,
    conflicts: u64,
}

/// Number, payer, payee, amount.
type Payment = [i64; 4];

impl Payer {
    async fn new(number: u64, client: Client) -> Self {
        let rng = StdRng::seed_from_u64(number);
        let number = i64::try_from(number).unwrap();
        Self { number, client, rng, paid: BTreeSet::new(), asked: None, conflicts: 0 }
    }

    async fn pay(&mut self, [n, payer, payee, amount]: Payment) -> Result<(), Status> {
        let number = self.number;
        let transaction = self.client.0.begin_transaction().await.map_err(status)?;
        let both = format!("SELECT id, amount FROM accounts WHERE id IN ({payer}, {payee})");
        let before = ask(&mut self.client, &both, Some(&transaction)).await?;
        let of = |id: i64| before.iter().find(|row| row[0] == id).unwrap()[1];
        for (sql, rows) in [
            (format!("UPDATE accounts SET amount = {} WHERE id = {payer}", of(payer) - amount), 1),
            (format!("UPDATE accounts SET amount = amount + {amount} WHERE id = {payee}"), 1),
            (format!("INSERT INTO payments VALUES ({number}, {n}, {payer}, {payee}, {amount})"), 1),
        ] {
            let changed = self.client.0.execute_update(sql.clone(), Some(transaction.clone())).await;
            assert_eq!(changed.map_err(status)?, rows, "{sql}");
        }
        let after = ask(&mut self.client, &both, Some(&transaction)).await?;
        let sum = |rows: &[Vec<i64>]| rows.iter().map(|row| row[1]).sum::<i64>();
        assert_eq!(sum(&before), sum(&after), "a transaction sees its own changes and no others");
        self.client.0.end_transaction(transaction, EndTransaction::Commit).await.map_err(status)
    }
}

impl Role for Payer {
    async fn step(&mut self) -> Result<(), Status> {
        let accounts = i64::try_from(ACCOUNTS).unwrap();
        let payer = self.rng.random_range(0..accounts);
        let payee = (payer + self.rng.random_range(1..accounts)) % accounts;
        let n = i64::try_from(self.paid.len()).unwrap();
        let payment = [n, payer, payee, self.rng.random_range(1..10)];
        self.asked = Some(payment);
        for _ in 0..ATTEMPTS_MAX {
            match self.pay(payment).await {
                Ok(()) => {
                    self.paid.extend(self.asked.take());
                    return Ok(());
                }
                // Told by COMMIT: somebody else moved money of these accounts.
                Err(status) if status.code() == Code::Aborted => self.conflicts += 1,
                Err(status) => return Err(status),
            }
        }
        panic!("{payment:?} met {ATTEMPTS_MAX} conflicts");
    }
}

async fn payments_are_there(client: &mut Client, payers: &[Payer]) {
    let mut found: BTreeMap<i64, BTreeSet<Payment>> = BTreeMap::new();
    for row in ask(client, "SELECT client, n, payer, payee, amount FROM payments", None).await.unwrap() {
        found.entry(row[0]).or_default().insert([row[1], row[2], row[3], row[4]]);
    }
    for Payer { number, paid, asked, .. } in payers {
        let found = found.remove(number).unwrap_or_default();
        let with_asked: BTreeSet<Payment> = paid.iter().chain(asked).copied().collect();
        assert!(
            found == *paid || found == with_asked,
            "payer {number}: {:?}",
            paid.symmetric_difference(&found)
        );
    }
    assert_eq!(ask(client, UNBALANCED, None).await.unwrap(), Vec::<Vec<i64>>::new());
    let total = CREDIT * i64::try_from(ACCOUNTS).unwrap();
    let sums = ask(client, "SELECT count(*), sum(amount) FROM accounts", None).await.unwrap();
    assert_eq!(sums, [[i64::try_from(ACCOUNTS).unwrap(), total]]);
}

/// Sends batches of rows.
struct Loader {
    number: i64,
    client: Client,
    /// Batches that were acknowledged: 0 to this.
    loaded: i64,
}

impl Loader {
    async fn new(number: u64, client: Client) -> Self {
        Self { number: i64::try_from(number).unwrap(), client, loaded: 0 }
    }
}

impl Role for Loader {
    async fn step(&mut self) -> Result<(), Status> {
        let same = |value: i64| vec![value; usize::try_from(BATCH_ROWS).unwrap()];
        let values: Vec<i64> = (0..BATCH_ROWS).collect();
        let rows = integers(&[("client", &same(self.number)), ("n", &same(self.loaded)), ("v", &values)]);
        let append = (TableNotExistOption::Fail, TableExistsOption::Append);
        // As several messages.
        let rows = vec![rows.slice(0, 100), rows.slice(100, rows.num_rows() - 100)];
        assert_eq!(self.client.ingest("batches", append, rows, None).await?, BATCH_ROWS);
        self.loaded += 1;
        Ok(())
    }
}

async fn batches_are_there(client: &mut Client, loaders: &[Loader]) {
    let sql = "SELECT client, n, count(*), count(DISTINCT v) FROM batches GROUP BY client, n";
    let mut found: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for row in ask(client, sql, None).await.unwrap() {
        assert_eq!(row[2..], [BATCH_ROWS, BATCH_ROWS], "{row:?}");
        found.entry(row[0]).or_default().insert(row[1]);
    }
    for Loader { number, loaded, .. } in loaders {
        let found = found.remove(number).unwrap_or_default();
        let with_asked = (0..=*loaded).collect::<BTreeSet<_>>();
        assert!(found == (0..*loaded).collect() || found == with_asked, "loader {number}: {found:?}");
    }
}

/// Reads what must add up at every moment.
struct Reader {
    client: Client,
    lookup: PreparedStatement<Channel>,
    rng: StdRng,
    /// Rows of batches it has seen: they never become fewer.
    rows_seen: usize,
    read: u64,
}

impl Reader {
    async fn new(number: u64, mut client: Client) -> Self {
        let lookup = "SELECT id, amount FROM accounts WHERE id = $1".to_owned();
        let lookup = client.0.prepare(lookup, None).await.unwrap();
        Self { client, lookup, rng: StdRng::seed_from_u64(number), rows_seen: 0, read: 0 }
    }

    async fn account_by_key(&mut self) -> Result<(), Status> {
        let id = self.rng.random_range(0..i64::try_from(ACCOUNTS).unwrap());
        self.lookup.set_parameters(integers(&[("1", &[id])])).unwrap();
        let info = self.lookup.execute().await.map_err(status)?;
        let (schema, batches) = self.client.fetch(info).await?;
        let rows = render(&schema, &batches).rows();
        assert_eq!((rows.len(), rows[0][0].parse()), (1, Ok(id)));
        Ok(())
    }

    async fn snapshot(&mut self) -> Result<(), Status> {
        let transaction = self.client.0.begin_transaction().await.map_err(status)?;
        let sql = "SELECT (SELECT count(*) FROM payments), (SELECT sum(v) FROM entries), (SELECT count(*) FROM batches)";
        let first = ask(&mut self.client, sql, Some(&transaction)).await?;
        let second = ask(&mut self.client, sql, Some(&transaction)).await?;
        assert_eq!(first, second, "a transaction reads one version");
        self.client.0.end_transaction(transaction, EndTransaction::Rollback).await.map_err(status)
    }
}

impl Role for Reader {
    async fn step(&mut self) -> Result<(), Status> {
        match self.rng.random_range(0..5) {
            0 => {
                let sums = ask(&mut self.client, "SELECT sum(amount) FROM accounts", None).await?;
                assert_eq!(sums, [[CREDIT * i64::try_from(ACCOUNTS).unwrap()]]);
            }
            1 => assert_eq!(ask(&mut self.client, UNBALANCED, None).await?, Vec::<Vec<i64>>::new()),
            2 => {
                let rows = ask(&mut self.client, "SELECT n FROM batches", None).await?.len();
                assert_eq!(rows % usize::try_from(BATCH_ROWS).unwrap(), 0, "a batch is there in part");
                assert!(rows >= self.rows_seen, "{rows} rows of batches after {}", self.rows_seen);
                self.rows_seen = rows;
            }
            3 => self.snapshot().await?,
            _ => self.account_by_key().await?,
        }
        self.read += 1;
        Ok(())
    }
}
