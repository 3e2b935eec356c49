//! What a stage keeps between batches. Only the types of this folder hold it, so that the engine can save and restore it.

pub mod buffer;
pub mod cells;
pub mod key_group;
pub mod keyed;
pub mod room;
pub mod table;
pub mod value;
pub mod visitor;

pub use buffer::Buffer;
pub use cells::Cells;
pub use keyed::Keyed;
pub use room::Room;
pub use table::{Slot, Table};
pub use value::Value;
pub use visitor::{Piece, StateVisitor};
