//! `bourn checkpoints`: what is kept of a job, looked at, checked, deleted.

pub mod args;
mod of_run;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bourn_engine::api::checkpointing::CHECKPOINTS;
use bourn_engine::api::{Checkpointing, Place, StoreAt};
use bourn_engine::checkpoint::manifest::{self, Node};
use bourn_engine::checkpoint::recovery::{Found, find, verify};
use bourn_engine::checkpoint::{Folder, Manifest, Store, store};
use bourn_engine::data::units::Size;
use bourn_engine::diagnostic::Problems;
use bourn_engine::{Engine, Error, Kind};
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::answer;
use crate::args::{Form, Spec};
use crate::failure::{Exit, Failure};
use crate::prepare;
use crate::run::documents::Documents;
use crate::screen::Screen;
use args::Checkpoints;

/// Does what the command line says.
///
/// # Errors
/// When there is no such job or checkpoint, or the disk fails.
pub fn run(what: &Checkpoints, screen: &Screen) -> Result<Exit, Failure> {
    let job = match what {
        Checkpoints::List { job, journal } if of_run::is_run(job) => {
            return of_run::list(job, &journal.journal, screen.form);
        }
        Checkpoints::List { job, .. } => job,
        Checkpoints::Show { job, .. } | Checkpoints::Verify { job, .. } | Checkpoints::Delete { job, .. } => &job.job,
    };
    // The client of a bucket lives on a runtime; the calls of a store block, which this thread may.
    let runtime = prepare::runtime()?;
    let _within = runtime.enter();
    let (store, staged) = kept(job)?;
    match what {
        Checkpoints::List { .. } => list(&*store, screen.form),
        Checkpoints::Show { id, .. } => show(&*store, *id, screen.form),
        Checkpoints::Verify { id, .. } => check(&*store, *id, screen.form),
        Checkpoints::Delete { ids, all, .. } => {
            let Some(lock) = store.lock().map_err(Failure::Failed)? else {
                let message = format!("{}: a run of the job is at work here", store.place());
                return Err(Failure::Failed(Error::new(Kind::Io, message)));
            };
            let deleted = if *all { delete_all(&*store, &staged) } else { delete(&*store, ids) };
            lock.release();
            screen.notice(&format!("{}: {}", store.place(), deleted?));
            Ok(Exit::Ok)
        }
    }
}

/// The store of a spec's job, or that in a folder or at a URL, with the folder of what sinks have staged.
fn kept(job: &str) -> Result<(Arc<dyn Store>, PathBuf), Failure> {
    let engine = Engine::new(prepare::registry());
    let env = engine.env();
    if Path::new(job).is_dir() {
        let folder = Folder::at(env.clone(), job);
        let staged = folder.path().join("staged");
        return Ok((Arc::new(folder), staged));
    }
    if job.contains("://") {
        let at = StoreAt { url: job.trim_end_matches('/').to_owned(), ..StoreAt::default() };
        let told = |message: String| Failure::invalid(format!("{job}: {message}"));
        let config =
            engine.registry().store_at(at).map_err(|p| told(Error::from(Problems::from(p)).message().into()))?;
        config.check(env).map_err(|problems| told(Error::from(problems).message().into()))?;
        let name = job.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let staged = bourn_engine::api::Checkpoints::in_folder(CHECKPOINTS).staged(name);
        return Ok((config.open(None, env).map_err(Failure::Failed)?, staged));
    }
    let spec = Spec { path: job.to_owned(), mode: None, routing: None };
    let loaded = prepare::load(&spec, &engine)?;
    let graph = prepare::graph(&loaded, &prepare::no_runs(), Documents::lines(), false);
    let kept = match &graph.options.checkpoints {
        Checkpointing::On(at) | Checkpointing::WhereNeeded(at) => at,
        Checkpointing::Off => {
            return Err(Failure::invalid(format!(
                "{job} keeps no checkpoints: it says `checkpoint: false`, or is a workflow"
            )));
        }
    };
    if let Place::Store(config) = &kept.at {
        config
            .check(env)
            .map_err(|problems| Failure::invalid(format!("{job}: {}", Error::from(problems).message())))?;
    }
    let store = store::open(&kept.at, &graph.name, env).map_err(Failure::Failed)?;
    Ok((store, kept.staged(&graph.name)))
}

fn found(store: &dyn Store) -> Result<Found, Failure> {
    let found = find(store).map_err(Failure::Failed)?;
    if found.complete.is_empty() && found.unreadable.is_empty() {
        return Err(Failure::Failed(Error::new(
            Kind::NotFound,
            format!("there is no checkpoint in {}", store.place()),
        )));
    }
    Ok(found)
}

/// What became of the run behind a checkpoint.
fn state(manifest: &Manifest, found: &Found) -> &'static str {
    match (manifest.last, found.settled.contains(&manifest.epoch)) {
        (true, true) => "ended",
        (false, true) => "stopped",
        _ => "complete",
    }
}

fn list(store: &dyn Store, form: Form) -> Result<Exit, Failure> {
    let found = found(store)?;
    if form == Form::Json {
        let one = |m: &Manifest| {
            json!({
                "id": m.epoch, "written": m.written.to_string(), "state": state(m, &found), "run": m.run,
                "keys_and_rows": rows(m), "bytes": m.bytes(),
            })
        };
        let broken = |(id, e): &(u64, Error)| json!({ "id": id, "state": "unreadable", "reason": e.message() });
        let all: Vec<Value> = found.complete.iter().map(one).chain(found.unreadable.iter().map(broken)).collect();
        answer::print(&Value::from(all).to_string())?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["id", "written", "state", "rows of state", "size", "run"]);
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    for m in &found.complete {
        table.add_row([
            right(m.epoch.to_string()),
            Cell::new(m.written),
            Cell::new(state(m, &found)),
            right(rows(m).to_string()),
            right(Size(m.bytes()).to_string()),
            Cell::new(&m.run),
        ]);
    }
    for (id, e) in &found.unreadable {
        table.add_row([right(id.to_string()), Cell::new(""), Cell::new(format!("unreadable: {}", e.message()))]);
    }
    answer::print(&table.trim_fmt())?;
    Ok(Exit::Ok)
}

fn rows(manifest: &Manifest) -> u64 {
    manifest.nodes.values().map(rows_of).sum()
}

fn rows_of(node: &Node) -> u64 {
    node.pieces.iter().flat_map(|p| &p.chunks).map(|c| c.rows).sum()
}

/// The checkpoint of this number, or the newest.
fn chosen<'a>(store: &dyn Store, found: &'a Found, id: Option<u64>) -> Result<&'a Manifest, Failure> {
    let id = id.or_else(|| found.complete.last().map(|m| m.epoch));
    if let Some((epoch, e)) = found.unreadable.iter().find(|(epoch, _)| id == Some(*epoch)) {
        return Err(Failure::Failed(Error::new(e.kind(), format!("checkpoint {epoch}: {}", e.message()))));
    }
    found.complete.iter().find(|m| Some(m.epoch) == id).ok_or_else(|| {
        let id = id.map_or_else(|| "that can be read".to_owned(), |id| id.to_string());
        Failure::Failed(Error::new(Kind::NotFound, format!("there is no checkpoint {id} in {}", store.place())))
    })
}

fn show(store: &dyn Store, id: Option<u64>, form: Form) -> Result<Exit, Failure> {
    let found = found(store)?;
    let manifest = chosen(store, &found, id)?;
    if form == Form::Json {
        answer::print(&serde_json::to_string(manifest).map_err(|e| Failure::Failed(e.into()))?)?;
        return Ok(Exit::Ok);
    }
    let mut said = vec![format!(
        "checkpoint {} of {}, {} ({}), {}",
        manifest.epoch,
        manifest.job,
        manifest.written,
        state(manifest, &found),
        Size(manifest.bytes())
    )];
    for (id, node) in &manifest.nodes {
        let lanes = if node.lanes > 1 { format!(" x {}", node.lanes) } else { String::new() };
        said.push(format!("\n{id} ({}{lanes})", node.kind));
        said.extend(node.splits.iter().map(|(split, position)| format!("  {split}: {position}")));
        if !node.finished.is_empty() {
            said.push("  has ended".to_owned());
        }
        for piece in &node.pieces {
            let rows: u64 = piece.chunks.iter().map(|c| c.rows).sum();
            let bytes: u64 = piece.chunks.iter().map(|c| c.bytes).sum();
            said.push(format!("  {} of lane {}: {rows} rows, {}", piece.name, piece.lane, Size(bytes)));
        }
        said.extend(node.receipts.iter().map(|(lane, r)| format!("  lane {lane} prepared {}", r.json())));
    }
    answer::print(&said.join("\n"))?;
    Ok(Exit::Ok)
}

fn check(store: &dyn Store, id: Option<u64>, form: Form) -> Result<Exit, Failure> {
    let found = found(store)?;
    let mut broken: Vec<(u64, String)> = found.unreadable.iter().map(|(id, e)| (*id, e.message().to_owned())).collect();
    let mut whole = Vec::new();
    for manifest in &found.complete {
        match verify(store, manifest) {
            Ok(()) => whole.push(manifest.epoch),
            Err(e) => broken.push((manifest.epoch, e.message().to_owned())),
        }
    }
    if let Some(id) = id {
        whole.retain(|w| *w == id);
        broken.retain(|(b, _)| *b == id);
        if whole.is_empty() && broken.is_empty() {
            chosen(store, &found, Some(id))?;
        }
    }
    let text = match form {
        Form::Json => {
            let broken: Vec<Value> = broken.iter().map(|(id, reason)| json!({ "id": id, "reason": reason })).collect();
            json!({ "whole": whole, "broken": broken }).to_string()
        }
        Form::Text => {
            let whole = whole.iter().map(|id| format!("{id}: whole\n"));
            whole.chain(broken.iter().map(|(id, reason)| format!("{id}: {reason}\n"))).collect()
        }
    };
    answer::print(&text)?;
    Ok(if broken.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// Removes everything. Manifests first: one without its parts would look damaged.
fn delete_all(store: &dyn Store, staged: &Path) -> Result<String, Failure> {
    let names = store.names().map_err(Failure::Failed)?;
    let (manifests, others): (Vec<_>, Vec<_>) = names.iter().partition(|n| manifest::epoch_of(n).is_some());
    for name in manifests.into_iter().chain(others).filter(|n| *n != "lock") {
        store.remove(name).map_err(Failure::Failed)?;
    }
    if staged.is_dir() {
        std::fs::remove_dir_all(staged).map_err(|e| Failure::Failed(Error::from(e).context(staged.display())))?;
    }
    Ok("all checkpoints are deleted".to_owned())
}

fn delete(store: &dyn Store, ids: &[u64]) -> Result<String, Failure> {
    let found = found(store)?;
    let remove = |name: &str| store.remove(name).map_err(Failure::Failed);
    let there =
        |id: &u64| found.complete.iter().any(|m| m.epoch == *id) || found.unreadable.iter().any(|(e, _)| e == id);
    if let Some(id) = ids.iter().find(|id| !there(id)) {
        return Err(Failure::Failed(Error::new(
            Kind::NotFound,
            format!("there is no checkpoint {id} in {}", store.place()),
        )));
    }
    let (gone, stay): (Vec<_>, Vec<_>) = found.complete.iter().partition(|m| ids.contains(&m.epoch));
    for id in ids {
        remove(&manifest::name(*id))?;
        remove(&manifest::settled_name(*id))?;
    }
    let needed = |name: &str| stay.iter().any(|m| m.parts.iter().any(|p| p.name == name));
    for part in gone.iter().flat_map(|m| &m.parts).filter(|p| !needed(&p.name)) {
        remove(&part.name)?;
    }
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    Ok(format!("deleted {}", ids.join(", ")))
}
