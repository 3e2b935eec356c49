//! A source, a sink and a stage of one's own: each a configuration, which is what a spec says, and what runs.

pub mod countdown;
pub mod double;
pub mod note;

pub use countdown::Countdown;
pub use double::Double;
pub use note::Note;

use bourn_engine::api::Registry;

/// Everything of this crate, for an engine to know: `Engine::new(outside::register(Registry::new()))`.
pub fn register(registry: Registry) -> Registry {
    registry.connector::<Countdown>().connector::<Note>().stage::<Double>()
}
