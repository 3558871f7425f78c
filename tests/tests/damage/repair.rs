//! Repairs through SQL, and of a directory that does not open: what is damaged is found by name, a dry run writes nothing, and afterwards VERIFY
//! DEEP is clean, every row that is left is one that was written, and what is gone is said.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_engine::{OfflineRepair, OpenOptions, RepairStatus, Root, repair_offline};
use cairn_tests::Connection;
use cairn_tests::damage::home::paths;
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path as ObjectPath;
use datafusion::object_store::{ObjectStore, ObjectStoreExt};
use futures::TryStreamExt;
use futures::executor::block_on;

use super::scratch;

/// Rows as they are shown: id and value.
type Rows = BTreeSet<Vec<String>>;

/// Where a database is.
enum Place {
    Directory(PathBuf),
    Store(Arc<InMemory>),
}

/// What is done to one object.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// A bit of this byte is another.
    Flip(usize),
    /// A bit in the middle is.
    Half,
    /// A bit so many bytes before the end is.
    FromEnd(usize),
    /// Two bytes of the block in the middle are.
    Two,
    Gone,
}

impl Place {
    fn root(&self) -> Root {
        match self {
            Self::Directory(path) => Root::Path(path.clone()),
            Self::Store(_) => Root::parse("s3://bucket/db").unwrap(),
        }
    }

    /// Nothing happens in it by itself.
    fn open(&self, read_only: bool) -> Connection {
        let store = match self {
            Self::Directory(_) => None,
            Self::Store(store) => Some(Arc::clone(store) as Arc<dyn ObjectStore>),
        };
        let options = OpenOptions {
            read_only,
            store,
            take_over: true,
            compacts: false,
            collects: false,
            checkpoint_wal_bytes: u64::MAX,
            close_wal_bytes: u64::MAX,
            ..OpenOptions::default()
        };
        Connection::open(self.root(), options).unwrap_or_else(|error| panic!("opening: {error}"))
    }

    /// Every object and its bytes, but for the note of who has it open.
    fn everything(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found: BTreeMap<String, Vec<u8>> = match self {
            Self::Directory(root) => paths(root)
                .into_iter()
                .map(|path| {
                    let bytes = fs::read(root.join(&path)).unwrap();
                    (path, bytes)
                })
                .collect(),
            Self::Store(store) => block_on(async {
                let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
                let mut found = BTreeMap::new();
                for object in listed {
                    let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
                    found.insert(object.location.to_string(), bytes.to_vec());
                }
                found
            }),
        };
        found.retain(|path, _| path != "lock" && path != "writer");
        found
    }

    /// A copy of it, below `place` when it is a directory.
    fn copied(&self, place: &Path, name: &str) -> Self {
        let copy = match self {
            Self::Directory(_) => Self::Directory(place.join(name)),
            Self::Store(_) => Self::Store(Arc::new(InMemory::new())),
        };
        for (path, bytes) in self.everything() {
            copy.put(&path, bytes);
        }
        copy
    }

    fn put(&self, path: &str, bytes: Vec<u8>) {
        match self {
            Self::Directory(root) => {
                let file = root.join(path);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, bytes).unwrap();
            }
            Self::Store(store) => {
                block_on(store.put(&ObjectPath::from(path), bytes.into())).unwrap();
            }
        }
    }

    fn harm(&self, path: &str, harm: Harm) {
        let mut bytes = self.everything().remove(path).unwrap();
        let at = match harm {
            Harm::Flip(at) => at,
            Harm::Half => bytes.len() / 2,
            Harm::FromEnd(distance) => bytes.len() - distance,
            Harm::Two => {
                let block = bytes.len() / 2 / 65_536 * 65_536;
                bytes[block + 100] ^= 0x40;
                block + 200
            }
            Harm::Gone => {
                match self {
                    Self::Directory(root) => fs::remove_file(root.join(path)).unwrap(),
                    Self::Store(store) => block_on(store.delete(&ObjectPath::from(path))).unwrap(),
                }
                return;
            }
        };
        bytes[at] ^= 0x40;
        self.put(path, bytes);
    }
}

/// Three checkpoints, the last with a `.deletes` object, and a log with what came behind.
fn made(place: &Place) -> Truth {
    let db = place.open(false);
    for statement in [
        "CREATE TABLE k (id BIGINT PRIMARY KEY, v TEXT)",
        "INSERT INTO k SELECT value, 'v' || value FROM generate_series(1, 400) AS g(value)",
        "CREATE TABLE big (id BIGINT PRIMARY KEY, v TEXT)",
        "INSERT INTO big SELECT value, md5(CAST(value AS TEXT)) FROM generate_series(1, 10000) AS g(value)",
        "CREATE TABLE e (id BIGINT PRIMARY KEY, e VECTOR(4))",
        "INSERT INTO e SELECT value, ARRAY[value, value % 7, value % 5, 1] FROM generate_series(1, 60) AS g(value)",
        "CHECKPOINT",
        "CREATE INDEX e_e ON e USING hnsw (e) WITH (metric = 'l2')",
        "CHECKPOINT",
        "DELETE FROM k WHERE id % 10 = 0",
        "CHECKPOINT",
        "INSERT INTO k VALUES (1001, 'hot')",
        "DELETE FROM k WHERE id = 7",
    ] {
        db.exec(statement);
    }
    let truth = Truth {
        k: rows(&db, "k"),
        written: (1..=400).map(|id| vec![id.to_string(), format!("v{id}")]).collect(),
        big: rows(&db, "big"),
    };
    assert_eq!((truth.k.len(), truth.big.len()), (360, 10_000));
    db.close().unwrap();
    truth
}

/// What stands in it.
#[derive(Clone)]
struct Truth {
    k: Rows,
    /// What was ever inserted into `k` before the first checkpoint.
    written: Rows,
    big: Rows,
}

fn rows(db: &Connection, table: &str) -> Rows {
    db.rows(&format!("SELECT id, v FROM {table}")).into_iter().collect()
}

/// Rows of all tables that repairs have made.
fn lost_and_found(db: &Connection) -> Rows {
    let tables = db.rows("SELECT name FROM system.tables WHERE \"schema\" = 'lost_and_found'");
    tables.iter().flat_map(|name| rows(db, &format!("lost_and_found.\"{}\"", name[0]))).collect()
}

#[track_caller]
fn is_clean(db: &Connection, when: &str) {
    let findings = db.rows("VERIFY DEEP");
    let bad = findings.iter().find(|finding| finding[2] != "ok" && finding[2] != "warning");
    assert!(bad.is_none() && !findings.is_empty(), "{when}: {bad:?}");
}

/// What becomes of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Nothing,
    /// Pages of `big`.
    Part,
    /// The segment of `k`.
    Segment,
    /// What is deleted in the segment of `k`: its rows are aside, those that were deleted too.
    Deletes,
}

struct Case {
    /// The object, of all that are there.
    object: fn(&[String]) -> String,
    harm: Harm,
    /// Done while it is open for writing; else before.
    late: bool,
    /// In what VERIFY says of it.
    told: &'static str,
    /// What is done about it.
    action: &'static str,
    loss: Loss,
}

/// The first object of this folder with this end.
fn first(paths: &[String], folder: &str, end: &str) -> String {
    paths.iter().find(|path| path.starts_with(folder) && path.ends_with(end)).unwrap().clone()
}

/// The nth from the end of the numbered objects of a folder.
fn from_the_end(paths: &[String], folder: &str, nth: usize) -> String {
    paths.iter().rev().filter(|path| path.starts_with(&format!("{folder}/0"))).nth(nth).unwrap().clone()
}

const SEGMENTS: [Case; 7] = [
    Case {
        object: |paths| first(paths, "table/2/", ".parquet"),
        harm: Harm::Two,
        late: false,
        told: "at offset",
        action: "salvage",
        loss: Loss::Part,
    },
    Case {
        object: |paths| first(paths, "table/2/", ".parquet"),
        harm: Harm::Half,
        late: false,
        told: "at offset",
        action: "mend",
        loss: Loss::Nothing,
    },
    Case {
        object: |paths| first(paths, "table/1/", ".parquet"),
        harm: Harm::FromEnd(30),
        late: false,
        told: "in the footer at offset",
        action: "mend",
        loss: Loss::Nothing,
    },
    Case {
        object: |paths| first(paths, "table/1/", ".parquet"),
        harm: Harm::Gone,
        late: false,
        told: "bytes were written",
        action: "salvage",
        loss: Loss::Segment,
    },
    Case {
        object: |paths| first(paths, "table/1/", ".keys"),
        harm: Harm::Half,
        late: false,
        told: "bytes 0 to",
        action: "write anew",
        loss: Loss::Nothing,
    },
    Case {
        object: |paths| first(paths, "table/1/", ".deletes"),
        harm: Harm::Half,
        late: false,
        told: "at offset",
        action: "salvage",
        loss: Loss::Deletes,
    },
    Case {
        object: |paths| first(paths, "table/3/", ".hnsw"),
        harm: Harm::Half,
        late: false,
        told: "at byte",
        action: "build again",
        loss: Loss::Nothing,
    },
];

const OTHERS: [Case; 6] = [
    Case {
        object: |paths| from_the_end(paths, "manifest", 1),
        harm: Harm::Half,
        late: false,
        told: "at offset",
        action: "mark",
        loss: Loss::Nothing,
    },
    Case {
        object: |paths| from_the_end(paths, "manifest", 0),
        harm: Harm::Half,
        late: true,
        told: "at offset",
        action: "checkpoint",
        loss: Loss::Nothing,
    },
    Case {
        object: |paths| from_the_end(paths, "manifest", 0),
        harm: Harm::Gone,
        late: true,
        told: "",
        action: "checkpoint",
        loss: Loss::Nothing,
    },
    Case {
        // Of the process before.
        object: |paths| from_the_end(paths, "wal", 1),
        harm: Harm::Flip(200),
        late: true,
        told: "at offset 128",
        action: "checkpoint",
        loss: Loss::Nothing,
    },
    Case {
        object: |_| "wal/tip".to_owned(),
        harm: Harm::Half,
        late: true,
        told: "32 bytes",
        action: "checkpoint",
        loss: Loss::Nothing,
    },
    Case {
        object: |_| "CAIRN".to_owned(),
        harm: Harm::Half,
        late: true,
        told: "checksum",
        action: "write anew",
        loss: Loss::Nothing,
    },
];

/// Harms a copy, looks, repairs, looks again.
fn try_case(pristine: &Place, place: &Path, truth: &Truth, case: &Case) {
    let mut truth = truth.clone();
    let copy = pristine.copied(place, "repaired");
    let object = |copy: &Place| (case.object)(&copy.everything().into_keys().collect::<Vec<_>>());
    let (db, path);
    if case.late {
        db = copy.open(false);
        db.exec("INSERT INTO k VALUES (2001, 'later')");
        truth.k.insert(vec!["2001".to_owned(), "later".to_owned()]);
        path = object(&copy);
        copy.harm(&path, case.harm);
    } else {
        path = object(&copy);
        copy.harm(&path, case.harm);
        // A writer would begin to build a lost index unit again.
        db = copy.open(true);
    }
    let what = format!("{path}, {:?}", case.harm);

    let findings = db.rows("VERIFY DEEP");
    let found = findings.iter().find(|row| row[0] == path && (row[2] == "damaged" || row[2] == "missing"));
    let found = found.unwrap_or_else(|| panic!("{what} is not found: {findings:?}"));
    assert!(found[3].contains(case.told) && !found[4].is_empty(), "{what}: {found:?}");

    let before = copy.everything();
    let planned = db.rows("VERIFY REPAIR DRY RUN");
    assert!(copy.everything() == before, "{what}: a dry run has written");
    assert!(planned.iter().all(|row| row[2] == "planned" || row[2] == "left"), "{what}: {planned:?}");
    assert!(planned.iter().any(|row| row[1] == case.action && row[2] == "planned"), "{what}: {planned:?}");
    let db = match case.late {
        true => db,
        false => {
            db.close().unwrap();
            copy.open(false)
        }
    };

    let done = db.rows("VERIFY REPAIR");
    assert!(done.iter().all(|row| row[2] == "done"), "{what}: {done:?}");
    let row = done.iter().find(|row| row[1] == case.action);
    let row = row.unwrap_or_else(|| panic!("{what}: {done:?}"));
    is_clean(&db, &what);
    judge(&db, &truth, case, &row[3]);
    db.close().unwrap();

    let db = copy.open(false);
    judge(&db, &truth, case, &row[3]);
    is_clean(&db, &what);
    let again = db.rows("VERIFY REPAIR");
    assert!(again.iter().all(|row| row[1] == "collect"), "{what}: {again:?}");
    db.close().unwrap();
    if let Place::Directory(root) = &copy {
        fs::remove_dir_all(root).unwrap();
    }
}

/// Whether the rows are those that can be there, and what was said is true.
#[track_caller]
fn judge(db: &Connection, truth: &Truth, case: &Case, said: &str) {
    let (k, big, found) = (rows(db, "k"), rows(db, "big"), lost_and_found(db));
    let hot: Rows = truth.k.difference(&truth.written).cloned().collect();
    match case.loss {
        Loss::Nothing => {
            assert!(k == truth.k && big == truth.big && found.is_empty());
        }
        Loss::Part => {
            assert!(k == truth.k && big.is_empty());
            assert!(found.is_subset(&truth.big) && !found.is_empty());
            let lost = truth.big.len() - found.len();
            assert!(lost > 0 && said.contains(&format!("{lost} rows of 10000 are lost")), "{lost}: {said}");
            assert!(said.contains(&format!("{} rows of public.big", found.len())), "{said}");
        }
        Loss::Segment => {
            assert!(k == hot && big == truth.big && found.is_empty());
            assert!(said.contains("rows of 400 are lost"), "{said}");
        }
        Loss::Deletes => {
            assert!(k == hot && big == truth.big);
            let visible: Rows = truth.k.intersection(&truth.written).cloned().collect();
            assert!(found.is_subset(&truth.written) && found.is_superset(&visible));
            assert!(said.contains("may be deleted ones"), "{said}");
        }
    }
    assert_eq!(db.rows("SELECT count(*) FROM e"), [["60"]]);
}

#[test]
fn what_verify_finds_in_a_directory_is_repaired_and_nothing_is_invented() {
    let place = scratch().unwrap();
    let pristine = Place::Directory(place.path().join("pristine"));
    let truth = made(&pristine);
    for case in SEGMENTS.iter().chain(&OTHERS) {
        try_case(&pristine, place.path(), &truth, case);
    }
}

#[test]
fn what_verify_finds_in_a_store_is_repaired_and_nothing_is_invented() {
    let place = scratch().unwrap();
    let pristine = Place::Store(Arc::new(InMemory::new()));
    let truth = made(&pristine);
    for case in &SEGMENTS {
        try_case(&pristine, place.path(), &truth, case);
    }
}

/// Object, action and status of each row of a repair without the database.
fn offline(place: &Place, asked: OfflineRepair) -> Vec<(String, String, RepairStatus)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let done = runtime.block_on(repair_offline(&place.root(), &OpenOptions::default(), asked)).unwrap();
    done.into_iter().map(|row| (row.object, row.action, row.status)).collect()
}

/// Whether this action is among the rows, and all of them ended so.
#[track_caller]
fn all_are(rows: &[(String, String, RepairStatus)], action: &str, status: RepairStatus) {
    assert!(rows.iter().any(|row| row.1 == action), "{rows:?}");
    assert!(rows.iter().all(|row| row.2 == status), "{rows:?}");
}

/// Repairs a directory that does not open; rows of `k` then.
fn repaired_offline(copy: &Place, action: &str, loses: bool) -> Rows {
    let before = copy.everything();
    let dry = OfflineRepair { dry_run: true, accept_loss: true };
    all_are(&offline(copy, dry), action, RepairStatus::Planned);
    assert!(copy.everything() == before, "a dry run has written");
    if loses {
        all_are(&offline(copy, OfflineRepair::default()), action, RepairStatus::Left);
        assert!(copy.everything() == before, "commits are lost although nobody has agreed");
    }
    let asked = OfflineRepair { dry_run: false, accept_loss: loses };
    all_are(&offline(copy, asked), action, RepairStatus::Done);
    assert!(offline(copy, OfflineRepair::default()).is_empty());
    let db = copy.open(false);
    let left = db.rows("VERIFY REPAIR");
    assert!(left.iter().all(|row| row[2] == "done"), "{left:?}");
    is_clean(&db, action);
    let found = rows(&db, "k");
    db.close().unwrap();
    found
}

#[test]
fn a_directory_that_does_not_open_is_repaired_as_far_as_was_agreed() {
    let place = scratch().unwrap();
    let pristine = Place::Directory(place.path().join("pristine"));
    let truth = made(&pristine);
    let objects: Vec<String> = pristine.everything().into_keys().collect();

    let copy = pristine.copied(place.path(), "identity");
    copy.harm("CAIRN", Harm::Half);
    assert!(repaired_offline(&copy, "write anew", false) == truth.k);

    let copy = pristine.copied(place.path(), "gap");
    copy.harm(&from_the_end(&objects, "manifest", 1), Harm::Gone);
    assert!(repaired_offline(&copy, "mark", false) == truth.k);

    // Without what came behind the last checkpoint: the hot row is gone, the deleted one is back.
    let copy = pristine.copied(place.path(), "log");
    copy.harm(&from_the_end(&objects, "wal", 0), Harm::Flip(200));
    let left = repaired_offline(&copy, "cut", true);
    let deleted = |row: &&Vec<String>| row[0].parse::<i64>().unwrap() % 10 != 0;
    assert!(left == truth.written.iter().filter(deleted).cloned().collect::<Rows>());

    // The manifest before knows nothing of the deletes.
    let copy = pristine.copied(place.path(), "manifest");
    copy.harm(&from_the_end(&objects, "manifest", 0), Harm::Half);
    assert!(repaired_offline(&copy, "fall back", true) == truth.written);
}
