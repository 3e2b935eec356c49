//! All that a task writes: the readers of each port of each of its nodes.

use super::exchange::Router;
use super::shares::Shares;
use crate::data::message::Message;
use crate::data::records::Records;
use crate::error::Result;

/// The readers of one port.
struct Port {
    node: usize,
    number: usize,
    readers: Vec<Router>,
}

/// What a task writes to.
#[derive(Default)]
pub struct Outlets(Vec<Port>);

impl Outlets {
    /// Adds a reader of a port of a node, by its index in the task.
    pub fn add(&mut self, node: usize, port: usize, reader: Router) {
        match self.0.iter_mut().find(|p| (p.node, p.number) == (node, port)) {
            Some(found) => found.readers.push(reader),
            None => self.0.push(Port { node, number: port, readers: vec![reader] }),
        }
    }

    /// Whether anyone reads a port.
    pub fn is_read(&self, node: usize, port: usize) -> bool {
        self.0.iter().any(|p| (p.node, p.number) == (node, port))
    }

    /// Sends rows to every reader of a port; waits where an edge is full. Rows that nobody reads are gone.
    pub async fn send(&mut self, node: usize, port: usize, records: Records, shares: &mut Shares) -> Result<()> {
        let Some(found) = self.0.iter_mut().find(|p| (p.node, p.number) == (node, port)) else { return Ok(()) };
        let Some((last, others)) = found.readers.split_last_mut() else { return Ok(()) };
        for reader in others {
            reader.send(records.clone(), shares).await?;
        }
        last.send(records, shares).await
    }

    /// Sends what exchanges hold back for company. Before a barrier, a watermark, the end, and every wait of the task.
    pub async fn flush(&mut self, shares: &mut Shares) -> Result<()> {
        for reader in self.0.iter_mut().flat_map(|p| &mut p.readers) {
            reader.flush(shares).await?;
        }
        Ok(())
    }

    /// Puts a barrier or the end on every edge, before any later rows on any of them.
    pub fn control(&self, message: &Message) -> Result<()> {
        self.0.iter().flat_map(|p| &p.readers).try_for_each(|r| r.control(message))
    }

    /// Puts a watermark on every edge.
    pub async fn watermark(&self, message: &Message) -> Result<()> {
        for reader in self.0.iter().flat_map(|p| &p.readers) {
            reader.watermark(message).await?;
        }
        Ok(())
    }
}
