//! What a service that hides its limits can take: learnt from the requests that it refuses.
//!
//! A limit is a bucket that fills up. When a request is refused the bucket is empty; when the next one is refused it is
//! empty again; so what was accepted between the two is what flowed in, or less when the bucket was full in between and ran
//! over. The longer the time between, the better that is known. From there the rate grows, slowly at first and then faster
//! (after the convex growth of TCP CUBIC, RFC 9438), until the next refusal: one request in some hundred, and a limit that was
//! raised is found within some minutes.

use super::token_limit::Bucket;

/// What may be sent at once, in seconds.
const HELD: f64 = 0.05;
/// The rate after a refusal, as a share of what flows in.
const AFTER: f64 = 0.98;
/// It is back at all of it after so many seconds, and so many requests, so that few of them are refused.
const BACK: f64 = 30.0;
const BACK_REQUESTS: f64 = 300.0;
/// Sooner after a guess, which may be far too low.
const BACK_GUESS: f64 = 3.0;
/// What was sent last is so much more than what was accepted on average: the truth is somewhere between.
const APART: f64 = 1.25;
/// An estimate over fewer seconds is none.
const SPAN_MIN: f64 = 0.2;

/// The moment of a refusal: the sequence number of the request and when it was sent, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// Its number among the requests that were sent.
    pub number: u64,
    /// When it was sent.
    pub sent: f64,
}

/// The rate that was learnt.
#[derive(Clone, Debug, Default)]
pub struct Learnt {
    /// What was refused last, if anything was.
    last: Option<Refused>,
    /// How many of those sent since then were refused too.
    refused_since: u64,
    /// What flows in, in a second.
    base: Option<f64>,
    /// When the rate began to grow from there.
    since: f64,
    bucket: Option<Bucket>,
    /// Whether the base was seen between two refusals, and is no guess.
    is_known: bool,
}

impl Learnt {
    /// Whether the rate is known, so that nothing else need be held back.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// How long until a request may be sent, in seconds.
    pub fn wait(&mut self, now: f64) -> f64 {
        let Some((base, bucket)) = self.base.zip(self.bucket.as_mut()) else { return 0.0 };
        let back = if self.is_known { BACK.max(BACK_REQUESTS / base) } else { BACK_GUESS };
        let grown = ((now - self.since).max(0.0) / back).powi(2);
        bucket.wait(0.0, now);
        bucket.set_rate(base * (AFTER + (1.0 - AFTER) * grown), HELD);
        bucket.wait(1.0, now)
    }

    /// A request is sent.
    pub fn take(&mut self) {
        if let Some(bucket) = &mut self.bucket {
            bucket.take(1.0);
        }
    }

    /// Another request of the same burst was refused.
    pub fn refused_too(&mut self) {
        self.refused_since += 1;
    }

    /// A request was refused, the first since the last pause, which ends at `resumes`. `sent` requests were sent in all.
    pub fn refused(&mut self, request: Refused, resumes: f64) {
        let paced = self.bucket.map(|bucket| bucket.rate);
        let accepted =
            |last: Refused| (request.number - last.number).saturating_sub(1).saturating_sub(self.refused_since);
        let spanned = |last: &Refused| request.sent - last.sent >= SPAN_MIN && accepted(*last) > 0;
        let base = match (self.last.filter(spanned), paced) {
            (Some(last), Some(paced)) => {
                self.is_known = true;
                let sample = accepted(last) as f64 / (request.sent - last.sent);
                if paced > sample * APART { (paced * sample).sqrt() } else { sample }
            }
            (None, Some(paced)) => paced / 2.0,
            // The bucket was full at first, so this is a guess that the next refusal corrects.
            (_, None) => request.number as f64 / resumes.max(SPAN_MIN),
        };
        let base = base.max(1.0 / 60.0);
        let mut bucket = Bucket::new(base, HELD, resumes);
        // The first goes alone after the pause.
        bucket.level = bucket.level.min(1.0);
        (self.base, self.since, self.bucket) = (Some(base), resumes, Some(bucket));
        (self.last, self.refused_since) = (Some(request), 0);
    }

    /// What flows in, in a second, as far as it is known.
    #[cfg(test)]
    pub fn base(&self) -> Option<f64> {
        self.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_between_two_refusals_is_what_flows_in() {
        let mut learnt = Learnt::default();
        assert_eq!(learnt.wait(0.0), 0.0);
        learnt.refused(Refused { number: 31, sent: 2.0 }, 3.1);
        assert_eq!((learnt.base(), learnt.is_known()), (Some(10.0), false));
        learnt.refused_too();
        learnt.refused_too();
        // Nine were sent between, of which two were refused: seven in 0.7 seconds.
        learnt.refused(Refused { number: 41, sent: 2.7 }, 4.0);
        assert!((learnt.base().unwrap() - 10.0).abs() < 1e-9 && learnt.is_known(), "{learnt:?}");
    }

    #[test]
    fn a_rate_that_was_far_too_high_or_too_low_is_found_between() {
        let mut learnt = Learnt::default();
        learnt.refused(Refused { number: 640, sent: 2.0 }, 4.0);
        assert_eq!(learnt.base(), Some(160.0));
        learnt.wait(4.0);
        learnt.refused(Refused { number: 661, sent: 4.0 }, 5.0);
        let between = (0.98_f64 * 160.0 * 10.0).sqrt();
        assert!((learnt.base().unwrap() - between).abs() < 1e-9, "{learnt:?}");
    }

    #[test]
    fn the_rate_grows_back_slowly_and_then_faster() {
        let mut learnt = Learnt::default();
        learnt.refused(Refused { number: 100, sent: 1.0 }, 10.0);
        learnt.refused(Refused { number: 111, sent: 2.0 }, 11.0);
        let mut rate = |after: f64| {
            learnt.wait(11.0 + after);
            learnt.bucket.unwrap().rate
        };
        assert!((rate(0.0) - 9.8).abs() < 1e-6 && (rate(30.0) - 10.0).abs() < 1e-6);
        assert!((rate(60.0) - 10.6).abs() < 1e-6 && rate(600.0) > 80.0);
    }
}
