//! Keyed state: `state keys 50000000 [MIB]` counts random keys of 8 bytes, with so much in memory and the rest on the disk, and
//! `state checkpoints 1000000` says what a checkpoint of so many costs the task, and what it takes to come back.
#![expect(clippy::print_stdout, reason = "it prints its figures")]
#![expect(clippy::disallowed_methods, reason = "it reads clocks, and its own resident memory from the kernel")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::DataType;
use bourn_engine::checkpoint::keeper::{Keeper, Sealed};
use bourn_engine::checkpoint::recovery::{Recovered, find};
use bourn_engine::checkpoint::saved::{SavedPiece, Saver};
use bourn_engine::checkpoint::{Folder, Store};
use bourn_engine::env::Env;
use bourn_engine::state::visitor::{Owned, StateVisitor};
use bourn_engine::state::{Piece, Room, Table};
use bourn_engine::{Error, Result};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: usize = 8_192;

/// A key of each number, that looks like chance.
fn key(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A count and the largest number seen, by key.
struct Counts(Table<(i64, i64)>);

impl Counts {
    fn new(room: Option<Room>) -> Result<Self> {
        let mut table = Table::new([DataType::UInt64])?;
        if let Some(room) = room {
            table.confine(&room);
        }
        Ok(Self(table))
    }

    fn count(&mut self, numbers: impl Iterator<Item = u64>) -> Result<()> {
        let keys: ArrayRef = Arc::new(UInt64Array::from_iter_values(numbers.map(key)));
        for (row, (slot, _)) in self.0.slots(&[keys])?.into_iter().enumerate() {
            let value = self.0.get_mut(slot);
            *value = (value.0 + 1, value.1.max(i64::try_from(row)?));
        }
        Ok(())
    }
}

/// A figure of this process that the kernel keeps, in MiB.
fn resident(which: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(which)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) >> 10
}

/// CPU seconds of this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.get(11..13).map_or(0.0, |f| f.iter().filter_map(|n| n.parse::<f64>().ok()).sum::<f64>() / 100.0)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize, other: u64| arguments.get(at).and_then(|a| a.parse().ok()).unwrap_or(other);
    let folder = PathBuf::from("target/state-bench");
    let done = match arguments.get(1).map(String::as_str) {
        Some("checkpoints") => checkpoints(number(2, 1_000_000), &folder),
        _ => keys(number(2, 50_000_000), number(3, 1_024), number(4, 30), &folder),
    };
    let _ = std::fs::remove_dir_all(&folder);
    done
}

fn keys(count: u64, mib: u64, seconds: u64, folder: &Path) -> Result<()> {
    let (memory, folder) = (usize::try_from(mib)? << 20, folder.to_owned());
    let room = Room { memory, env: Env::system(), folder, name: "keys".into(), file: Room::FILE };
    let mut counts = Counts::new((mib > 0).then_some(room))?;
    let mut phase = |name: &str, until: &mut dyn FnMut(u64, Duration) -> bool, of: &dyn Fn(u64) -> u64| {
        let (start, used, mut rows, mut longest) = (Instant::now(), cpu(), 0, Duration::ZERO);
        while until(rows, start.elapsed()) {
            let batch = Instant::now();
            counts.count((rows..rows + ROWS as u64).map(of))?;
            (rows, longest) = (rows + ROWS as u64, longest.max(batch.elapsed()));
        }
        let (seconds, used) = (start.elapsed().as_secs_f64(), cpu() - used);
        println!(
            "{name}: {rows} rows, {:.0} rows/s, {:.0} rows per CPU-second, longest batch {longest:.1?}, resident {} MiB, at most {} MiB",
            rows as f64 / seconds,
            rows as f64 / used,
            resident("VmRSS"),
            resident("VmHWM"),
        );
        Ok::<_, Error>(())
    };
    phase("each key once", &mut |rows, _| rows < count, &|row| row % count)?;
    phase("keys at random", &mut |_, time| time < Duration::from_secs(seconds), &|row| key(row ^ 0x5555) % count)
}

/// How long this thread could have run and had no core, as the kernel counts it.
fn queued() -> Duration {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(said.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or_default())
}

/// What a checkpoint of one table is.
fn sealed(epoch: u64, table: &mut Table<(i64, i64)>) -> Result<Sealed> {
    let (node, mut pieces): (Arc<str>, Vec<SavedPiece>) = ("count".into(), Vec::new());
    Saver { node: &node, lane: 0, into: &mut pieces }.piece("counts", table)?;
    let at = bourn_engine::time::Timestamp(0);
    let node = bourn_engine::checkpoint::manifest::Node { lanes: 1, ..Default::default() };
    Ok(Sealed { epoch, at, last: false, nodes: BTreeMap::from([("count".into(), node)]), pieces })
}

/// Writes what comes.
fn writer(store: Arc<dyn Store>, sealed: Receiver<Sealed>) -> Result<()> {
    let env = Env::system();
    let mut keeper = Keeper::new(store, ("state".into(), "run".into(), "writer".into()), 3, (Vec::new(), Vec::new()));
    while let Ok(sealed) = sealed.recv() {
        keeper.take(sealed);
        keeper.write(&env)?;
        keeper.sweep(&env)?;
    }
    Ok(())
}

fn checkpoints(count: u64, folder: &Path) -> Result<()> {
    let mut counts = Counts::new(None)?;
    (0..count.div_ceil(ROWS as u64))
        .try_for_each(|n| counts.count((n * ROWS as u64..(n + 1) * ROWS as u64).map(|n| n % count)))?;
    let store: Arc<dyn Store> = Arc::new(Folder::new(Env::system(), folder, "state"));
    let (send, receive) = sync_channel(1);
    let (mut row, mut epoch) = (0, 0);
    let (mut stood, mut snapshot, mut used) = ([Duration::ZERO; 2], (Duration::ZERO, Duration::ZERO), [0.0; 2]);
    let seconds = 10;
    std::thread::scope(|scope| {
        let to = store.clone();
        let writer = scope.spawn(move || writer(to, receive));
        for round in 0..6 {
            let with = round % 2;
            let (start, before) = (Instant::now(), cpu());
            for second in 0..seconds {
                // 200,000 rows in each second, and a checkpoint at its beginning.
                let mut batches = 0;
                if with == 1 {
                    let (begun, before) = (Instant::now(), queued());
                    epoch += 1;
                    let sealed = sealed(epoch, &mut counts.0)?;
                    snapshot = snapshot.max((begun.elapsed(), queued().saturating_sub(before)));
                    let _ = send.send(sealed);
                }
                while batches * ROWS < 200_000 {
                    let begun = Instant::now();
                    counts.count((row..row + ROWS as u64).map(|row| key(row) % count))?;
                    stood[with] = stood[with].max(begun.elapsed());
                    (row, batches) = (row + ROWS as u64, batches + 1);
                    let due = Duration::from_secs(second) + Duration::from_millis(40) * u32::try_from(batches)?;
                    std::thread::park_timeout(due.saturating_sub(start.elapsed()));
                }
            }
            used[with] += (cpu() - before) / 3.0 / seconds as f64;
        }
        drop(send);
        writer.join().map_err(|_| Error::engine("the writer panicked"))?
    })?;
    println!(
        "longest that the task stands still, {count} keys: {:.1?} for a snapshot, of which it had no core for {:.1?}; {:.1?} for a batch without checkpoints, {:.1?} with one a second",
        snapshot.0, snapshot.1, stood[0], stood[1]
    );
    println!("CPU of one core: {:.1} % without, {:.1} % with one a second", used[0] * 100.0, used[1] * 100.0);
    let start = Instant::now();
    let found = find(&*store)?;
    let newest = found.complete.last().ok_or_else(|| Error::engine("no checkpoint"))?;
    let bytes = newest.bytes();
    let recovered = Recovered::open(store.clone(), newest.clone(), false)?;
    let mut back = Counts::new(None)?;
    recovered.loader("count", Owned { lane: 0, lanes: 1 }, true).piece("counts", &mut back.0)?;
    println!("back from {} MiB: {} keys in {:.2?}", bytes >> 20, back.0.len(), start.elapsed());
    Ok(())
}
