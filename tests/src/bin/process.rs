//! The second process of the tests; see `cairn_tests::child`.

use std::io::{BufRead, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cairn_engine::{Engine, EngineOptions, OpenOptions, Root};
use cairn_server::{Server, ServerOptions};
use cairn_tests::child::Question;
use cairn_tests::damage::allocation::Counting;
use cairn_tests::damage::trial;
use cairn_tests::workload::{Crew, Said};
use cairn_tests::{Connection, SqlError, plan, tpch, workload};

/// Counts for `damage`, and lets all others pass.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["follow", root] => follow(Path::new(root)),
        ["plans", root] => plans(Root::parse(root)?),
        ["serve", root] => serve(Path::new(root)),
        ["damage"] => trial::serve(),
        ["write", root, seed, round] => write(Path::new(root), seed.parse()?, round.parse()?),
        // For answers/make.py.
        ["tpch-data", dir, scale] => Ok(tpch::write_parquet(Path::new(dir), scale.parse()?)?),
        ["tpch-query", number] => {
            for statement in tpch::query(number.parse()?) {
                say(&format!("{statement};"))?;
            }
            Ok(())
        }
        _ => Err(
            "usage: follow ROOT | plans ROOT | serve ROOT | damage | write ROOT SEED ROUND | tpch-data DIR SCALE | tpch-query N"
                .into(),
        ),
    }
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn follow(root: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let options = OpenOptions { read_only: true, create: false, ..OpenOptions::default() };
    let connection = Connection::open(Root::Path(root.to_path_buf()), options)?;
    for line in std::io::stdin().lock().lines() {
        let question: Question = serde_json::from_str(&line?)?;
        let reply = connection
            .run(&format!("WAIT FOR VERSION {}", question.version))
            .map_err(|e| SqlError::of_test(format!("WAIT FOR VERSION {}: {e}", question.version)))
            .and_then(|_| connection.run(&question.sql));
        say(&serde_json::to_string(&reply)?)?;
    }
    Ok(())
}

/// Runs plans made elsewhere, each behind its length: 8 bytes, little-endian.
fn plans(root: Root) -> Result<(), Box<dyn std::error::Error>> {
    let options = OpenOptions { read_only: true, create: false, ..OpenOptions::default() };
    let connection = Connection::open(root, options)?;
    let mut input = std::io::stdin().lock();
    loop {
        let mut length = [0; 8];
        if let Err(error) = input.read_exact(&mut length) {
            return match error.kind() {
                std::io::ErrorKind::UnexpectedEof => Ok(()),
                _ => Err(error.into()),
            };
        }
        let mut bytes = vec![0; usize::try_from(u64::from_le_bytes(length))?];
        input.read_exact(&mut bytes)?;
        let reply = connection.block_on(plan::run(connection.engine(), &bytes));
        say(&serde_json::to_string(&reply)?)?;
    }
}

/// Serves Flight SQL until the end of standard input.
fn serve(root: &Path) -> Result<(), Box<dyn std::error::Error>> {
    // Statements are planned by recursion, as deep in a test build as the stack of `cairn` allows.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().thread_stack_size(8 << 20).enable_all().build()?;
    runtime.block_on(async {
        let engine = Engine::open(Root::Path(root.to_path_buf()), EngineOptions::default()).await?;
        let flight = Some("127.0.0.1:0".parse()?);
        let options = ServerOptions { flight, http: None, ..ServerOptions::default() };
        let server = Server::bind(Arc::clone(&engine), options).await?;
        let address = server.flight_address().ok_or("Flight SQL listens nowhere")?;
        say(&address.to_string())?;
        let stop = async {
            let read = || std::io::stdin().read_to_end(&mut Vec::new());
            // Input that can't be read has ended, too.
            let _ = tokio::task::spawn_blocking(read).await;
        };
        tokio::spawn(server.run(stop)).await??;
        Ok(engine.close().await?)
    })
}

/// Writes on several connections until it is killed, and says which units have ended.
fn write(root: &Path, seed: u64, round: u64) -> Result<(), Box<dyn std::error::Error>> {
    let connection = Connection::open_dir(root, &workload::options(seed, round))?;
    say("ready")?;
    let crew = Crew { connection: &connection, root, seed, round };
    crew.work(&AtomicBool::new(false), &|said: Said| {
        if say(&said.to_string()).is_err() {
            // Nobody listens any more: the test is gone, and so must this be.
            std::process::exit(1);
        }
    })?;
    Err("the writers have ended by themselves".into())
}
