//! An error of a stage without state, narrowed to its rows by bisection.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::record_batch::RecordBatch;

use crate::api::{Output, Progress, Stage};
use crate::error::{Error, Kind, Result};

/// Calls into a stage; a panic is an error of the stage.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}

/// The error that a panic is.
pub fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let message =
        panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    Error::new(Kind::Engine, format!("panicked: {}", message.as_deref().unwrap_or("without a message")))
}

/// Works the rows of a batch that failed as a whole: halves are tried until the rows at fault are alone. These are
/// rejected, everything else is in `out` as if the others had come alone, in their order.
///
/// Costs about 2 log2(rows) calls for each row at fault, so it is for the exception and not the rule.
pub fn narrow(stage: &mut dyn Stage, rows: &RecordBatch, error: Error, out: &mut Output) {
    out.clear();
    let mut todo = vec![(rows.clone(), Some(error))];
    let mut scratch = Output::at(out.now);
    while let Some((part, known)) = todo.pop() {
        let result = match known {
            Some(error) => Err(error),
            None => whole(stage, &part, &mut scratch),
        };
        match result {
            Ok(()) => {
                scratch.batches.drain(..).for_each(|(port, batch)| out.emit_to(port, batch));
                out.rejected.append(&mut scratch.rejected);
                out.filtered(std::mem::take(&mut scratch.filtered));
                out.late(std::mem::take(&mut scratch.late));
            }
            Err(error) if part.num_rows() <= 1 => out.reject(part, error),
            Err(_) => {
                let half = part.num_rows() / 2;
                todo.push((part.slice(half, part.num_rows() - half), None));
                todo.push((part.slice(0, half), None));
            }
        }
        scratch.clear();
    }
}

/// One batch to its end, `resume` included.
fn whole(stage: &mut dyn Stage, rows: &RecordBatch, out: &mut Output) -> Result<()> {
    let mut progress = guarded(|| stage.process(rows, out))?;
    while progress == Progress::More {
        progress = guarded(|| stage.resume(out))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;

    struct Picky;
    impl Stage for Picky {
        fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
            let values = rows.column(0).as_primitive::<Int64Type>();
            out.emit(rows.clone());
            assert!(!values.values().contains(&13), "thirteen");
            if values.values().contains(&5) { Err(Error::validation("five")) } else { Ok(Progress::Done) }
        }
    }

    #[test]
    fn only_the_rows_at_fault_are_rejected_and_the_others_keep_their_order() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..20));
        let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let mut out = Output::default();
        narrow(&mut Picky, &rows, Error::validation("five"), &mut out);
        let left: Vec<i64> =
            out.batches.iter().flat_map(|(_, b)| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(left, (0..20).filter(|n| *n != 5 && *n != 13).collect::<Vec<_>>());
        let reasons: Vec<&str> = out.rejected.iter().map(|r| r.error.message()).collect();
        assert_eq!(reasons, ["five", "panicked: thirteen"]);
    }
}
