//! Scripted programs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::lock;
use crate::env::{Finished, Program};
use crate::error::{Error, Kind, Result};

type Script = Arc<dyn Fn(&Program) -> (Duration, Result<Finished>) + Send + Sync>;

#[derive(Default)]
pub(super) struct Programs(Mutex<BTreeMap<String, Script>>);

impl Programs {
    pub(super) fn add(
        &self,
        name: &str,
        script: impl Fn(&Program) -> (Duration, Result<Finished>) + Send + Sync + 'static,
    ) {
        lock(&self.0).insert(name.to_owned(), Arc::new(script));
    }

    /// How long the program runs, and what it leaves; what the real world does about time and output holds here too.
    pub(super) fn run(&self, program: &Program) -> (Duration, Result<Finished>) {
        let Some(name) = program.argv.first() else {
            let empty = Error::validation("the argument list is empty: there is no program to run");
            return (Duration::ZERO, Err(empty));
        };
        let script = lock(&self.0).get(name).cloned();
        let Some(script) = script else {
            return (Duration::ZERO, Err(Error::new(Kind::NotFound, format!("starting `{name}`: no such program"))));
        };
        let (time, finished) = script(program);
        if time > program.timeout {
            let late = format!("`{name}` ran longer than {:?} and was ended", program.timeout);
            return (program.timeout, Err(Error::new(Kind::Timeout, late)));
        }
        let max = program.output_max;
        let finished = finished.and_then(|f| {
            if f.output.len() > max || f.errors.len() > max {
                return Err(Error::new(
                    Kind::Budget,
                    format!("the program wrote more than {max} bytes, its `output_max`, and was ended"),
                ));
            }
            Ok(f)
        });
        (time, finished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Heard;
    use crate::testing::simulation::Simulation;

    fn program(name: &str) -> Program {
        Program {
            argv: vec![name.into()],
            input: b"in".to_vec(),
            variables: Vec::new(),
            clear_variables: false,
            output_max: 10,
            timeout: Duration::from_secs(9),
            heard: Heard::default(),
        }
    }

    #[test]
    fn a_script_answers_after_its_time_and_within_the_bounds_of_a_real_program() {
        let answer =
            |output: &[u8]| Finished { status: Some(0), signal: None, output: output.to_vec(), errors: vec![] };
        let simulation = Simulation::new(1)
            .program("cat", move |p| (Duration::from_secs(2), Ok(answer(&p.input))))
            .program("slow", move |_| (Duration::from_secs(10), Ok(answer(b""))))
            .program("loud", move |_| (Duration::ZERO, Ok(answer(b"eleven bytes"))));
        let env = simulation.env();
        let run = |name| simulation.run(env.run(program(name))).done();
        assert_eq!(run("cat").unwrap().output, b"in");
        assert_eq!(simulation.elapsed(), Duration::from_secs(2));
        assert_eq!(run("slow").unwrap_err().kind(), Kind::Timeout);
        assert_eq!(run("loud").unwrap_err().kind(), Kind::Budget);
        assert_eq!(run("none").unwrap_err().kind(), Kind::NotFound);
    }
}
