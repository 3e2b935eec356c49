//! The watermark of a stage with many inputs: the least of theirs.

use super::Timestamp;

/// Combines the watermarks of several inputs. Each input's only rises, and so does the result.
#[derive(Clone, Debug)]
pub struct Watermarks {
    inputs: Vec<Timestamp>,
    least: Timestamp,
}

impl Watermarks {
    /// `inputs` inputs, none of which has spoken yet.
    pub fn new(inputs: usize) -> Self {
        Self { inputs: vec![Timestamp::MIN; inputs], least: Timestamp::MIN }
    }

    /// Notes the watermark of one input; returns the new least one if it rose.
    pub fn advance(&mut self, input: usize, to: Timestamp) -> Option<Timestamp> {
        self.inputs[input] = self.inputs[input].max(to);
        let least = self.inputs.iter().copied().min().unwrap_or(Timestamp::MAX);
        (least > self.least).then(|| {
            self.least = least;
            least
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_input_holds_time_back_and_time_never_goes_back() {
        let mut marks = Watermarks::new(2);
        assert_eq!(marks.advance(0, Timestamp(5)), None);
        assert_eq!(marks.advance(1, Timestamp(3)), Some(Timestamp(3)));
        assert_eq!(marks.advance(1, Timestamp(1)), None);
        assert_eq!(marks.advance(1, Timestamp(9)), Some(Timestamp(5)));
        assert_eq!(marks.advance(0, Timestamp::MAX), Some(Timestamp(9)));
    }
}
